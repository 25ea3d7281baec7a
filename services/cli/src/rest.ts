import type { Session } from "@reins/session"

/** Where a session stands when nothing more happens in it by itself, and how a program hears of it. */
export interface Rest {
  readonly reason: string
  readonly exitCode: number
}

/** Null while it goes on: a turn runs, or a queued message begins one. */
export function restOf(session: Session): Rest | null {
  switch (session.phase) {
    case "absent":
    case "awaiting-model":
    case "settling":
      return null
    case "idle":
      if (session.wake) return null
      return { reason: session.reason ?? "idle", exitCode: session.reason === "end_turn" || session.reason === null ? 0 : 1 }
    case "awaiting-tools":
      return session.waiting === "told" ? { reason: "requires_action", exitCode: 4 } : null
    case "ended":
      return { reason: "ended", exitCode: 0 }
    case "deleted":
      return { reason: "deleted", exitCode: 0 }
    case "parked":
      return { reason: "parked", exitCode: 1 }
    default:
      return session satisfies never
  }
}
