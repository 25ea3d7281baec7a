import {
  type Append,
  type Bounds,
  type Commit,
  type Following,
  type FollowOptions,
  type Log,
  type LogRecord,
  LogUnavailableError,
  type Placed,
  type TopicDescription,
  type TopicSettings,
  type WriteOutcome,
} from "@reins/log"
import type { Carry, MemoryBroker, MemoryLog } from "@reins/log/memory"
import type { Faults } from "./faults.ts"
import type { Life } from "./life.ts"
import type { Random } from "./random.ts"
import type { VirtualTime } from "./virtual-time.ts"

type Batches = Parameters<Carry>[0]

/** What stands between processes and the broker. */
export interface Network {
  readonly time: VirtualTime
  readonly random: Random
  readonly faults: Faults
  readonly absenceGraceMs: number
  readonly sessionTimeoutMs: number
  /** Tells the oracle what the log took, at the moment at which it stands. */
  landed(by: string, batches: Batches, outcomes: readonly WriteOutcome[]): void
  committed(group: string, commits: readonly Commit[]): void
  /** A member of a group learns that it owns a partition no more. */
  lost(instance: string, partition: number): void
  /** How much longer this topic takes to reach readers now. */
  extraDelayMs(topic: string): number
  hidden(instance: string): boolean
  /** A member that was held up is off its group's list, or has just come back to it. */
  expelled(instance: string): void
}

/** Opens a client of the broker whose writes travel over this network. */
export function connect(network: Network, broker: MemoryBroker, life: Life): MemoryLog {
  const place = (write: (batches: Batches) => readonly WriteOutcome[], batches: Batches): readonly WriteOutcome[] => {
    const outcomes = write(batches)
    network.landed(life.instance, batches, outcomes)
    return outcomes
  }
  const travel: Carry = (batches, write) => {
    const { time, random, faults } = network
    const there = random.int(0, 3)
    const back = random.int(0, 3)
    return new Promise((resolve, reject) => {
      const unknown = (ms: number): void => void life.after(ms, () => reject(new Error("The acknowledgement was lost.")))
      if (faults.strikes("append-lost", 0.12)) return unknown(random.int(30, 300))
      if (faults.strikes("append-unanswered", 0.12)) {
        time.after(there, () => void place(write, batches))
        return unknown(there + random.int(30, 300))
      }
      if (faults.strikes("append-late", 0.12)) {
        const gaveUp = random.int(30, 90)
        time.after(gaveUp + random.int(1, random.chance(0.3) ? 6000 : 400), () => void place(write, batches))
        return unknown(gaveUp)
      }
      time.after(there, () => {
        const outcomes = place(write, batches)
        life.after(back, () => resolve(outcomes))
      })
    })
  }
  return broker.connect((batches, write) => {
    if (batches.length < 2 || !network.faults.strikes("append-partial", 0.3)) return travel(batches, write)
    // Leaders of several brokers: each partition has a fate of its own, and the write is over when all are.
    return Promise.all(
      batches.map((batch) =>
        travel([batch], write).then(
          ([outcome]) => outcome as WriteOutcome,
          (error: unknown) => ({ unknown: error as Error }),
        ),
      ),
    )
  })
}

/** The log as one process has it: records arrive after a while, and looks at groups may fail or miss members. */
export class NetworkedLog implements Log {
  readonly kind = "memory" as const
  readonly absenceGraceMs: number
  readonly #network: Network
  readonly #log: MemoryLog
  readonly #life: Life
  /** The following that makes this process a member of its group. */
  #membership: Following | undefined

  constructor(network: Network, log: MemoryLog, life: Life) {
    this.absenceGraceMs = network.absenceGraceMs
    this.#network = network
    this.#log = log
    this.#life = life
  }

  /** Whether this process is a member of its group at this moment, has been told its share since it joined, and this partition is of it. */
  owns(partition: number): boolean {
    return this.#membership?.alive() === true && this.#membership.partitions().includes(partition)
  }

  append(append: Append): Promise<Placed> {
    return this.#log.append(append)
  }

  withdraw(topic: string, partition: number): void {
    this.#log.withdraw(topic, partition)
  }

  async follow(options: FollowOptions): Promise<Following> {
    const { random } = this.#network
    /** Rises when a partition comes or goes: what was under way to its reader then never arrives. */
    const terms = new Map<number, number>()
    const turn = (partition: number): void => void terms.set(partition, (terms.get(partition) ?? 0) + 1)
    const pauses = new Map<string, number>()
    const following = await this.#log.follow({
      ...options,
      assigned: (partition) => {
        turn(partition)
        options.assigned?.(partition)
      },
      lost: (partition) => {
        turn(partition)
        if (options.group !== undefined) this.#network.lost(this.#life.instance, partition)
        options.lost?.(partition)
      },
      records: async (topic, partition, records) => {
        const [term, pause] = [terms.get(partition), pauses.get(`${topic}/${partition}`)]
        // In pieces, as fetches of a broker's are: what belongs together need not arrive together.
        for (let at = 0; at < records.length; ) {
          const size = random.chance(0.5) ? records.length : random.int(1, 8)
          await this.#life.sleep(random.int(0, 3) + this.#network.extraDelayMs(topic))
          if (terms.get(partition) !== term || pauses.get(`${topic}/${partition}`) !== pause) return
          await this.#handled(following, options.records(topic, partition, records.slice(at, at + size)))
          at += size
        }
      },
    })
    const { group } = options
    if (group !== undefined) this.#membership = following
    const committed = (commits: readonly Commit[]): void => {
      if (group !== undefined) this.#network.committed(group, commits)
    }
    return {
      partitions: () => following.partitions(),
      alive: () => following.alive(),
      add: (topic) => following.add(topic),
      pause: (topic, partition) => {
        pauses.set(`${topic}/${partition}`, (pauses.get(`${topic}/${partition}`) ?? 0) + 1)
        following.pause(topic, partition)
      },
      resume: (topic, partition, from) => following.resume(topic, partition, from),
      commit: async (commits) => {
        await following.commit(commits)
        committed(commits)
      },
      stop: () => following.stop(),
    }
  }

  /**
   * Waits until what was handed over is dealt with. Kafka's clients send their heartbeats between batches: a member that is held up by one
   * for longer than the session timeout is expelled, though it lives, and joins again when it is let go.
   */
  async #handled(following: Following, handling: void | Promise<void>): Promise<void> {
    if (handling === undefined) return
    // The members of a local group can be told so; the port has no word for it.
    const member = following as Following & { expel(): void; thaw(): void }
    let expelled = false
    const cancel = this.#life.after(this.#network.sessionTimeoutMs, () => {
      expelled = true
      member.expel()
      this.#network.expelled(this.#life.instance)
    })
    await handling
    cancel()
    if (!expelled) return
    member.thaw()
    this.#network.expelled(this.#life.instance)
  }

  async members(group: string): Promise<ReadonlySet<string> | null> {
    const { random, faults } = this.#network
    await this.#life.sleep(random.int(0, 5))
    if (faults.strikes("look-failed", 0.5)) {
      if (random.chance(0.5)) throw new Error("The coordinator cannot be reached.")
      return random.chance(0.5) ? new Set() : null
    }
    const members = await this.#log.members(group)
    return members === null ? null : new Set([...members].filter((instance) => !this.#network.hidden(instance)))
  }

  replay(topic: string, partition: number, from: number, to?: number): AsyncIterable<readonly LogRecord[]> {
    return this.#fetched(topic, this.#log.replay(topic, partition, from, to))
  }

  /** In pieces of any size, each after a while; and any of them may fail to come. */
  async *#fetched(topic: string, stretches: AsyncIterable<readonly LogRecord[]>): AsyncGenerator<readonly LogRecord[]> {
    const { random } = this.#network
    for await (const records of stretches) {
      for (let at = 0; at < records.length; ) {
        const size = random.chance(0.3) ? records.length : random.int(1, 12)
        await this.#answered(topic)
        yield records.slice(at, at + size)
        at += size
      }
    }
  }

  async bounds(topic: string): Promise<readonly Bounds[]> {
    await this.#answered(topic)
    return this.#log.bounds(topic)
  }

  async #answered(topic: string): Promise<void> {
    const { random, faults } = this.#network
    await this.#life.sleep(random.int(0, 3) + this.#network.extraDelayMs(topic))
    if (faults.strikes("read-failed", 0.3)) throw new LogUnavailableError("The leader of the partition cannot be reached.")
  }

  applyTopics(topics: readonly TopicSettings[]): Promise<readonly string[]> {
    return this.#log.applyTopics(topics)
  }

  verifyTopics(topics: readonly TopicSettings[]): Promise<void> {
    return this.#log.verifyTopics(topics)
  }

  describeTopics(): Promise<readonly TopicDescription[]> {
    return this.#log.describeTopics()
  }

  close(): Promise<void> {
    return this.#log.close()
  }
}
