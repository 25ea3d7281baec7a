import type { SessionEvent, ToolEvent } from "@reins/events"
import { asideOf, type BlobFault, type Log, type LogRecord } from "@reins/log"
import { type Codec, decodeBare, decodeLearning } from "@reins/log/codec"
import type { Session } from "@reins/session"
import { KeptSessions } from "./kept-sessions.ts"
import type { PartitionSpill } from "./spill.ts"

/** Records between two looks at the memory that sessions take. */
const spillEvery = 1000

/** A record that this process could not read whole: what stands in the blob store for it is missing or damaged. */
export interface UnreadRecord {
  readonly topic: string
  readonly offset: number
  readonly fault: BlobFault
  readonly message: string
  /** On the topic of a backend: the record of which call it is. That it stands is folded, since much hangs on it; what it says is not. */
  readonly call?: { readonly backend: string; readonly toolUseId: string; readonly eventId: string }
}

/** By session, the records of a partition that are not in its state here. Whoever has the blobs folds them, so nothing is decided without. */
export class Unread {
  readonly #bySession = new Map<string, readonly UnreadRecord[]>()

  add(sessionId: string, record: UnreadRecord): void {
    this.#bySession.set(sessionId, [...this.of(sessionId), record])
  }

  /** What is still unread once everything was read again. */
  set(sessionId: string, records: readonly UnreadRecord[]): void {
    if (records.length === 0) this.#bySession.delete(sessionId)
    else this.#bySession.set(sessionId, records)
  }

  of(sessionId: string): readonly UnreadRecord[] {
    return this.#bySession.get(sessionId) ?? []
  }

  /** Sessions of which something is unread. */
  sessions(): readonly string[] {
    return [...this.#bySession.keys()]
  }

  get size(): number {
    return this.#bySession.size
  }

  has(sessionId: string): boolean {
    return this.#bySession.has(sessionId)
  }
}

/** The record as unread; null where it is something else that is wrong with it. */
export function unreadRecord(record: LogRecord): UnreadRecord | null {
  const aside = asideOf(record)
  if (aside === null || !("fault" in aside)) return null
  return { topic: record.topic, offset: record.offset, ...aside }
}

/** Whose record it is, by what does not have to be decoded. */
export function sessionOfRecord({ headers, key }: LogRecord): string {
  return headers["session"] ?? key?.slice(0, Math.max(0, key.lastIndexOf("/"))) ?? ""
}

/** A record of a backend's topic without what is missing from it; null where there is nothing to be made of it. */
export function halfRead(codec: Codec, record: LogRecord): ToolEvent | null {
  const decoded = decodeBare(codec, "tools", record)
  if (!decoded.ok) return null
  const event = decoded.said as unknown as ToolEvent
  return event.type === "tool-call.finished" ? { ...event, content: null } : event
}

export interface Rereading {
  readonly topic: string
  readonly partition: number
  /** One past what whoever asks has read. */
  readonly next: () => number
  /** False once nobody wants it any more: nothing more is told then. */
  readonly current: () => boolean
}

/**
 * Reads `sessions` again from the beginning of a partition, beside whoever goes on reading it. `done` is called in the moment in which all
 * that they have read is read here too.
 */
export async function rereadPartition(
  { log, codec }: { readonly log: Log; readonly codec: Codec },
  { topic, partition, next, current }: Rereading,
  each: (record: LogRecord, event: SessionEvent | null) => void,
  done: () => void,
): Promise<void> {
  for (let at = 0; at < next(); ) {
    const to = next()
    for await (const records of log.replay(topic, partition, at, to)) {
      for (const record of records) {
        if (record.value === null) continue
        const read = await decodeLearning(codec, "sessions", record)
        if (!current()) return
        each(record, read.ok ? (read.said as unknown as SessionEvent) : null)
      }
    }
    at = to
  }
  if (current()) done()
}

/** Whether a record can be read whole now. */
export async function isReadable(
  { log, codec }: { readonly log: Log; readonly codec: Codec },
  partition: number,
  { topic, offset, call }: UnreadRecord,
): Promise<boolean> {
  for await (const records of log.replay(topic, partition, offset, offset + 1))
    for (const record of records)
      if (record.value !== null && !(await decodeLearning(codec, call === undefined ? "sessions" : "tools", record)).ok) return false
  return true
}

const noSnapshots = (): never => {
  throw new Error("What is folded from the beginning needs no snapshot.")
}

export interface Reread {
  readonly session: Session
  /** Offsets of the records that it follows from. */
  readonly records: readonly number[]
  readonly unread: readonly UnreadRecord[]
}

/**
 * Folds a session from the beginning of its partition, as whoever starts now does: other sessions too, as whether a command was answered
 * before is known per partition. Sessions take no more memory meanwhile than `bytes`.
 */
export async function rereadSession(
  opened: { readonly log: Log; readonly codec: Codec },
  rereading: Rereading,
  sessionId: string,
  { spill, bytes }: { readonly spill: PartitionSpill; readonly bytes: number },
  done: (reread: Reread) => void,
): Promise<void> {
  const shadow = new KeptSessions(spill, noSnapshots)
  const unread: UnreadRecord[] = []
  const each = (record: LogRecord, event: SessionEvent | null): void => {
    if (event !== null) shadow.apply(event, record)
    else if (sessionOfRecord(record) === sessionId) {
      const missing = unreadRecord(record)
      if (missing !== null) unread.push(missing)
    }
    if (record.offset % spillEvery === 0) shadow.spillDownTo(bytes, (other) => other === sessionId)
  }
  try {
    await rereadPartition(opened, rereading, each, () =>
      done({ session: shadow.get(sessionId), records: [...shadow.recordsOf(sessionId)], unread }),
    )
  } finally {
    shadow.drop()
  }
}
