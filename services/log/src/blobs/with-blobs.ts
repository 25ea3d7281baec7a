import { canonicalJson, type Definition, definitions, jsonFields } from "@reins/events"
import { type CommitClock, commitClock } from "../group-commit.ts"
import {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  type Following,
  type FollowOptions,
  type Log,
  type LogRecord,
  type Placed,
  type ReplayOptions,
} from "../log.ts"
import { type Codec, isJson, type Said } from "../registry/codec.ts"
import { type Aside, blobsHeader, type Named, placeholder, readNamed, writeNamed } from "./aside.ts"
import { BlobDamagedError, BlobMissingError, type Blobs, folderOf } from "./blobs.ts"
import { Turnstile } from "./turnstile.ts"

/** A field whose JSON text has more bytes than this stands in the blob store. Four of them fit into a record of 1 MiB, and no record has more. */
export const fieldBytesMaxDefault: number = 256 * 1024

export interface WithBlobsOptions {
  readonly codec: Codec
  readonly blobs: Blobs
  readonly clock?: Pick<CommitClock, "monotonic" | "after">
  readonly fieldBytesMax?: number
  /** Told once whenever the store ceases to answer. */
  readonly warn?: (error: Error) => void
}

/** A blob above this is none of ours: the largest request of the API has 32 MB. */
const blobBytesMax = 64 * 1024 * 1024
/** Asked of the store at the same time. */
const asksMax = 8
/** What one call of a reader is given at most, in bytes of blobs. */
const stretchBytesMax = 16 * 1024 * 1024
const backoff = { minMs: 50, maxMs: 2000 }
/** How long one who replays, and can be told so, waits for a store that does not answer. */
const replayPatienceMs = 3000
const closeGraceMs = 5000

/** Families whose records belong to a session. */
const families: ReadonlySet<string> = new Set(["sessions", "tools", "commands"])

interface Waiting {
  readonly append: Append
  /** What was appended in the same turn has the same number. */
  readonly turn: number
  /** What is to be appended, once its blobs stand. */
  ready: Append | undefined
  readonly resolve: (placed: Placed) => void
  readonly reject: (error: unknown) => void
  taken: boolean
}

/**
 * The claim check: a log in which a field may be larger than a record. Whoever appends and whoever reads does as with any log.
 *
 * C1 A blob stands before the record that names it is appended.
 * C2 Appends of one partition keep their order, whichever of them wait for a blob (G2).
 * C3 A record is read as it stands in the log (G5), with the texts of its blobs beside it: `decodeRecord` says it whole.
 * C4 A blob that is missing or damaged is told with its record. A store that does not answer is asked until it does, and holds up no
 *    partition but those that need it.
 * C5 What has no large field costs a comparison.
 */
export function withBlobs(log: Log, options: WithBlobsOptions): Log {
  return new BlobLog(log, options)
}

class BlobLog implements Log {
  readonly kind: Log["kind"]
  readonly absenceGraceMs: number
  readonly blobs: Blobs
  readonly ended?: NonNullable<Log["ended"]>
  readonly remove?: NonNullable<Log["remove"]>
  readonly rewrite?: NonNullable<Log["rewrite"]>
  readonly #log: Log
  readonly #codec: Codec
  readonly #clock: Pick<CommitClock, "monotonic" | "after">
  readonly #fieldBytesMax: number
  readonly #warn: ((error: Error) => void) | undefined
  readonly #asks = new Turnstile(asksMax)
  /** Partitions in which something waits for a blob, and what was appended there since. */
  readonly #lanes = new Map<string, Waiting[]>()
  #turn = 0
  #isInTurn = false
  #backoffMs = 0
  #closed = false

  constructor(log: Log, options: WithBlobsOptions) {
    this.#log = log
    this.kind = log.kind
    this.absenceGraceMs = log.absenceGraceMs
    this.blobs = options.blobs
    this.#codec = options.codec
    this.#clock = options.clock ?? commitClock
    this.#fieldBytesMax = options.fieldBytesMax ?? fieldBytesMaxDefault
    this.#warn = options.warn
    if (log.ended !== undefined) this.ended = (group, instance) => log.ended?.(group, instance) === true
    if (log.remove !== undefined) this.remove = async (topic, partition, offsets) => log.remove?.(topic, partition, offsets)
    if (log.rewrite !== undefined) this.rewrite = async () => log.rewrite?.()
  }

  // --- appending

  append(append: Append): Promise<Placed> {
    const isLarge = append.value !== null && append.value.byteLength > this.#fieldBytesMax && append.headers["session"] !== undefined
    if (!isLarge && this.#lanes.size === 0) return this.#log.append(append)
    const lane = this.#lanes.get(laneOf(append.topic, append.partition))
    const large = isLarge ? this.#largeIn(append) : null
    if (large === null && lane === undefined) return this.#log.append(append)
    return this.#inTurn(append, large)
  }

  /** C2 */
  #inTurn(append: Append, large: Large | null): Promise<Placed> {
    return new Promise((resolve, reject) => {
      const id = laneOf(append.topic, append.partition)
      let lane = this.#lanes.get(id)
      if (lane === undefined) {
        lane = []
        this.#lanes.set(id, lane)
      }
      const waiting: Waiting = { append, turn: this.#turnNow(), ready: large === null ? append : undefined, resolve, reject, taken: false }
      lane.push(waiting)
      if (large !== null) void this.#prepare(id, lane, waiting, large)
    })
  }

  async #prepare(id: string, lane: Waiting[], waiting: Waiting, large: Large): Promise<void> {
    try {
      waiting.ready = await this.#setAside(waiting.append, large, () => waiting.taken || this.#closed)
    } catch (error) {
      if (!waiting.taken) lane.splice(lane.indexOf(waiting), 1)
      waiting.reject(error)
    }
    this.#send(id, lane)
  }

  #turnNow(): number {
    if (!this.#isInTurn) {
      this.#isInTurn = true
      this.#turn++
      queueMicrotask(() => {
        this.#isInTurn = false
      })
    }
    return this.#turn
  }

  /** Turn by turn, so that what was decided on something that is under way leaves together with it, as it would without blobs. */
  #send(id: string, lane: Waiting[]): void {
    for (let first = lane[0]; first !== undefined; first = lane[0]) {
      const { turn } = first
      const together = lane.filter((one) => one.turn === turn)
      if (together.some(({ ready }) => ready === undefined)) return
      lane.splice(0, together.length)
      for (const { append, ready, resolve, reject } of together) this.#log.append(ready ?? append).then(resolve, reject)
    }
    if (lane.length === 0 && this.#lanes.get(id) === lane) this.#lanes.delete(id)
  }

  /** C1: as certain as the append is to be. */
  async #setAside(append: Append, { session, texts, without }: Large, isOver: () => boolean): Promise<Append> {
    for (;;) {
      try {
        const named = await Promise.all(
          texts.map(async ([field, bytes]) => {
            if (bytes.length > blobBytesMax)
              throw new AppendRejectedError(`Its ${field} has ${bytes.length} bytes; at most ${blobBytesMax} fit.`)
            const sha256 = await this.#asks.run(() => this.blobs.put(session, bytes))
            return { field, sha256, bytes: bytes.length }
          }),
        )
        this.#backoffMs = 0
        return { ...append, value: without(named), headers: { ...append.headers, [blobsHeader]: writeNamed(named) } }
      } catch (error) {
        if (error instanceof AppendRejectedError) throw error
        await this.#wait(error as Error)
        if (isOver()) throw new AppendWithdrawnError("What belongs to a record did not come to stand in the blob store.")
        if (append.certainty === "once") throw new AppendUnknownError((error as Error).message, { cause: error })
      }
    }
  }

  /** What is to be taken out of a record, if anything is. */
  #largeIn({ value, headers }: Append): Large | null {
    const session = headers["session"]
    // What is sent on or sent again as it was read has its blobs already.
    if (value === null || session === undefined || headers[blobsHeader] !== undefined) return null
    const isPlain = isJson(value)
    const [said, definition] = isPlain ? plainOf(value) : this.#saidIn(value)
    if (said === null || definition === undefined || !families.has(definition.family) || said["sessionId"] !== session) return null
    const texts: [string, Uint8Array][] = []
    for (const field of jsonFields(definition)) {
      const given = said[field]
      if (given === undefined || given === null) continue
      const text = isPlain ? JSON.stringify(given) : (given as string)
      // No text has more bytes than three for each of its units.
      if (text.length * 3 <= this.#fieldBytesMax) continue
      const bytes = Buffer.from(text)
      if (bytes.length > this.#fieldBytesMax) texts.push([field, bytes])
    }
    if (texts.length === 0) return null
    const without = (named: readonly Named[]): Uint8Array => {
      const left: Record<string, unknown> = { ...said }
      for (const one of named) left[one.field] = isPlain ? placeholder(one) : canonicalJson(placeholder(one))
      return isPlain ? Buffer.from(JSON.stringify(left)) : this.#codec.encode(definition.family, left as unknown as Said)
    }
    return { session, texts, without }
  }

  #saidIn(value: Uint8Array): readonly [Record<string, unknown> | null, Definition | undefined] {
    const decoded = this.#codec.decode(value)
    return decoded.ok ? [decoded.said, decoded.definition] : [null, undefined]
  }

  withdraw(topic: string, partition: number): void {
    const lane = this.#lanes.get(laneOf(topic, partition))
    if (lane !== undefined) {
      this.#takeBack(lane, (append) => append.certainty !== "always", "its partition was lost")
      this.#send(laneOf(topic, partition), lane)
    }
    this.#log.withdraw(topic, partition)
  }

  #takeBack(lane: Waiting[], which: (append: Append) => boolean, why: string): void {
    const taken = lane.filter(({ append }) => which(append))
    lane.splice(0, lane.length, ...lane.filter(({ append }) => !which(append)))
    for (const one of taken) {
      one.taken = true
      one.reject(new AppendWithdrawnError(`A record for ${one.append.topic}[${one.append.partition}] was not sent: ${why}.`))
    }
  }

  async close(): Promise<void> {
    const deadline = this.#clock.monotonic() + closeGraceMs
    while (this.#lanes.size > 0 && this.#clock.monotonic() < deadline) await this.#pause(20)
    this.#closed = true
    for (const lane of this.#lanes.values()) this.#takeBack(lane, () => true, "the log was closed")
    await this.#log.close()
  }

  // --- reading

  replay(topic: string, partition: number, from: number, to?: number, how?: ReplayOptions): AsyncIterable<readonly LogRecord[]> {
    const replayed = this.#log.replay(topic, partition, from, to)
    return how?.bare === true ? replayed : this.#wholeOf(replayed)
  }

  async *#wholeOf(replayed: AsyncIterable<readonly LogRecord[]>): AsyncGenerator<readonly LogRecord[]> {
    for await (const records of replayed) {
      if (!records.some(isPartly)) yield records
      else
        for (const stretch of stretches(records)) {
          const until = this.#clock.monotonic() + replayPatienceMs
          yield await this.#whole(stretch, () => this.#clock.monotonic() > until)
        }
    }
  }

  async follow(options: FollowOptions): Promise<Following> {
    /** Another number for each time that a partition is owned: what was loaded for an earlier time is not wanted any more. */
    const times = new Map<number, number>()
    let isOver = false
    const pauses = new Map<string, number>()
    const begin = (partition: number): void => void times.set(partition, (times.get(partition) ?? 0) + 1)
    const deliver = async (topic: string, partition: number, records: readonly LogRecord[]): Promise<void> => {
      const lane = laneOf(topic, partition)
      const [time, pause] = [times.get(partition), pauses.get(lane)]
      const isLost = (): boolean => isOver || this.#closed || times.get(partition) !== time || pauses.get(lane) !== pause
      for (const stretch of stretches(records)) {
        // What its writer folded at the acknowledgement need not be read.
        const known = options.position?.(topic, partition) ?? 0
        const wanted = stretch.filter(({ offset }) => offset >= known)
        if (wanted.length === 0) continue
        let whole: readonly LogRecord[]
        try {
          whole = await this.#whole(wanted, isLost)
        } catch (error) {
          if (isLost()) return
          throw error
        }
        if (isLost()) return
        await options.records(topic, partition, whole)
      }
    }
    const following = await this.#log.follow({
      ...options,
      assigned: (partition) => {
        begin(partition)
        options.assigned?.(partition)
      },
      lost: (partition) => {
        begin(partition)
        options.lost?.(partition)
      },
      records: (topic, partition, records) =>
        records.some(isPartly) ? deliver(topic, partition, records) : options.records(topic, partition, records),
    })
    return {
      partitions: () => following.partitions(),
      alive: () => following.alive(),
      add: (topic) => following.add(topic),
      pause: (topic, partition) => {
        const lane = laneOf(topic, partition)
        pauses.set(lane, (pauses.get(lane) ?? 0) + 1)
        following.pause(topic, partition)
      },
      resume: (topic, partition, from) => following.resume(topic, partition, from),
      commit: (commits) => following.commit(commits),
      stop: async () => {
        isOver = true
        await following.stop()
      },
    }
  }

  /** The same records, each with what stands aside for it. */
  #whole(records: readonly LogRecord[], isOver: () => boolean): Promise<readonly LogRecord[]> {
    return Promise.all(records.map(async (record) => (isPartly(record) ? this.#load(record, isOver) : record)))
  }

  async #load(record: LogRecord, isOver: () => boolean): Promise<LogRecord> {
    const { session, [blobsHeader]: header = "" } = record.headers
    const named = readNamed(header)
    // Whoever reads it finds that it makes no sense.
    if (named === null || session === undefined || record.value === null) return record
    for (;;) {
      try {
        const texts = await Promise.all(
          named.map(async ({ field, sha256, bytes }) => {
            if (bytes > blobBytesMax) throw new BlobDamagedError(`It would have ${bytes} bytes; at most ${blobBytesMax} are read.`)
            const read = await this.#asks.run(() => this.blobs.get(session, sha256))
            return [field, Buffer.from(read.buffer, read.byteOffset, read.byteLength).toString("utf8")] as const
          }),
        )
        this.#backoffMs = 0
        return { ...record, aside: { texts: Object.fromEntries(texts) } }
      } catch (error) {
        if (error instanceof BlobMissingError || error instanceof BlobDamagedError)
          return { ...record, aside: fault(record, session, error) }
        await this.#wait(error as Error)
        if (isOver()) throw error
      }
    }
  }

  /** C4 */
  async #wait(error: Error): Promise<void> {
    if (this.#backoffMs === 0) this.#warn?.(error)
    this.#backoffMs = Math.min(backoff.maxMs, Math.max(backoff.minMs, 2 * this.#backoffMs))
    await this.#pause(this.#backoffMs)
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(ms, resolve))
  }

  // --- as it is

  bounds(topic: string): ReturnType<Log["bounds"]> {
    return this.#log.bounds(topic)
  }

  members(group: string): ReturnType<Log["members"]> {
    return this.#log.members(group)
  }

  applyTopics(topics: Parameters<Log["applyTopics"]>[0]): Promise<readonly string[]> {
    return this.#log.applyTopics(topics)
  }

  verifyTopics(topics: Parameters<Log["verifyTopics"]>[0]): Promise<void> {
    return this.#log.verifyTopics(topics)
  }

  describeTopics(): ReturnType<Log["describeTopics"]> {
    return this.#log.describeTopics()
  }
}

/** What does not fit into a record, by field, and the record without it. */
interface Large {
  readonly session: string
  readonly texts: readonly (readonly [field: string, bytes: Uint8Array])[]
  readonly without: (named: readonly Named[]) => Uint8Array
}

function laneOf(topic: string, partition: number): string {
  return `${topic}\u0000${partition}`
}

function isPartly({ headers }: LogRecord): boolean {
  return headers[blobsHeader] !== undefined
}

/** Records in stretches whose blobs take no more memory than one reader is to have in hand. */
function* stretches(records: readonly LogRecord[]): Iterable<readonly LogRecord[]> {
  let stretch: LogRecord[] = []
  let bytes = 0
  for (const record of records) {
    const header = record.headers[blobsHeader]
    const more = header === undefined ? 0 : (readNamed(header) ?? []).reduce((sum, one) => sum + one.bytes, 0)
    // What stands before the first one need not wait for it.
    const isFirst = more > 0 && bytes === 0
    if (stretch.length > 0 && (isFirst || bytes + more > stretchBytesMax)) {
      yield stretch
      stretch = []
      bytes = 0
    }
    stretch.push(record)
    bytes += more
  }
  if (stretch.length > 0) yield stretch
}

function plainOf(value: Uint8Array): readonly [Record<string, unknown> | null, Definition | undefined] {
  try {
    const said = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("utf8")) as Record<string, unknown>
    return [said, definitions.find(({ family, type }) => families.has(family) && family !== "sessions" && type === said["type"])]
  } catch {
    return [null, undefined]
  }
}

function fault({ topic, partition, offset }: LogRecord, session: string, error: BlobMissingError | BlobDamagedError): Aside {
  const what = error instanceof BlobMissingError ? "is missing from" : "is damaged in"
  const message = `What ${topic}[${partition}] says at offset ${offset} ${what} the blob store, in the folder ${folderOf(session)}: ${error.message} Put it back from a copy, then resume the session.`
  return { fault: error.code, message }
}
