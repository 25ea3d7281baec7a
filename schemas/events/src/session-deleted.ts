import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const sessionDeleted = sessionFact({
  type: "session.deleted",
  meaning: "The session is deleted: this wins over everything that is still under way, and stays.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router", "gateway", "eraser"],
  fields: { commandId: z.string(), command: commandPosition },
  example: { commandId: "delete-1", command: { partition: 3, offset: 24 } },
})
