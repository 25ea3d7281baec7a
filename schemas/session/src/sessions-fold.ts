import type { SessionEvent } from "@reins/events"
import { absent, evolve } from "./evolve.ts"
import type { Position, Session, Verdict } from "./session.ts"

/** The fold of one partition of `sessions`: every session in it, and how far each partition of `commands` has been answered. */
export class SessionsFold {
  readonly sessions: Map<string, Session> = new Map()
  /** Offset of the newest command that a fact answers, by command partition (design rule 15). */
  readonly commandOffsets: Map<number, number> = new Map()

  get(sessionId: string): Session {
    return this.sessions.get(sessionId) ?? absent
  }

  apply(event: SessionEvent, at: Position): Verdict {
    if ("command" in event) {
      const { partition, offset } = event.command
      if (offset <= (this.commandOffsets.get(partition) ?? -1)) return "duplicate"
      this.commandOffsets.set(partition, offset)
    }
    const before = this.get(event.sessionId)
    const { session, verdict } = evolve(before, event, at)
    if (session !== before) this.sessions.set(event.sessionId, session)
    return verdict
  }
}
