import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, json } from "./fields.ts"

export const toolCallCompleted = sessionFact({
  type: "tool-call.completed",
  meaning: "The tool's answer, as the model will read it. It is never run again.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker"],
  fields: { toolUseId: z.string(), attempt: count(), content: json(), isError: z.boolean() },
  example: { toolUseId: "toolu_1", attempt: 1, content: '"{\\"status\\":\\"shipped\\"}"', isError: false },
})
