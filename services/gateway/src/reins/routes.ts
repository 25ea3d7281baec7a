import type { Codec } from "@reins/log/codec"
import { states } from "@reins/session"
import { type Context, Hono } from "hono"
import { z } from "zod"
import type { Env, GatewayContext } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { invalid } from "../http/errors.ts"
import { integer, limitOf, param, several } from "../http/read.ts"
import type { ProjectedSession, Projection } from "../projection/projection.ts"
import type { SessionRow } from "../projection/store.ts"
import { eventsPage } from "../sessions/events-page.ts"
import { sessionOf } from "../sessions/resource.ts"
import { anyTime } from "../time-range.ts"
import { type Overview, overviewOf } from "./overview.ts"
import { rawRecord } from "./raw-record.ts"

/** What these routes need beside the gateway's own context. */
export interface ReinsRoutesContext {
  readonly gateway: GatewayContext
  readonly projection: Projection
  readonly codec: Codec
}

type Ctx = Context<Env>

const sessionsCursor = z.strictObject({ at: z.int(), id: z.string() })

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
        ...anyTime,
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
    const { sessionId } = found(c).session
    const { rows, next_page } = eventsPage(c, projection.store, { name: "reins-events", sessionId, types: [], ...anyTime, usual: 200 })
    return c.json({ data: rows.map(({ event, place }) => ({ event, topic: gateway.topics.sessions, ...place })), next_page })
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

function textOf({ session, excerpt }: Overview): string {
  return [session.id, session.title, session.agent.name, excerpt].join(" ").toLowerCase()
}
