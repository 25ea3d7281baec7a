import type { Context } from "hono"
import { z } from "zod"
import type { Env } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { invalid } from "../http/errors.ts"
import { limitOf, oneOf } from "../http/read.ts"
import type { EventQuery, EventRow, Store } from "../projection/store.ts"

const cursorShape = z.strictObject({ queued: z.int(), offset: z.int(), index: z.int(), order: z.enum(["asc", "desc"]) })

/** What a list of a session's events says of itself, beside the parameters of the request. */
export interface EventsList extends Pick<EventQuery, "sessionId" | "types" | "from" | "to"> {
  /** Its cursors fit no other list. */
  readonly name: string
  /** Rows of a page that names no `limit`. */
  readonly usual: number
}

/** A page of a session's events, by the parameters of the request: oldest first unless asked otherwise, what still waits at the end. */
export function eventsPage(
  c: Context<Env>,
  store: Store,
  { name, usual, ...wanted }: EventsList,
): { readonly rows: readonly EventRow[]; readonly next_page: string | null } {
  const order = oneOf(c, "order", ["asc", "desc"], "asc")
  const limit = limitOf(c, usual, 1000)
  const list = `${name}/${wanted.sessionId}`
  const after = readCursor(list, c.req.query("page"), cursorShape)
  if (after !== null && after.order !== order) throw invalid("page: this cursor was made under another order.")
  const found = store.events({ ...wanted, descending: order === "desc", after, limit: limit + 1 })
  const rows = found.slice(0, limit)
  const last = rows.at(-1)
  return { rows, next_page: found.length > limit && last !== undefined ? writeCursor(list, { ...keyOf(last), order }) : null }
}

function keyOf({ event, place }: EventRow): { queued: number; offset: number; index: number } {
  return { queued: event.processed_at === null ? 1 : 0, offset: place.offset, index: place.index }
}
