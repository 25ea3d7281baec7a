import { z } from "zod"
import { toolFact } from "./define.ts"
import { count, durationMs, effectDone, json } from "./fields.ts"

export const toolFinished = toolFact({
  type: "tool-call.finished",
  meaning: "What became of the call. The first one that answers the open attempt counts.",
  saidBy: ["tool-workers"],
  heardBy: ["tool-router", "tool-workers"],
  fields: {
    toolUseId: z.string(),
    attempt: count(),
    /** The eventId of the claim it stands on; null where the class needs none. */
    claim: z.string().nullable(),
    outcome: z.enum(["completed", "failed", "unknown"]),
    /** The result for the model: a JSON string or an array of content blocks. */
    content: json().nullable(),
    isError: z.boolean(),
    /** Of a failure: one of the taxonomy in faults, for example `timeout`, `unavailable`, `backend_error`. */
    kind: z.string().nullable(),
    message: z.string().nullable(),
    effect: effectDone,
    /** Null: the worker does not want this attempt tried again. */
    retryAfterMs: durationMs().nullable(),
  },
  example: {
    toolUseId: "toolu_1",
    attempt: 1,
    claim: null,
    outcome: "completed",
    content: '"{\\"status\\":\\"shipped\\"}"',
    isError: false,
    kind: null,
    message: null,
    effect: "done",
    retryAfterMs: null,
  },
})
