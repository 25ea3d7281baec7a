import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, sha256 } from "./fields.ts"

export const heldReason = z.enum(["approval", "client", "outcome_unknown"])
export type HeldReason = z.infer<typeof heldReason>

export const toolCallHeld = sessionFact({
  type: "tool-call.held",
  meaning:
    "A call waits for someone: for a person's approval, for the client that runs the tool itself, or for a person to say what became of it.",
  saidBy: ["tool-router"],
  heardBy: ["llm-invoker", "gateway"],
  fields: {
    toolUseId: z.string(),
    tool: z.string(),
    /** The latest attempt; 0 before the first. */
    attempt: count(),
    /** `approval`, `client`, `outcome_unknown`. */
    reason: z.string(),
    /** Of the arguments as canonical JSON: an approval is bound to them. */
    argumentsHash: sha256(),
    message: z.string().nullable(),
  },
  example: {
    toolUseId: "toolu_1",
    tool: "refund",
    attempt: 0,
    reason: "approval",
    argumentsHash: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    message: null,
  },
})
