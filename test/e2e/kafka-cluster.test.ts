import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { after, before, describe, it } from "node:test"
import { type Kafka, skipWithoutKafka, startKafka } from "@reins/infra/kafka"
import type { Log, LogRecord } from "@reins/log"
import { openKafka } from "@reins/log/kafka"

const skip = await skipWithoutKafka({ registry: false })

const partitions = 6

async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 90_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

describe("three brokers of which one is killed", { skip, timeout: 300_000 }, () => {
  let kafka: Kafka
  let log: Log

  before(async () => {
    kafka = await startKafka({ registry: false, brokers: 3 })
    log = await openKafka({
      brokers: kafka.bootstrap.split(","),
      instance: `cluster-${randomUUID()}`,
      heartbeatIntervalMs: 500,
      requestTimeoutMs: 2000,
    })
  })

  after(async () => {
    await log.close()
    await kafka.stop()
  })

  it("keep all that was acknowledged, go on writing, and let a follower go on reading in order", async () => {
    const topic = `topic-${randomUUID()}`
    await log.applyTopics([{ name: topic, partitions, cleanup: "compact", config: { "message.timestamp.type": "LogAppendTime" } }])
    const [described] = (await log.describeTopics()).filter(({ name }) => name === topic)
    assert.equal(described?.config["min.insync.replicas"], "2", "a write counts when two of three have it")

    const spells = new Map<number, LogRecord[]>()
    let failure: Error | undefined
    const following = await log.follow({
      group: `group-${randomUUID()}`,
      instance: `member-${randomUUID()}`,
      topics: [topic],
      assigned: (partition) => spells.set(partition, []),
      records: (_, partition, records) => {
        spells.get(partition)?.push(...records)
      },
      failed: (error) => {
        failure = error
      },
    })
    await until(() => spells.size === partitions, "it owns all")

    const over = new AbortController()
    const placed: { partition: number; offset: number; value: string }[] = []
    const acknowledged = Array.from({ length: partitions }, () => 0)
    const writing = Promise.all(
      Array.from({ length: partitions }, async (_, partition) => {
        for (let n = 0; !over.signal.aborted; n++) {
          const value = `${partition}/${n}`
          const { offset } = await log.append({
            topic,
            partition,
            key: () => `${value}/${randomUUID()}`,
            value: new TextEncoder().encode(value),
            headers: {},
            certainty: "always",
          })
          placed.push({ partition, offset, value })
          acknowledged[partition] = n
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      }),
    )
    await until(() => acknowledged.every((count) => count > 20), "the stream flows")
    await kafka.brokers[1]?.kill("SIGKILL")
    const then = [...acknowledged]
    await until(() => acknowledged.every((count, partition) => count > (then[partition] ?? 0) + 50), "every partition takes appends again")
    await kafka.brokers[1]?.restart()
    const later = [...acknowledged]
    await until(() => acknowledged.every((count, partition) => count > (later[partition] ?? 0) + 50), "and goes on when the broker is back")
    over.abort()
    await writing

    const read = (partition: number): readonly LogRecord[] => spells.get(partition) ?? []
    await until(
      () => placed.every(({ partition, offset, value }) => new TextDecoder().decode(read(partition)[offset]?.value ?? undefined) === value),
      "all that was acknowledged is read where it was placed",
    )
    for (const [partition, records] of spells) {
      assert.deepEqual(
        records.map(({ offset }) => offset),
        records.map((_, index) => index),
        `partition ${partition} without a gap or a repetition`,
      )
      const replayed: number[] = []
      for await (const stretch of log.replay(topic, partition, 0, records.length)) replayed.push(...stretch.map(({ offset }) => offset))
      assert.deepEqual(
        replayed,
        records.map(({ offset }) => offset),
      )
    }
    assert.equal(failure, undefined)
    await following.stop()
  })
})
