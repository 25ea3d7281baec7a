import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import type {
  BetaManagedAgentsDeletedSession,
  BetaManagedAgentsSession,
  BetaManagedAgentsSessionAgent,
} from "@anthropic-ai/sdk/resources/beta/sessions/sessions"
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response"
import { type Context, Hono } from "hono"
import { z } from "zod"
import { materialise } from "../directory/agent-body.ts"
import type { Env, GatewayContext } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { invalid, notFound } from "../http/errors.ts"
import { once } from "../http/idempotency.ts"
import { flag, integer, limitOf, oneOf, param, parse, several, timeRange } from "../http/read.ts"
import { type ProjectedSession, type Projection } from "../projection/projection.ts"
import type { EventRow, Place, SessionRow, Store } from "../projection/store.ts"
import { anyTime } from "../time-range.ts"
import { clientEvent, listableTypes, notYet, userMessage } from "./client-events.ts"
import { type Command, type Commands, refused, sessionIdOf } from "./commands.ts"
import { eventsPage } from "./events-page.ts"
import { agentGiven, snapshotOf, toolsGiven } from "./resolve.ts"
import { sessionOf, sessionResource } from "./resource.ts"
import { sendEvents } from "./send.ts"
import { frameOf, placeOf, type Streams } from "./stream.ts"

/** What the routes of sessions need beside the gateway's own context. */
export interface SessionRoutesContext {
  readonly gateway: GatewayContext
  readonly projection: Projection
  readonly commands: Commands
  readonly streams: Streams
}

const metadata = z.record(z.string().min(1).max(64), z.string().max(512)).refine((value) => Object.keys(value).length <= 16, {
  message: "at most 16 keys",
})
const agentRef = z.strictObject({ type: z.literal("agent"), id: z.string().min(1), version: z.int().min(1).optional() })
const agentWithOverrides = z.strictObject({
  type: z.literal("agent_with_overrides"),
  id: z.string().min(1),
  version: z.int().min(1).optional(),
  model: z.unknown().optional(),
  system: z.string().nullish(),
  tools: z.array(z.unknown()).optional(),
  mcp_servers: z.array(z.unknown()).optional(),
  skills: z.array(z.unknown()).optional(),
})
const createBody = z.strictObject({
  agent: z.union([z.string().min(1), agentRef, agentWithOverrides]),
  environment_id: z.string().min(1),
  title: z.string().max(2000).nullish(),
  metadata: metadata.optional(),
  resources: z.array(z.unknown()).max(0, "resources are not supported yet").optional(),
  vault_ids: z.array(z.unknown()).max(0, "vaults are not supported yet").optional(),
  budget: z.null({ error: "budgets are not supported yet" }).optional(),
  initial_events: z.array(z.unknown()).max(50).optional(),
})
const updateBody = z.strictObject({
  title: z.string().max(2000).nullish(),
  metadata: z.record(z.string().min(1).max(64), z.string().max(512).nullable()).nullish(),
  agent: z.strictObject({ tools: z.array(z.unknown()).optional(), mcp_servers: z.array(z.unknown()).optional() }).optional(),
  budget: z.null({ error: "budgets are not supported yet" }).optional(),
  vault_ids: z.undefined({ error: "vault_ids cannot be changed" }).optional(),
})
const sendBody = z.strictObject({ events: z.array(z.unknown()).min(1).max(1000) })

const order = z.enum(["asc", "desc"])
const sessionsCursor = z.strictObject({ at: z.int(), id: z.string(), back: z.boolean(), order })

type Ctx = Context<Env>

/** Everything under `/v1/sessions`, tier 1. */
export function sessionRoutes({ gateway, projection, commands, streams }: SessionRoutesContext): Hono<Env> {
  const app = new Hono<Env>()

  /** R1: at least what the log held when the request came. */
  const current = async (): Promise<void> => {
    await Promise.all([projection.caughtUp(), gateway.directory.caughtUp()])
  }
  const found = (c: Ctx): ProjectedSession => sessionOf(projection, c.get("tenant"), param(c, "session"))
  const shown = (c: Ctx, sessionId: string): BetaManagedAgentsSession =>
    sessionResource(sessionOf(projection, c.get("tenant"), sessionId), gateway.now())
  const send = async (c: Ctx, sent: readonly Command[]): Promise<void> => {
    for (const answer of await commands.send(sent, c.req.header("traceparent"))) if ("code" in answer) throw refused(answer)
  }
  const idempotent = <T>(c: Ctx, run: (requestId: string) => Promise<T>): Promise<T> =>
    once(gateway, c, {
      run,
      findRecent: async (prefix, unjudged) => (await commands.findRecent(prefix, gateway.now(), unjudged))?.replace(/\.\d+$/, "") ?? null,
    })

  app.post("/", async (c) => {
    const body = parse(createBody, c.get("body"))
    await current()
    const tenant = c.get("tenant")
    const environment = gateway.directory.environment(tenant, body.environment_id)
    if (environment === null) throw notFound("environment")
    if (environment.archived_at !== null)
      throw invalid(`environment_id: the environment ${environment.id} is archived.`, { error_code: "environment_archived" })
    const agent = sessionAgent(gateway, tenant, body.agent)
    const initial = (body.initial_events ?? []).map((event, index) => {
      const type = (event as { type?: unknown } | null)?.type
      if (type === "user.define_outcome") throw invalid(`initial_events/${index}: ${notYet["user.define_outcome"]}`)
      return parse(userMessage, event, `initial_events/${index}`)
    })
    const sessionId = await idempotent(c, async (requestId) => {
      const id = sessionIdOf(requestId)
      const [first, ...others] = initial
      const ids = (index: number): { commandId: string; sessionId: string } => ({ commandId: `${requestId}.${index}`, sessionId: id })
      await send(c, [
        {
          type: "session.start",
          ...ids(0),
          tenant,
          agent: agentGiven(agent),
          ...(first === undefined ? {} : { input: first.content }),
          title: body.title ?? null,
          metadata: body.metadata ?? {},
          environmentId: environment.id,
          profile: agent,
        },
        ...others.map((event, index) => ({ type: "message.send", ...ids(index + 1), content: event.content })),
      ])
      return id
    })
    return c.json(shown(c, sessionId))
  })

  app.get("/", async (c) => {
    await current()
    const order = oneOf(c, "order", ["asc", "desc"], "desc")
    const statuses = several(c, "statuses")
    for (const status of statuses)
      if (!["rescheduling", "running", "idle", "terminated"].includes(status)) throw invalid(`statuses: there is no status ${status}.`)
    const limit = limitOf(c, 20, 1000)
    const bound = timeRange(c)
    const cursor = readCursor("sessions", c.req.query("page"), sessionsCursor)
    if (cursor !== null && cursor.order !== order) throw invalid("page: this cursor was made under another order.")
    if (cursor !== null && (cursor.at < bound.from || cursor.at > bound.to))
      throw invalid("page: created_at excludes where this cursor stands.")
    const back = cursor?.back === true
    const version = c.req.query("agent_version")
    const descending = (order === "desc") !== back
    if (c.req.query("deployment_id") !== undefined || c.req.query("memory_store_id") !== undefined)
      return c.json({ data: [], next_page: null, prev_page: null })
    const rows = projection.store.sessions({
      tenant: c.get("tenant"),
      agentId: c.req.query("agent_id") ?? null,
      agentVersion: version === undefined ? null : integer(version, "agent_version"),
      statuses,
      ...bound,
      includeArchived: flag(c, "include_archived"),
      descending,
      after: cursor === null ? null : { createdAt: cursor.at, sessionId: cursor.id },
      limit: limit + 1,
    })
    const more = rows.length > limit
    const page = back ? rows.slice(0, limit).reverse() : rows.slice(0, limit)
    const at = (row: SessionRow | undefined, backwards: boolean): string | null =>
      row === undefined ? null : writeCursor("sessions", { at: row.createdAt, id: row.sessionId, back: backwards, order })
    return c.json({
      // One that was deleted in this very moment is left out.
      data: page
        .flatMap(({ sessionId }) => projection.session(c.get("tenant"), sessionId) ?? [])
        .map((session) => sessionResource(session, gateway.now())),
      next_page: (back ? page.length > 0 : more) ? at(page.at(-1), false) : null,
      prev_page: (back ? more : cursor !== null) ? at(page[0], true) : null,
    })
  })

  app.get("/:session", async (c) => {
    await current()
    return c.json(sessionResource(found(c), gateway.now()))
  })

  app.post("/:session", async (c) => {
    const body = parse(updateBody, c.get("body"))
    await current()
    const { session } = found(c)
    const { sessionId } = session
    const changes: Record<string, unknown> = {}
    if (body.title !== undefined) changes["title"] = body.title
    if (body.metadata !== undefined) {
      const merged = { ...(JSON.parse(session.profile?.metadata ?? "{}") as Record<string, string>) }
      for (const [key, value] of Object.entries(body.metadata ?? {})) {
        if (value === null) delete merged[key]
        else merged[key] = value
      }
      parse(metadata, merged, "metadata")
      // As a patch: another that is under way changes other keys, and both are to count.
      changes["metadataPatch"] = body.metadata ?? {}
    }
    let agent: ReturnType<typeof toolsGiven> | undefined
    if (body.agent !== undefined) {
      const before = sessionResource(found(c), gateway.now()).agent
      const next = materialise(before, body.agent)
      changes["profile"] = next
      agent = toolsGiven(next)
    }
    if (Object.keys(changes).length > 0)
      await idempotent(c, async (requestId) => {
        await send(c, [
          { type: "session.update", commandId: `${requestId}.0`, sessionId, changes, ...(agent === undefined ? {} : { agent }) },
        ])
      })
    return c.json(shown(c, sessionId))
  })

  app.post("/:session/archive", async (c) => {
    await current()
    const { session } = found(c)
    if (session.phase !== "ended" || session.archivedAt === undefined)
      await idempotent(c, (requestId) => send(c, [{ type: "session.archive", commandId: `${requestId}.0`, sessionId: session.sessionId }]))
    return c.json(shown(c, session.sessionId))
  })

  app.delete("/:session", async (c) => {
    await current()
    const { sessionId } = found(c).session
    await idempotent(c, (requestId) => send(c, [{ type: "session.delete", commandId: `${requestId}.0`, sessionId }]))
    const deleted: BetaManagedAgentsDeletedSession = { id: sessionId, type: "session_deleted" }
    return c.json(deleted)
  })

  app.post("/:session/events", async (c) => {
    const body = parse(sendBody, c.get("body"))
    const events = body.events.map((event, index) => {
      const type = (event as { type?: unknown } | null)?.type
      if (typeof type === "string" && notYet[type] !== undefined) throw invalid(`events/${index}: ${type}: ${notYet[type]}`)
      return parse(clientEvent, event, `events/${index}`)
    })
    await current()
    const session = found(c)
    const data = await idempotent(c, (requestId) =>
      sendEvents(events, requestId, session, { projection, commands, now: () => gateway.now(), traceparent: c.req.header("traceparent") }),
    )
    return c.json({ data })
  })

  app.get("/:session/events", async (c) => {
    await current()
    const { session } = found(c)
    const types = several(c, "types")
    for (const type of types) if (!listableTypes.has(type)) throw invalid(`types: there is no event type ${type}.`)
    const list = { name: "events", sessionId: session.sessionId, types, ...timeRange(c), usual: 1000 }
    const { rows, next_page } = eventsPage(c, projection.store, list)
    return c.json({ data: rows.map(({ event }) => event), next_page })
  })

  app.get("/:session/events/stream", async (c) => {
    await current()
    const { session } = found(c)
    const { sessionId } = session
    const previews = several(c, "event_deltas")
    if (previews.length > 100) throw invalid("event_deltas: at most 100 values.")
    for (const one of previews)
      if (one !== "agent.message" && one !== "agent.thinking") throw invalid(`event_deltas: there is no ${one} to preview.`)
    const response = c.env.outgoing
    const credential = c.get("credential")
    streams.admit(credential)
    const wanted: ReadonlySet<string> = new Set(previews)
    // Previews of an answer that had begun before this connection would not be a prefix of it: they are left out.
    const followed = new Set<string>()
    const unlisten = projection.listen(sessionId, ({ event, place }) => {
      if (place === null) {
        const begun = event["event"] as { readonly id: string; readonly type: string } | undefined
        if (begun !== undefined && wanted.has(begun.type)) followed.add(begun.id)
        if (!followed.has(begun?.id ?? String(event["event_id"]))) return
      } else followed.delete(event.id)
      stream.write(frameOf(event, place))
      if (event.type === "session.deleted") stream.end("")
    })
    const stream = streams.open(credential, response, { "request-id": c.get("requestId") }, unlisten)
    const since = placeOf(c.req.header("last-event-id"))
    if (since !== null) stream.resume(missedSince(projection.store, sessionId, since), missedMax)
    return RESPONSE_ALREADY_SENT
  })

  return app
}

/** How many events a stream that is resumed is given at once. */
const missedMax = 1000

/** The first events after this place, in the order of the log, as they were told: what still waits stands where it came in. */
function missedSince(store: Store, sessionId: string, { offset, index }: Place): readonly EventRow[] {
  const after = (queued: number): readonly EventRow[] =>
    store.events({ sessionId, types: [], ...anyTime, descending: false, after: { queued, offset, index }, limit: missedMax })
  return [...after(0).filter(({ event }) => event.processed_at !== null), ...after(1)]
    .sort((a, b) => a.place.offset - b.place.offset || a.place.index - b.place.index)
    .slice(0, missedMax)
}

/** The agent of a session that is to be: a stored version, with what this session overrides. */
function sessionAgent(gateway: GatewayContext, tenant: string, given: z.infer<typeof createBody>["agent"]): BetaManagedAgentsSessionAgent {
  const { id, version } = typeof given === "string" ? { id: given, version: undefined } : given
  const agent: BetaManagedAgentsAgent | null = gateway.directory.agent(tenant, id, version)
  if (agent === null) throw notFound("agent")
  if (agent.archived_at !== null) throw invalid(`agent: the agent ${id} is archived.`)
  const snapshot = snapshotOf(agent)
  if (typeof given === "string" || given.type === "agent") return snapshot
  const { type: _, id: __, version: ___, ...overrides } = given
  return materialise(snapshot, overrides)
}
