import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { createServer, type Socket } from "node:net"
import { after, before, describe, it } from "node:test"
import { type Kafka, sharedKafka, skipWithoutKafka, startKafka } from "@reins/infra/kafka"
import { type Append, AppendUnknownError, type Log, type LogRecord, LogUnavailableError } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import { api, FaultProxy } from "./fault-proxy.ts"

const skip = await skipWithoutKafka({ registry: false })

const partitions = 3
const sessionTimeoutMs = 3000

async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 60_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function entry(topic: string, partition: number, value: string, certainty: Append["certainty"] = "always"): Append {
  return { topic, partition, key: () => randomUUID(), value: new TextEncoder().encode(value), headers: {}, certainty }
}

async function makeTopic(log: Log): Promise<string> {
  const name = `topic-${randomUUID()}`
  await log.applyTopics([{ name, partitions, cleanup: "delete", config: { "message.timestamp.type": "LogAppendTime" } }])
  return name
}

/** Follows a topic and keeps what it got, as one list for each unbroken ownership. */
async function follow(log: Log, group: string, topic: string) {
  const spells = new Map<number, LogRecord[]>()
  const seen = { lost: 0, failed: undefined as Error | undefined }
  const following = await log.follow({
    group,
    instance: `member-${randomUUID()}`,
    topics: [topic],
    assigned: (partition) => spells.set(partition, []),
    lost: () => seen.lost++,
    records: (_, partition, records) => {
      spells.get(partition)?.push(...records)
    },
    failed: (error) => {
      seen.failed = error
    },
  })
  const hasAll = (each: number): boolean => spells.size === partitions && [...spells.values()].every((records) => records.length >= each)
  const check = (): void => {
    for (const [partition, records] of spells) {
      assert.deepEqual(
        records.map(({ offset }) => offset),
        records.map((_, index) => index),
        `partition ${partition} without a gap or a repetition`,
      )
    }
  }
  return { following, spells, seen, hasAll, check }
}

describe("a broker that hangs", { skip, timeout: 120_000 }, () => {
  let proxy: FaultProxy
  let log: Log
  let plain: Log

  before(async () => {
    const brokers = (await sharedKafka({ registry: false })).bootstrap.split(",")
    proxy = await FaultProxy.start()
    log = await openKafka({
      brokers,
      instance: `frozen-${randomUUID()}`,
      sessionTimeoutMs,
      heartbeatIntervalMs: 300,
      requestTimeoutMs: 1000,
      socketFactory: proxy.socketFactory,
    })
    plain = await openKafka({ brokers, instance: `plain-${randomUUID()}` })
  })

  after(async () => {
    await Promise.all([log.close(), plain.close()])
    await proxy.stop()
  })

  it("makes an append unknown, which may land afterwards; a follower stops being sure, and then goes on without a gap", async () => {
    const topic = await makeTopic(plain)
    const one = await follow(log, `group-${randomUUID()}`, topic)
    await until(() => one.spells.size === partitions && one.following.alive(), "it owns all")
    for (let partition = 0; partition < partitions; partition++) await log.append(entry(topic, partition, "before"))
    await until(() => one.hasAll(1), "what was before has come")

    proxy.freeze()
    const once = log.append(entry(topic, 0, "unknown", "once"))
    const always = log.append(entry(topic, 1, "certain"))
    await assert.rejects(once, AppendUnknownError)
    await until(() => !one.following.alive(), "it is not sure any more")
    proxy.thaw()

    await always
    await until(() => one.following.alive() && one.following.partitions().length === partitions, "it is sure again")
    for (let partition = 0; partition < partitions; partition++) await plain.append(entry(topic, partition, "after"))
    const values = (partition: number): string[] =>
      (one.spells.get(partition) ?? []).map(({ value }) => new TextDecoder().decode(value ?? undefined))
    await until(() => [0, 1, 2].every((partition) => values(partition).includes("after")), "what came after has come")
    assert.ok(values(1).includes("certain"))
    one.check()
    await one.following.stop()
  })

  it("loses no commit silently, and keeps what was committed", async () => {
    const topic = await makeTopic(plain)
    const group = `group-${randomUUID()}`
    const one = await follow(log, group, topic)
    await until(() => one.following.alive(), "it is a member")
    void proxy.next(api.offsetCommit, { kind: "request-lost" })
    await assert.rejects(one.following.commit([{ topic, partition: 0, offset: 7, note: "lost" }]), LogUnavailableError)
    await one.following.commit([{ topic, partition: 0, offset: 8, note: "kept" }])
    await one.following.stop()
    const committed: unknown[] = []
    const next = await plain.follow({
      group,
      instance: `next-${randomUUID()}`,
      topics: [topic],
      from: (_, partition, found) => {
        if (partition === 0) committed.push(found)
        return 0
      },
      records: () => {},
    })
    await until(() => committed.length > 0, "the next one asked where to begin")
    assert.deepEqual(committed, [{ offset: 8, note: "kept" }])
    await next.stop()
  })

  it("does not keep a join from being finished when the answer to it was lost", async () => {
    const topic = await makeTopic(plain)
    const lost = proxy.next(api.joinGroup, { kind: "answer-lost" })
    const one = await follow(log, `group-${randomUUID()}`, topic)
    await lost
    await until(() => one.following.alive() && one.following.partitions().length === partitions, "it owns all")
    await plain.append(entry(topic, 0, "here"))
    await until(() => one.spells.get(0)?.length === 1, "it reads")
    one.check()
    await one.following.stop()
  })
})

describe("a broker that restarts", { skip, timeout: 180_000 }, () => {
  let kafka: Kafka
  let log: Log

  before(async () => {
    kafka = await startKafka({ registry: false })
    log = await openKafka({
      brokers: kafka.bootstrap.split(","),
      instance: `restart-${randomUUID()}`,
      heartbeatIntervalMs: 300,
      requestTimeoutMs: 2000,
    })
  })

  after(async () => {
    await log.close()
    await kafka.stop()
  })

  it("delays what must stand, loses nothing that was acknowledged, and followers go on", async () => {
    const topic = await makeTopic(log)
    const one = await follow(log, `group-${randomUUID()}`, topic)
    await until(() => one.spells.size === partitions, "it owns all")
    const over = new AbortController()
    const placed: { partition: number; offset: number; value: string }[] = []
    const writing = Promise.all(
      Array.from({ length: partitions }, async (_, partition) => {
        for (let n = 0; !over.signal.aborted; n++) {
          const value = `${partition}/${n}`
          placed.push({ partition, value, offset: (await log.append(entry(topic, partition, value))).offset })
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      }),
    )
    await until(() => one.hasAll(20), "the stream flows")
    await kafka.brokers[0]?.restart()
    const before = placed.length
    await until(() => placed.length > before + 50, "appends are acknowledged again")
    over.abort()
    await writing
    const read = (partition: number): string[] =>
      (one.spells.get(partition) ?? []).map(({ value }) => new TextDecoder().decode(value ?? undefined))
    await until(
      () => placed.every(({ partition, offset, value }) => read(partition)[offset] === value),
      "all that was acknowledged is read where it was placed",
    )
    await until(() => one.following.alive(), "it is a member")
    one.check()
    assert.equal(one.seen.failed, undefined)
    await one.following.stop()
  })
})

describe("a broker that is not there", () => {
  const silent = createServer()
  const accepted: Socket[] = []
  before(() => new Promise<void>((resolve) => silent.on("connection", (socket) => accepted.push(socket)).listen(0, "127.0.0.1", resolve)))
  after(() => {
    for (const socket of accepted) socket.destroy()
    silent.close()
  })

  it("is an error that names the brokers and says what to do, when nobody listens and when somebody listens and says nothing", async () => {
    const { port } = silent.address() as { port: number }
    for (const broker of ["127.0.0.1:1", `127.0.0.1:${port}`]) {
      await assert.rejects(openKafka({ brokers: [broker], instance: "nobody" }), (error) => {
        assert.ok(error instanceof LogUnavailableError)
        assert.ok(error.message.includes(broker), error.message)
        assert.match(error.message, /KAFKA_BROKERS/)
        return true
      })
    }
  })
})
