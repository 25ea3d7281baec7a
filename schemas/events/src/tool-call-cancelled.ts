import { z } from "zod"
import { toolFact } from "./define.ts"
import { count } from "./fields.ts"

export const toolCancelled = toolFact({
  type: "tool-call.cancelled",
  meaning: "The router no longer wants this attempt. Before any claim it means that the call never runs.",
  saidBy: ["tool-router"],
  heardBy: ["tool-workers", "tool-router"],
  fields: {
    toolUseId: z.string(),
    attempt: count(),
    reason: z.string(),
    /** The deadline of the attempt, so that a cancel that precedes its dispatch is remembered long enough. */
    deadlineAt: z.int().meta({ content: "timestamp-millis" }),
  },
  example: { toolUseId: "toolu_1", attempt: 1, reason: "deadline", deadlineAt: 1_795_000_005_000 },
})
