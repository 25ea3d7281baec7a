import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const interruptReceived = sessionFact({
  type: "interrupt.received",
  meaning: "The turn is to stop: open calls close at once, later results are late.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: { commandId: z.string(), command: commandPosition },
  example: { commandId: "stop-1", command: { partition: 3, offset: 19 } },
})
