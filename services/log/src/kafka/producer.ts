import type { PartitionBatch, WriteOutcome } from "../group-commit.ts"
import { asError, type Connections, defaults, type KafkaOptions, Link, NodeUnreachableError } from "./client.ts"
import { type Produced, produceExchange } from "./produce.ts"

/**
 * What a broker answers when the records of a partition are not in the log and never will be, however often they are sent. Whatever
 * else goes wrong (no leader, too few replicas, no answer) is an unknown: some of it surely did not land either, but it is worth
 * another try, and an `always` append must get it.
 */
const refusals: Readonly<Record<number, string>> = {
  10: "the record is larger than the topic takes (max.message.bytes)",
  17: "this is no name for a topic",
  18: "the batch is larger than the topic takes (max.message.bytes)",
  29: "writing to the topic is not allowed; grant WRITE on it to this principal",
  31: "this principal is not allowed to use the cluster",
  32: "its timestamp is outside of what the topic takes",
  42: "the broker calls the request invalid",
  44: "a policy of the cluster forbids it",
  87: "the broker calls the record invalid; a compacted topic takes no record without a key",
}

const troubles: Readonly<Record<number, string>> = {
  3: "the broker does not know the partition",
  5: "the partition has no leader at the moment",
  6: "another broker leads the partition now",
  7: "the replicas did not answer in time",
  19: "fewer replicas are in sync than min.insync.replicas asks for",
  20: "fewer replicas were in sync than min.insync.replicas asks for when it was written",
}

/** A topic that was created a moment ago may not be known to every broker yet. */
const lookups = { count: 3, pauseMs: 100, rememberMs: 1000 }

/**
 * Writes for the group commit: one request to each leader, acknowledged by every replica in sync, never repeated here. It is not
 * kafkajs's producer: that one repeats and reorders, drops a partition that does not exist without a word, and tells of one
 * error for all partitions.
 */
export class Producer {
  readonly #link: Link
  readonly #timeoutMs: number
  /** Topics that were looked for in vain, and until when that is believed. */
  readonly #absent = new Map<string, number>()

  constructor(options: KafkaOptions) {
    this.#link = new Link(options)
    this.#timeoutMs = options.requestTimeoutMs ?? defaults.requestTimeoutMs
  }

  async open(): Promise<void> {
    await this.#link.open()
  }

  close(): void {
    this.#link.close()
  }

  async write(batches: readonly PartitionBatch[]): Promise<readonly WriteOutcome[]> {
    const connections = await this.#link.open()
    await this.#lookUp(connections, batches)
    const outcomes: (WriteOutcome | undefined)[] = batches.map((batch) => absence(connections, batch))
    const byNode = new Map<number, number[]>()
    batches.forEach(({ topic, partition }, index) => {
      if (outcomes[index] !== undefined) return
      const node = connections.leader(topic, partition)
      if (node < 0) {
        outcomes[index] = { unknown: new Error(troubles[5]) }
        return
      }
      const led = byNode.get(node)
      if (led === undefined) byNode.set(node, [index])
      else led.push(index)
    })
    let stale = outcomes.some((outcome) => outcome !== undefined && "unknown" in outcome)
    await Promise.all(
      [...byNode].map(async ([node, indexes]) => {
        const createTime = Date.now()
        const sent = indexes.map((index) => batches[index] as PartitionBatch)
        try {
          const { produced } = await connections.exchange(node, 0, produceExchange(sent, createTime, this.#timeoutMs))
          for (const [at, index] of indexes.entries()) outcomes[index] = outcomeOf(sent[at] as PartitionBatch, produced, at, createTime)
        } catch (error) {
          // The request may have arrived, and may still be carried out. Its connection tells nothing more.
          if (!(error instanceof NodeUnreachableError)) this.#link.drop(connections)
          for (const index of indexes) outcomes[index] = { unknown: asError(error) }
        }
      }),
    )
    stale ||= outcomes.some((outcome) => outcome !== undefined && "unknown" in outcome)
    if (stale && !connections.closed) void connections.refresh([]).catch(() => this.#link.drop(connections))
    return outcomes.map((outcome) => outcome ?? { unknown: new Error("The broker gave no answer for this partition.") })
  }

  async #lookUp(connections: Connections, batches: readonly PartitionBatch[]): Promise<void> {
    const known = (): boolean =>
      batches.every(
        ({ topic, partition }) =>
          partition < (connections.partitionCount(topic) ?? 0) || (this.#absent.get(topic) ?? 0) > performance.now(),
      )
    if (known()) return
    const topics = [...new Set(batches.map(({ topic }) => topic))]
    for (let attempt = 1; ; attempt++) {
      try {
        await connections.refresh(topics)
      } catch (error) {
        this.#link.drop(connections)
        throw error
      }
      if (known()) return
      if (attempt === lookups.count) break
      await new Promise((resolve) => setTimeout(resolve, lookups.pauseMs))
    }
    for (const { topic, partition } of batches) {
      if (partition >= (connections.partitionCount(topic) ?? 0)) this.#absent.set(topic, performance.now() + lookups.rememberMs)
    }
  }
}

/** Nothing is sent for a partition that does not exist, so its records are nowhere: a definite answer. */
function absence(connections: Connections, { topic, partition }: PartitionBatch): WriteOutcome | undefined {
  const count = connections.partitionCount(topic)
  if (count === undefined) return { refused: new Error("there is no such topic; create it with `reins topics apply`") }
  if (!Number.isInteger(partition) || partition < 0 || partition >= count)
    return { refused: new Error(`the topic has ${count} partitions`) }
  return undefined
}

function outcomeOf({ topic, partition }: PartitionBatch, produced: readonly Produced[], at: number, createTime: number): WriteOutcome {
  let answer = produced[at]
  if (answer?.topic !== topic || answer.partition !== partition)
    answer = produced.find((one) => one.topic === topic && one.partition === partition)
  if (answer === undefined) return { unknown: new Error("The broker gave no answer for this partition.") }
  const { errorCode, baseOffset, logAppendTime } = answer
  if (errorCode === 0) return { placed: { baseOffset, timestamp: logAppendTime >= 0 ? logAppendTime : createTime } }
  const refusal = refusals[errorCode]
  if (refusal !== undefined) return { refused: new Error(refusal) }
  return { unknown: new Error(troubles[errorCode] ?? `the broker answered with error ${errorCode}`) }
}
