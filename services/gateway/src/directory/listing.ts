import type { Context } from "hono"
import { z } from "zod"
import type { Env } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { invalid } from "../http/errors.ts"
import { flag, limitOf } from "../http/read.ts"
import { anyTime, type TimeRange } from "../time-range.ts"

interface Entry {
  readonly id: string
  readonly tenant: string
  readonly createdAt: number
  readonly archivedAt: number | null
}

const cursorShape = z.strictObject({ at: z.int(), id: z.string() })

/** A page of what a tenant has, newest first, by the parameters of the request and within these times; without what is archived unless asked for. */
export function pageOf<E extends Entry, R>(
  c: Context<Env>,
  list: string,
  entries: Iterable<E>,
  shown: (entry: E) => R,
  { from, to }: TimeRange = anyTime,
): { readonly data: readonly R[]; readonly next_page: string | null } {
  const limit = limitOf(c, 20, 1000)
  const cursor = readCursor(list, c.req.query("page"), cursorShape)
  if (cursor !== null && (cursor.at < from || cursor.at > to)) throw invalid("page: created_at excludes where this cursor stands.")
  const tenant = c.get("tenant")
  const archived = flag(c, "include_archived")
  const all = [...entries]
    .filter((entry) => entry.tenant === tenant && (archived || entry.archivedAt === null))
    .filter(({ createdAt }) => createdAt >= from && createdAt <= to)
    .sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1))
  const isBehind = ({ createdAt, id }: E): boolean =>
    cursor === null || createdAt < cursor.at || (createdAt === cursor.at && id < cursor.id)
  const rest = all.filter(isBehind)
  const page = rest.slice(0, limit)
  const last = page.at(-1)
  return {
    data: page.map(shown),
    next_page: rest.length > limit && last !== undefined ? writeCursor(list, { at: last.createdAt, id: last.id }) : null,
  }
}
