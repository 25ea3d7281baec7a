import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { after, before, describe, it } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import type { Log, LogRecord, TopicSettings } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import { Kafka, logLevel, Partitioners } from "kafkajs"

const skip = await skipWithoutKafka({ registry: false })

const range = (length: number): number[] => Array.from({ length }, (_, index) => index)
const textOf = ({ value }: LogRecord): string => new TextDecoder().decode(value ?? undefined)

async function until(condition: () => boolean, what: string, limitMs = 30_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

describe("what Kafka can hold beside our own records", { skip, timeout: 120_000 }, () => {
  let kafka: Kafka
  let log: Log

  before(async () => {
    const brokers = (await sharedKafka({ registry: false })).bootstrap.split(",")
    log = await openKafka({ brokers, instance: `reading-${randomUUID()}` })
    kafka = new Kafka({ clientId: `plain-${randomUUID()}`, brokers, logLevel: logLevel.NOTHING })
  })

  after(() => log.close())

  async function topic(config: TopicSettings["config"] = {}): Promise<string> {
    const name = `topic-${randomUUID()}`
    await log.applyTopics([{ name, partitions: 1, cleanup: "delete", config }])
    return name
  }

  async function replayed(name: string, from = 0): Promise<LogRecord[]> {
    const records: LogRecord[] = []
    for await (const stretch of log.replay(name, 0, from)) records.push(...stretch)
    return records
  }

  async function followed(name: string, from = 0): Promise<LogRecord[]> {
    const records: LogRecord[] = []
    let caughtUp = false
    const following = await log.follow({
      instance: `reader-${randomUUID()}`,
      topics: [name],
      from: () => from,
      records: (_topic, _partition, batch) => {
        records.push(...batch)
      },
      caughtUp: () => {
        caughtUp = true
      },
    })
    await until(() => caughtUp, "it caught up")
    await following.stop()
    return records
  }

  const append = (name: string, value: Uint8Array) =>
    log.append({ topic: name, partition: 0, key: () => randomUUID(), value, headers: { type: "x" }, certainty: "always" })

  for (const codec of ["gzip", "snappy", "lz4", "zstd"]) {
    it(`reads what is compressed with ${codec}`, async () => {
      // The broker compresses with the topic's codec whatever it is sent.
      const name = await topic({ "compression.type": codec })
      const values = [
        "a".repeat(100_000),
        range(5000)
          .map((n) => `${n * 7919} fox ${n % 13}`)
          .join(" "),
        "short",
        "",
        ...range(200).map((n) => `entry ${n} of many alike, ${"xyz".repeat(n)}`),
      ]
      await Promise.all(values.map((value) => append(name, new TextEncoder().encode(value))))
      assert.deepEqual((await replayed(name)).map(textOf), values)
      assert.deepEqual((await followed(name)).map(textOf), values)
    })
  }

  it("gives an append the timestamp that readers see, with the log's time and with the writer's", async () => {
    for (const type of ["LogAppendTime", "CreateTime"]) {
      const name = await topic({ "message.timestamp.type": type })
      const placed = await Promise.all(range(50).map((n) => append(name, new TextEncoder().encode(String(n)))))
      const later = await append(name, new TextEncoder().encode("later"))
      assert.deepEqual(
        (await followed(name)).map(({ offset, timestamp }) => ({ offset, timestamp })),
        [...placed, later],
        type,
      )
    }
  })

  it("leaves out aborted transactions and the marks of all, and catches up behind them", async () => {
    const name = await topic()
    const writer = kafka.producer({
      transactionalId: `tx-${randomUUID()}`,
      maxInFlightRequests: 1,
      idempotent: true,
      createPartitioner: Partitioners.DefaultPartitioner,
    })
    await writer.connect()
    const write = async (values: readonly string[], outcome: "commit" | "abort"): Promise<void> => {
      const transaction = await writer.transaction()
      for (const value of values) await transaction.send({ topic: name, messages: [{ value, partition: 0 }] })
      await transaction[outcome]()
    }
    await append(name, new TextEncoder().encode("plain 1"))
    await write(["aborted 1", "aborted 2"], "abort")
    await write(["committed 1"], "commit")
    await append(name, new TextEncoder().encode("plain 2"))
    await write(["aborted 3"], "abort")
    await writer.disconnect()
    const expected = ["plain 1", "committed 1", "plain 2"]
    assert.deepEqual((await replayed(name)).map(textOf), expected)
    assert.deepEqual((await followed(name)).map(textOf), expected)
    const [, , last] = await replayed(name)
    assert.deepEqual((await followed(name, (last?.offset ?? 0) + 1)).map(textOf), [])
  })

  it("begins at the log's start where less is asked for, and fails where more is asked for than there is", async () => {
    const name = await topic()
    for (const n of range(10)) await append(name, new TextEncoder().encode(String(n)))
    const admin = kafka.admin()
    await admin.connect()
    try {
      // kafkajs deletes only in topics whose metadata it happens to have.
      await admin.fetchTopicOffsets(name)
      await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: "4" }] })
    } finally {
      await admin.disconnect()
    }
    assert.deepEqual(await log.bounds(name), [{ partition: 0, start: 4, end: 10 }])
    const left = range(6).map((n) => String(n + 4))
    assert.deepEqual((await followed(name)).map(textOf), left)
    assert.deepEqual((await replayed(name)).map(textOf), left)

    let failure: Error | undefined
    const beyond = await log.follow({
      instance: `reader-${randomUUID()}`,
      topics: [name],
      from: () => 11,
      records: () => assert.fail("There is nothing to read."),
      failed: (error) => {
        failure = error
      },
    })
    await until(() => failure !== undefined, "it failed")
    assert.match(failure?.message ?? "", /from offset 11, but it ends at 10/)
    await beyond.stop()
  })

  it("reads a record that is larger than a fetch asks for, beside others", async () => {
    const name = await topic({ "max.message.bytes": "8000000" })
    const large = new Uint8Array(3_000_000).map((_, index) => index % 251)
    await append(name, new TextEncoder().encode("before"))
    await append(name, large)
    await append(name, new TextEncoder().encode("after"))
    for (const records of [await replayed(name), await followed(name)]) {
      assert.deepEqual(
        records.map(({ value }) => value?.byteLength),
        [6, large.byteLength, 5],
      )
      assert.ok(Buffer.from(large).equals(records[1]?.value ?? new Uint8Array()))
    }
  })
})
