import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, durationMs, effectDone } from "./fields.ts"

export const toolCallTimedOut = sessionFact({
  type: "tool-call.timed-out",
  meaning: "An attempt gave no result before its deadline.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: {
    toolUseId: z.string(),
    attempt: count(),
    message: z.string(),
    effect: effectDone,
    /** Null: no further attempt, the model is told. */
    retryAfterMs: durationMs().nullable(),
  },
  example: { toolUseId: "toolu_1", attempt: 1, message: "get_order gave no result within 5000 ms.", effect: "maybe", retryAfterMs: null },
})
