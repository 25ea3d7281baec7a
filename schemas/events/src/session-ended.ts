import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition } from "./fields.ts"

export const sessionEnded = sessionFact({
  type: "session.ended",
  meaning: "Nothing more happens in this session; its log stays.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: { commandId: z.string(), command: commandPosition },
  example: { commandId: "end-1", command: { partition: 3, offset: 20 } },
})
