import type { GroupMember } from "./local-groups.ts"
import type { LocalHub } from "./local-log.ts"
import { type Commit, type Following, type FollowOptions, LogUnavailableError } from "./log.ts"

/** One partition of one topic as this follower reads it. */
export interface Lane {
  readonly following: LocalFollowing
  readonly topic: string
  readonly partition: number
  /** The offset to deliver next. */
  next: number
  /** What stood here at the assignment; delivered up to here, the lane is caught up. */
  readonly endThen: number
  caughtUp: boolean
  reading: boolean
  ended: boolean
}

/** How much one call of `records` carries at most: enough to be cheap, little enough not to hold the event loop up. */
const stretchLimit = { records: 500, bytes: 1024 * 1024 }

const noteLengthMax = 1000

let lastId = 0

/** A follower of a local log, with or without a group. Its callbacks never run inside an append. */
export class LocalFollowing implements Following, GroupMember {
  readonly id: string
  readonly instance: string
  readonly #hub: LocalHub
  readonly #options: FollowOptions
  readonly #topics: string[]
  readonly #owned = new Set<number>()
  readonly #lanes = new Set<Lane>()
  readonly #paused = new Set<Lane>()
  /** Another object each time that a partition is granted: what was begun for an earlier time is not wanted any more. */
  readonly #granted = new Map<number, object>()
  readonly #ended: (following: LocalFollowing) => void
  #member = false
  /** The group has told it its share since it joined. */
  #hasShare = false
  #frozen = false
  #expelled = false
  #over = false

  constructor(hub: LocalHub, options: FollowOptions, ended: (following: LocalFollowing) => void) {
    this.#hub = hub
    this.#options = options
    this.#topics = [...options.topics]
    this.#ended = ended
    this.id = `${options.instance}-${++lastId}`
    this.instance = options.instance
  }

  /** Joins the group, or takes every partition. What follows from it is told in a later turn of the loop, never in this call. */
  begin(): void {
    for (const topic of this.#topics) this.#hub.partitionCount(topic)
    this.#member = true
    this.#hasShare = false
    if (this.#options.group !== undefined) this.#hub.groups.join(this.#options.group, this)
    else this.#hub.defer(() => this.#takeAll())
  }

  partitions(): readonly number[] {
    return [...this.#owned].sort((a, b) => a - b)
  }

  alive(): boolean {
    return this.#options.group === undefined || (this.#member && this.#hasShare && !this.#over)
  }

  partitionSpan(): number {
    return Math.max(0, ...this.#topics.map((topic) => this.#hub.partitionCount(topic)))
  }

  answering(): boolean {
    return !this.#frozen
  }

  revoke(partitions: readonly number[]): void {
    this.#drop(partitions)
    this.#guard(() => {
      for (const partition of partitions) this.#options.lost?.(partition)
    })
  }

  grant(partitions: readonly number[]): void {
    this.#guard(() => {
      for (const partition of partitions) {
        this.#owned.add(partition)
        this.#granted.set(partition, {})
        this.#options.assigned?.(partition)
      }
      for (const partition of partitions) for (const topic of this.#topics) this.#open(topic, partition)
    })
  }

  shared(): void {
    this.#hasShare = true
  }

  async add(topic: string): Promise<void> {
    this.#hub.partitionCount(topic)
    if (this.#over || this.#topics.includes(topic)) return
    this.#topics.push(topic)
    if (this.#options.group !== undefined) this.#hub.groups.changed(this.#options.group)
    this.#hub.defer(() => {
      this.#guard(() => {
        if (this.#options.group === undefined) this.#takeAll()
        // A rebalance may have opened some of them already.
        for (const partition of this.#owned) this.#open(topic, partition)
      })
    })
  }

  pause(topic: string, partition: number): void {
    for (const lane of this.#lanes) {
      if (lane.topic !== topic || lane.partition !== partition) continue
      this.#close(lane)
      this.#paused.add(lane)
    }
  }

  resume(topic: string, partition: number, from: number): void {
    for (const lane of this.#paused) {
      if (lane.topic !== topic || lane.partition !== partition) continue
      this.#paused.delete(lane)
      this.#guard(() => this.#begin(topic, partition, from, this.#hub.store.end(topic, partition)))
    }
  }

  async commit(commits: readonly Commit[]): Promise<void> {
    const { group } = this.#options
    if (group === undefined) throw new LogUnavailableError("A follower without a group has nowhere to commit to.")
    if (!this.#member || this.#over)
      throw new LogUnavailableError(`${this.instance} is no member of ${group} any more; its commits would move another member's offsets.`)
    for (const { topic, note } of commits) {
      this.#hub.partitionCount(topic)
      if (note.length > noteLengthMax)
        throw new RangeError(`The note of a commit has ${note.length} characters; ${noteLengthMax} are allowed.`)
    }
    this.#hub.store.commit(group, commits)
  }

  async stop(): Promise<void> {
    this.abandon()
    this.expel()
  }

  /** Ends without a word, as a killed process does: the group still counts it as a member. */
  abandon(): void {
    if (this.#over) return
    this.#over = true
    this.#frozen = true
    this.#drop(this.partitions())
    this.#ended(this)
  }

  /** The group no longer counts it as a member. */
  expel(): void {
    this.#expelled = true
    this.#member = false
    if (this.#options.group !== undefined) this.#hub.groups.leave(this.#options.group, this)
  }

  /** Stops in the middle of whatever it does, as SIGSTOP does. */
  freeze(): void {
    this.#frozen = true
  }

  /** Goes on as after SIGCONT: one that was expelled meanwhile learns it now, loses everything and joins again. */
  thaw(): void {
    if (this.#over) return
    this.#frozen = false
    if (this.#expelled) {
      this.#expelled = false
      this.revoke(this.partitions())
      this.begin()
      return
    }
    if (this.#options.group !== undefined) this.#hub.groups.changed(this.#options.group)
    for (const lane of this.#lanes) this.wake(lane)
  }

  /** Something may stand at the end of this lane. Costs two comparisons where its reader has folded it already. */
  wake(lane: Lane): void {
    if (lane.reading || lane.ended || this.#frozen) return
    this.#skipKnown(lane)
    if (lane.caughtUp && lane.next >= this.#hub.store.end(lane.topic, lane.partition)) return
    void this.#read(lane)
  }

  #takeAll(): void {
    if (this.#over) return
    const free: number[] = []
    for (let partition = 0; partition < this.partitionSpan(); partition++) if (!this.#owned.has(partition)) free.push(partition)
    this.grant(free)
  }

  #open(topic: string, partition: number): void {
    if (this.#over || partition >= this.#hub.partitionCount(topic)) return
    for (const lane of [...this.#lanes, ...this.#paused]) if (lane.topic === topic && lane.partition === partition) return
    const { group } = this.#options
    const committed = group === undefined ? null : this.#hub.store.committed(group, topic, partition)
    const end = this.#hub.store.end(topic, partition)
    const from = this.#options.from?.(topic, partition, committed) ?? 0
    if (typeof from === "number") {
      this.#begin(topic, partition, from, end)
      return
    }
    const since = this.#granted.get(partition)
    const stillWanted = (): boolean => !this.#over && since !== undefined && since === this.#granted.get(partition)
    from.then(
      (offset) => {
        if (stillWanted()) this.#guard(() => this.#begin(topic, partition, offset, end))
      },
      (error: unknown) => {
        if (stillWanted()) this.#fail(error)
      },
    )
  }

  #begin(topic: string, partition: number, from: number, end: number): void {
    for (const lane of this.#lanes) if (lane.topic === topic && lane.partition === partition) return
    const now = this.#hub.store.end(topic, partition)
    if (from > now) {
      throw new LogUnavailableError(
        `${topic}[${partition}] should be read from offset ${from}, but it ends at ${now}: records that were acknowledged are missing.`,
      )
    }
    const lane: Lane = {
      following: this,
      topic,
      partition,
      next: Math.max(0, from),
      endThen: end,
      caughtUp: false,
      reading: false,
      ended: false,
    }
    this.#lanes.add(lane)
    this.#hub.watch(lane)
    this.#hub.defer(() => this.wake(lane))
  }

  #drop(partitions: readonly number[]): void {
    const dropped = new Set(partitions)
    for (const lane of this.#lanes) if (dropped.has(lane.partition)) this.#close(lane)
    for (const lane of this.#paused) if (dropped.has(lane.partition)) this.#paused.delete(lane)
    for (const partition of dropped) {
      this.#owned.delete(partition)
      this.#granted.delete(partition)
    }
  }

  #close(lane: Lane): void {
    lane.ended = true
    this.#lanes.delete(lane)
    this.#hub.unwatch(lane)
  }

  #skipKnown(lane: Lane): void {
    const at = this.#options.position?.(lane.topic, lane.partition)
    if (at !== undefined && at > lane.next) lane.next = at
  }

  async #read(lane: Lane): Promise<void> {
    lane.reading = true
    try {
      while (!lane.ended && !this.#frozen) {
        this.#skipKnown(lane)
        if (!lane.caughtUp && lane.next >= lane.endThen) {
          lane.caughtUp = true
          this.#options.caughtUp?.(lane.topic, lane.partition)
          continue
        }
        const end = this.#hub.store.end(lane.topic, lane.partition)
        if (lane.next >= end) return
        const { records, next } = this.#hub.store.read(lane.topic, lane.partition, lane.next, end, stretchLimit)
        if (records.length > 0) {
          const told = this.#options.records(lane.topic, lane.partition, records)
          if (told !== undefined) await told
        }
        lane.next = Math.max(lane.next, next)
        // The other lanes and the sockets get their turn between two stretches.
        if (lane.next < end) await new Promise<void>((resolve) => this.#hub.defer(resolve))
      }
    } catch (error) {
      if (!lane.ended) this.#fail(error)
    } finally {
      lane.reading = false
    }
  }

  #guard(run: () => void): void {
    if (this.#over) return
    try {
      run()
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    this.abandon()
    this.expel()
    this.#options.failed?.(error instanceof Error ? error : new Error(String(error)))
  }
}
