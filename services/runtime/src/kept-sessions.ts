import type { SessionEvent } from "@reins/events"
import {
  absent,
  type Frozen,
  forgotten,
  freeze,
  isAtRest,
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
import { SharedAgents } from "./shared-agents.ts"
import type { PartitionSpill, Spilled } from "./spill.ts"

/** What a session at rest takes in memory beside its agent and what was said in it, in bytes: 1,900 to 2,000 were measured. */
const bytesOfState = 2048
const bytesOfOffset = 8

/** What the sessions of one fold may take in memory, in bytes, before those that rest are spilled. */
export const sessionBytesDefault: number = 32 * 1024 * 1024

/**
 * The sessions of one partition: those that run, or were touched lately, in memory; the others spilled. One that was spilled comes back
 * with its conversation forgotten, to be recalled from the log by whoever has to send it.
 *
 * K1 What is spilled is the folded state as it stands; a record of a spilled session is folded on it, and on nothing older.
 * K2 What is not at rest is never spilled, and said to run where it is kept elsewhere.
 */
export class KeptSessions {
  readonly #fold: SessionsFold
  readonly #spill: PartitionSpill
  /** Offsets of the records that a session in memory follows from. */
  readonly #records = new Map<string, number[]>()
  /** Sessions in memory whose spilled state is still theirs. */
  readonly #unchanged = new Map<string, Session>()
  readonly #stateIn: (snapshot: Uint8Array) => string
  readonly #agents = new SharedAgents()
  #contentBytes = 0

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

  /** Where a session stands, without bringing it back. */
  statusOf(sessionId: string): Status {
    const session = this.#fold.sessions.get(sessionId)
    return session === undefined ? (this.#spill.statusOf(sessionId) ?? "absent") : statusOf(session)
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
    const said = event.type === "session.started" ? { ...event, agent: this.#agents.shared(event.agent) } : event
    const verdict = this.#fold.apply(said, at)
    if (verdict !== "accepted") return verdict
    const after = this.#fold.get(sessionId)
    this.#weigh(before, after)
    if (after.phase === "deleted") this.#keepRecords(sessionId, [])
    else {
      const records = this.#records.get(sessionId)
      if (records === undefined) this.#keepRecords(sessionId, [at.offset])
      else {
        records.push(at.offset)
        this.#contentBytes += bytesOfOffset
      }
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
    // Of what is not at rest, whoever takes it over decides on.
    return { status: isAtRest(session) ? statusOf(session) : "running", text: freeze(this.#frozen(sessionId, session)) }
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
    this.#weigh(session, whole)
  }

  /** The session as it follows from these records, whatever was made of them before. */
  replace(sessionId: string, session: Session, records: readonly number[]): void {
    const before = this.#fold.get(sessionId)
    this.#fold.sessions.set(sessionId, session)
    this.#keepRecords(sessionId, [...records])
    this.#unchanged.delete(sessionId)
    this.#weigh(before, session)
  }

  /** Forgets what was said in a session, for who never has to send it: the digest stands for it. */
  forget(sessionId: string): void {
    const session = this.#fold.sessions.get(sessionId)
    if (session === undefined || !isStarted(session) || session.conversation === null) return
    const lighter = { ...session, conversation: forgotten(session.conversation) }
    this.#fold.sessions.set(sessionId, lighter)
    if (this.#unchanged.get(sessionId) === session) this.#unchanged.set(sessionId, lighter)
    this.#weigh(session, lighter)
  }

  /** About how much memory the sessions in memory take. */
  get bytes(): number {
    return this.#contentBytes + this.#agents.bytes + this.#fold.sessions.size * bytesOfState
  }

  /** Spills what rests, the longest in memory first, until no more than so many bytes are taken. `busy`: it is needed here now. */
  spillDownTo(bytes: number, busy: (sessionId: string) => boolean): void {
    if (this.bytes <= bytes) return
    for (const [sessionId, session] of this.#fold.sessions) {
      if (this.bytes <= bytes) return
      if (!isAtRest(session) || busy(sessionId)) continue
      if (this.#unchanged.get(sessionId) !== session)
        this.#spill.put(sessionId, { status: statusOf(session), state: freeze(this.#frozen(sessionId, session)) })
      this.#fold.sessions.delete(sessionId)
      this.#keepRecords(sessionId, undefined)
      this.#unchanged.delete(sessionId)
      this.#weigh(session, absent)
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
    const thawed = thaw(this.#textOf(spilled))
    const session = isStarted(thawed.session) ? { ...thawed.session, agent: this.#agents.shared(thawed.session.agent) } : thawed.session
    this.#keepRecords(sessionId, [...thawed.records])
    this.#unchanged.set(sessionId, session)
    this.#weigh(absent, session)
    return session
  }

  #keepRecords(sessionId: string, records: number[] | undefined): void {
    this.#contentBytes += ((records?.length ?? 0) - this.recordsOf(sessionId).length) * bytesOfOffset
    if (records === undefined) this.#records.delete(sessionId)
    else this.#records.set(sessionId, records)
  }

  #weigh(before: Session, after: Session): void {
    this.#contentBytes += contentBytes(after) - contentBytes(before)
    const had = isStarted(before) ? before.agent : undefined
    const has = isStarted(after) ? after.agent : undefined
    if (had === has) return
    if (has !== undefined) this.#agents.use(has)
    if (had !== undefined) this.#agents.release(had)
  }
}

/** What is held in memory of what was said, asked and answered, a character a byte. */
function contentBytes(session: Session): number {
  if (!isStarted(session)) return 0
  let bytes = saidBytes(session.conversation)
  for (const { content } of session.queued) bytes += content.length
  for (const { input, state } of session.calls) bytes += input.length + (state.is === "done" ? state.content.length : 0)
  return bytes
}

function saidBytes(conversation: Utterance | null): number {
  if (conversation === null || conversation.whole) return conversation?.size ?? 0
  let at = conversation
  while (at.before !== null) at = at.before
  return conversation.size - at.size
}
