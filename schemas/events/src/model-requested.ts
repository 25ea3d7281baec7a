import { z } from "zod"
import { sessionFact } from "./define.ts"
import { count, durationMs, json, sha256 } from "./fields.ts"

export const modelRequested = sessionFact({
  type: "model.requested",
  meaning:
    "The claim on one model call: who asks, on which conversation, with which exact body. Read back as accepted before the call is made.",
  saidBy: ["llm-invoker"],
  heardBy: ["llm-invoker"],
  fields: {
    /** One model request, its response and the tool calls it asks for make a turn; counted from 1. */
    turn: count(),
    /** Within the turn, from 1. */
    attempt: count(),
    /** How many queued messages this request takes into the conversation. */
    takes: count(),
    /**
     * Null: it asks for the next turn. Otherwise for a summary, so that what follows fits into the model's window: 0, of the conversation as
     * it stands; else of a transcript of it cut to at most so many characters. The messages that it takes follow the summary.
     */
    compacts: count().nullish(),
    /** A takeover names the open claim (its eventId) that it replaces. */
    replaces: z.string().nullable(),
    group: z.string(),
    instance: z.string(),
    /** Model, max_tokens and params as asked, tools and system by hash: what the body holds beside the conversation. */
    parameters: json(),
    /** The chained digest of the conversation that this request covers; the fold accepts only its own. */
    conversationDigest: sha256(),
    /** SHA-256 of the exact request body. */
    bodyHash: sha256(),
    /** The version of the body's serialisation. */
    bodyVersion: count(),
    deadlineMs: durationMs(),
  },
  example: {
    turn: 1,
    attempt: 1,
    takes: 1,
    compacts: null,
    replaces: null,
    group: "reins.llm-invoker",
    instance: "llm-invoker-7f3a",
    parameters: '{"max_tokens":1024,"model":"claude-sonnet-5-5"}',
    conversationDigest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    bodyHash: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    bodyVersion: 1,
    deadlineMs: 600000,
  },
})
