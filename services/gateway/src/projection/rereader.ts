import type { SessionEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import { type KeptSessions, sessionBytesDefault, sessionOfRecord, type UnreadRecord, unreadRecord } from "@reins/runtime"
import { type ApiEvent, apiEvents, isStarted, type Session } from "@reins/session"
import type { Answer, Place } from "./store.ts"

/** Records between two looks at how much memory the other sessions take meanwhile. */
const spillEvery = 1000

/** What a session is shown as, from the beginning of its partition. */
export interface Reread {
  readonly shown: { readonly event: ApiEvent; readonly place: Place; readonly at: number }[]
  readonly answers: [commandId: string, at: number, answer: Answer][]
  readonly changes: { readonly before: Session; readonly after: Session; readonly timestamp: number }[]
  /** What is still missing of it. */
  unread: UnreadRecord | null
}

/** Reads sessions of a partition from its beginning. The others are folded with them: whether a command was answered is known per partition. */
export class Rereader {
  readonly fold: KeptSessions
  readonly sessions: ReadonlyMap<string, Reread>

  readonly #unshowable: (error: unknown, sessionId: string) => void

  /** `unshowable` is told of what cannot be shown, and is left out. */
  constructor(sessionIds: Iterable<string>, fold: KeptSessions, unshowable: (error: unknown, sessionId: string) => void) {
    this.#unshowable = unshowable
    this.sessions = new Map([...sessionIds].map((sessionId) => [sessionId, { shown: [], answers: [], changes: [], unread: null }]))
    this.fold = fold
  }

  read(record: LogRecord, event: SessionEvent | null): void {
    if (event === null) {
      const session = this.sessions.get(sessionOfRecord(record))
      if (session !== undefined) session.unread ??= unreadRecord(record)
      return
    }
    const { partition, offset, timestamp } = record
    const { sessionId } = event
    const before = this.fold.get(sessionId)
    const verdict = this.fold.apply(event, record)
    if (verdict !== "accepted") return
    const after = this.fold.get(sessionId)
    this.fold.forget(sessionId)
    if (offset % spillEvery === 0) this.fold.spillDownTo(sessionBytesDefault, (other) => this.sessions.has(other))
    const session = this.sessions.get(sessionId)
    if (session === undefined) return
    if ("commandId" in event) session.answers.push([event.commandId, timestamp, answerOf(event)])
    if (!isStarted(after) && after.phase !== "deleted") return
    session.changes.push({ before, after, timestamp })
    try {
      for (const [index, one] of apiEvents(before, event, { session: after, verdict }, timestamp, iso).entries())
        session.shown.push({ event: one, place: { partition, offset, index }, at: timestamp })
    } catch (error) {
      this.#unshowable(error, sessionId)
    }
  }
}

export function iso(ms: number): string {
  return new Date(ms).toISOString()
}

/** What the command of a fact came to. */
export function answerOf(event: Extract<SessionEvent, { commandId: string }>): Answer {
  return event.type === "command.rejected" ? { code: event.code, message: event.message } : { eventId: event.eventId }
}
