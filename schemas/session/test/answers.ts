import type { SessionEventOf } from "@reins/events"
import { fact, type Story } from "@reins/session/testing"
import { holdOf, sha256Hex } from "../src/index.ts"

// What a Story has no method for: a call is held, someone answers, a session is updated and closed. Each is the next fact that fits the
// state, with any field changed that a test wants changed, for the story to tell.

/** For an approval or for the client, before it leaves; or, where it has left, for a person to say what became of it. */
export function hold(
  story: Story,
  toolUseId: string,
  reason: string,
  fields: Partial<SessionEventOf<"tool-call.held">> = {},
): SessionEventOf<"tool-call.held"> {
  const { tool, attempt, input, state } = story.call(toolUseId)
  const { eventId, sessionId } = story.draft((s) => s.parked())
  return fact("tool-call.held", {
    eventId,
    sessionId,
    causedBy: state.is === "dispatched" ? state.eventId : story.known.response,
    toolUseId,
    tool,
    attempt,
    reason,
    argumentsHash: sha256Hex(input),
    message: reason === "outcome_unknown" ? "Nobody can say." : null,
    ...fields,
  })
}

export function allow(
  story: Story,
  toolUseId: string,
  fields: Partial<SessionEventOf<"approval.given">> = {},
): SessionEventOf<"approval.given"> {
  const call = story.call(toolUseId)
  return fact("approval.given", {
    ...commanded(story),
    causedBy: holdOf(story.known, call),
    toolUseId,
    decision: "allow",
    message: null,
    argumentsHash: sha256Hex(call.input),
    ...fields,
  })
}

export function deny(story: Story, toolUseId: string, message: string | null = null): SessionEventOf<"approval.given"> {
  return allow(story, toolUseId, { decision: "deny", message })
}

export function result(
  story: Story,
  toolUseId: string,
  content: unknown,
  fields: Partial<SessionEventOf<"result.received">> = {},
): SessionEventOf<"result.received"> {
  return fact("result.received", {
    ...commanded(story),
    causedBy: holdOf(story.known, story.call(toolUseId)),
    toolUseId,
    content: JSON.stringify(content),
    isError: false,
    ...fields,
  })
}

export function update(story: Story, changes: unknown, tools: unknown = null): SessionEventOf<"session.updated"> {
  return fact("session.updated", {
    ...commanded(story),
    changes: JSON.stringify(changes),
    tools: tools === null ? null : JSON.stringify(tools),
  })
}

export function archive(story: Story): SessionEventOf<"session.archived"> {
  return fact("session.archived", commanded(story))
}

export function remove(story: Story): SessionEventOf<"session.deleted"> {
  return fact("session.deleted", commanded(story))
}

/** The next command's ids and place. */
function commanded(story: Story): Pick<SessionEventOf<"command.rejected">, "eventId" | "sessionId" | "commandId" | "command"> {
  const { eventId, sessionId, commandId, command } = story.draft((s) => s.rejected()) as SessionEventOf<"command.rejected">
  return { eventId, sessionId, commandId, command }
}
