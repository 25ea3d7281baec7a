import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const sessionArchived = sessionFact({
  type: "session.archived",
  meaning: "The session is closed for good and kept for reading.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router", "gateway"],
  fields: { commandId: z.string(), command: commandPosition },
  example: { commandId: "archive-1", command: { partition: 3, offset: 24 } },
})
