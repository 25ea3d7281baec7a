import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import type { Log } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import { type CleanedTopic, cleanedTopic } from "./cleaned-topic.ts"
import type { Reading } from "./plain-consumer.ts"

const skip = await skipWithoutKafka({ registry: false })
const program = fileURLToPath(new URL("plain-consumer.ts", import.meta.url))

describe("a batch that the log cleaner has emptied", { skip, timeout: 120_000 }, () => {
  let bootstrap = ""
  let log: Log
  let cleaned: CleanedTopic

  before(async () => {
    bootstrap = (await sharedKafka({ registry: false })).bootstrap
    log = await openKafka({ brokers: bootstrap.split(","), instance: `cleaner-${randomUUID()}` })
    cleaned = await cleanedTopic(bootstrap, log, 1)
  })

  after(() => log.close())

  async function read(kind: "stock" | "mended"): Promise<Reading> {
    const { topic, partition, end } = cleaned
    const args = [program, kind, bootstrap.split(",")[0] as string, topic, String(partition), String(end)]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    return JSON.parse(stdout) as Reading
  }

  it("stops kafkajs as it is published for ever", async () => {
    const { offsets, ended } = await read("stock")
    assert.equal(ended, "stands still")
    assert.deepEqual(
      offsets,
      cleaned.left.filter((offset) => offset < cleaned.emptyAt),
    )
  })

  it("does not stop kafkajs with our patch", async () => {
    assert.deepEqual(await read("mended"), { ended: "read all", offsets: cleaned.left })
  })

  it("does not stop a replay of ours, wherever it begins", async () => {
    for (let from = 0; from <= cleaned.end; from++) {
      const offsets: number[] = []
      for await (const records of log.replay(cleaned.topic, cleaned.partition, from)) offsets.push(...records.map(({ offset }) => offset))
      assert.deepEqual(
        offsets,
        cleaned.left.filter((offset) => offset >= from),
      )
    }
  })
})
