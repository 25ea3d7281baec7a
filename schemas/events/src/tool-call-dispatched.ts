import { z } from "zod"
import { sessionFact, toolFact } from "./define.ts"
import { count, durationMs, effectClass, json, sha256 } from "./fields.ts"

/** On `sessions`: the decision to run a call. */
export const toolCallDispatched = sessionFact({
  type: "tool-call.dispatched",
  meaning:
    "The decision to run a call: which attempt, on which backend, of which effect class, until when. Read back before anything is sent.",
  saidBy: ["tool-router"],
  heardBy: ["tool-router"],
  fields: {
    toolUseId: z.string(),
    tool: z.string(),
    attempt: count(),
    backend: z.string(),
    effect: effectClass,
    deadlineMs: durationMs(),
    idempotencyKey: z.string(),
    argumentsHash: sha256(),
    sideEffects: z.string().nullable(),
  },
  example: {
    toolUseId: "toolu_1",
    tool: "get_order",
    attempt: 1,
    backend: "http",
    effect: "pure",
    deadlineMs: 5000,
    idempotencyKey: "sesn_my1/toolu_1",
    argumentsHash: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    sideEffects: null,
  },
})

/** On `tools.<backend>`: the call itself, built from the accepted decision. */
export const toolDispatched = toolFact({
  type: "tool-call.dispatched",
  meaning: "The call as its worker gets it, built from the accepted decision on the session log.",
  saidBy: ["tool-router"],
  heardBy: ["tool-workers"],
  fields: {
    toolUseId: z.string(),
    tool: z.string(),
    attempt: count(),
    effect: effectClass,
    idempotencyKey: z.string(),
    /** A JSON object. */
    arguments: json(),
    /** Log time, milliseconds since the epoch. Nothing starts after it. */
    deadlineAt: z.int().meta({ content: "timestamp-millis" }),
    /** The offset of the decision on `sessions`. */
    sessionOffset: count(),
    /** What the agent gave for this backend, for example method and URL. */
    settings: json().nullable(),
  },
  example: {
    toolUseId: "toolu_1",
    tool: "get_order",
    attempt: 1,
    effect: "pure",
    idempotencyKey: "sesn_my1/toolu_1",
    arguments: '{"id":"17"}',
    deadlineAt: 1_795_000_005_000,
    sessionOffset: 42,
    settings: '{"method":"GET","url":"http://127.0.0.1:9100/orders/{id}"}',
  },
})
