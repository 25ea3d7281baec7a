import { z } from "zod"
import { count, durationMs, effectClass, json } from "./fields.ts"

export const permission = z.enum(["always_allow", "always_ask"])
export const onUnknown = z.enum(["tell", "hold"])

/** The backend whose calls the session's client runs itself: they are held for its results, never dispatched. */
export const clientBackend = "client"

/** A tool as resolved into `session.started`: a session never depends on a later edit or on a worker that is gone. */
export const tool = z.object({
  name: z.string(),
  description: z.string().nullable(),
  /** The suffix of the topic `tools.<backend>`. */
  backend: z.string(),
  effect: effectClass,
  timeoutMs: durationMs(),
  /** JSON Schema 2020-12 of the arguments. */
  inputSchema: json(),
  /** Declared in words, recorded with each dispatch. */
  sideEffects: z.string().nullable(),
  /** Backend settings given by the agent, for example the method and URL of an `http` tool. */
  settings: json().nullable(),
  /** Whether the backend's workers claim before they act; without it `unsafe` and `queryable` tools are refused. */
  claims: z.boolean(),
  /** How dispatches to this backend are written. */
  encoding: z.enum(["avro", "json"]),
  /** `always_ask`: each call is held until someone allows it. Null: always allowed. */
  permission: permission.nullish(),
  /** What happens when nobody can say whether a call took effect: the model is told (null), or the call is held for a person. */
  onUnknown: onUnknown.nullish(),
  /** The MCP server under which the API shows it. */
  server: z.string().nullish(),
})
export type Tool = z.infer<typeof tool>

/** What a session may spend; checked before each model request (turns, tokens, time) and each dispatch (tool calls). */
export const limits = z.object({ turns: count(), toolCalls: count(), outputTokens: count(), wallClockMs: durationMs() })
export type Limits = z.infer<typeof limits>

/** The agent as resolved into `session.started`. */
export const agent = z.object({
  name: z.string(),
  model: z.string(),
  /** The system prompt: a JSON string or an array of content blocks. */
  system: json().nullable(),
  maxTokens: z.int().positive(),
  tools: z.array(tool),
  /** Further fields of the Messages API, sent verbatim: a JSON object. */
  params: json(),
  limits,
  /** The model's window in tokens, where it is another than the invoker's (`REINS_CONTEXT_TOKENS`). */
  contextTokens: z.int().positive().nullish(),
})
export type Agent = z.infer<typeof agent>

export const defaultLimits: Limits = { turns: 50, toolCalls: 200, outputTokens: 200_000, wallClockMs: 24 * 3_600_000 }
