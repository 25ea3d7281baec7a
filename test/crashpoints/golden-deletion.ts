import { fieldBytesMax, isErased, rests, type Shape, type Step, type Story, says } from "./story.ts"

// Two sessions are deleted and erased beside another, which goes on: one that has called a tool, and one of which nothing stands beside the
// session log but its commands. Points count from the first deletion on: what leads to it the golden session has.

/** All in one process, and each apart. */
export const deletionShapes: Readonly<Record<string, Shape>> = {
  hosted: { host: ["intake", "llm-invoker", "tool-router", "eraser", "tool-workers/http"] },
  apart: {
    intake: ["intake"],
    "llm-invoker": ["llm-invoker"],
    "tool-router": ["tool-router"],
    eraser: ["eraser"],
    "tool-workers/http": ["tool-workers/http"],
  },
}

/** A word, or a call with it, that is too long for its records: whoever is told it has blobs. */
const longWord = "x".repeat(fieldBytesMax)

function begun(sessionId: string, said: string, ordersUrl: string): Step {
  const agent = {
    name: "deletion",
    model: "claude-sonnet-5-5",
    maxTokens: 1024,
    tools: [
      {
        name: "get_order",
        description: "Looks an order up.",
        backend: "http",
        effect: "pure",
        timeoutMs: 60_000,
        inputSchema: { type: "object", properties: { id: { type: "string" } }, required: ["id"] },
        http: { method: "GET", url: `${ordersUrl}/orders/{id}` },
      },
    ],
  }
  const input = [{ type: "text", text: `This is ${sessionId}. ${said}` }]
  return {
    command: { type: "session.start", sessionId, commandId: `start-${sessionId}`, agent, input },
    done: rests(sessionId, "session.idled"),
  }
}

function deleted(sessionId: string): Step {
  return { command: { type: "session.delete", sessionId, commandId: `delete-${sessionId}` }, done: isErased(sessionId) }
}

export function goldenDeletion(sessionId: string, ordersUrl: string): Story {
  const [busy, silent] = [`${sessionId}_busy`, `${sessionId}_silent`]
  const call = `[[call get_order {"id":"${longWord}"}]]`
  return {
    kept: [sessionId],
    deleted: [busy, silent],
    steps: [
      begun(sessionId, call, ordersUrl),
      begun(busy, call, ordersUrl),
      begun(silent, longWord, ordersUrl),
      { ...deleted(busy), counts: true },
      deleted(silent),
      {
        command: { type: "message.send", sessionId, commandId: `more-${sessionId}`, content: [{ type: "text", text: "Are you there?" }] },
        done: says(sessionId, "message.received", "session.idled"),
      },
      { command: { type: "session.end", sessionId, commandId: `end-${sessionId}` }, done: says(sessionId, "session.ended") },
    ],
  }
}
