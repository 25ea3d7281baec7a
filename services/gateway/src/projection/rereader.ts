import type { SessionEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import { sessionOfRecord, type UnreadRecord, unreadRecord } from "@reins/runtime"
import { type ApiEvent, apiEvents, isStarted, type Session, SessionsFold } from "@reins/session"
import type { Answer, Place } from "./store.ts"

/** What one session is shown as, from the beginning of its partition. Others are folded with it: whether a command was answered is known per partition. */
export class Rereader {
  readonly fold = new SessionsFold()
  readonly shown: { readonly event: ApiEvent; readonly place: Place; readonly at: number }[] = []
  readonly answers: [commandId: string, at: number, answer: Answer][] = []
  readonly changes: { readonly before: Session; readonly after: Session; readonly timestamp: number }[] = []
  /** What is still missing of it. */
  unread: UnreadRecord | null = null
  readonly #sessionId: string

  constructor(sessionId: string) {
    this.#sessionId = sessionId
  }

  read(record: LogRecord, event: SessionEvent | null): void {
    if (event === null) {
      if (sessionOfRecord(record) === this.#sessionId) this.unread ??= unreadRecord(record)
      return
    }
    const { partition, offset, timestamp } = record
    const { sessionId } = event
    const before = this.fold.get(sessionId)
    const verdict = this.fold.apply(event, record)
    if (verdict !== "accepted") return
    const after = this.fold.get(sessionId)
    this.fold.sessions.set(sessionId, lightened(after))
    if (sessionId !== this.#sessionId) return
    if ("commandId" in event) this.answers.push([event.commandId, timestamp, answerOf(event)])
    if (!isStarted(after) && after.phase !== "deleted") return
    for (const [index, one] of apiEvents(before, event, { session: after, verdict }, timestamp, iso).entries())
      this.shown.push({ event: one, place: { partition, offset, index }, at: timestamp })
    this.changes.push({ before, after, timestamp })
  }
}

export function iso(ms: number): string {
  return new Date(ms).toISOString()
}

/** What the command of a fact came to. */
export function answerOf(event: Extract<SessionEvent, { commandId: string }>): Answer {
  return event.type === "command.rejected" ? { code: event.code, message: event.message } : { eventId: event.eventId }
}

/** The fold needs of what was said only the digest; the words stand in the read model. */
export function lightened(session: Session): Session {
  if (!isStarted(session) || session.conversation === null || session.conversation.blocks === "") return session
  return { ...session, conversation: { ...session.conversation, before: null, blocks: "" } }
}
