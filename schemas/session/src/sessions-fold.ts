import type { SessionEvent } from "@reins/events"
import { absent, evolve } from "./evolve.ts"
import type { Position, Session, Verdict } from "./session.ts"

/** The fold of one partition of `sessions`: every session in it, and how far each partition of `commands` has been answered. */
export class SessionsFold {
  readonly sessions: Map<string, Session> = new Map()
  /** Offset of the newest command that a fact answers, by command partition (design rule 15). */
  readonly commandOffsets: Map<number, number> = new Map()

  readonly #elsewhere: (sessionId: string) => Session | undefined

  /** `elsewhere` has sessions that are not kept in memory; one that it gives is kept from then on. */
  constructor(elsewhere: (sessionId: string) => Session | undefined = () => undefined) {
    this.#elsewhere = elsewhere
  }

  get(sessionId: string): Session {
    const kept = this.sessions.get(sessionId)
    if (kept !== undefined) return kept
    const session = this.#elsewhere(sessionId)
    if (session === undefined) return absent
    this.sessions.set(sessionId, session)
    return session
  }

  apply(event: SessionEvent, at: Position): Verdict {
    const command = "command" in event ? event.command : null
    const newest = command === null ? -1 : (this.commandOffsets.get(command.partition) ?? -1)
    // A refusal changes nothing, and may come behind: where what a command became was superseded, it is how the command is answered after all.
    if (command !== null && command.offset <= newest && event.type !== "command.rejected") return "duplicate"
    const before = this.get(event.sessionId)
    const { session, verdict } = evolve(before, event, at)
    if (verdict !== "accepted") return verdict
    this.sessions.set(event.sessionId, session)
    // Only an accepted fact answers its command: the answer of a zombie that came too late must not silence the owner's.
    // What is said of a deleted session is erased, so nothing may hang on it (E10): a command that it answers is refused again if it is read again.
    if (command !== null && before.phase !== "deleted") this.commandOffsets.set(command.partition, Math.max(command.offset, newest))
    return verdict
  }
}
