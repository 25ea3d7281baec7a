import { type Commit, type Following, type FollowOptions, type LogRecord, LogUnavailableError, TopicMismatchError } from "../log.ts"
import { asError, brokerErrorType, type KafkaOptions, Link, unavailable } from "./client.ts"
import { Fetcher, type Position, type Reader } from "./fetcher.ts"
import { Membership } from "./membership.ts"
import type { Presence } from "./presence.ts"

const noteLengthMax = 1000
const backoffMaxMs = 1000

/** One owned partition; another object when it is owned again after a loss. */
interface Owned {
  readonly partition: number
  readonly positions: Map<string, Position>
}

/**
 * A follower on Kafka: the membership says which partitions are ours, the fetch loop reads them, and the group's committed offsets
 * are kept with the coordinator. A rebalance leaves the positions of kept partitions alone.
 */
export class KafkaFollowing implements Following, Reader {
  readonly group: string | undefined
  readonly instance: string
  readonly #options: FollowOptions
  readonly #brokers: readonly string[]
  readonly #membership: Membership | undefined
  readonly #fetcher: Fetcher
  readonly #reading: Link
  readonly #commits: Link
  readonly #topics: string[]
  readonly #counts = new Map<string, number>()
  readonly #owned = new Map<number, Owned>()
  readonly #ended: (following: KafkaFollowing) => void
  #over = false

  constructor(
    kafka: KafkaOptions,
    commits: Link,
    presence: Presence | null,
    options: FollowOptions,
    ended: (following: KafkaFollowing) => void,
  ) {
    const mine: KafkaOptions = { ...kafka, instance: options.instance }
    this.group = options.group
    this.instance = options.instance
    this.#options = options
    this.#brokers = kafka.brokers
    this.#topics = [...options.topics]
    this.#ended = ended
    this.#commits = commits
    this.#reading = new Link(mine)
    this.#fetcher = new Fetcher(this.#reading, this)
    this.#membership =
      options.group === undefined
        ? undefined
        : new Membership({
            kafka: mine,
            group: options.group,
            presence,
            topics: () => this.#topics,
            assigned: (partitions) => this.#assign(partitions),
            broken: () => this.#assign([]),
            failed: (error) => this.#fail(error),
          })
  }

  /** Finds out whether it can follow at all. What follows from it is told in a later turn of the loop, never in this call. */
  async begin(): Promise<void> {
    try {
      await this.#learn(this.#topics)
      await this.#membership?.open()
    } catch (error) {
      this.#reading.close()
      void this.#membership?.stop()
      throw error
    }
    setImmediate(() => {
      if (this.#over) return
      if (this.#membership !== undefined) this.#membership.start()
      else this.#takeAll()
    })
  }

  partitions(): readonly number[] {
    return [...this.#owned.keys()].sort((a, b) => a - b)
  }

  alive(): boolean {
    return this.#membership === undefined || this.#membership.alive()
  }

  async add(topic: string): Promise<void> {
    if (this.#over || this.#topics.includes(topic)) return
    const span = this.#span()
    await this.#learn([topic])
    if (this.#over || this.#topics.includes(topic)) return
    this.#topics.push(topic)
    if (this.#membership === undefined) this.#takeAll()
    else if (this.#span() > span) this.#membership.rejoin()
    void this.#open([...this.#owned.values()])
  }

  pause(topic: string, partition: number): void {
    const position = this.#owned.get(partition)?.positions.get(topic)
    if (position !== undefined) this.#fetcher.remove(position)
  }

  resume(topic: string, partition: number, from: number): void {
    const positions = this.#owned.get(partition)?.positions
    if (positions?.get(topic)?.ended === true) positions.set(topic, this.#fetcher.add(topic, partition, from))
  }

  async commit(commits: readonly Commit[]): Promise<void> {
    const membership = this.#membership
    const group = this.group
    if (membership === undefined || group === undefined)
      throw new LogUnavailableError("A follower without a group has nowhere to commit to.")
    if (!this.alive())
      throw new LogUnavailableError(
        `${this.instance} is no member of ${group} at the moment; its commits could move another member's offsets.`,
      )
    const topics = new Map<string, { partition: number; offset: string; metadata: string }[]>()
    for (const { topic, partition, offset, note } of commits) {
      if (note.length > noteLengthMax)
        throw new RangeError(`The note of a commit has ${note.length} characters; ${noteLengthMax} are allowed.`)
      const known = topics.get(topic) ?? []
      known.push({ partition, offset: String(offset), metadata: note })
      topics.set(topic, known)
    }
    if (topics.size === 0) return
    const { memberId, generation } = membership.identity()
    try {
      await this.#commits.use(async (connections) => {
        const coordinator = await connections.coordinator(group)
        await coordinator.offsetCommit({
          groupId: group,
          groupGenerationId: generation,
          memberId,
          topics: [...topics].map(([topic, partitions]) => ({ topic, partitions })),
        })
      })
    } catch (error) {
      if (error instanceof LogUnavailableError) throw error
      throw new LogUnavailableError(`${group} could not commit: ${asError(error).message}.`, { cause: error })
    }
  }

  async stop(): Promise<void> {
    this.#end()
    await this.#membership?.stop()
    this.#ended(this)
  }

  // --- what the fetch loop asks and tells

  position(topic: string, partition: number): number | undefined {
    return this.#options.position?.(topic, partition)
  }

  records(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void> {
    return this.#options.records(topic, partition, records)
  }

  caughtUp(topic: string, partition: number): void {
    this.#options.caughtUp?.(topic, partition)
  }

  failed(error: Error): void {
    this.#fail(error)
  }

  // --- owning

  #takeAll(): void {
    this.#assign(Array.from({ length: this.#span() }, (_, partition) => partition))
  }

  #span(): number {
    return Math.max(0, ...this.#topics.map((topic) => this.#counts.get(topic) ?? 0))
  }

  /** These are owned from now on. What was owned before and is not in the list is lost; what is in both was owned all the time. */
  #assign(partitions: readonly number[]): void {
    if (this.#over) return
    const now = new Set(partitions)
    const lost = [...this.#owned.values()].filter(({ partition }) => !now.has(partition))
    const fresh: Owned[] = partitions
      .filter((partition) => !this.#owned.has(partition))
      .map((partition) => ({ partition, positions: new Map() }))
    for (const { partition, positions } of lost) {
      this.#owned.delete(partition)
      for (const position of positions.values()) this.#fetcher.remove(position)
    }
    for (const owned of fresh) this.#owned.set(owned.partition, owned)
    try {
      for (const { partition } of lost) this.#options.lost?.(partition)
      for (const { partition } of fresh) if (!this.#over) this.#options.assigned?.(partition)
    } catch (error) {
      this.#fail(asError(error))
      return
    }
    void this.#open(fresh)
  }

  /** Begins to read what is not read yet of these partitions, from where the group or its reader says. */
  async #open(owned: readonly Owned[]): Promise<void> {
    const current = ({ partition, positions }: Owned, topic: string): boolean =>
      !this.#over &&
      this.#owned.get(partition)?.positions === positions &&
      !positions.has(topic) &&
      partition < (this.#counts.get(topic) ?? 0)
    for (let backoffMs = 50; ; backoffMs = Math.min(backoffMaxMs, backoffMs * 2)) {
      const wanted = owned.flatMap((one) => this.#topics.filter((topic) => current(one, topic)).map((topic) => ({ one, topic })))
      if (wanted.length === 0) return
      try {
        const committed = await this.#committed(wanted.map(({ one, topic }) => ({ topic, partition: one.partition })))
        await Promise.all(
          wanted.map(async ({ one, topic }) => {
            if (!current(one, topic)) return
            const from = this.#options.from?.(topic, one.partition, committed.get(`${topic}\u0000${one.partition}`) ?? null) ?? 0
            const offset = typeof from === "number" ? from : await from
            if (current(one, topic)) one.positions.set(topic, this.#fetcher.add(topic, one.partition, Math.max(0, offset)))
          }),
        )
        return
      } catch (error) {
        if (!(error instanceof CommitsUnreadError)) {
          this.#fail(asError(error))
          return
        }
        await new Promise((resolve) => setTimeout(resolve, backoffMs))
      }
    }
  }

  async #committed(wanted: readonly { topic: string; partition: number }[]): Promise<Map<string, { offset: number; note: string }>> {
    const found = new Map<string, { offset: number; note: string }>()
    const group = this.group
    if (group === undefined || this.#options.from === undefined) return found
    const topics = new Map<string, { partition: number }[]>()
    for (const { topic, partition } of wanted) topics.set(topic, [...(topics.get(topic) ?? []), { partition }])
    try {
      await this.#commits.use(async (connections) => {
        const coordinator = await connections.coordinator(group)
        const { responses } = await coordinator.offsetFetch({
          groupId: group,
          topics: [...topics].map(([topic, partitions]) => ({ topic, partitions })),
        })
        for (const { topic, partitions } of responses) {
          for (const { partition, offset, metadata } of partitions)
            if (offset !== "-1") found.set(`${topic}\u0000${partition}`, { offset: Number(offset), note: metadata ?? "" })
        }
      })
    } catch (error) {
      throw new CommitsUnreadError("", { cause: error })
    }
    return found
  }

  async #learn(topics: readonly string[]): Promise<void> {
    try {
      await this.#reading.use(async (connections) => {
        if (!connections.knows(topics)) await connections.refresh(topics)
        for (const topic of topics) {
          const count = connections.partitionCount(topic)
          if (count !== undefined) this.#counts.set(topic, count)
        }
      })
    } catch (error) {
      if (brokerErrorType(error) !== undefined) throw error
      throw unavailable(this.#brokers, error)
    }
    for (const topic of topics) {
      if (!this.#counts.has(topic))
        throw new TopicMismatchError(
          `There is no topic ${topic} on Kafka at ${this.#brokers.join(", ")}. Create it with \`reins topics apply\`.`,
        )
    }
  }

  // --- ending

  #end(): void {
    this.#over = true
    this.#owned.clear()
    this.#fetcher.stop()
    this.#reading.close()
  }

  #fail(error: Error): void {
    if (this.#over) return
    this.#end()
    void this.#membership?.stop()
    this.#ended(this)
    this.#options.failed?.(error)
  }
}

/** The coordinator did not say what was committed. It is asked again: to begin at the start instead would be right, and slow. */
class CommitsUnreadError extends Error {}
