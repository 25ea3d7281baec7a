import { z } from "zod"
import { toolFact } from "./define.ts"
import { count } from "./fields.ts"

export const toolProgressed = toolFact({
  type: "tool-call.progressed",
  meaning: "A worker says how far it is; for people, never decided on.",
  saidBy: ["tool-workers"],
  heardBy: ["cli"],
  fields: { toolUseId: z.string(), attempt: count(), message: z.string() },
  example: { toolUseId: "toolu_1", attempt: 1, message: "3 of 10 pages" },
})
