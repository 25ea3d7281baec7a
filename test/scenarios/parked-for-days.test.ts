import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { type Observed, readConfig, startProcess, topicSettings } from "@reins/runtime"
import { agent, given, type Story, tool, toolUse } from "@reins/session/testing"
import { toolRouter } from "@reins/tool-router"

const day = 86_400_000
const config = { ...readConfig({ REINS_LOG_LEVEL: "silent" }), partitions: 1 }
const topics = topicNames(config.prefix)

/** A session that was parked while its call ran and is resumed so much later, and what became of the call. */
async function resumedAfter(parkedMs: number, effect: "unsafe" | "pure"): Promise<readonly string[]> {
  let told: Story | undefined
  given((story) => {
    story
      .started(agent([tool("refund", { effect, backend: "http" })]))
      .requested()
      .responded([toolUse("toolu_0", "refund", {})])
      .dispatched("toolu_0")
      .parked()
    story.wait(parkedMs)
    told = story.resumed()
  })
  const story = told as Story
  const broker = new MemoryBroker({ now: () => story.now })
  const log = broker.connect()
  await log.applyTopics(topicSettings(config.prefix, config.partitions))
  const codec = await Codec.open(broker.registry)
  // The topic of the backend is empty: its retention has taken the dispatch, the claim, and whatever came of them.
  for (const { event, at } of story.records) {
    broker.inject(topics.sessions, 0, {
      key: `${story.sessionId}/${at.offset}`,
      value: codec.encode("sessions", event),
      timestamp: at.timestamp,
    })
  }
  const before = story.records.length
  const said: string[] = []
  const { promise: isClosed, resolve: closed } = Promise.withResolvers<void>()
  const running = await startProcess({
    config,
    services: ["tool-router"],
    build: () => [toolRouter()],
    opened: { log, codec },
    failed: (error) => assert.fail(error),
    observe: ({ topic, offset, event, verdict }: Observed) => {
      if (topic === topics.sessions && offset < before) return
      said.push(`${event.type} ${verdict}${"effect" in event ? ` ${event.effect}` : ""}`)
      if (topic === topics.sessions) closed()
    },
  })
  await isClosed
  await running.stop()
  return said
}

describe("a call whose session was parked until its topic had forgotten it", () => {
  it("of a class that must not run twice has an outcome that nobody knows, and is not run again", async () => {
    assert.deepEqual(await resumedAfter(8 * day, "unsafe"), ["tool-call.cancelled accepted", "tool-call.outcome-unknown accepted"])
  })

  it("was not run, where the topic would still hold what was not there", async () => {
    assert.deepEqual((await resumedAfter(day, "unsafe")).slice(0, 2), ["tool-call.cancelled accepted", "tool-call.timed-out accepted none"])
  })

  it("of a class that may run again is run again", async () => {
    assert.deepEqual((await resumedAfter(8 * day, "pure")).slice(0, 1), ["tool-call.timed-out accepted maybe"])
  })
})
