import type { CommitClock, PartitionBatch, WriteOutcome } from "./group-commit.ts"
import type { LocalFollowing } from "./local-following.ts"
import { LocalHub, LocalLog } from "./local-log.ts"
import { retentionMsOf, Sweeps, sweptMax } from "./local-retention.ts"
import type { Store, StoredAt, Stretch, StretchLimit } from "./local-store.ts"
import { type Bounds, type Commit, erasesHeader, type LogRecord, type TopicDescription, type TopicSettings } from "./log.ts"
import { LocalRegistry } from "./registry/local.ts"
import type { SchemaRegistry } from "./registry/registry.ts"

// The memory log is for tests and simulations: a broker in memory, with clients that can be made to fail in every way in
// which a process on a real broker can. It keeps all promises of the port except that what it holds outlives the process.

interface Stored {
  records: LogRecord[]
  /** Moved by retention alone: compaction keeps the beginning, also where nothing stands there any more. */
  start: number
  end: number
  timestamp: number
}

class MemoryStore implements Store {
  readonly #topics = new Map<string, { readonly description: TopicDescription; readonly partitions: Stored[] }>()
  readonly #commits = new Map<string, { offset: number; note: string }>()
  readonly #schemas: { subject: string; schema: string }[] = []
  readonly #sweeps = new Sweeps()
  readonly remove?: NonNullable<Store["remove"]>
  readonly rewrite?: NonNullable<Store["rewrite"]>

  constructor(cleaner: NonNullable<MemoryBrokerOptions["cleaner"]>) {
    if (cleaner === "compacts") return
    this.remove = (topic, partition, offsets) => this.#remove(topic, partition, offsets)
    // Nothing of it is on a disk.
    this.rewrite = () => undefined
  }

  append(batches: readonly PartitionBatch[], now: number): readonly StoredAt[] {
    if (this.#sweeps.due(now)) this.#sweeps.done(now, this.#sweep(now))
    return batches.map(({ topic, partition, entries }) => {
      const stored = this.#stored(topic, partition)
      const baseOffset = stored.end
      stored.timestamp = Math.max(stored.timestamp, now)
      for (const { key, value, headers } of entries) {
        stored.records.push({
          topic,
          partition,
          offset: stored.end++,
          timestamp: stored.timestamp,
          key,
          value: copy(value),
          headers: Object.freeze({ ...headers }),
        })
        const erases = headers[erasesHeader]
        if (this.remove !== undefined && erases !== undefined) this.#erase(stored, Number(erases), key)
      }
      return { baseOffset, timestamp: stored.timestamp }
    })
  }

  read(topic: string, partition: number, from: number, to: number, limit: StretchLimit): Stretch {
    const stored = this.#stored(topic, partition)
    const records: LogRecord[] = []
    let bytes = 0
    for (let index = indexOf(stored.records, from); ; index++) {
      const record = stored.records[index]
      if (record === undefined || record.offset >= to) return { records, next: Math.min(to, stored.end) }
      bytes += record.value?.byteLength ?? 0
      if (records.length > 0 && (records.length >= limit.records || bytes > limit.bytes)) return { records, next: record.offset }
      records.push({ ...record, value: copy(record.value) })
    }
  }

  end(topic: string, partition: number): number {
    return this.#stored(topic, partition).end
  }

  bounds(topic: string): readonly Bounds[] {
    return (this.#topics.get(topic)?.partitions ?? []).map(({ start, end }, partition) => ({ partition, start, end }))
  }

  createTopic({ name, partitions, cleanup, config }: TopicSettings): void {
    this.#topics.set(name, {
      description: { name, partitions, cleanup, config: { ...config } },
      partitions: Array.from({ length: partitions }, () => ({ records: [], start: 0, end: 0, timestamp: 0 })),
    })
  }

  topic(name: string): TopicDescription | undefined {
    return this.#topics.get(name)?.description
  }

  topics(): readonly TopicDescription[] {
    return [...this.#topics.values()].map(({ description }) => description)
  }

  commit(group: string, commits: readonly Commit[]): void {
    for (const { topic, partition, offset, note } of commits)
      this.#commits.set(`${group}\u0000${topic}\u0000${partition}`, { offset, note })
  }

  committed(group: string, topic: string, partition: number): { readonly offset: number; readonly note: string } | null {
    return this.#commits.get(`${group}\u0000${topic}\u0000${partition}`) ?? null
  }

  register(subject: string, schema: string): number {
    const known = this.#schemas.findIndex((one) => one.subject === subject && one.schema === schema)
    return known >= 0 ? known + 1 : this.#schemas.push({ subject, schema })
  }

  schema(id: number): string | null {
    return this.#schemas[id - 1]?.schema ?? null
  }

  close(): void {}

  #erase(stored: Stored, offset: number, key: string | null): void {
    const index = indexOf(stored.records, offset)
    const record = stored.records[index]
    if (record?.offset === offset && record.key === key) stored.records.splice(index, 1)
  }

  #remove(topic: string, partition: number, offsets: readonly number[]): void {
    const stored = this.#stored(topic, partition)
    const gone = new Set(offsets)
    stored.records = stored.records
      .filter(({ offset }) => !gone.has(offset) || offset === stored.end - 1)
      .map((record) => (gone.has(record.offset) ? { ...record, value: null, headers: {} } : record))
  }

  /** Keeps the last record of each key, and the newest record whatever its key; leaves holes. */
  compact(topic: string, partition: number, tombstones: "keep" | "drop"): void {
    const stored = this.#stored(topic, partition)
    const last = new Map<string | null, number>()
    for (const { key, offset } of stored.records) last.set(key, offset)
    stored.records = stored.records.filter(
      ({ key, offset, value }) => offset === stored.end - 1 || (last.get(key) === offset && (value !== null || tombstones === "keep")),
    )
  }

  /** Takes away what is older than its topic's retention; returns how many. */
  #sweep(now: number): number {
    let left = sweptMax
    for (const { description, partitions } of this.#topics.values()) {
      const retentionMs = retentionMsOf(description)
      if (retentionMs === null) continue
      for (const [partition, stored] of partitions.entries()) {
        const { records } = stored
        // What a group has not dealt with yet stays, however long it was away.
        const end = Math.min(stored.end - 1, this.#lowestCommit(description.name, partition))
        const mayGo = (record: LogRecord | undefined): boolean =>
          record !== undefined && record.offset < end && record.timestamp < now - retentionMs
        let count = 0
        while (count < left && mayGo(records[count])) count++
        if (count === 0) continue
        records.splice(0, count)
        stored.start = (records[0] as LogRecord).offset
        left -= count
      }
    }
    return sweptMax - left
  }

  #lowestCommit(topic: string, partition: number): number {
    let lowest = Number.POSITIVE_INFINITY
    for (const [key, { offset }] of this.#commits) if (key.endsWith(`\u0000${topic}\u0000${partition}`)) lowest = Math.min(lowest, offset)
    return lowest
  }

  #stored(topic: string, partition: number): Stored {
    const stored = this.#topics.get(topic)?.partitions[partition]
    if (stored === undefined) throw new Error(`There is no ${topic}[${partition}].`)
    return stored
  }
}

/** A copy with a buffer of its own: small `Buffer`s share a pool, and writers may use theirs again. */
function copy(value: Uint8Array | null): Uint8Array | null {
  return value === null ? null : new Uint8Array(value)
}

/** The index of the first record at or after `offset`. */
function indexOf(records: readonly LogRecord[], offset: number): number {
  let low = 0
  let high = records.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((records[middle] as LogRecord).offset < offset) low = middle + 1
    else high = middle
  }
  return low
}

export interface MemoryBrokerOptions {
  readonly now?: () => number
  readonly defer?: (run: () => void) => void
  readonly timers?: Pick<CommitClock, "monotonic" | "after">
  readonly recordBytesMax?: number
  /** `none`: as in a log of this machine, single records can be taken out, and a tombstone takes out what it erases. Default: as in a broker. */
  readonly cleaner?: "compacts" | "none"
}

/** A broker in memory. Every `connect` is the client of another process. */
export class MemoryBroker {
  readonly registry: SchemaRegistry
  readonly #hub: LocalHub
  readonly #store: MemoryStore

  constructor(options: MemoryBrokerOptions = {}) {
    this.#store = new MemoryStore(options.cleaner ?? "compacts")
    this.#hub = new LocalHub(this.#store, { place: "the memory log", ...options })
    this.registry = new LocalRegistry(this.#store)
  }

  connect(carry?: Carry): MemoryLog {
    return new MemoryLog(this.#hub, carry)
  }

  /** From now on larger records are refused for good. */
  refuseAbove(recordBytesMax: number): void {
    this.#hub.recordBytesMax = recordBytesMax
  }

  /** Cleans a partition as a broker's log cleaner does, whatever its cleanup policy. */
  compact(topic: string, partition: number, options: { readonly tombstones: "keep" | "drop" } = { tombstones: "keep" }): void {
    this.#hub.check(topic, partition)
    this.#store.compact(topic, partition, options.tombstones)
  }

  /** Places a record as any other client of the broker might: past size limits and key rules. Returns its offset. */
  inject(
    topic: string,
    partition: number,
    record: {
      readonly key?: string | null
      readonly value: Uint8Array | null
      readonly headers?: Readonly<Record<string, string>>
      readonly timestamp?: number
    },
  ): number {
    this.#hub.check(topic, partition)
    const entry = { key: record.key ?? null, value: record.value, headers: record.headers ?? {} }
    const [placed] = this.#store.append([{ topic, partition, entries: [entry] }], record.timestamp ?? this.#hub.now())
    this.#hub.tell(topic, partition)
    return (placed as StoredAt).baseOffset
  }
}

/**
 * The way of a client's writes to the broker and of the answers back. `write` places the batches given at that moment, also after
 * the promise was settled or the process killed: a request that has left is nobody's to take back.
 */
export type Carry = (
  batches: readonly PartitionBatch[],
  write: (batches: readonly PartitionBatch[]) => readonly WriteOutcome[],
) => Promise<readonly WriteOutcome[]>

/** What becomes of a write whose acknowledgement is lost: it stands, it does not, or it lands behind what is written next. */
export type LostAcknowledgement = "landed" | "lost" | "late"

type Life = "running" | "paused" | "killed"

/** One process's client of a `MemoryBroker`, with the faults that can befall a process. */
export class MemoryLog extends LocalLog {
  readonly #faults: LostAcknowledgement[] = []
  #late: (readonly PartitionBatch[])[] = []
  #life: Life = "running"
  #resumed: (() => void)[] = []
  /** What was following when it was killed: its groups still count these. */
  #members: LocalFollowing[] = []
  readonly #carry: Carry | undefined

  constructor(hub: LocalHub, carry?: Carry) {
    super({ kind: "memory", hub, write: (batches) => this.#write(batches) })
    this.#carry = carry
  }

  /** The next write of this client is not acknowledged. May be called several times, for as many writes. */
  loseNextAck(how: LostAcknowledgement): void {
    this.#faults.push(how)
  }

  /** Places what `late` held back; by itself that happens right after the next acknowledged write of this client. */
  landLate(): void {
    for (const batches of this.#late.splice(0)) this.hub.write(batches)
  }

  /** The process stands still: nothing is sent, nothing is delivered, the group waits for it until `expire`. */
  pause(): void {
    if (this.#life !== "running") return
    this.#life = "paused"
    for (const following of this.followings) following.freeze()
  }

  /** Goes on where it stood, with what it had in hand: a zombie, if its membership has ended meanwhile. */
  resume(): void {
    if (this.#life !== "paused") return
    this.#life = "running"
    for (const following of this.followings) following.thaw()
    for (const resumed of this.#resumed.splice(0)) resumed()
  }

  /** Dead at once: no append of it lands any more or is ever answered. Its groups count it as a member until `expire`. */
  kill(): void {
    this.#life = "killed"
    this.#late = []
    this.#members = [...this.#members, ...this.followings]
    for (const following of this.#members) following.abandon()
  }

  /** The session timeout of its memberships has passed. A client that runs well learns of it at once and joins again. */
  expire(): void {
    for (const following of new Set([...this.#members, ...this.followings])) {
      following.expel()
      if (this.#life === "running") following.thaw()
    }
    this.#members = []
  }

  override async close(): Promise<void> {
    if (this.#life === "killed") return
    await super.close()
  }

  async #write(batches: readonly PartitionBatch[]): Promise<readonly WriteOutcome[]> {
    if (this.#life === "paused") await new Promise<void>((resolve) => this.#resumed.push(resolve))
    if (this.#life === "killed") return new Promise(() => {})
    if (this.#carry !== undefined) return this.#carry(batches, (some) => this.hub.write(some))
    const fault = this.#faults.shift()
    if (fault === undefined) {
      const outcomes = this.hub.write(batches)
      this.landLate()
      return outcomes
    }
    if (fault === "landed") this.hub.write(batches)
    if (fault === "late") this.#late.push(batches)
    throw new Error("The acknowledgement was lost.")
  }
}
