import type { Usage } from "@reins/events"
import type { Session } from "./session.ts"
import { stateDigest } from "./state-digest.ts"

type StartedStatus = "running" | "idle" | "ended" | "parked"

/** Where a session stands, in one word. */
export type Status = "absent" | StartedStatus | "deleted"

/** A session in the words of `reins sessions show`. */
export interface SessionSummary {
  readonly sessionId: string
  readonly status: StartedStatus
  /** Why it is idle or parked; null while it runs. */
  readonly stopReason: string | null
  readonly agent: string
  readonly model: string
  readonly turns: number
  readonly toolCalls: number
  readonly usage: Usage
  readonly queued: number
  readonly startedAt: string
  readonly changedAt: string
  /** The fold's state digest. */
  readonly digest: string
}

/** Null for a session that was never started or is deleted. Times in ISO 8601, UTC, from the log's own timestamps. */
export function summarize(session: Session, iso: (ms: number) => string): SessionSummary | null {
  if (!isStarted(session)) return null
  return {
    sessionId: session.sessionId,
    status: statusOf(session),
    stopReason: stopReasonOf(session),
    agent: session.agent.name,
    model: session.agent.model,
    turns: session.turns,
    toolCalls: session.toolCalls,
    usage: session.usage,
    queued: session.queued.length,
    startedAt: iso(session.startedAt),
    changedAt: iso(session.changedAt),
    digest: stateDigest(session),
  }
}

function stopReasonOf(session: Started): string | null {
  if (session.phase === "idle") return session.wake ? null : session.reason
  if (session.phase === "awaiting-tools") return session.waiting === undefined ? null : "requires_action"
  return session.phase === "parked" ? session.code : null
}

/** A session of which there is more to say than that it is none. */
export type Started = Exclude<Session, { phase: "absent" } | { phase: "deleted" }>

export function isStarted(session: Session): session is Started {
  return session.phase !== "absent" && session.phase !== "deleted"
}

/** Whether nothing follows from it until someone says something more: whoever takes its partition over need not look at it. */
export function isAtRest(session: Session): boolean {
  if (statusOf(session) === "running") return false
  if (session.phase !== "idle" && session.phase !== "awaiting-tools") return true
  // A breach is to be parked, and of what waits on in part it is to be said again.
  return session.breach === null && !(session.phase === "awaiting-tools" && session.waiting === "still")
}

export function statusOf(session: Started): StartedStatus
export function statusOf(session: Session): Status
export function statusOf(session: Session): Status {
  switch (session.phase) {
    case "idle":
      return session.wake ? "running" : "idle"
    case "awaiting-tools":
      return session.waiting === undefined ? "running" : "idle"
    case "awaiting-model":
    case "settling":
      return "running"
    case "absent":
    case "parked":
    case "ended":
    case "deleted":
      return session.phase
    default:
      return session satisfies never
  }
}
