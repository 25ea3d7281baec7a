import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, durationMs, json } from "./fields.ts"

export const usage = z.object({ inputTokens: count(), outputTokens: count(), cacheReadTokens: count(), cacheWriteTokens: count() })
export type Usage = z.infer<typeof usage>

export const modelResponded = sessionFact({
  type: "model.responded",
  meaning: "What the model said, verbatim. It is never asked for again.",
  saidBy: ["llm-invoker"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: {
    /** The eventId of the model.requested that this answers. */
    claim: z.string(),
    turn: count(),
    attempt: count(),
    /** The content array exactly as it goes back into the next request. */
    content: json(),
    /** The rest of the provider's message, verbatim. */
    message: json(),
    stopReason: z.string().nullable(),
    usage,
    /** The model that says it answered, which need not be the one asked. */
    model: z.string(),
    requestId: z.string().nullable(),
    durationMs: durationMs(),
  },
  example: {
    claim: "evt_02",
    turn: 1,
    attempt: 1,
    content: '[{"type":"tool_use","id":"toolu_1","name":"get_order","input":{"id":"17"}}]',
    message: '{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5-5"}',
    stopReason: "tool_use",
    usage: { inputTokens: 412, outputTokens: 31, cacheReadTokens: 0, cacheWriteTokens: 0 },
    model: "claude-sonnet-5-5",
    requestId: "req_1",
    durationMs: 912,
  },
})
