import { randomUUID } from "node:crypto"
import type { Log } from "@reins/log"
import { Kafka, logLevel, Partitioners } from "kafkajs"

export interface CleanedTopic {
  readonly topic: string
  readonly partition: number
  /** The offsets that still stand. */
  readonly left: readonly number[]
  readonly end: number
  /** Where the cleaner has left a batch without a record in it. */
  readonly emptyAt: number
}

const partition = 0
const segmentBytes = 16_384
/** Fills a segment so far that the cleaner joins it with nothing: what it has cleaned then ends with the empty batch. */
const filler = new Uint8Array(segmentBytes - 150)

/**
 * Makes the broker's log cleaner leave a batch without records, at the very end of what it has cleaned. An idempotent writer's last
 * batch is kept for its sequence numbers also when its only record is gone; that record is overwritten by a tombstone, and the
 * tombstone is taken away by a later cleaning. A fetch from there brings the empty batch alone.
 */
export async function cleanedTopic(bootstrap: string, log: Log, partitions: number): Promise<CleanedTopic> {
  const topic = `cleaned-${randomUUID()}`
  await log.applyTopics([
    {
      name: topic,
      partitions,
      cleanup: "compact",
      config: {
        "segment.ms": "100",
        // The cleaner joins segments as far as they fit into one of this size.
        "internal.segment.bytes": String(segmentBytes),
        "min.cleanable.dirty.ratio": "0.01",
        "min.compaction.lag.ms": "0",
        "delete.retention.ms": "100",
        "message.timestamp.type": "LogAppendTime",
      },
    },
  ])
  const written: number[] = []
  const append = async (key: string, value: Uint8Array | null = new Uint8Array([1])): Promise<number> => {
    const { offset } = await log.append({ topic, partition, key: () => key, value, headers: {}, certainty: "always" })
    written.push(offset)
    return offset
  }
  for (const key of ["a", "b", "c"]) await append(key)

  const writer = new Kafka({ clientId: `writer-${randomUUID()}`, brokers: [bootstrap], logLevel: logLevel.NOTHING }).producer({
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await writer.connect()
  const [placed] = await writer.send({ topic, acks: -1, messages: [{ key: "x", value: "gone", partition }] })
  await writer.disconnect()
  const emptyAt = Number(placed?.baseOffset)
  const tombstone = await append("x", null)

  // Every append after a pause begins another segment, and a segment that is closed may be cleaned.
  const deadline = performance.now() + 60_000
  for (let n = 0; ; n++) {
    await new Promise((resolve) => setTimeout(resolve, 150))
    await append(`later ${n}`, filler)
    const offsets: number[] = []
    for await (const records of log.replay(topic, partition, 0)) offsets.push(...records.map((record) => record.offset))
    if (!offsets.includes(emptyAt) && !offsets.includes(tombstone)) break
    if (performance.now() > deadline) throw new Error("The log cleaner has not cleaned within a minute.")
  }
  const left = written.filter((offset) => offset !== tombstone)
  return { topic, partition, left, end: (left.at(-1) as number) + 1, emptyAt }
}
