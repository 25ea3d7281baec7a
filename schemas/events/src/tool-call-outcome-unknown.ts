import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count } from "./fields.ts"

export const toolCallOutcomeUnknown = sessionFact({
  type: "tool-call.outcome-unknown",
  meaning: "The call began and nobody can say whether it took effect. It is not run again; the model is told in plain words.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker"],
  fields: { toolUseId: z.string(), attempt: count(), message: z.string() },
  example: { toolUseId: "toolu_1", attempt: 1, message: "The worker died while refund was running." },
})
