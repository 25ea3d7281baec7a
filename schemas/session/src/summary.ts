import type { Usage } from "@reins/events"
import type { Session } from "./session.ts"
import { stateDigest } from "./state-digest.ts"

/** A session in the words of `reins sessions show`. */
export interface SessionSummary {
  readonly sessionId: string
  readonly status: "running" | "idle" | "ended" | "parked"
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

/** Null for a session that was never started. Times in ISO 8601, UTC, from the log's own timestamps. */
export function summarize(session: Session, iso: (ms: number) => string): SessionSummary | null {
  if (session.phase === "absent") return null
  return {
    sessionId: session.sessionId,
    status: statusOf(session),
    stopReason: session.phase === "idle" ? (session.wake ? null : session.reason) : session.phase === "parked" ? session.code : null,
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

export function statusOf(session: Exclude<Session, { phase: "absent" }>): SessionSummary["status"] {
  switch (session.phase) {
    case "idle":
      return session.wake ? "running" : "idle"
    case "awaiting-model":
    case "awaiting-tools":
    case "settling":
      return "running"
    case "parked":
    case "ended":
      return session.phase
    default:
      return session satisfies never
  }
}
