import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition, json } from "./fields.ts"

export const resultReceived = sessionFact({
  type: "result.received",
  meaning: "The client of a session gave the result of a call that was held for it.",
  saidBy: ["intake"],
  heardBy: ["tool-router", "llm-invoker"],
  fields: { commandId: z.string(), command: commandPosition, toolUseId: z.string(), content: json(), isError: z.boolean() },
  example: {
    commandId: "result-1",
    command: { partition: 3, offset: 22 },
    toolUseId: "toolu_1",
    content: '[{"type":"text","text":"sunny, 21 degrees"}]',
    isError: false,
  },
})
