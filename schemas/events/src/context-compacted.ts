import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, json, sha256 } from "./fields.ts"

export const contextCompacted = sessionFact({
  type: "context.compacted",
  meaning:
    "A summary stands for the conversation so far, so that what follows fits into the model's window. The records before it stay; requests after it begin with `content`.",
  saidBy: ["llm-invoker"],
  heardBy: ["llm-invoker", "gateway"],
  fields: {
    turn: count(),
    /** The eventId of the model.requested that asked for the summary. */
    claim: z.string(),
    /** The chained digest of the conversation that was summarised. */
    conversationDigest: sha256(),
    /** How many utterances it had. */
    utterances: count(),
    /** What the next request begins with: content blocks of a user message, as a JSON array. */
    content: json(),
  },
  example: {
    turn: 41,
    claim: "evt_40",
    conversationDigest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    utterances: 82,
    content: '[{"type":"text","text":"The conversation so far, in a summary: the order 17 was …"}]',
  },
})
