import { z } from "zod"
import { toolFact } from "./define.ts"
import { count } from "./fields.ts"

export const toolClaimed = toolFact({
  type: "tool-call.claimed",
  meaning: "A worker takes the call; it acts only after it has read this back as accepted.",
  saidBy: ["tool-workers"],
  heardBy: ["tool-workers", "tool-router"],
  fields: {
    toolUseId: z.string(),
    attempt: count(),
    group: z.string(),
    instance: z.string(),
    /** A takeover names the open claim (its eventId) that it replaces. */
    replaces: z.string().nullable(),
  },
  example: { toolUseId: "toolu_1", attempt: 1, group: "reins.tool-workers/http", instance: "http-91c2", replaces: null },
})
