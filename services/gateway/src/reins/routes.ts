import type { Codec } from "@reins/log/codec"
import { states } from "@reins/session"
import { type Context, Hono } from "hono"
import { z } from "zod"
import type { Env, GatewayContext } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { invalid } from "../http/errors.ts"
import { integer, limitOf, oneOf, param, several } from "../http/read.ts"
import type { ProjectedSession, Projection } from "../projection/projection.ts"
import type { EventRow, SessionRow } from "../projection/store.ts"
import { sessionOf } from "../sessions/resource.ts"
import { type Overview, overviewOf } from "./overview.ts"
import { rawRecord } from "./raw-record.ts"

/** What these routes need beside the gateway's own context. */
export interface ReinsRoutesContext {
  readonly gateway: GatewayContext
  readonly projection: Projection
  readonly codec: Codec
}

type Ctx = Context<Env>

const order = z.enum(["asc", "desc"])
const sessionsCursor = z.strictObject({ at: z.int(), id: z.string() })
const eventsCursor = z.strictObject({ queued: z.int(), offset: z.int(), index: z.int(), order })

/** Sessions looked at for one page: a search that finds little says so and hands out a cursor, instead of looking through everything. */
const lookedAtMax = 5000
const batch = 500

/**
 * Everything under `/reins/v1`: what the Managed Agents API has no place for. Read only, with the keys and tenants of `/v1`; what these
 * routes show is the same projection.
 */
export function reinsRoutes({ gateway, projection, codec }: ReinsRoutesContext): Hono<Env> {
  const app = new Hono<Env>()

  const found = (c: Ctx): ProjectedSession => sessionOf(projection, c.get("tenant"), param(c, "session"))
  const shown = (session: ProjectedSession): Overview =>
    overviewOf(session, { now: gateway.now(), topic: gateway.topics.sessions, store: projection.store })

  app.get("/sessions", async (c) => {
    await projection.caughtUp()
    const tenant = c.get("tenant")
    const wanted = several(c, "states")
    for (const state of wanted) if (!states.some((one) => one === state)) throw invalid(`states: must be of ${states.join(", ")}.`)
    const words = (c.req.query("q") ?? "").slice(0, 200).toLowerCase().split(/\s+/).filter(Boolean)
    const limit = limitOf(c, 50, 200)
    const cursor = readCursor("reins-sessions", c.req.query("page"), sessionsCursor)
    const data: Overview[] = []
    let after: SessionRow | null = cursor === null ? null : { createdAt: cursor.at, sessionId: cursor.id }
    let more = true
    for (let lookedAt = 0; more && lookedAt < lookedAtMax && data.length < limit; ) {
      const rows = projection.store.sessions({
        tenant,
        agentId: null,
        agentVersion: null,
        statuses: [],
        from: Number.MIN_SAFE_INTEGER,
        to: Number.MAX_SAFE_INTEGER,
        includeArchived: true,
        descending: true,
        after,
        limit: batch,
      })
      more = rows.length === batch
      for (const row of rows) {
        if (data.length === limit) {
          more = true
          break
        }
        after = row
        lookedAt++
        const session = projection.session(tenant, row.sessionId)
        if (session === null) continue
        const overview = shown(session)
        if ((wanted.length === 0 || wanted.includes(overview.state)) && words.every((word) => textOf(overview).includes(word)))
          data.push(overview)
      }
    }
    return c.json({
      data,
      next_page: more && after !== null ? writeCursor("reins-sessions", { at: after.createdAt, id: after.sessionId }) : null,
    })
  })

  app.get("/sessions/:session", async (c) => {
    await projection.caughtUp()
    return c.json(shown(found(c)))
  })

  app.get("/sessions/:session/events", async (c) => {
    await projection.caughtUp()
    const { session } = found(c)
    const { sessionId } = session
    const direction = oneOf(c, "order", ["asc", "desc"], "asc")
    const limit = limitOf(c, 200, 1000)
    const list = `reins-events/${sessionId}`
    const cursor = readCursor(list, c.req.query("page"), eventsCursor)
    if (cursor !== null && cursor.order !== direction) throw invalid("page: this cursor was made under another order.")
    const rows = projection.store.events({
      sessionId,
      types: [],
      from: Number.MIN_SAFE_INTEGER,
      to: Number.MAX_SAFE_INTEGER,
      descending: direction === "desc",
      after: cursor,
      limit: limit + 1,
    })
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    return c.json({
      data: page.map(({ event, place }) => ({ event, topic: gateway.topics.sessions, ...place })),
      next_page: rows.length > limit && last !== undefined ? writeCursor(list, { ...keyOf(last), order: direction }) : null,
    })
  })

  app.get("/records/:topic/:partition/:offset", async (c) => {
    await projection.caughtUp()
    const place = {
      topic: param(c, "topic"),
      partition: integer(param(c, "partition"), "partition"),
      offset: integer(param(c, "offset"), "offset"),
    }
    return c.json(await rawRecord({ log: gateway.log, codec, topics: gateway.topics, projection }, c.get("tenant"), place))
  })

  return app
}

function keyOf({ event, place }: EventRow): { queued: number; offset: number; index: number } {
  return { queued: event.processed_at === null ? 1 : 0, offset: place.offset, index: place.index }
}

function textOf({ session, excerpt }: Overview): string {
  return [session.id, session.title, session.agent.name, excerpt].join(" ").toLowerCase()
}
