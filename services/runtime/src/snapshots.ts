import { crc32 } from "node:zlib"
import type { SessionSnapshot, TopicNames } from "@reins/events"
import { AppendRejectedError, erasesHeader, type Log, type LogRecord } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { foldVersion, type Status } from "@reins/session"
import type { Logger } from "pino"
import { type Clock, type LogTime, pause } from "./clock.ts"
import { type Relied, reliedOn } from "./offsets.ts"
import type { Committed, OwnedPartition, Restored } from "./owned-partition.ts"
import type { Place, SnapshotRead } from "./places.ts"

/** How long a session rests before it is written: a conversation goes on sooner. */
export const restsMsDefault = 3000
/** Records of a session without a snapshot after which one is written though it runs. */
export const uncoveredMaxDefault = 1000
/** Snapshots of one partition that are under way at a time: the log is not to be busy with them. */
const underWayMax = 500
/** A state above this does not fit into a record of the topic with room to spare. Such a session is read from its beginning. */
const stateBytesMax = 7 * 1024 * 1024
const readAgainMs = 500

interface Frozen {
  readonly status: Status
  /** As `freeze` writes it. */
  readonly text: string
}

export interface SnapshotsOptions {
  readonly log: Log
  readonly codec: Codec
  readonly topics: TopicNames
  readonly logger: Logger
  readonly clock: Clock
  /** Told the timestamp of every snapshot: where all is restored, nothing else tells log time. */
  readonly time: Pick<LogTime, "read">
  /** Log time for which a session rests before it is written. */
  readonly restsMs: number
  /** Records of a session without a snapshot after which one is written though it runs. */
  readonly uncoveredMax: number
}

/**
 * Snapshots save reading: `sessions` stays the only truth, and who does not trust a snapshot folds it from the beginning.
 *
 * S1 A snapshot is of a state as read back, and says how far that was: everything of the session up to there is in it.
 * S2 One of another fold version is never used.
 * S3 A successor relies on a snapshot only where the commit says that it was read, or where it covers what the commit leaves out.
 */
export class Snapshots {
  readonly #options: SnapshotsOptions

  constructor(options: SnapshotsOptions) {
    this.#options = options
  }

  /** From where to read `sessions` or `snapshots`: both are known only once the snapshots are read. */
  async from(owned: OwnedPartition, topic: string, committed: Committed | null, current: () => boolean): Promise<number> {
    const { topics } = this.#options
    if (topic === topics.sessions) owned.committed.resolve(committed)
    const { offset = 0, note } = (await owned.committed.promise) ?? {}
    owned.restored ??= this.#restoreSurely(owned, offset, reliedOn(note), current)
    const restored = await owned.restored
    const from = topic === topics.sessions ? restored.sessions : restored.snapshots
    owned.next.set(topic, from)
    return from
  }

  /** Until the snapshots could be read: what the log does not tell now it tells later. */
  async #restoreSurely(owned: OwnedPartition, committed: number, relied: Relied | null, current: () => boolean): Promise<Restored> {
    for (;;) {
      try {
        return await this.restore(owned, committed, relied, current)
      } catch (error) {
        if (!current()) return { sessions: 0, snapshots: 0 }
        this.#options.logger.warn({ err: error, partition: owned.number }, "The snapshots of a partition could not be read; trying again.")
        await pause(this.#options.clock, readAgainMs)
      }
    }
  }

  /**
   * Reads the snapshots of a partition into it, as far as they can be relied on, and tells from where to go on reading. `current` tells
   * whether the partition is still wanted. Throws where the log cannot be read.
   */
  async restore(owned: OwnedPartition, committed: number, relied: Relied | null, current: () => boolean): Promise<Restored> {
    const { log, topics, logger, time } = this.#options
    // Nothing says what was relied on: the log is folded from its beginning, and the snapshots tell only what need not be written again.
    if (relied === null || committed === 0) return { sessions: 0, snapshots: 0 }
    const bounds = (await log.bounds(topics.sessions)).find(({ partition }) => partition === owned.number)
    const found = new Map<string, { readonly newest: SnapshotRead; readonly best: SnapshotRead | null }>()
    let next = 0
    for await (const records of log.replay(topics.snapshots, owned.number, 0)) {
      if (!current()) return { sessions: 0, snapshots: 0 }
      for (const record of records) {
        next = record.offset + 1
        time.read(record.timestamp)
        const { key } = record
        if (key === null) continue
        const before = found.get(key)
        const read = headOf(record)
        if (read === null) {
          found.set(key, { newest: nothing(record), best: before?.best ?? null })
          continue
        }
        const isBetter = read.offset >= (before?.best?.offset ?? 0) && read.offset < (bounds?.end ?? 0)
        const status = isBetter ? usableStatus(record) : null
        if (status !== null) owned.sessions.restore(key, status, record.value as Uint8Array)
        found.set(key, { newest: read, best: status === null ? (before?.best ?? null) : read })
      }
    }
    // S3
    let from = committed
    for (const { newest, best } of found.values()) {
      if (best === null) from = Math.min(from, newest.first)
      else if (best.at >= relied.next) from = Math.min(from, best.offset + 1)
    }
    if (found.size < relied.count || next < relied.next) {
      logger.warn(
        { partition: owned.number, found: found.size, relied: relied.count },
        "Snapshots are missing; the session log is read from its beginning.",
      )
      owned.sessions.drop()
      return { sessions: 0, snapshots: 0 }
    }
    let sessions = 0
    for (const [sessionId, { newest, best }] of found) {
      owned.places.readSnapshot(sessionId, newest)
      if (best === null) continue
      owned.places.restored(sessionId, best)
      sessions++
    }
    if (sessions > 0)
      logger.debug({ partition: owned.number, sessions, from, snapshots: next }, "A partition is taken over from snapshots.")
    return { sessions: from, snapshots: next }
  }

  /** A snapshot as it is followed. */
  read(owned: OwnedPartition, record: LogRecord): void {
    if (record.key === null) return
    owned.snapshotsUnderWay.delete(record.key)
    owned.places.readSnapshot(record.key, headOf(record) ?? nothing(record))
  }

  /**
   * Writes what has rested for a while, or has come far. `busy`: something of the session is not read back yet. True where there may be more
   * to write than may be under way at a time.
   */
  write(owned: OwnedPartition, now: number, busy: (sessionId: string) => boolean): boolean {
    const { topics, restsMs, uncoveredMax } = this.#options
    const underWay = owned.snapshotsUnderWay
    const folded = (owned.next.get(topics.sessions) ?? 0) - 1
    for (const { sessionId, place } of owned.places.toSnapshot()) {
      if (underWay.size >= underWayMax) return true
      const isFar = place.uncovered >= uncoveredMax
      if ((!isFar && now - place.touchedAt < restsMs) || busy(sessionId) || underWay.get(sessionId) === place.newest) continue
      if (this.#wouldNotFit(owned, sessionId, place)) continue
      const frozen = owned.sessions.frozen(sessionId)
      if (frozen.status === "running" && !isFar) continue
      const { newest, uncovered } = place
      if (Buffer.byteLength(frozen.text) > stateBytesMax) {
        owned.snapshotsTooLarge.set(sessionId, { newest, uncovered })
        continue
      }
      owned.snapshotsTooLarge.delete(sessionId)
      underWay.set(sessionId, newest)
      void this.#append(owned, sessionId, frozen, folded, place).then((outcome) => {
        if (outcome === "appended") return
        underWay.delete(sessionId)
        if (outcome === "refused") owned.snapshotsTooLarge.set(sessionId, { newest, uncovered })
      })
    }
    return false
  }

  /** What did not fit is tried again once something changed; of what runs, once much has: to write a large state out takes long. */
  #wouldNotFit(owned: OwnedPartition, sessionId: string, { newest, uncovered }: Readonly<Place>): boolean {
    const tried = owned.snapshotsTooLarge.get(sessionId)
    if (tried === undefined) return false
    if (newest === tried.newest) return true
    return owned.sessions.statusOf(sessionId) === "running" && uncovered < tried.uncovered + this.#options.uncoveredMax
  }

  /** Writes what rests however short, for a process that ends. True while something of it is not read back yet. */
  writeAll(owned: OwnedPartition, busy: (sessionId: string) => boolean): boolean {
    return this.write(owned, Number.POSITIVE_INFINITY, busy) || owned.snapshotsUnderWay.size > 0
  }

  /** Writes a session at once, where an older snapshot of it stands: so that this is gone too. Rejects where the log does not take it. */
  async replace(owned: OwnedPartition, sessionId: string): Promise<void> {
    const place = owned.places.of(sessionId)
    if (place === undefined || place.snapshotAt < 0 || place.covered >= place.newest) return
    await this.#write(owned, sessionId, owned.sessions.frozen(sessionId), (owned.next.get(this.#options.topics.sessions) ?? 0) - 1, place)
    owned.snapshotsTooLarge.delete(sessionId)
  }

  async #append(
    owned: OwnedPartition,
    sessionId: string,
    frozen: Frozen,
    offset: number,
    place: Readonly<Place>,
  ): Promise<"appended" | "unknown" | "refused"> {
    try {
      await this.#write(owned, sessionId, frozen, offset, place)
      return "appended"
    } catch (error) {
      if (!(error instanceof AppendRejectedError)) return "unknown"
      this.#options.logger.warn(
        { err: error, sessionId },
        "The log does not take the snapshot of a session; the session is read from its beginning.",
      )
      return "refused"
    }
  }

  async #write(
    owned: OwnedPartition,
    sessionId: string,
    { status, text }: Frozen,
    offset: number,
    { first, newestCopy, erasedTo, snapshotAt }: Readonly<Place>,
  ): Promise<void> {
    const { log, codec, topics } = this.#options
    const snapshot: SessionSnapshot = {
      type: "session.snapshot",
      sessionId,
      foldVersion,
      offset,
      first,
      newest: newestCopy,
      erasedTo,
      status,
      state: text,
    }
    const headers: Record<string, string> = {
      type: snapshot.type,
      session: sessionId,
      fold: foldVersion,
      status,
      offset: String(offset),
      first: String(first),
      newest: String(newestCopy),
      erased: String(erasedTo),
    }
    if (snapshotAt >= 0) headers[erasesHeader] = String(snapshotAt)
    const value = codec.encode("snapshots", snapshot)
    headers["crc"] = String(crc32(value))
    await log.append({ topic: topics.snapshots, partition: owned.number, key: () => sessionId, value, headers, certainty: "once" })
  }

  /** The state in the value of a snapshot of this fold version. */
  stateIn(value: Uint8Array): string {
    // Its fields are those of the version that wrote it, which is this one (S2): the schema's id may be another registry's.
    const decoded = this.#options.codec.decodeAs("snapshots", "session.snapshot", value)
    return (decoded as unknown as SessionSnapshot).state
  }
}

/** Where the session of a snapshot stands; null where its state cannot be used: it is of another version (S2), or its bytes are not what was written. */
function usableStatus({ value, headers }: LogRecord): Status | null {
  if (value === null || headers["fold"] !== foldVersion || headers["crc"] !== String(crc32(value))) return null
  return statuses.find((status) => status === headers["status"]) ?? null
}

const statuses: readonly Status[] = ["absent", "running", "idle", "ended", "parked", "deleted"]

/** What a snapshot covers, from its headers; null where it says nothing that makes sense. */
function headOf({ offset: at, value, headers }: LogRecord): SnapshotRead | null {
  if (value === null) return null
  const [offset, first, newestCopy, erasedTo] = ["offset", "first", "newest", "erased"].map((name) =>
    /^(-1|\d{1,15})$/.test(headers[name] ?? "") ? Number(headers[name]) : null,
  )
  if (offset == null || first == null || newestCopy == null || erasedTo == null || offset < 0 || first < 0) return null
  return { at, offset, first, newestCopy, erasedTo }
}

/** A record that took the place of a session's snapshot and is none: everything of the session is to be read again. */
function nothing({ offset: at }: LogRecord): SnapshotRead {
  return { at, offset: -1, first: 0, newestCopy: -1, erasedTo: -1 }
}
