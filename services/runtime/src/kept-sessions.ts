import type { SessionEvent } from "@reins/events"
import {
  absent,
  type Frozen,
  forgotten,
  freeze,
  isStarted,
  type Position,
  type Session,
  SessionsFold,
  type Status,
  statusOf,
  thaw,
  type Utterance,
  type Verdict,
} from "@reins/session"
import type { PartitionSpill, Spilled } from "./spill.ts"

/** What a session takes in memory beside what was said in it, in bytes: measured, with an agent of two tools. */
const bytesOfState = 4096

/**
 * The sessions of one partition: those that run, or were touched lately, in memory; the others spilled. One that was spilled comes back
 * with its conversation forgotten, to be recalled from the log by whoever has to send it.
 *
 * K1 What is spilled is the folded state as it stands; a record of a spilled session is folded on it, and on nothing older.
 * K2 What runs is never spilled.
 */
export class KeptSessions {
  readonly #fold: SessionsFold
  readonly #spill: PartitionSpill
  /** Offsets of the records that a session in memory follows from. */
  readonly #records = new Map<string, number[]>()
  /** Sessions in memory whose spilled state is still theirs. */
  readonly #unchanged = new Map<string, Session>()
  readonly #stateIn: (snapshot: Uint8Array) => string
  #saidBytes = 0

  /** `stateIn` reads the state out of the value of a snapshot. */
  constructor(spill: PartitionSpill, stateIn: (snapshot: Uint8Array) => string) {
    this.#spill = spill
    this.#stateIn = stateIn
    this.#fold = new SessionsFold((sessionId) => this.#thawed(sessionId))
  }

  /** Offset of the newest command that a fact answers, by command partition (design rule 15). */
  get commandOffsets(): ReadonlyMap<number, number> {
    return this.#fold.commandOffsets
  }

  get(sessionId: string): Session {
    return this.#fold.get(sessionId)
  }

  /** Sessions in memory. */
  inMemory(): Iterable<[string, Session]> {
    return this.#fold.sessions.entries()
  }

  /** The session if it may wait for the result of a call that was sent: what runs is in memory (K2), and what is parked may be anywhere. */
  ifItMayWait(sessionId: string): Session | undefined {
    return this.#fold.sessions.get(sessionId) ?? (this.#spill.statusOf(sessionId) === "parked" ? this.#fold.get(sessionId) : undefined)
  }

  /** Spilled sessions that stand so. */
  spilled(wanted: (status: Status) => boolean): Iterable<string> {
    return this.#spill.ids(wanted)
  }

  /** How many sessions there are, by where they stand. */
  counts(): ReadonlyMap<Status, number> {
    const counts = new Map(this.#spill.counts)
    const add = (status: Status, by: number): void => void counts.set(status, (counts.get(status) ?? 0) + by)
    for (const [sessionId, session] of this.#fold.sessions) {
      add(statusOf(session), 1)
      // In memory, and in the file as it was.
      const before = this.#spill.statusOf(sessionId)
      if (before !== undefined) add(before, -1)
    }
    return counts
  }

  apply(event: SessionEvent, at: Position): Verdict {
    const { sessionId } = event
    const before = this.#fold.get(sessionId)
    const verdict = this.#fold.apply(event, at)
    if (verdict !== "accepted") return verdict
    const after = this.#fold.get(sessionId)
    this.#saidBytes += saidBytes(after) - saidBytes(before)
    if (after.phase === "deleted") this.#records.set(sessionId, [])
    else {
      const records = this.#records.get(sessionId)
      if (records === undefined) this.#records.set(sessionId, [at.offset])
      else records.push(at.offset)
    }
    return verdict
  }

  /** The records that a session in memory follows from. */
  recordsOf(sessionId: string): readonly number[] {
    return this.#records.get(sessionId) ?? []
  }

  /** The state as it stands, to be kept elsewhere. */
  frozen(sessionId: string): { readonly status: Status; readonly text: string } {
    const session = this.#fold.sessions.get(sessionId)
    const spilled = session === undefined || this.#unchanged.get(sessionId) === session ? this.#spill.get(sessionId) : undefined
    if (spilled !== undefined) return { status: spilled.status, text: this.#textOf(spilled) }
    // Of some sessions the log has only what nobody can read.
    if (session === undefined) return { status: "absent", text: freeze({ session: absent, records: [] }) }
    return { status: statusOf(session), text: freeze(this.#frozen(sessionId, session)) }
  }

  /** A state from a snapshot, by its value. */
  restore(sessionId: string, status: Status, snapshot: Uint8Array): void {
    this.#spill.put(sessionId, { status, state: snapshot })
  }

  /** The session with its conversation whole again. Nothing else of it may have changed meanwhile but what was said since. */
  recall(sessionId: string, recalled: (conversation: Utterance) => Utterance): void {
    const session = this.#fold.sessions.get(sessionId)
    if (session === undefined || !isStarted(session) || session.conversation === null || session.conversation.whole) return
    const whole = { ...session, conversation: recalled(session.conversation) }
    this.#fold.sessions.set(sessionId, whole)
    if (this.#unchanged.get(sessionId) === session) this.#unchanged.set(sessionId, whole)
    this.#saidBytes += saidBytes(whole) - saidBytes(session)
  }

  /** The session as it follows from these records, whatever was made of them before. */
  replace(sessionId: string, session: Session, records: readonly number[]): void {
    const before = this.#fold.get(sessionId)
    this.#fold.sessions.set(sessionId, session)
    this.#records.set(sessionId, [...records])
    this.#unchanged.delete(sessionId)
    this.#saidBytes += saidBytes(session) - saidBytes(before)
  }

  /** Forgets what was said in a session, for who never has to send it: the digest stands for it. */
  forget(sessionId: string): void {
    const session = this.#fold.sessions.get(sessionId)
    if (session === undefined || !isStarted(session) || session.conversation === null) return
    const lighter = { ...session, conversation: forgotten(session.conversation) }
    this.#fold.sessions.set(sessionId, lighter)
    if (this.#unchanged.get(sessionId) === session) this.#unchanged.set(sessionId, lighter)
    this.#saidBytes += saidBytes(lighter) - saidBytes(session)
  }

  /** About how much memory the sessions in memory take. */
  get bytes(): number {
    return this.#saidBytes + this.#fold.sessions.size * bytesOfState
  }

  /** Spills what rests, the longest in memory first, until no more than so many bytes are taken. `busy`: it is needed here now. */
  spillDownTo(bytes: number, busy: (sessionId: string) => boolean): void {
    if (this.bytes <= bytes) return
    for (const [sessionId, session] of this.#fold.sessions) {
      if (this.bytes <= bytes) return
      const status = statusOf(session)
      if (status === "running" || busy(sessionId)) continue
      if (this.#unchanged.get(sessionId) !== session)
        this.#spill.put(sessionId, { status, state: freeze(this.#frozen(sessionId, session)) })
      this.#fold.sessions.delete(sessionId)
      this.#records.delete(sessionId)
      this.#unchanged.delete(sessionId)
      this.#saidBytes -= saidBytes(session)
    }
  }

  drop(): void {
    this.#spill.drop()
  }

  #frozen(sessionId: string, session: Session): Frozen {
    return { session, records: this.#records.get(sessionId) ?? [] }
  }

  #textOf({ state }: Spilled): string {
    return typeof state === "string" ? state : this.#stateIn(state)
  }

  #thawed(sessionId: string): Session | undefined {
    const spilled = this.#spill.get(sessionId)
    if (spilled === undefined) return undefined
    const { session, records } = thaw(this.#textOf(spilled))
    this.#records.set(sessionId, [...records])
    this.#unchanged.set(sessionId, session)
    return session
  }
}

/** What is held in memory of what was said, a character a byte. */
function saidBytes(session: Session): number {
  if (!isStarted(session) || session.conversation === null) return 0
  const { conversation } = session
  if (conversation.whole) return conversation.size
  let at = conversation
  while (at.before !== null) at = at.before
  return conversation.size - at.size
}
