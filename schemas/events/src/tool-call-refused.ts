import { z } from "zod"
import { sessionFact } from "./define.ts"

export const toolCallRefused = sessionFact({
  type: "tool-call.refused",
  meaning:
    "A call that never leaves: unknown tool, invalid arguments, no authority, over quota. The model reads the message and can mend it.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker"],
  fields: {
    toolUseId: z.string(),
    tool: z.string(),
    /** `unknown_tool`, `invalid_arguments`, `unauthorized`, `quota_exceeded`. */
    code: z.string(),
    message: z.string(),
  },
  example: { toolUseId: "toolu_1", tool: "get_order", code: "invalid_arguments", message: "/id must be string" },
})
