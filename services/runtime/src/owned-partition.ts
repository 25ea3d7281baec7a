import type { SessionEvent, ToolEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import { evolve, evolveToolCall, type Position, type Session, SessionsFold, type ToolCall, ToolsFold, type Verdict } from "@reins/session"

/** A decision or result of this process that is appended and not yet read back. */
export interface Pending {
  readonly key: string
  readonly topic: string
  readonly event: SessionEvent | ToolEvent
  /** Known once the log has acknowledged it. */
  offset: number | undefined
}

/** What a process knows of one partition: its folds, and what of its own it has not read back. One for every hosted service together. */
export class OwnedPartition {
  readonly number: number
  readonly sessions: SessionsFold = new SessionsFold()
  /** By backend. */
  readonly tools: Map<string, ToolsFold> = new Map()
  /** The next offset to fold, by topic. */
  readonly next: Map<string, number> = new Map()
  /** Topics whose end at assignment has been reached. */
  readonly caughtUp: Set<string> = new Set()
  /** Sessions to decide about. */
  readonly dirty: Set<string> = new Set()
  /** Offset of the first record of every session here: the low watermark of `sessions`. */
  readonly firstOffsets: Map<string, number> = new Map()
  /** Commands that wait until the partition is caught up. */
  readonly commands: LogRecord[] = []
  /** Offsets of commands whose answer does not stand yet. */
  readonly answering: Set<number> = new Set()
  /** Below this offset, unreadable records of a topic are in the dead letters already. */
  readonly buriedTo: Map<string, number> = new Map()
  readonly #pending = new Map<string, Pending[]>()
  #pendingCount = 0

  constructor(number: number) {
    this.number = number
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
    if (!this.firstOffsets.has(event.sessionId)) this.firstOffsets.set(event.sessionId, at.offset)
    return this.sessions.apply(event, at)
  }

  pendingOf(sessionId: string): readonly Pending[] {
    return this.#pending.get(sessionId) ?? []
  }

  isPending(sessionId: string, key: string): boolean {
    return this.pendingOf(sessionId).some((pending) => pending.key === key)
  }

  addPending(sessionId: string, pending: Pending): void {
    const list = this.#pending.get(sessionId)
    if (list === undefined) this.#pending.set(sessionId, [pending])
    else list.push(pending)
    this.#pendingCount++
  }

  dropPending(sessionId: string, pending: Pending): void {
    const list = this.#pending.get(sessionId)
    const index = list?.indexOf(pending) ?? -1
    if (list === undefined || index < 0) return
    list.splice(index, 1)
    this.#pendingCount--
    if (list.length === 0) this.#pending.delete(sessionId)
  }

  /** Forgets what has been read back: everything acknowledged below the next offset of its topic. */
  readBack(sessionId: string): void {
    const list = this.#pending.get(sessionId)
    if (list === undefined) return
    const left = list.filter((pending) => pending.offset === undefined || pending.offset >= (this.next.get(pending.topic) ?? 0))
    this.#pendingCount -= list.length - left.length
    if (left.length === 0) this.#pending.delete(sessionId)
    else this.#pending.set(sessionId, left)
  }

  get pendingCount(): number {
    return this.#pendingCount
  }

  pendingSessions(): Iterable<string> {
    return this.#pending.keys()
  }

  /** The session as it will be if what is under way is accepted as it was sent. */
  ahead(sessionId: string, sessionsTopic: string, now: number): Session {
    let session = this.sessions.get(sessionId)
    for (const { topic, event } of this.pendingOf(sessionId)) {
      if (topic === sessionsTopic) session = evolve(session, event as SessionEvent, { offset: -1, timestamp: now }).session
    }
    return session
  }

  /** The open calls of a session: those read back, and those whose dispatch is appended but not yet read back. */
  *openToolCalls(
    sessionId: string,
    backendOf: (topic: string) => string | null,
    now: number,
  ): Iterable<{ backend: string; call: ToolCall | undefined; ahead: ToolCall }> {
    const pending = this.pendingOf(sessionId)
    for (const [backend, fold] of this.tools) {
      for (const call of fold.openOf(sessionId)) {
        const ahead = pending.length === 0 ? call : this.#ahead(call, pending, backend, backendOf, now)
        if (ahead !== undefined) yield { backend, call, ahead }
      }
    }
    for (const { topic, event } of pending) {
      const backend = backendOf(topic)
      if (backend === null || event.type !== "tool-call.dispatched") continue
      const toolUseId = event.toolUseId
      const call = this.tools.get(backend)?.get(sessionId, toolUseId)
      if (call !== undefined && call.dispatch !== null && call.finished === null && call.cancelled === null) continue
      const ahead = this.#ahead(
        call,
        pending.filter((one) => (one.event as ToolEvent).toolUseId === toolUseId),
        backend,
        backendOf,
        now,
      )
      if (ahead !== undefined && ahead.dispatch !== null) yield { backend, call, ahead }
    }
  }

  #ahead(
    call: ToolCall | undefined,
    pending: readonly Pending[],
    backend: string,
    backendOf: (topic: string) => string | null,
    now: number,
  ): ToolCall | undefined {
    let ahead = call
    for (const { topic, event } of pending) {
      if (backendOf(topic) !== backend) continue
      const fact = event as ToolEvent
      if (call !== undefined && fact.toolUseId !== call.toolUseId) continue
      ahead = evolveToolCall(ahead, fact, { offset: -1, timestamp: now }).call
    }
    return ahead
  }
}
