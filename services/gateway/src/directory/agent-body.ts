import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import type { BetaManagedAgentsSessionAgent } from "@anthropic-ai/sdk/resources/beta/sessions/sessions"
import { z } from "zod"
import { invalid } from "../http/errors.ts"
import { parse } from "../http/read.ts"

/** An agent as a client gives it (the SDK's `AgentCreateParams`), and as responses show it: with every default written out. */

const effort = z.enum(["low", "medium", "high", "xhigh", "max"])
const model = z.union([
  z.string().min(1).max(200),
  z.strictObject({
    id: z.string().min(1).max(200),
    effort: z.union([effort, z.strictObject({ type: effort })]).nullish(),
    speed: z.enum(["standard", "fast"]).nullish(),
    inference_geo: z.string().max(100).nullish(),
  }),
])
const policy = z.strictObject({
  type: z.enum(["always_allow", "always_ask"], { error: "must be always_allow or always_ask; auto is not supported yet" }),
})
const settings = { enabled: z.boolean().nullish(), permission_policy: policy.nullish() }
const customTool = z.strictObject({
  type: z.literal("custom"),
  name: z
    .string()
    .regex(/^[a-zA-Z0-9_-]{1,128}$/, "must match ^[a-zA-Z0-9_-]{1,128}$")
    .refine((name) => !name.startsWith("mcp__"), "must not begin with mcp__"),
  description: z.string().min(1).max(4096),
  input_schema: z.looseObject({ type: z.literal("object") }),
})
const mcpToolset = z.strictObject({
  type: z.literal("mcp_toolset"),
  mcp_server_name: z.string().min(1).max(255),
  default_config: z.strictObject(settings).nullish(),
  configs: z
    .array(z.strictObject({ name: z.string().min(1).max(128), ...settings }))
    .max(256)
    .nullish(),
})
const mcpServer = z.strictObject({ type: z.literal("url"), name: z.string().min(1).max(255), url: z.string().min(1).max(2048) })
const toolsMax = 256
const anyTool = z.discriminatedUnion("type", [customTool, mcpToolset], {
  error: ({ input }) =>
    (input as { readonly type?: unknown } | null | undefined)?.type === "agent_toolset_20260401"
      ? "agent_toolset_20260401 needs a sandbox, and there is none yet; use custom tools, or an mcp_toolset of a backend"
      : "must be custom or mcp_toolset",
})
const tools = z.array(anyTool).max(toolsMax)
const identity = z.strictObject({ type: z.literal("service_account") }, { error: "only service_account is supported" })

export const metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= 16, { message: "at most 16 keys" })
export const metadataPatch = z.record(z.string().min(1).max(64), z.string().max(512).nullable())

const name = z.string().min(1).max(256)
const rest = {
  description: z.string().max(2048).nullish(),
  system: z.string().max(100_000).nullish(),
  tools: tools.nullish(),
  mcp_servers: z.array(mcpServer).max(20).nullish(),
  skills: z.array(z.unknown()).max(0, "skills are not supported yet").nullish(),
  multiagent: z.null({ error: "multiagent is not supported yet" }).optional(),
  execution_identity: identity.nullish(),
}
export const createBody = z.strictObject({ name, model, ...rest, metadata: metadata.optional() })
export const updateBody = z.strictObject({
  name: name.optional(),
  model: model.optional(),
  ...rest,
  metadata: metadataPatch.nullish(),
  version: z.int().min(1).optional(),
})

/** The part of an agent that a version holds. */
export type AgentBody = Omit<BetaManagedAgentsAgent, "id" | "type" | "version" | "created_at" | "updated_at" | "archived_at">

/** Writes out what a client left to defaults. Throws 400 for tools and servers that do not fit together. */
export function bodyOf(given: z.infer<typeof createBody>): AgentBody {
  const body: AgentBody = {
    name: given.name,
    description: given.description === "" ? null : (given.description ?? null),
    system: given.system === "" ? null : (given.system ?? null),
    model: modelOf(given.model),
    ...toolsOf(given.tools ?? [], given.mcp_servers ?? []),
    skills: [],
    multiagent: null,
    metadata: given.metadata ?? {},
    execution_identity: given.execution_identity ?? { type: "service_account" },
  }
  return body
}

function modelOf(given: z.infer<typeof model>): AgentBody["model"] {
  if (typeof given === "string") return { id: given }
  const { id, effort: asked, speed, inference_geo: geo } = given
  return {
    id,
    ...(asked === undefined || asked === null ? {} : { effort: typeof asked === "string" ? { type: asked } : asked }),
    ...(speed === undefined || speed === null ? {} : { speed }),
    ...(geo === undefined || geo === null ? {} : { inference_geo: geo }),
  }
}

type Tools = Pick<AgentBody, "tools" | "mcp_servers">

function toolsOf(given: z.infer<typeof tools>, servers: readonly z.infer<typeof mcpServer>[]): Tools {
  const names = new Set<string>()
  for (const [index, server] of servers.entries()) {
    if (names.has(server.name)) throw invalid(`mcp_servers/${index}/name: there are two servers of the name ${server.name}.`)
    names.add(server.name)
    if (!/^reins:[a-zA-Z0-9._-]{1,80}$/.test(server.url))
      throw invalid(
        `mcp_servers/${index}/url: must be reins:<backend>, the backend of a tool worker of this installation. Other MCP servers are not supported yet.`,
      )
    if (!given.some((tool) => tool.type === "mcp_toolset" && tool.mcp_server_name === server.name))
      throw invalid(`mcp_servers/${index}: no mcp_toolset among the tools names ${server.name}.`)
  }
  const count = given.reduce((sum, tool) => sum + (tool.type === "custom" ? 1 : (tool.configs?.length ?? 0)), 0)
  if (count > toolsMax) throw invalid(`tools: ${count} tools over all toolsets; at most ${toolsMax}.`)
  const seen = new Set<string>()
  const written = given.map((tool, index) => {
    const place = `tools/${index}`
    const key = tool.type === "custom" ? `tool ${tool.name}` : `server ${tool.mcp_server_name}`
    if (seen.has(key)) throw invalid(`${place}: there are two of the ${key}.`)
    seen.add(key)
    if (tool.type === "custom") {
      const fault = schemaFault(tool.input_schema)
      if (fault !== null) throw invalid(`${place}/input_schema: ${fault}`)
      return tool
    }
    if (!names.has(tool.mcp_server_name))
      throw invalid(`${place}/mcp_server_name: there is no MCP server ${tool.mcp_server_name} among mcp_servers.`)
    const configured = new Set<string>()
    for (const [at, config] of (tool.configs ?? []).entries()) {
      if (configured.has(config.name)) throw invalid(`${place}/configs/${at}/name: ${config.name} is configured twice.`)
      configured.add(config.name)
    }
    const enabled = tool.default_config?.enabled ?? true
    const permission = tool.default_config?.permission_policy ?? { type: "always_ask" as const }
    return {
      type: tool.type,
      mcp_server_name: tool.mcp_server_name,
      default_config: { enabled, permission_policy: permission },
      configs: (tool.configs ?? []).map((config) => ({
        name: config.name,
        enabled: config.enabled ?? enabled,
        permission_policy: config.permission_policy ?? permission,
      })),
    }
  })
  return { tools: written, mcp_servers: [...servers] }
}

function schemaFault(schema: Readonly<Record<string, unknown>>): string | null {
  for (const keyword of ["oneOf", "anyOf", "allOf"]) if (keyword in schema) return `${keyword} is not allowed at the top level.`
  return /"\$(?:ref|dynamicRef|recursiveRef)"\s*:/.test(JSON.stringify(schema)) ? "$ref is not allowed; write the schema out." : null
}

const overridable = z.looseObject({
  name,
  model,
  system: rest.system,
  tools: tools.nullish(),
  mcp_servers: rest.mcp_servers,
  skills: rest.skills,
})

/** An agent's snapshot with some of its fields given anew, checked and written out like a whole one. */
export function materialise(
  before: BetaManagedAgentsSessionAgent,
  changes: Readonly<Record<string, unknown>>,
): BetaManagedAgentsSessionAgent {
  const given = parse(overridable, { ...before, ...changes }, "agent")
  const { name: called, model: asks, system, tools: uses, mcp_servers: servers, skills } = given
  const body = bodyOf({ name: called, model: asks, system, tools: uses, mcp_servers: servers, skills })
  return { ...before, model: body.model, system: body.system, tools: body.tools, mcp_servers: body.mcp_servers, skills: body.skills }
}
