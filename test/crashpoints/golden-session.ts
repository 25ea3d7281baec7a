import type { AgentGiven } from "@reins/events"
import { fieldBytesMax, rests, type Shape, type Story, says } from "./story.ts"

// One short session with every effect class on two backends, values that stand in the blob store, a window that it outgrows and a rest long
// enough for a snapshot: what most crash points are enumerated over.

/** The tools of the golden session whose effects a ledger knows. */
export const ledgered: ReadonlySet<string> = new Set(["look", "fix", "note", "charge", "ring", "refund"])

/** All in one process, and each apart. */
export const goldenShapes: Readonly<Record<string, Shape>> = {
  hosted: { host: ["intake", "llm-invoker", "tool-router", "tool-workers/http", "classes"] },
  apart: {
    intake: ["intake"],
    "llm-invoker": ["llm-invoker"],
    "tool-router": ["tool-router"],
    "tool-workers/http": ["tool-workers/http"],
    "tool-workers/classes": ["classes"],
  },
}

export function goldenAgent(ordersUrl: string): Partial<AgentGiven> & { readonly model: string } {
  return {
    name: "golden",
    model: "claude-sonnet-5-5",
    system: "You keep the house.",
    maxTokens: 1024,
    tools: [
      ...["look", "fix", "note", "charge", "ring"].map((name) => ({ name, backend: "classes" })),
      {
        name: "refund",
        description: "Refunds an order.",
        backend: "http",
        effect: "keyed" as const,
        timeoutMs: 60_000,
        sideEffects: "moves money back to the customer",
        inputSchema: {
          type: "object",
          properties: { id: { type: "string" }, cents: { type: "integer", minimum: 1 } },
          required: ["id", "cents"],
        },
        http: { method: "POST", url: `${ordersUrl}/orders/{id}/refund` },
      },
    ],
  }
}

/** All classes in parallel. */
export function goldenPrompt(sessionId: string, order = `o-${sessionId}`): string {
  const parallel = ['look {"n":1}', 'fix {"n":2}', 'note {"n":3}', 'charge {"n":4}', 'ring {"n":5}', `refund {"id":"${order}","cents":6}`]
  return `This is ${sessionId}. [[${parallel.map((call) => `call ${call}`).join("; ")}]]`
}

/** One more call, so that what a crash leaves behind is carried into a further turn. */
export const furtherCall = '[[call note {"n":7}]]'

/** An order whose name alone is longer, and goes from the prompt through arguments and results into the conversation. */
const longOrder = (sessionId: string): string => `o-${sessionId}-${"x".repeat(fieldBytesMax)}`
/** Less than its first message comes to with all that it leads to, and more than a summary of that with the next one. */
const contextTokens = 1800

export function goldenSession(sessionId: string, ordersUrl: string): Story {
  return {
    kept: [sessionId],
    deleted: [],
    steps: [
      {
        counts: true,
        command: {
          type: "session.start",
          sessionId,
          commandId: `start-${sessionId}`,
          agent: { ...goldenAgent(ordersUrl), contextTokens },
          input: [{ type: "text", text: goldenPrompt(sessionId, longOrder(sessionId)) }],
        },
        done: rests(sessionId, "session.idled"),
      },
      {
        command: {
          type: "message.send",
          sessionId,
          commandId: `more-${sessionId}`,
          content: [{ type: "text", text: `Go on. ${furtherCall}` }],
        },
        done: says(sessionId, "message.received", "context.compacted", "session.idled"),
      },
      { command: { type: "session.end", sessionId, commandId: `end-${sessionId}` }, done: says(sessionId, "session.ended") },
    ],
  }
}
