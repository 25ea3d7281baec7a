import { z } from "zod"
import { onUnknown, permission } from "./agent.ts"
import { decision } from "./approval-given.ts"
import { command } from "./define.ts"
import { effectClass, json } from "./fields.ts"

/**
 * What may be asked. On the wire a command is JSON as anyone can type it (`agent`, `input` and `content` are then plain JSON)
 * or Avro (there they are JSON strings). `commandId` and `sessionId` may be left out: they follow from topic, partition and offset.
 */
export const sessionStart = command({
  type: "session.start",
  meaning: "Begin a session with this agent and, if given, this first input.",
  fields: {
    agent: json(),
    input: json().nullish(),
    /** Whose session it is; who may write to this topic may say so. */
    tenant: z.string().min(1).max(200).nullish(),
    title: z.string().max(2000).nullish(),
    metadata: json().nullish(),
    environmentId: z.string().max(200).nullish(),
    profile: json().nullish(),
  },
  example: {
    agent: '{"name":"support","model":"claude-sonnet-5-5","tools":[{"name":"add","backend":"function"}]}',
    input: '[{"type":"text","text":"Where is order 17?"}]',
  },
})
export const messageSend = command({
  type: "message.send",
  meaning: "Say something to a session.",
  fields: { content: json() },
  example: { content: '[{"type":"text","text":"And order 18?"}]' },
})
export const sessionInterrupt = command({ type: "session.interrupt", meaning: "Stop the turn that is running.", fields: {}, example: {} })
export const sessionEnd = command({ type: "session.end", meaning: "End a session for good.", fields: {}, example: {} })
export const sessionResume = command({ type: "session.resume", meaning: "Let a parked session go on.", fields: {}, example: {} })

export const approvalGive = command({
  type: "approval.give",
  meaning: "Allow or deny a held call.",
  fields: {
    toolUseId: z.string().min(1).max(200),
    decision,
    message: z.string().max(20_000).nullish(),
    /** What was decided on, as `tool-call.held` says it; where given, it has to be what is held. */
    argumentsHash: z.string().nullish(),
  },
  example: { toolUseId: "toolu_1", decision: "allow" },
})
export const resultGive = command({
  type: "result.give",
  meaning: "Give the result of a call that is held for its client, or of one whose outcome nobody knew.",
  fields: { toolUseId: z.string().min(1).max(200), content: json().nullish(), isError: z.boolean().nullish() },
  example: { toolUseId: "toolu_1", content: '[{"type":"text","text":"sunny, 21 degrees"}]' },
})
export const sessionUpdate = command({
  type: "session.update",
  meaning: "Change a session's title, metadata or tools.",
  fields: {
    /** `title`, `metadata` and `profile`, each whole where it is to change; `metadataPatch`: keys to set, null to delete. */
    changes: json().nullish(),
    /** `tools` and `toolsets` as in an agent, whole. */
    agent: json().nullish(),
  },
  example: { changes: '{"title":"Order 17"}' },
})
export const sessionArchive = command({
  type: "session.archive",
  meaning: "Close a session for good and keep it for reading.",
  fields: {},
  example: {},
})
export const sessionDelete = command({
  type: "session.delete",
  meaning: "Delete a session.",
  fields: {
    /** Only if nothing has happened in it since this time of the log, in milliseconds: for who deletes what nobody uses any more. */
    unchangedSince: z.int().nonnegative().nullish(),
  },
  example: {},
})

/** A tool name as the Messages API takes it. */
const toolName = z.string().regex(/^[a-zA-Z0-9_-]{1,128}$/, "must match ^[a-zA-Z0-9_-]{1,128}$")
const backendName = z.string().regex(/^[a-zA-Z0-9._-]{1,80}$/, "must match ^[a-zA-Z0-9._-]{1,80}$")

/** How an `http` tool is called; `{x}` in the URL takes argument x. */
export const httpSettings = z.strictObject({
  method: z.enum(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]).default("GET"),
  url: z.string().min(1).max(4000),
  headers: z.record(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/), z.string().regex(/^[^\r\n\0]*$/)).optional(),
})
export type HttpSettings = z.infer<typeof httpSettings>

/** A tool as an agent names it: in full, or by name and backend alone where a worker has declared it. */
export const toolGiven = z.strictObject({
  name: toolName,
  backend: backendName,
  description: z.string().max(20_000).optional(),
  effect: effectClass.optional(),
  timeoutMs: z
    .int()
    .min(1)
    .max(24 * 3_600_000)
    .optional(),
  inputSchema: z.record(z.string(), z.unknown()).optional(),
  sideEffects: z.string().max(2000).optional(),
  http: httpSettings.optional(),
  permission: permission.optional(),
  onUnknown: onUnknown.optional(),
})
export type ToolGiven = z.infer<typeof toolGiven>

const toolSetting = { enabled: z.boolean().optional(), permission: permission.optional(), onUnknown: onUnknown.optional() }

/** All tools that the workers of a backend have declared, shown to API clients as an MCP server of this name. */
export const toolsetGiven = z.strictObject({
  backend: backendName,
  server: z.string().min(1).max(255),
  ...toolSetting,
  /** Settings of single tools, which win. */
  tools: z.record(z.string().max(128), z.strictObject(toolSetting)).default({}),
})
export type ToolsetGiven = z.infer<typeof toolsetGiven>

/** The agent of a `session.start`, as a person writes it in JSON or YAML. */
export const agentGiven = z.strictObject({
  name: z.string().min(1).max(200).default("agent"),
  model: z.string().min(1).max(200),
  system: z.union([z.string(), z.array(z.record(z.string(), z.unknown()))]).optional(),
  maxTokens: z.int().min(1).max(1_000_000).default(4096),
  /** The model's window in tokens, where it is another than the invoker's (`REINS_CONTEXT_TOKENS`). */
  contextTokens: z.int().min(1000).max(100_000_000).optional(),
  tools: z.array(toolGiven).max(500).default([]),
  toolsets: z.array(toolsetGiven).max(20).default([]),
  params: z.record(z.string(), z.unknown()).default({}),
  limits: z
    .strictObject({
      turns: z.int().min(1).max(1_000_000).optional(),
      toolCalls: z.int().min(0).max(1_000_000).optional(),
      outputTokens: z.int().min(1).max(1_000_000_000).optional(),
      wallClockMs: z
        .int()
        .min(1)
        .max(365 * 86_400_000)
        .optional(),
    })
    .default({}),
})
export type AgentGiven = z.infer<typeof agentGiven>

/** Content for the model: text, or blocks of the Messages API, which pass through unchanged. */
export const contentGiven = z.union([z.string().min(1), z.array(z.looseObject({ type: z.string().min(1) })).min(1)])
