import { type CommitClock, commitClock, GroupCommit, type PartitionBatch, type WriteOutcome } from "./group-commit.ts"
import { type Lane, LocalFollowing } from "./local-following.ts"
import { LocalGroups } from "./local-groups.ts"
import type { Store } from "./local-store.ts"
import {
  type Append,
  type Bounds,
  type Following,
  type FollowOptions,
  type Log,
  type LogRecord,
  LogUnavailableError,
  type Placed,
  type TopicDescription,
  TopicMismatchError,
  type TopicSettings,
} from "./log.ts"
import { verifyTopic } from "./topic-settings.ts"

export interface LocalHubOptions {
  /** How errors call this log, e.g. `the log in .reins`. */
  readonly place: string
  /** The clock that stamps records; wall time by default. */
  readonly now?: () => number
  /** Runs something in a later turn of the event loop; `setImmediate` by default. */
  readonly defer?: (run: () => void) => void
  /** How a client waits between tries; real time by default. */
  readonly timers?: Pick<CommitClock, "monotonic" | "after">
  /** Larger records are refused, as a broker refuses them. The default is a broker's own. */
  readonly recordBytesMax?: number
  /** Set where others write to the store beside us: followers then look at it this often. */
  readonly pollMs?: number
}

/** A broker takes no record above this unless it is told to; what runs embedded shall run on a broker too. */
const recordBytesMaxDefault = 1024 * 1024

/** How many records a stretch of a replay carries at most. */
const replayLimit = { records: 1000, bytes: 2 * 1024 * 1024 }

/** How long `close` tries to send what waits. */
const closeGraceMs = 5000

/** What all clients of one local log share: the records, the groups, and who is to be told of what is new. */
export class LocalHub {
  readonly store: Store
  readonly groups: LocalGroups
  readonly place: string
  readonly now: () => number
  readonly defer: (run: () => void) => void
  readonly commitClock: CommitClock
  recordBytesMax: number
  readonly #pollMs: number | undefined
  readonly #lanes = new Map<string, Set<Lane>>()
  readonly #news = new Set<string>()
  #poll: NodeJS.Timeout | undefined

  constructor(store: Store, options: LocalHubOptions) {
    this.store = store
    this.place = options.place
    this.defer = options.defer ?? setImmediate
    this.commitClock = { ...commitClock, ...options.timers, defer: this.defer }
    this.recordBytesMax = options.recordBytesMax ?? recordBytesMaxDefault
    this.groups = new LocalGroups(this.defer)
    this.now = options.now ?? Date.now
    this.#pollMs = options.pollMs
  }

  partitionCount(topic: string): number {
    const found = this.store.topic(topic)
    if (found === undefined)
      throw new TopicMismatchError(`There is no topic ${topic} in ${this.place}. Create it with \`reins topics apply\`.`)
    return found.partitions
  }

  /** Throws where the topic has no such partition. */
  check(topic: string, partition: number): void {
    const count = this.partitionCount(topic)
    if (!Number.isInteger(partition) || partition < 0 || partition >= count) {
      throw new TopicMismatchError(`The topic ${topic} in ${this.place} has ${count} partitions; there is no partition ${partition}.`)
    }
  }

  /** Places what may stand and refuses the rest, batch by batch; followers learn of it in a later turn of the loop. */
  write(batches: readonly PartitionBatch[]): readonly WriteOutcome[] {
    const refusals = batches.map((batch) => this.#refusal(batch))
    const sound = batches.filter((_, index) => refusals[index] === undefined)
    const placed = sound.length > 0 ? this.store.append(sound, Math.floor(this.now())) : []
    for (const { topic, partition } of sound) this.tell(topic, partition)
    let next = 0
    return refusals.map((refused) => {
      if (refused !== undefined) return { refused }
      const at = placed[next++]
      return at === undefined ? { unknown: new Error("The store gave no answer.") } : { placed: at }
    })
  }

  /** Something new stands in this partition. */
  tell(topic: string, partition: number): void {
    const id = laneId(topic, partition)
    if (!this.#lanes.has(id)) return
    if (this.#news.size === 0) this.defer(() => this.#wake())
    this.#news.add(id)
  }

  watch(lane: Lane): void {
    const id = laneId(lane.topic, lane.partition)
    const lanes = this.#lanes.get(id)
    if (lanes === undefined) this.#lanes.set(id, new Set([lane]))
    else lanes.add(lane)
    if (this.#pollMs !== undefined) {
      this.#poll ??= setInterval(() => {
        for (const watching of this.#lanes.values()) for (const one of watching) one.following.wake(one)
      }, this.#pollMs)
    }
  }

  unwatch(lane: Lane): void {
    const id = laneId(lane.topic, lane.partition)
    const lanes = this.#lanes.get(id)
    lanes?.delete(lane)
    if (lanes?.size === 0) this.#lanes.delete(id)
    if (this.#lanes.size === 0) {
      clearInterval(this.#poll)
      this.#poll = undefined
    }
  }

  #wake(): void {
    const news = [...this.#news]
    this.#news.clear()
    for (const id of news) for (const lane of this.#lanes.get(id) ?? []) lane.following.wake(lane)
  }

  #refusal(batch: PartitionBatch): Error | undefined {
    try {
      this.check(batch.topic, batch.partition)
    } catch (error) {
      return error as Error
    }
    const { cleanup, config } = this.store.topic(batch.topic) ?? {}
    const compacted = cleanup?.includes("compact") === true
    const bytesMax = Number(config?.["max.message.bytes"] ?? this.recordBytesMax)
    for (const entry of batch.entries) {
      if (compacted && entry.key === null) return new Error("A record of a compacted topic needs a key.")
      const bytes = byteLength(entry)
      if (bytes > bytesMax) return new Error(`The record has ${bytes} bytes; ${bytesMax} are allowed.`)
    }
    return undefined
  }
}

function laneId(topic: string, partition: number): string {
  return `${topic}\u0000${partition}`
}

function byteLength(entry: PartitionBatch["entries"][number]): number {
  let bytes = (entry.value?.byteLength ?? 0) + (entry.key === null ? 0 : Buffer.byteLength(entry.key))
  for (const [name, value] of Object.entries(entry.headers)) bytes += name.length + Buffer.byteLength(value)
  return bytes
}

export interface LocalLogOptions {
  readonly kind: Log["kind"]
  readonly hub: LocalHub
  /** How a group commit reaches the store; the memory log puts its faults here. */
  readonly write?: (batches: readonly PartitionBatch[]) => Promise<readonly WriteOutcome[]>
  /** Why this client may only read; said by whatever would write. */
  readonly readOnly?: string
  /** Runs once, after the last append and the last follower. */
  readonly closed?: () => void
}

/** One process's log over a store of its own machine. Without a broker there is nobody to ask who is a member: the answer is exact. */
export class LocalLog implements Log {
  readonly kind: Log["kind"]
  readonly absenceGraceMs = 0
  protected readonly hub: LocalHub
  protected readonly followings: Set<LocalFollowing> = new Set()
  readonly remove?: NonNullable<Log["remove"]>
  readonly rewrite?: NonNullable<Log["rewrite"]>
  readonly #commit: GroupCommit
  readonly #readOnly: string | undefined
  readonly #closed: (() => void) | undefined
  #open = true

  constructor(options: LocalLogOptions) {
    this.kind = options.kind
    this.hub = options.hub
    this.#readOnly = options.readOnly
    this.#closed = options.closed
    // A local write blocks the event loop, so it waits for its turn: what all sockets that are ready now have to say shares one
    // commit, and a chain of appends cannot keep the loop from its sockets and timers.
    this.#commit = new GroupCommit(options.write ?? (async (batches) => this.hub.write(batches)), this.hub.commitClock)
    const { store } = options.hub
    if (options.readOnly !== undefined) return
    if (store.remove !== undefined)
      this.remove = async (topic, partition, offsets) => {
        this.#assertOpen()
        this.hub.check(topic, partition)
        store.remove?.(topic, partition, offsets)
      }
    if (store.rewrite !== undefined)
      this.rewrite = async () => {
        this.#assertOpen()
        store.rewrite?.()
      }
  }

  append(append: Append): Promise<Placed> {
    if (this.#readOnly !== undefined) return Promise.reject(new LogUnavailableError(this.#readOnly))
    return this.#commit.append(append)
  }

  withdraw(topic: string, partition: number): void {
    this.#commit.withdraw(topic, partition)
  }

  replay(topic: string, partition: number, from: number, to?: number): AsyncIterable<readonly LogRecord[]> {
    this.#assertOpen()
    this.hub.check(topic, partition)
    const end = this.hub.store.end(topic, partition)
    return this.#stretches(topic, partition, Math.max(0, from), Math.min(to ?? end, end))
  }

  async *#stretches(topic: string, partition: number, from: number, to: number): AsyncGenerator<readonly LogRecord[]> {
    for (let at = from; at < to; ) {
      this.#assertOpen()
      const { records, next } = this.hub.store.read(topic, partition, at, to, replayLimit)
      if (records.length > 0) yield records
      at = next
      // A long replay must not keep the heartbeats and sockets of its process waiting.
      if (at < to) await new Promise<void>((resolve) => setImmediate(resolve))
    }
  }

  async bounds(topic: string): Promise<readonly Bounds[]> {
    this.#assertOpen()
    this.hub.partitionCount(topic)
    return this.hub.store.bounds(topic)
  }

  async follow(options: FollowOptions): Promise<Following> {
    this.#assertOpen()
    if (this.#readOnly !== undefined && options.group !== undefined) throw new LogUnavailableError(this.#readOnly)
    const following = new LocalFollowing(this.hub, options, (ended) => this.followings.delete(ended))
    following.begin()
    this.followings.add(following)
    return following
  }

  async members(group: string): Promise<ReadonlySet<string> | null> {
    return this.#readOnly === undefined ? this.hub.groups.instances(group) : null
  }

  async applyTopics(topics: readonly TopicSettings[]): Promise<readonly string[]> {
    this.#assertOpen()
    if (this.#readOnly !== undefined) throw new LogUnavailableError(this.#readOnly)
    const missing = topics.filter((wanted) => this.hub.store.topic(wanted.name) === undefined)
    // Verified first: what cannot be used as a whole is not half created.
    await this.verifyTopics(topics.filter((wanted) => !missing.includes(wanted)))
    for (const wanted of missing) this.hub.store.createTopic(wanted)
    return missing.map((wanted) => wanted.name)
  }

  async verifyTopics(topics: readonly TopicSettings[]): Promise<void> {
    this.#assertOpen()
    for (const wanted of topics) verifyTopic(wanted, this.hub.store.topic(wanted.name), this.hub.place)
  }

  async describeTopics(): Promise<readonly TopicDescription[]> {
    this.#assertOpen()
    return this.hub.store.topics()
  }

  async close(): Promise<void> {
    if (!this.#open) return
    await this.#commit.close(closeGraceMs)
    if (!this.#open) return
    this.#open = false
    for (const following of this.followings) await following.stop()
    this.#closed?.()
  }

  #assertOpen(): void {
    if (!this.#open) throw new LogUnavailableError(`This client of ${this.hub.place} is closed.`)
  }
}
