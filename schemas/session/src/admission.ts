import { type Command, type CommandOf, clientBackend } from "@reins/events"
import { sha256Hex } from "./digest.ts"
import type { Call, Known, Session } from "./session.ts"
import { isStarted, type Started, statusOf } from "./summary.ts"

/** Why a command cannot be done; `code` is for programs, `message` says what to do instead. */
export interface Refusal {
  readonly code: string
  readonly message: string
}

/** Messages that may wait at a time: each is kept in the state and copied with it, and all go into one request. */
const queuedMax = 10_000

/** What of a command decides whether it can be done; its content is judged where it is read. */
export type Asked =
  | { [T in Plain]: { readonly type: T } }[Plain]
  | Pick<CommandOf<"session.update">, "type" | "agent">
  | Pick<CommandOf<"session.delete">, "type" | "unchangedSince">
  | AskedAnswer

/** Commands of which the type alone decides. */
type Plain = Exclude<Command["type"], "session.update" | "session.delete" | "approval.give" | "result.give">

type AskedAnswer =
  | Pick<CommandOf<"approval.give">, "type" | "toolUseId" | "argumentsHash">
  | Pick<CommandOf<"result.give">, "type" | "toolUseId">

/**
 * Why this cannot be done on the session as it stands, or null. Intake asks it of its own view and is the one that decides; who asks it
 * of an older view (the gateway, before it publishes several commands) only spares everyone a refusal.
 */
export function refusalOf(session: Session, sessionId: string, asked: Asked): Refusal | null {
  if (asked.type === "session.start")
    return session.phase === "absent"
      ? null
      : { code: "session_exists", message: `There is a session ${sessionId} already. Choose another sessionId, or leave it out.` }
  if (session.phase === "absent")
    return { code: "session_unknown", message: `There is no session ${sessionId}. Start it with session.start, or check the id.` }
  if (!isStarted(session)) return { code: "session_deleted", message: `The session ${sessionId} is deleted.` }
  const running = statusOf(session) === "running"
  switch (asked.type) {
    case "session.archive":
    case "session.delete":
      if (!running && asked.type === "session.delete" && session.changedAt > (asked.unchangedSince ?? Number.POSITIVE_INFINITY))
        return { code: "session_changed", message: `Something has happened in the session ${sessionId} since then; it is kept.` }
      return running
        ? { code: "session_running", message: `The session ${sessionId} is running. Interrupt it, wait until it is idle, then ask again.` }
        : null
    case "session.update":
      return (asked.agent ?? null) !== null && (session.phase !== "idle" || running)
        ? { code: "session_not_idle", message: `The tools of a session change only while it is idle, and ${sessionId} is not.` }
        : null
    default:
  }
  if (session.phase === "ended")
    return { code: "session_ended", message: `The session ${sessionId} has ended; nothing more happens in it. Start a new one.` }
  switch (asked.type) {
    case "message.send":
      if (session.queued.length >= queuedMax)
        return {
          code: "queue_full",
          message: `In the session ${sessionId} ${queuedMax} messages wait already. Send more once the model has taken them.`,
        }
      return session.phase === "awaiting-tools" && session.waiting !== undefined
        ? {
            code: "action_required",
            message: `The session ${sessionId} waits for an answer to ${held(session).join(", ")}. Answer, or interrupt it first.`,
          }
        : null
    case "session.interrupt":
    case "session.end":
      return null
    case "session.resume":
      return session.phase === "parked"
        ? null
        : { code: "session_not_parked", message: `The session ${sessionId} is not parked; there is nothing to resume.` }
    case "approval.give":
    case "result.give":
      return refusalOfAnswer(session, asked)
    default:
      return asked satisfies never
  }
}

function held(session: Known): readonly string[] {
  return session.calls.filter((call) => call.state.is === "held").map((call) => call.toolUseId)
}

function refusalOfAnswer(session: Started, asked: AskedAnswer): Refusal | null {
  if (session.phase === "parked")
    return { code: "session_parked", message: `The session ${session.sessionId} is parked. Resume or end it first.` }
  const call = session.phase === "awaiting-tools" ? session.calls.find((one) => one.toolUseId === asked.toolUseId) : undefined
  if (call === undefined) return { code: "call_unknown", message: `The session ${session.sessionId} has no open call ${asked.toolUseId}.` }
  const waitsFor = awaits(session, call)
  if (asked.type === "result.give") {
    // A second result is heard and changes nothing.
    if (call.state.is === "done" || waitsFor === "client" || waitsFor === "outcome_unknown") return null
    return notHeld(call)
  }
  if (waitsFor === null || waitsFor === "client") return notHeld(call)
  if ((asked.argumentsHash ?? null) !== null && asked.argumentsHash !== sha256Hex(call.input))
    return {
      code: "approval_mismatch",
      message: `What was decided on is not what the call ${call.toolUseId} would do now. Look at it again.`,
    }
  return null
}

function notHeld(call: Call): Refusal {
  return { code: "call_not_held", message: `The call ${call.toolUseId} (${call.tool}) does not wait for that answer.` }
}

/**
 * What a call waits for, or will once the router has said so: an answer may come as soon as the call can be seen, which is before
 * `tool-call.held` stands.
 */
export function awaits(session: Known, call: Call): "approval" | "client" | "outcome_unknown" | null {
  if (call.state.is === "held") return call.state.reason
  if (call.state.is !== "wanted" || call.attempt !== 0 || call.approval !== undefined) return null
  const tool = session.agent.tools.find((one) => one.name === call.tool)
  if (tool === undefined) return null
  if (tool.backend === clientBackend) return "client"
  return tool.permission === "always_ask" ? "approval" : null
}

/**
 * The record that an answer to this call follows from: the response that asked for it, as long as it was never sent anywhere, since that
 * stands whatever becomes of a hold that is still under way; later the hold, so that no answer serves for another attempt.
 */
export function holdOf(session: Known, call: Call): string | null {
  return call.state.is === "held" && call.attempt > 0 ? call.state.eventId : session.response
}
