import { commitClock, GroupCommit } from "../group-commit.ts"
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
  type TopicSettings,
} from "../log.ts"
import { bounds, createTopics, describeTopics, members, settleTopics, verifyTopics } from "./admin.ts"
import { ask } from "./ask.ts"
import { type Connections, type KafkaOptions, Link } from "./client.ts"
import { KafkaFollowing } from "./following.ts"
import { Presence, PresenceError } from "./presence.ts"
import { Producer } from "./producer.ts"
import { replay } from "./replay.ts"

/** How long `close` tries to send what waits. */
const closeGraceMs = 5000

/** The log on Kafka. Opens within ten seconds or throws `LogUnavailableError`. */
export async function openKafka(options: KafkaOptions): Promise<Log> {
  if (options.brokers.length === 0)
    throw new LogUnavailableError("No broker is named. Set KAFKA_BROKERS to host:port, several separated by commas.")
  const log = new KafkaLog(options)
  try {
    await log.open()
  } catch (error) {
    await log.close()
    throw error
  }
  return log
}

class KafkaLog implements Log {
  readonly kind = "kafka"
  readonly absenceGraceMs = 6000
  readonly #options: KafkaOptions
  readonly #place: string
  readonly #producer: Producer
  readonly #commit: GroupCommit
  /** For questions and replays; followers have connections of their own. */
  readonly #asking: Link
  readonly #followings = new Set<KafkaFollowing>()
  /** Opened when somebody joins a group or asks who is gone: reading a log leaves no folder behind. */
  #presence: Presence | null | undefined
  #open = true

  constructor(options: KafkaOptions) {
    this.#options = options
    this.#place = `Kafka at ${options.brokers.join(", ")}`
    this.#producer = new Producer(options)
    // In its own turn of the loop: what the answers of this one set going leaves in one request, and requests are what a turn costs.
    this.#commit = new GroupCommit((batches) => this.#producer.write(batches), { ...commitClock, defer: setImmediate })
    this.#asking = new Link(options)
  }

  async open(): Promise<void> {
    await Promise.all([this.#producer.open(), this.#asking.open()])
  }

  append(append: Append): Promise<Placed> {
    return this.#commit.append(append)
  }

  withdraw(topic: string, partition: number): void {
    this.#commit.withdraw(topic, partition)
  }

  replay(topic: string, partition: number, from: number, to?: number): AsyncIterable<readonly LogRecord[]> {
    this.#assertOpen()
    return replay(this.#asking, this.#place, topic, partition, from, to)
  }

  async bounds(topic: string): Promise<readonly Bounds[]> {
    return this.#ask((connections) => bounds(connections, topic, this.#place))
  }

  async follow(options: FollowOptions): Promise<Following> {
    this.#assertOpen()
    const presence = options.group === undefined ? null : this.#present()
    const following = new KafkaFollowing(this.#options, this.#asking, presence, options, (ended) => this.#followings.delete(ended))
    this.#followings.add(following)
    try {
      await following.begin()
    } catch (error) {
      this.#followings.delete(following)
      throw error
    }
    return following
  }

  async members(group: string): Promise<ReadonlySet<string> | null> {
    if (!this.#open) return null
    const own = [...this.#followings].filter((following) => following.group === group).map(({ instance }) => instance)
    return members(this.#asking, group, own)
  }

  ended(group: string, instance: string): boolean {
    return this.#present()?.isGone(group, instance) === true
  }

  /** What this machine knows of its members; nothing where it cannot be asked: then a session has to time out, as on any machine. */
  #present(): Presence | null {
    if (this.#presence !== undefined) return this.#presence
    this.#presence = null
    const { stateDir, stateRefused } = this.#options
    if (stateDir === undefined) return null
    try {
      this.#presence = Presence.open(stateDir)
    } catch (error) {
      if (!(error instanceof PresenceError)) throw error
      stateRefused?.(error.message)
    }
    return this.#presence
  }

  async applyTopics(topics: readonly TopicSettings[]): Promise<readonly string[]> {
    const created = await this.#ask((connections) => createTopics(connections, topics, this.#place))
    const fresh = topics.filter(({ name }) => created.includes(name))
    if (fresh.length > 0) await this.#ask((connections) => settleTopics(connections, fresh, this.#place))
    return created
  }

  async verifyTopics(topics: readonly TopicSettings[]): Promise<void> {
    return this.#ask((connections) => verifyTopics(connections, topics, this.#place))
  }

  async describeTopics(): Promise<readonly TopicDescription[]> {
    return this.#ask((connections) => describeTopics(connections))
  }

  async close(): Promise<void> {
    if (!this.#open) return
    await this.#commit.close(closeGraceMs)
    if (!this.#open) return
    this.#open = false
    await Promise.all([...this.#followings].map((following) => following.stop()))
    this.#producer.close()
    this.#asking.close()
  }

  async #ask<T>(run: (connections: Connections) => Promise<T>): Promise<T> {
    this.#assertOpen()
    return ask(this.#asking, this.#place, run)
  }

  #assertOpen(): void {
    if (!this.#open) throw new LogUnavailableError(`This client of ${this.#place} is closed.`)
  }
}
