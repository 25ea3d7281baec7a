import assert from "node:assert/strict"
import { type SessionEvent, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { type FoldReader, KeptSessions, LogTime, type SharedFold, type SharedFolds, Spill, systemClock } from "@reins/runtime"
import { SessionsFold } from "@reins/session"
import { pino } from "pino"
import { Projection, type ProjectionOptions } from "../src/projection/projection.ts"

export const topics = topicNames("t")
const logger = pino({ level: "silent" })

/** The loop of the process, moved by hand. */
export class Loop implements SharedFolds {
  readonly spill = new Spill()
  readonly #events: readonly SessionEvent[]
  #reader: FoldReader | undefined
  #sessions: KeptSessions | undefined
  #next = 0
  #isReady = false
  /** The offset of a record that it cannot read. */
  unreadable = -1
  kept = 0

  constructor(events: readonly SessionEvent[]) {
    this.#events = events
  }

  get owns(): boolean {
    return this.#sessions !== undefined
  }

  settled(): boolean {
    return true
  }

  tell(reader: FoldReader): void {
    this.#reader = reader
  }

  of(): SharedFold | undefined {
    const sessions = this.#sessions
    if (sessions === undefined || !this.#isReady) return undefined
    const { unreadable } = this
    const unread = unreadable >= 0 && unreadable < this.#next ? [this.#events[unreadable]?.sessionId as string] : []
    return { sessions, next: () => this.#next, unread: () => unread, spill: () => undefined }
  }

  /** Owns it from now on, restored up to a place that it may be told of later. */
  own(restored: number): void {
    this.#sessions = new KeptSessions(this.spill.partition(), () => assert.fail())
    this.#next = 0
    this.#isReady = false
    for (let at = 0; at < restored; at++) this.fold(at + 1)
  }

  ready(): void {
    this.#isReady = true
    this.#reader?.ready(0)
  }

  fold(end: number): void {
    const sessions = this.#sessions as KeptSessions
    const event = this.#events[this.#next]
    if (event === undefined || this.#next >= end) return
    if (this.#next === this.unreadable) {
      this.#next++
      this.#reader?.moved(0, this.#next, null)
      return
    }
    const at = { offset: this.#next, timestamp: 1000 + this.#next }
    const before = sessions.get(event.sessionId)
    const verdict = sessions.apply(event, at)
    this.#next++
    this.#reader?.moved(0, this.#next, { partition: 0, ...at, event, verdict, before, after: sessions.get(event.sessionId) })
  }

  /** What it could not read it has read now. */
  reread(): void {
    const { sessionId } = this.#events[this.unreadable] as SessionEvent
    const again = new SessionsFold()
    for (const [offset, event] of this.#events.slice(0, this.#next).entries()) again.apply(event, { offset, timestamp: 1000 + offset })
    this.#sessions?.replace(sessionId, again.get(sessionId), [])
    this.unreadable = -1
    this.#reader?.reread(0, sessionId)
  }

  lose(): void {
    this.#sessions = undefined
    this.#isReady = false
    if (this.#reader?.lost(0) === true) this.kept++
  }
}

/** A gateway's read model: of a process with this loop, or without one. */
export function projectionOn(log: Log, codec: Codec, folds?: SharedFolds, more: Partial<ProjectionOptions> = {}): Projection {
  const time = new LogTime(systemClock)
  const common = { log, codec, topics, instance: "g", answerTimeoutMs: 5000, time, logger }
  return new Projection({ ...common, failed: (error) => assert.fail(error), ...(folds === undefined ? {} : { folds }), ...more })
}
