import type {
  BetaCloudConfig,
  BetaEnvironment,
  BetaEnvironmentDeleteResponse,
} from "@anthropic-ai/sdk/resources/beta/environments/environments"
import { canonicalJson } from "@reins/events"
import { type Context, Hono } from "hono"
import { z } from "zod"
import type { Env, GatewayContext } from "../http/context.ts"
import { conflict, invalid, notFound } from "../http/errors.ts"
import { param, parse } from "../http/read.ts"
import { metadata, metadataPatch } from "./agent-body.ts"
import { environmentResource } from "./directory.ts"
import { pageOf } from "./listing.ts"
import { newId, savedOnce, savedOnNewest } from "./saving.ts"

type Ctx = Context<Env>
type Body = Omit<BetaEnvironment, "id" | "type" | "created_at" | "updated_at" | "archived_at">

const names = z.array(z.string().min(1).max(500)).max(500)
const networking = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("unrestricted") }),
  z.strictObject({
    type: z.literal("limited"),
    allowed_hosts: names.nullish(),
    allow_mcp_servers: z.boolean().nullish(),
    allow_package_managers: z.boolean().nullish(),
  }),
])
const packages = z.strictObject({
  type: z.literal("packages").optional(),
  apt: names.nullish(),
  cargo: names.nullish(),
  gem: names.nullish(),
  go: names.nullish(),
  npm: names.nullish(),
  pip: names.nullish(),
})
const config = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("self_hosted") }),
  z.strictObject({ type: z.literal("cloud"), networking: networking.nullish(), packages: packages.nullish() }),
])
type Config = z.infer<typeof config>

const common = {
  config: config.nullish(),
  description: z.string().max(2048).nullish(),
  scope: z.literal("organization", { error: "must be organization: there are no accounts within a tenant" }).nullish(),
}
const createBody = z.strictObject({ name: z.string().min(1).max(256), ...common, metadata: metadata.optional() })
// Beside null, an empty string deletes a key.
const updateBody = z.strictObject({ name: z.string().min(1).max(256).nullish(), ...common, metadata: metadataPatch.optional() })

/** Everything under `/v1/environments`. Not versioned; of a cloud environment only the record is kept, as there is no sandbox. */
export function environmentRoutes(context: GatewayContext): Hono<Env> {
  const { directory } = context
  const app = new Hono<Env>()

  const entryOf = (c: Ctx): NonNullable<ReturnType<typeof directory.entryOfEnvironment>> => {
    const entry = directory.entryOfEnvironment(c.get("tenant"), param(c, "environment"))
    if (entry === null) throw notFound("environment")
    return entry
  }
  const save = async (
    c: Ctx,
    eventId: string,
    id: string,
    revision: number,
    environment: string | null,
    archived: boolean,
  ): Promise<boolean> => {
    const { now, by } = context
    const verdict = await directory.save({
      type: "environment.saved",
      eventId,
      tenant: c.get("tenant"),
      at: now(),
      by,
      id,
      revision,
      environment,
      archived,
    })
    return verdict === "accepted"
  }
  const nameTaken = (c: Ctx, name: string, exceptId: string): boolean =>
    directory.fold.environmentNamed(c.get("tenant"), name, exceptId) !== undefined
  const taken = (name: string): Error => conflict(`name: there is an environment of the name ${name} already.`)

  app.post("/", async (c) => {
    const given = parse(createBody, c.get("body"))
    const body: Body = {
      name: given.name,
      description: given.description ?? null,
      config: configOf(given.config ?? { type: "cloud" }, null),
      metadata: given.metadata ?? {},
      scope: "organization",
    }
    await directory.caughtUp()
    const id = await savedOnce(context, c, async (requestId) => {
      const made = newId("env", requestId)
      if (directory.fold.verdictOf(requestId) === undefined && nameTaken(c, given.name, made)) throw taken(given.name)
      if (!(await save(c, requestId, made, 1, canonicalJson(body), false))) throw taken(given.name)
      return made
    })
    return c.json(directory.environment(c.get("tenant"), id))
  })

  app.get("/", async (c) => {
    await directory.caughtUp()
    return c.json(pageOf(c, "environments", directory.fold.environments.values(), environmentResource))
  })

  app.get("/:environment", async (c) => {
    await directory.caughtUp()
    return c.json(environmentResource(entryOf(c)))
  })

  app.post("/:environment", async (c) => {
    const given = parse(updateBody, c.get("body"))
    await directory.caughtUp()
    entryOf(c)
    await savedOnNewest(
      context,
      c,
      () => true,
      async (eventId) => {
        const entry = entryOf(c)
        if (entry.archivedAt !== null)
          throw invalid("This environment is archived; it changes no more.", { error_code: "environment_archived" })
        const body = updated(JSON.parse(entry.environment) as Body, given)
        if (nameTaken(c, body.name, entry.id)) throw taken(body.name)
        const text = canonicalJson(body)
        if (text === entry.environment) return true
        return (await save(c, eventId, entry.id, entry.revision + 1, text, false)) ? true : null
      },
    )
    return c.json(environmentResource(entryOf(c)))
  })

  app.post("/:environment/archive", async (c) => {
    await directory.caughtUp()
    if (entryOf(c).archivedAt === null)
      await savedOnNewest(
        context,
        c,
        () => true,
        async (eventId) => {
          const { id, revision, environment, archivedAt } = entryOf(c)
          if (archivedAt !== null) return true
          return (await save(c, eventId, id, revision + 1, environment, true)) ? true : null
        },
      )
    return c.json(environmentResource(entryOf(c)))
  })

  app.delete("/:environment", async (c) => {
    await directory.caughtUp()
    const id = await savedOnNewest(
      context,
      c,
      (saved) => saved.id,
      async (eventId) => {
        const entry = entryOf(c)
        if (await context.hasSessionOf(entry.id))
          throw conflict("Sessions of this environment exist. Delete them first, or archive the environment.")
        return (await save(c, eventId, entry.id, entry.revision + 1, null, false)) ? entry.id : null
      },
    )
    const deleted: BetaEnvironmentDeleteResponse = { id, type: "environment_deleted" }
    return c.json(deleted)
  })

  return app
}

/** What is not given stays; of the metadata, null and "" delete a key. */
function updated(before: Body, given: z.infer<typeof updateBody>): Body {
  const kept = { ...before.metadata }
  for (const [key, value] of Object.entries(given.metadata ?? {})) {
    if (value === null || value === "") delete kept[key]
    else kept[key] = value
  }
  return {
    ...before,
    ...(given.name === undefined || given.name === null ? {} : { name: given.name }),
    ...(given.description === undefined ? {} : { description: given.description }),
    ...(given.config === undefined || given.config === null ? {} : { config: configOf(given.config, before.config) }),
    metadata: parse(metadata, kept, "metadata"),
  }
}

/** A config with every default written out; of one that is updated, what is not given stays. */
function configOf(given: Config, before: Body["config"] | null): Body["config"] {
  if (before !== null && before.type !== given.type)
    throw invalid(`config/type: cannot change from ${before.type} to ${given.type}.`, { error_code: "invalid_config_type_change" })
  if (given.type === "self_hosted") return { type: "self_hosted" }
  const old = before?.type === "cloud" ? before : null
  const oldLimits = old?.networking.type === "limited" ? old.networking : null
  const asked = given.networking ?? old?.networking ?? { type: "unrestricted" as const }
  const list = (key: "apt" | "cargo" | "gem" | "go" | "npm" | "pip"): string[] => given.packages?.[key] ?? old?.packages[key] ?? []
  const written: BetaCloudConfig = {
    type: "cloud",
    networking:
      asked.type === "unrestricted"
        ? { type: "unrestricted" }
        : {
            type: "limited",
            allowed_hosts: asked.allowed_hosts ?? oldLimits?.allowed_hosts ?? [],
            allow_mcp_servers: asked.allow_mcp_servers ?? oldLimits?.allow_mcp_servers ?? false,
            allow_package_managers: asked.allow_package_managers ?? oldLimits?.allow_package_managers ?? false,
          },
    packages: {
      type: "packages",
      apt: list("apt"),
      cargo: list("cargo"),
      gem: list("gem"),
      go: list("go"),
      npm: list("npm"),
      pip: list("pip"),
    },
  }
  const { type: _, ...lists } = written.packages
  const installs = Object.values(lists).some(({ length }) => length > 0)
  if (installs && written.networking.type === "limited" && !written.networking.allow_package_managers)
    throw invalid("config/packages: under limited networking they need networking.allow_package_managers.")
  return written
}
