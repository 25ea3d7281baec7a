import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition, sha256 } from "./fields.ts"

export const decision = z.enum(["allow", "deny"])

export const approvalGiven = sessionFact({
  type: "approval.given",
  meaning: "A person or program decided on a held call: one allow permits one run of this call with these arguments, a denial answers it.",
  saidBy: ["intake"],
  heardBy: ["tool-router"],
  fields: {
    commandId: z.string(),
    command: commandPosition,
    toolUseId: z.string(),
    decision,
    /** What a denial tells the model. */
    message: z.string().nullable(),
    /** Of the arguments that were decided on. */
    argumentsHash: sha256(),
  },
  example: {
    commandId: "approve-1",
    command: { partition: 3, offset: 21 },
    toolUseId: "toolu_1",
    decision: "allow" as const,
    message: null,
    argumentsHash: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
  },
})
