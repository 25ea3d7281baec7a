import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, durationMs } from "./fields.ts"

export const modelFailed = sessionFact({
  type: "model.failed",
  meaning: "A model call gave no usable answer: why, and whether and when it is tried again.",
  saidBy: ["llm-invoker"],
  heardBy: ["llm-invoker"],
  fields: {
    claim: z.string(),
    turn: count(),
    attempt: count(),
    /** The provider's error type, or `connection`, `protocol`, `deadline`, `given_up`, `abandoned`. */
    kind: z.string(),
    status: z.int().nullable(),
    message: z.string(),
    retryable: z.boolean(),
    /** The earliest next attempt, counted from this record. */
    retryAfterMs: durationMs(),
    requestId: z.string().nullable(),
  },
  example: {
    claim: "evt_02",
    turn: 1,
    attempt: 1,
    kind: "overloaded_error",
    status: 529,
    message: "Overloaded",
    retryable: true,
    retryAfterMs: 1800,
    requestId: "req_1",
  },
})
