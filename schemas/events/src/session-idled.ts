import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count } from "./fields.ts"

export const idleReason = z.enum([
  "end_turn",
  "requires_action",
  "retries_exhausted",
  "limit_reached",
  "interrupted",
  "refusal",
  "max_tokens",
  "context_window_exceeded",
  "model_error",
])
export type IdleReason = z.infer<typeof idleReason>

export const sessionIdled = sessionFact({
  type: "session.idled",
  meaning: "No further turn follows until something new arrives, and why.",
  saidBy: ["llm-invoker"],
  heardBy: ["cli"],
  fields: { turn: count(), reason: z.string(), message: z.string().nullable() },
  example: { turn: 2, reason: "end_turn", message: null },
})
