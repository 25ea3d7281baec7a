import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, durationMs, effectDone } from "./fields.ts"

export const toolCallFailed = sessionFact({
  type: "tool-call.failed",
  meaning: "An attempt failed: what kind, what it may have left behind, and whether it is tried again.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: {
    toolUseId: z.string(),
    attempt: count(),
    kind: z.string(),
    message: z.string(),
    effect: effectDone,
    /** Null: no further attempt, the model is told. */
    retryAfterMs: durationMs().nullable(),
  },
  example: { toolUseId: "toolu_1", attempt: 1, kind: "unavailable", message: "503 from the backend", effect: "none", retryAfterMs: 400 },
})
