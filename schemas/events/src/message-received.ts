import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition, json } from "./fields.ts"

export const messageReceived = sessionFact({
  type: "message.received",
  meaning: "A person or program said something; it queues until the next model request takes it.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker"],
  fields: { commandId: z.string(), command: commandPosition, content: json() },
  example: { commandId: "msg-2", command: { partition: 3, offset: 18 }, content: '[{"type":"text","text":"And order 18?"}]' },
})
