import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { topicNames } from "@reins/events"
import type { LogRecord } from "@reins/log"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { deadLetterOf, readDeadLetters, settleDeadLetter } from "../src/dead-letters.ts"
import { topicSettings } from "../src/topics.ts"

const names = topicNames("t")

function poison(offset: number): LogRecord {
  return { topic: names.sessions, partition: 0, offset, timestamp: 0, key: "k", value: Buffer.from("poison"), headers: {} }
}

async function stage(): Promise<{ broker: MemoryBroker; log: MemoryLog; bury: (offset: number) => Promise<number> }> {
  const broker = new MemoryBroker()
  const log = broker.connect()
  await log.applyTopics(topicSettings("t", 1, []))
  const bury = async (offset: number): Promise<number> =>
    (await log.append(deadLetterOf(names, poison(offset), "tool-router", "undecodable", "It is poison."))).offset
  return { broker, log, bury }
}

describe("the dead letters as they are read", () => {
  it("show two letters of one record once, with the place of the other", async () => {
    const { log, bury } = await stage()
    await bury(3)
    await bury(4)
    await bury(3)
    const letters = await readDeadLetters(log, names)
    assert.deepEqual(
      letters.map(({ offset, originalOffset, copies }) => ({ offset, originalOffset, copies })),
      [
        { offset: 0, originalOffset: 3, copies: [2] },
        { offset: 1, originalOffset: 4, copies: [] },
      ],
    )
  })

  it("are settled by either of two letters of one record, also before the second one came", async () => {
    const { log, bury } = await stage()
    await bury(3)
    const second = { ...(await readDeadLetters(log, names))[0], offset: await bury(3) }
    await settleDeadLetter(log, names, second as never, "dropped")
    await bury(3)
    assert.deepEqual(
      (await readDeadLetters(log, names)).map(({ settled, copies }) => ({ settled, copies })),
      [{ settled: "dropped", copies: [1, 3] }],
    )
  })

  it("without coordinates are each their own", async () => {
    const { broker, log } = await stage()
    for (let n = 0; n < 2; n++) broker.inject(names.deadLetters, 0, { value: Buffer.from("by hand") })
    assert.equal((await readDeadLetters(log, names)).length, 2)
  })
})
