import type { SessionEvent, ToolEvent, TopicNames } from "@reins/events"
import type { LogRecord } from "@reins/log"
import {
  evolve,
  evolveToolCall,
  heard,
  isOpen,
  isStarted,
  type Position,
  type Session,
  type ToolCall,
  ToolsFold,
  type Verdict,
} from "@reins/session"
import { Answering } from "./answering.ts"
import { KeptSessions } from "./kept-sessions.ts"
import { Places } from "./places.ts"
import type { PartitionSpill } from "./spill.ts"
import { Unread, type UnreadRecord } from "./unread.ts"

/** A decision or result of this process that is appended and not yet read back. */
export interface Pending {
  readonly key: string
  readonly topic: string
  readonly event: SessionEvent | ToolEvent
  /** Known once the log has acknowledged it. */
  offset: number | undefined
}

/** What a group last committed of a topic. */
export interface Committed {
  readonly offset: number
  readonly note: string
}

/** Where a partition is read on from. */
export interface Restored {
  readonly sessions: number
  readonly snapshots: number
}

const none: readonly Pending[] = []

/** What a process knows of one partition: its folds, and what of its own it has not read back. One for every hosted service together. */
export class OwnedPartition {
  readonly number: number
  readonly sessions: KeptSessions
  /** By backend. */
  readonly tools: Map<string, ToolsFold> = new Map()
  /** Sessions folded or decided on so far: now and then it is looked at how much memory they take. */
  folds = 0
  /** The next offset to fold, by topic. */
  readonly next: Map<string, number> = new Map()
  /** Topics whose end at assignment has been reached. */
  readonly caughtUp: Set<string> = new Set()
  /** By topic, the offset from which on nobody can have read records before us; unknown until the topic is caught up. */
  readonly freshFrom: Map<string, number> = new Map()
  /** Sessions to decide about. */
  readonly dirty: Set<string> = new Set()
  readonly places: Places = new Places()
  /** What the group last committed of `sessions`, once it is known. */
  readonly committed: PromiseWithResolvers<Committed | null> = Promise.withResolvers()
  /** From where it is read on, once that was asked for the first time. */
  restored: Promise<Restored> | undefined
  /**
   * By session, the offset that is to be covered by a snapshot that was written and is not read back yet. Forgotten only when it is read: else
   * a reader that lags would have everything written again and again.
   */
  readonly snapshotsUnderWay: Map<string, number> = new Map()
  /** Sessions whose state did not fit into a record, what their newest one was then, and how many were without a snapshot. */
  readonly snapshotsTooLarge: Map<string, { readonly newest: number; readonly uncovered: number }> = new Map()
  /** Sessions whose conversation is being read back. */
  readonly recalling: Set<string> = new Set()
  /** Records whose blobs are missing. */
  readonly unread: Unread = new Unread()
  /** They are looked for now and then. */
  unreadWatched = false
  /** Sessions that are being read again, now that their blobs may be back. */
  readonly rereading: Set<string> = new Set()
  /** Commands that are read and not judged: until the partition is caught up, or until all is read that stood when the first of them was. */
  readonly commands: LogRecord[] = []
  /** How far `sessions` stood after these commands were read; undefined until somebody had to know. */
  stood: { readonly commandsNext: number; readonly sessionsEnd: number; readonly patientUntil: number } | undefined
  askingWhatStood = false
  /** Commands whose answer is not accepted yet. */
  readonly answering: Answering = new Answering()
  /** Claims whose giving up was read and fitted nothing: if such a claim lands after it, it is open and nobody acts on it. */
  readonly givenUp: Set<string> = new Set()
  /** Below this offset, unreadable records of a topic are in the dead letters already. */
  readonly buriedTo: Map<string, number> = new Map()
  /** By topic, offsets of unreadable records that do not stand in the dead letters yet: whoever comes next has to bury them. */
  readonly burying: Map<string, Set<number>> = new Map()
  readonly #pending = new Map<string, { pending: Pending[]; version: number }>()
  /** The session ahead of what is settled, until either changes. */
  readonly #ahead = new Map<string, { readonly settled: Session; readonly version: number; readonly session: Session }>()

  /** `stateIn` reads the state out of the value of a snapshot. */
  constructor(number: number, spill: PartitionSpill, stateIn: (snapshot: Uint8Array) => string) {
    this.number = number
    this.sessions = new KeptSessions(spill, stateIn)
  }

  /** The offset below which nothing of a topic waits for its dead letter; `next` where nothing does. */
  buriedBelow(topic: string, next: number): number {
    return Math.min(next, ...(this.burying.get(topic) ?? []))
  }

  /** The offset below which every command is dealt with: its answer is accepted, or it needs none. */
  commandsDealtWith(topic: string): number {
    return Math.min(this.commands[0]?.offset ?? this.next.get(topic) ?? 0, ...this.answering.offsets())
  }

  /** Whether the session of a call still waits for what becomes of it. */
  awaits({ sessionId, toolUseId }: ToolCall): boolean {
    const session = this.sessions.ifItMayWait(sessionId)
    if (session === undefined || !isStarted(session) || session.phase === "ended") return false
    return session.calls.some((call) => call.toolUseId === toolUseId && call.state.is === "dispatched")
  }

  /** What is unread of a session and still matters: of a call, only while someone has to run it, or waits for what it came to. */
  unreadOf(sessionId: string): readonly UnreadRecord[] {
    return this.unread.of(sessionId).filter(({ call: of }) => {
      if (of === undefined) return true
      const call = this.tools.get(of.backend)?.get(sessionId, of.toolUseId)
      if (call === undefined) return false
      return (call.dispatch?.eventId === of.eventId && isOpen(call)) || (call.finished?.eventId === of.eventId && this.awaits(call))
    })
  }

  toolsFold(backend: string): ToolsFold {
    let fold = this.tools.get(backend)
    if (fold === undefined) {
      fold = new ToolsFold()
      this.tools.set(backend, fold)
    }
    return fold
  }

  foldSession(event: SessionEvent, at: Position): Verdict {
    this.places.read(event.sessionId, at.offset, at.timestamp, event.type === "session.deleted")
    return this.sessions.apply(event, at)
  }

  /**
   * What was folded of the answer to a command settles it; one of ours that lost makes it be heard again, before what is newer. True in that
   * case.
   */
  readAnswer(event: Extract<SessionEvent, { commandId: string }>, verdict: Verdict): boolean {
    const { sessionId, commandId, command } = event
    if (command.partition !== this.number) return false
    if (verdict === "accepted" || heard(this.sessions.get(sessionId).commands, commandId)) {
      this.answering.settle(command.offset)
      return false
    }
    const ours = this.pendingOf(sessionId).find((pending) => pending.event.eventId === event.eventId)
    if (ours === undefined) return false
    // It is judged again without what came to nothing.
    this.dropPending(sessionId, ours)
    return this.#hearAgain(command.offset)
  }

  /**
   * Of answers that nobody could read, those in deleted sessions lost. Another session waits for its blob, with the answer still to be read.
   * True if a command is to be heard again.
   */
  passAnswers(sessionsTopic: string): boolean {
    let again = false
    for (const { command, sessionId } of this.answering.passed(this.next.get(sessionsTopic) ?? 0)) {
      if (sessionId !== null && this.sessions.statusOf(sessionId) === "deleted") again = this.#hearAgain(command.offset) || again
      else this.answering.settle(command.offset)
    }
    return again
  }

  #hearAgain(offset: number): boolean {
    const command = this.answering.lose(offset)
    if (command === undefined) return false
    const newer = this.commands.findIndex((one) => one.offset > offset)
    this.commands.splice(newer === -1 ? this.commands.length : newer, 0, command)
    return true
  }

  pendingOf(sessionId: string): readonly Pending[] {
    return this.#pending.get(sessionId)?.pending ?? none
  }

  isPending(sessionId: string, key: string): boolean {
    return this.pendingOf(sessionId).some((pending) => pending.key === key)
  }

  addPending(sessionId: string, pending: Pending): void {
    const list = this.#pending.get(sessionId)
    if (list === undefined) this.#pending.set(sessionId, { pending: [pending], version: 0 })
    else {
      list.pending.push(pending)
      list.version++
    }
  }

  dropPending(sessionId: string, pending: Pending): void {
    this.#keep(sessionId, (one) => one !== pending)
  }

  /** Forgets what has been read back: everything acknowledged below the next offset of its topic. */
  readBack(sessionId: string): void {
    this.#keep(sessionId, (one) => one.offset === undefined || one.offset >= (this.next.get(one.topic) ?? 0))
  }

  #keep(sessionId: string, wanted: (pending: Pending) => boolean): void {
    const list = this.#pending.get(sessionId)
    if (list === undefined) return
    const left = list.pending.filter(wanted)
    if (left.length === list.pending.length) return
    if (left.length === 0) {
      this.#pending.delete(sessionId)
      this.#ahead.delete(sessionId)
      return
    }
    list.pending = left
    list.version++
  }

  pendingSessions(): Iterable<string> {
    return this.#pending.keys()
  }

  /** The session as it will be if what is under way is accepted as it was sent. */
  ahead(sessionId: string, sessionsTopic: string, now: number): Session {
    const settled = this.sessions.get(sessionId)
    const list = this.#pending.get(sessionId)
    if (list === undefined) return settled
    const known = this.#ahead.get(sessionId)
    if (known !== undefined && known.settled === settled && known.version === list.version) return known.session
    let session = settled
    for (const { topic, event } of list.pending) {
      if (topic === sessionsTopic) session = evolve(session, event as SessionEvent, { offset: -1, timestamp: now }).session
    }
    this.#ahead.set(sessionId, { settled, version: list.version, session })
    return session
  }

  /** The open calls of a session: those read back, and those whose dispatch is appended but not yet read back. */
  openToolCalls(
    sessionId: string,
    topics: TopicNames,
    now: number,
  ): readonly { readonly backend: string; readonly call: ToolCall | undefined; readonly ahead: ToolCall }[] {
    const open: { backend: string; call: ToolCall | undefined; ahead: ToolCall }[] = []
    const pending = this.pendingOf(sessionId).filter(({ topic }) => topic !== topics.sessions)
    for (const [backend, fold] of this.tools) {
      for (const call of fold.openOf(sessionId)) {
        const ahead = pending.length === 0 ? call : callAhead(call, call.toolUseId, topics.tools(backend), pending, now)
        if (ahead !== undefined) open.push({ backend, call, ahead })
      }
    }
    for (const { topic, event } of pending) {
      if (event.type !== "tool-call.dispatched") continue
      const backend = topics.backendOf(topic) as string
      const call = this.tools.get(backend)?.get(sessionId, event.toolUseId)
      if (call !== undefined && isOpen(call)) continue
      const ahead = callAhead(call, event.toolUseId, topic, pending, now)
      if (ahead !== undefined && ahead.dispatch !== null) open.push({ backend, call, ahead })
    }
    return open
  }
}

function callAhead(
  call: ToolCall | undefined,
  toolUseId: string,
  toolsTopic: string,
  pending: readonly Pending[],
  now: number,
): ToolCall | undefined {
  let ahead = call
  for (const { topic, event } of pending) {
    const fact = event as ToolEvent
    if (topic === toolsTopic && fact.toolUseId === toolUseId) ahead = evolveToolCall(ahead, fact, { offset: -1, timestamp: now }).call
  }
  return ahead
}
