import { apiStatus, type Session } from "@reins/session"

/** When a session was at work, by log time. */
export interface Activity {
  /** Milliseconds that it has been running, up to `runningSince` or for good. */
  readonly activeMs: number
  readonly runningSince: number | null
  /** Log time from which it no longer changes; null while it may. */
  readonly closedAt: number | null
}

const none: Activity = { activeMs: 0, runningSince: null, closedAt: null }

/** The activity of every session, kept as its records are read. */
export class Times {
  readonly #times = new Map<string, Activity>()

  of(sessionId: string): Activity {
    return this.#times.get(sessionId) ?? none
  }

  keep(sessionId: string, before: Session, after: Session, timestamp: number): void {
    const was = isActive(before)
    const is = isActive(after)
    const isClosed = after.phase === "ended" || after.phase === "deleted"
    if (was === is && !isClosed) return
    let { activeMs, runningSince, closedAt } = this.of(sessionId)
    if (!was && is) runningSince = timestamp
    if (was && !is && runningSince !== null) {
      activeMs += Math.max(0, timestamp - runningSince)
      runningSince = null
    }
    if (isClosed) closedAt ??= timestamp
    this.#times.set(sessionId, { activeMs, runningSince, closedAt })
  }

  delete(sessionId: string): void {
    this.#times.delete(sessionId)
  }
}

function isActive(session: Session): boolean {
  const status = apiStatus(session)
  return status === "running" || status === "rescheduling"
}
