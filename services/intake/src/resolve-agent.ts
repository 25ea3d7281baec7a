import {
  type Agent,
  agentGiven,
  canonicalJson,
  clientBackend,
  defaultLimits,
  type EffectClass,
  isDeeperThan,
  type Tool,
  type ToolDeclared,
  type ToolGiven,
  type ToolsetGiven,
} from "@reins/events"
import type { View } from "@reins/runtime"
import type { Refusal } from "@reins/session"
import { Ajv2020 } from "ajv/dist/2020.js"
import { intakeLimits } from "./config.ts"
import { firstIssue } from "./read-command.ts"

/** What of a view resolving needs: what workers have declared. */
export type Declared = Pick<View, "declaration" | "declarationsOf">

export type Resolved = { readonly agent: Agent } | { readonly code: string; readonly message: string }

/** Fields of the Messages API that Reins writes itself. */
const ownFields = new Set(["model", "messages", "max_tokens", "system", "tools", "stream"])

/**
 * Resolves the agent of a `session.start`, so that the session never depends on a later edit or on a worker that is gone: a tool named
 * by name and backend alone takes what its worker declared. The first thing that is wrong is said with its place.
 */
export function resolveAgent(json: string, declared: Declared): Resolved {
  const value: unknown = JSON.parse(json)
  if (isDeeperThan(value, intakeLimits.depthMax))
    return { code: "invalid_agent", message: `agent: nests deeper than ${intakeLimits.depthMax}.` }
  const parsed = agentGiven.safeParse(value)
  if (!parsed.success) return { code: "invalid_agent", message: `agent${firstIssue(parsed.error)}` }
  const given = parsed.data
  const taken = Object.keys(given.params).find((name) => ownFields.has(name))
  if (taken !== undefined)
    return {
      code: "invalid_agent",
      message: `agent/params/${taken}: Reins writes this field itself; use agent.${taken === "max_tokens" ? "maxTokens" : taken}.`,
    }
  const resolved = toolsOf(given, declared)
  if ("code" in resolved) return resolved
  return {
    agent: {
      // Half a surrogate pair would be another character once it went through UTF-8, and the session another after a replay.
      name: given.name.toWellFormed(),
      model: given.model.toWellFormed(),
      system: given.system === undefined ? null : canonicalJson(given.system),
      maxTokens: given.maxTokens,
      ...(given.contextTokens === undefined ? {} : { contextTokens: given.contextTokens }),
      tools: resolved.tools,
      params: canonicalJson(given.params),
      limits: {
        turns: given.limits.turns ?? defaultLimits.turns,
        toolCalls: given.limits.toolCalls ?? defaultLimits.toolCalls,
        outputTokens: given.limits.outputTokens ?? defaultLimits.outputTokens,
        wallClockMs: given.limits.wallClockMs ?? defaultLimits.wallClockMs,
      },
    },
  }
}

/** Resolves the tools alone, for a session whose agent stays: `tools` and `toolsets` as in an agent. */
export function resolveTools(json: string, declared: Declared): { readonly tools: readonly Tool[] } | Refusal {
  const value: unknown = JSON.parse(json)
  if (isDeeperThan(value, intakeLimits.depthMax))
    return { code: "invalid_agent", message: `agent: nests deeper than ${intakeLimits.depthMax}.` }
  const parsed = agentGiven.pick({ tools: true, toolsets: true }).safeParse(value)
  if (!parsed.success) return { code: "invalid_agent", message: `agent${firstIssue(parsed.error)}` }
  return toolsOf(parsed.data, declared)
}

function toolsOf(
  given: { readonly tools: readonly ToolGiven[]; readonly toolsets: readonly ToolsetGiven[] },
  declared: Declared,
): { readonly tools: Tool[] } | Refusal {
  const tools: Tool[] = []
  const names = new Map<string, string>()
  const add = (tool: Tool, place: string): Refusal | null => {
    const before = names.get(tool.name)
    if (before !== undefined)
      return { code: "invalid_agent", message: `${place}/name: there are two tools of the name ${tool.name}; the other is ${before}.` }
    names.set(tool.name, place)
    tools.push(tool)
    return null
  }
  for (const [index, tool] of given.tools.entries()) {
    const place = `agent/tools/${index}`
    const resolved = resolveTool(tool, place, declared.declaration(tool.backend, tool.name))
    if ("code" in resolved) return resolved
    const twice = add(resolved, place)
    if (twice !== null) return twice
  }
  for (const [index, toolset] of given.toolsets.entries()) {
    const place = `agent/toolsets/${index}`
    const served = declared.declarationsOf(toolset.backend).filter(({ tool }) => tool !== "*")
    if (served.length === 0)
      return {
        code: "invalid_agent",
        message: `${place}: no worker has declared a tool on the backend ${toolset.backend}. Start its worker, then ask again.`,
      }
    const unknown = Object.keys(toolset.tools).find((name) => !served.some(({ tool }) => tool === name))
    if (unknown !== undefined)
      return {
        code: "invalid_agent",
        message: `${place}/tools/${unknown}: the backend ${toolset.backend} has no such tool. It has: ${served.map(({ tool }) => tool).join(", ")}.`,
      }
    for (const one of served) {
      const own = toolset.tools[one.tool]
      if (!(own?.enabled ?? toolset.enabled ?? true)) continue
      const permission = own?.permission ?? toolset.permission
      const onUnknown = own?.onUnknown ?? toolset.onUnknown
      const resolved = resolveTool(
        {
          name: one.tool,
          backend: toolset.backend,
          ...(permission === undefined ? {} : { permission }),
          ...(onUnknown === undefined ? {} : { onUnknown }),
        },
        place,
        one,
      )
      if ("code" in resolved) return resolved
      const twice = add({ ...resolved, server: toolset.server }, place)
      if (twice !== null) return twice
    }
  }
  return { tools }
}

/** A tool that the session's own client runs: nobody has to have declared it. */
const ofTheClient: ToolDeclared = {
  type: "tool.declared",
  backend: clientBackend,
  tool: "*",
  description: null,
  inputSchema: "{}",
  effect: "unsafe",
  timeoutMs: 0,
  sideEffects: null,
  claims: false,
  encoding: "json",
}

function resolveTool(tool: ToolGiven, place: string, declared: ToolDeclared | undefined): Tool | { code: string; message: string } {
  const invalid = (message: string): { code: string; message: string } => ({ code: "invalid_agent", message })
  if (tool.backend === clientBackend) declared = ofTheClient
  if (declared === undefined) {
    return invalid(
      `${place}: no worker has declared a tool ${tool.name} on the backend ${tool.backend}. Start its worker (reins worker, or reins up tool-workers/${tool.backend}), then send the command again.`,
    )
  }
  if (tool.backend === "http" && tool.http === undefined) return invalid(`${place}/http: an http tool needs its method and url.`)
  const effect = effectFault(tool, declared)
  if (effect !== null) return invalid(`${place}/effect: ${effect}`)
  const inputSchema =
    tool.inputSchema ?? (declared.tool === "*" ? undefined : (JSON.parse(declared.inputSchema) as Record<string, unknown>))
  if (inputSchema === undefined)
    return invalid(
      `${place}/inputSchema: the backend ${tool.backend} takes tools that the agent describes; give the JSON Schema of the arguments.`,
    )
  const fault = schemaFault(inputSchema)
  if (fault !== null) return invalid(`${place}/inputSchema: ${fault}`)
  return {
    name: tool.name,
    description: (tool.description ?? declared.description)?.toWellFormed() ?? null,
    backend: tool.backend,
    effect: tool.effect ?? declared.effect,
    timeoutMs: tool.timeoutMs ?? (declared.tool === "*" ? intakeLimits.toolTimeoutMs : declared.timeoutMs),
    inputSchema: canonicalJson(inputSchema),
    sideEffects: (tool.sideEffects ?? declared.sideEffects)?.toWellFormed() ?? null,
    settings: tool.http === undefined ? null : canonicalJson(tool.http),
    claims: declared.claims,
    encoding: declared.encoding,
    permission: tool.permission ?? null,
    onUnknown: tool.onUnknown ?? null,
    server: null,
  }
}

/** From what may run again at will to what never may. */
const strictness: readonly EffectClass[] = ["pure", "idempotent", "keyed", "queryable", "unsafe"]

/** An agent may be stricter than the worker that knows the tool, never looser; and nobody can ask an endpoint whether a call happened. */
function effectFault(tool: ToolGiven, declared: ToolDeclared): string | null {
  if (tool.effect === undefined) return null
  if (declared.tool === "*")
    return tool.effect === "queryable"
      ? `the backend ${tool.backend} cannot be asked whether a call happened; declare it keyed or unsafe.`
      : null
  if (strictness.indexOf(tool.effect) >= strictness.indexOf(declared.effect)) return null
  return `its worker declares ${tool.name} as ${declared.effect}; an agent may be stricter, and ${tool.effect} is looser.`
}

/** Why this schema cannot be used, or null. Nothing is fetched: a remote `$ref` does not resolve. */
function schemaFault(schema: Record<string, unknown>): string | null {
  const text = canonicalJson(schema)
  const known = judged.get(text)
  if (known !== undefined) return known
  const fault = judgeSchema(schema, text)
  // Compiling takes milliseconds, and the same agent starts many sessions; the oldest go first.
  if (judged.size >= judgedMax)
    for (const oldest of judged.keys()) {
      judged.delete(oldest)
      break
    }
  judged.set(text, fault)
  return fault
}

const judged = new Map<string, string | null>()
const judgedMax = 2000

function judgeSchema(schema: Record<string, unknown>, text: string): string | null {
  if (text.length > intakeLimits.schemaMax)
    return `the schema is ${text.length} characters long; at most ${intakeLimits.schemaMax} are compiled.`
  if (isDeeperThan(schema, intakeLimits.schemaDepthMax)) return `the schema nests deeper than ${intakeLimits.schemaDepthMax}.`
  if (schema["type"] !== "object") return `the schema of a tool's arguments has "type": "object".`
  try {
    const validate = new Ajv2020({ strict: false, validateFormats: false, logger: false }).compile(schema)
    return "$async" in validate ? "the schema is checked at once: $async has no place in it." : null
  } catch (error) {
    return `the schema does not compile: ${(error as Error).message}`
  }
}
