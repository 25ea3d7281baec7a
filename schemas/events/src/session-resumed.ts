import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const sessionResumed = sessionFact({
  type: "session.resumed",
  meaning: "A parked session goes on from where it was parked.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: { commandId: z.string(), command: commandPosition },
  example: { commandId: "resume-1", command: { partition: 3, offset: 21 } },
})
