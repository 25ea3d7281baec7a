import { canonicalJson } from "@reins/events"
import { type Context, Hono } from "hono"
import { z } from "zod"
import type { Env, GatewayContext } from "../http/context.ts"
import { readCursor, writeCursor } from "../http/cursor.ts"
import { conflict, invalid, notFound } from "../http/errors.ts"
import { integer, limitOf, param, parse, timeRange } from "../http/read.ts"
import { type AgentBody, bodyOf, createBody, updateBody } from "./agent-body.ts"
import { agentResource } from "./directory.ts"
import { pageOf } from "./listing.ts"
import { newId, savedOnce, savedOnNewest } from "./saving.ts"

type Ctx = Context<Env>

const versionsCursor = z.strictObject({ version: z.int() })

/** Everything under `/v1/agents`. Agents are versioned; sessions hold a copy of the version that they began with. */
export function agentRoutes(context: GatewayContext): Hono<Env> {
  const { directory } = context
  const app = new Hono<Env>()

  const entryOf = (c: Ctx): NonNullable<ReturnType<typeof directory.entryOfAgent>> => {
    const entry = directory.entryOfAgent(c.get("tenant"), param(c, "agent"))
    if (entry === null) throw notFound("agent")
    return entry
  }
  const save = async (
    c: Ctx,
    eventId: string,
    id: string,
    version: number,
    agent: AgentBody | string,
    archived: boolean,
  ): Promise<boolean> => {
    const verdict = await directory.save({
      type: "agent.saved",
      eventId,
      tenant: c.get("tenant"),
      at: context.now(),
      by: context.by,
      id,
      version,
      agent: typeof agent === "string" ? agent : canonicalJson(agent),
      archived,
    })
    return verdict === "accepted"
  }

  app.post("/", async (c) => {
    const body = bodyOf(parse(createBody, c.get("body")))
    const id = await savedOnce(context, c, async (requestId) => {
      const made = newId("agent", requestId)
      if (!(await save(c, requestId, made, 1, body, false))) throw conflict("There is an agent of this id already.")
      return made
    })
    // As it was made: another client may know its id by now, and have changed it.
    return c.json(directory.agent(c.get("tenant"), id, 1))
  })

  app.get("/", async (c) => {
    await directory.caughtUp()
    return c.json(pageOf(c, "agents", directory.fold.agents.values(), (entry) => agentResource(entry), timeRange(c)))
  })

  app.get("/:agent", async (c) => {
    await directory.caughtUp()
    const entry = entryOf(c)
    const given = c.req.query("version")
    const version = given === undefined ? undefined : integer(given, "version")
    if (version !== undefined && version < 1) throw invalid("version: must be at least 1.")
    const agent = agentResource(entry, version)
    if (agent === null) throw notFound("agent version")
    return c.json(agent)
  })

  app.post("/:agent", async (c) => {
    const given = parse(updateBody, c.get("body"))
    await directory.caughtUp()
    entryOf(c)
    const version = await savedOnNewest(
      context,
      c,
      (saved) => saved.version,
      async (eventId) => {
        const entry = entryOf(c)
        if (entry.archivedAt !== null) throw invalid("This agent is archived; it changes no more.")
        const newest = entry.versions.length
        if (given.version !== undefined && given.version !== newest)
          throw conflict(`version: ${given.version} is not the newest version of this agent, ${newest} is. Read it, then update again.`)
        const before = agentResource(entry) as NonNullable<ReturnType<typeof agentResource>>
        const body = updated(before, given)
        if (canonicalJson(body) === canonicalJson(stripped(before))) return newest
        return (await save(c, eventId, entry.id, newest + 1, body, false)) ? newest + 1 : null
      },
    )
    return c.json(agentResource(entryOf(c), version))
  })

  app.post("/:agent/archive", async (c) => {
    await directory.caughtUp()
    if (entryOf(c).archivedAt === null)
      await savedOnNewest(
        context,
        c,
        () => true,
        async (eventId) => {
          const { id, versions, archivedAt } = entryOf(c)
          if (archivedAt !== null) return true
          return (await save(c, eventId, id, versions.length, versions.at(-1)?.agent ?? "{}", true)) ? true : null
        },
      )
    return c.json(agentResource(entryOf(c)))
  })

  app.get("/:agent/versions", async (c) => {
    await directory.caughtUp()
    const entry = entryOf(c)
    const limit = limitOf(c, 20, 1000)
    const list = `versions/${entry.id}`
    const cursor = readCursor(list, c.req.query("page"), versionsCursor)
    const rest = entry.versions.filter(({ version }) => cursor === null || version < cursor.version).toReversed()
    const page = rest.slice(0, limit)
    const last = page.at(-1)
    return c.json({
      data: page.map(({ version }) => agentResource(entry, version)),
      next_page: rest.length > limit && last !== undefined ? writeCursor(list, { version: last.version }) : null,
    })
  })

  return app
}

function stripped(agent: NonNullable<ReturnType<typeof agentResource>>): AgentBody {
  const { id: _, type: __, version: ___, created_at: ____, updated_at: _____, archived_at: ______, ...body } = agent
  return body
}

/** Lists are replaced, null, [] and "" clear, metadata is a patch. */
function updated(before: NonNullable<ReturnType<typeof agentResource>>, given: z.infer<typeof updateBody>): AgentBody {
  const { version: _, metadata: patch, ...changes } = given
  const old = stripped(before)
  const metadata = { ...old.metadata }
  for (const [key, value] of Object.entries(patch ?? {})) {
    if (value === null) delete metadata[key]
    else metadata[key] = value
  }
  const body = bodyOf(parse(createBody, { ...old, ...changes, metadata }))
  // Alone among the settings of a model, the effort stays where it is not given.
  const keepsEffort = changes.model !== undefined && (typeof changes.model === "string" || changes.model.effort === undefined)
  return keepsEffort && old.model.effort !== undefined ? { ...body, model: { ...body.model, effort: old.model.effort } } : body
}
