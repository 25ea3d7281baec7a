import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { forgottenPart, isStarted, requestBody, SessionsFold, stateDigest } from "@reins/session"
import { agent, Story, text, tool, toolUse } from "@reins/session/testing"
import fc from "fast-check"
import { KeptSessions } from "../src/kept-sessions.ts"
import { recallConversation } from "../src/recall.ts"
import { Spill } from "../src/spill.ts"
import { topicSettings } from "../src/topics.ts"

const never = (): boolean => false
const none = (): string => assert.fail("There are no snapshots here.")

/** What may happen next in a session, by its phase. */
function step(story: Story, which: number): void {
  const { session } = story
  switch (session.phase) {
    case "absent":
      return void story.started(agent([tool("add")]))
    case "idle":
      return void (session.wake ? story.requested() : which === 0 ? story.ended() : story.message(`More, ${which}.`))
    case "awaiting-model":
      return void (which % 2 === 0
        ? story.responded([toolUse(`toolu_${session.turns}`, "add", { n: which })])
        : story.responded([text("Done.")]))
    case "awaiting-tools": {
      const call = session.calls.find(({ state }) => state.is !== "done")
      if (call === undefined) return void story.requested()
      return void (call.state.is === "wanted" ? story.dispatched(call.toolUseId) : story.completed(call.toolUseId, String(which)))
    }
    case "settling":
      return void story.idled()
    default:
      return void story.rejected()
  }
}

describe("sessions that do not all fit into memory", () => {
  it("are the same sessions as those that do, whenever which of them was spilled", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat({ max: 2 }), fc.nat({ max: 5 }), fc.boolean()), { maxLength: 120 }), (choices) => {
        const first = new Story("sesn_0")
        const stories = [first, first.beside("sesn_1"), first.beside("sesn_2")]
        const whole = new SessionsFold()
        const kept = new KeptSessions(new Spill().partition(), none)
        for (const [which, how, spills] of choices) {
          const had = first.records.length
          step(stories[which] as Story, how)
          for (const { event, at } of first.records.slice(had)) assert.equal(kept.apply(event, at), whole.apply(event, at))
          if (spills) kept.spillDownTo(0, never)
        }
        for (const [sessionId, session] of whole.sessions) assert.equal(stateDigest(kept.get(sessionId)), stateDigest(session))
      }),
      { numRuns: 150 },
    )
  })

  it("take no more memory than they may, what runs aside", () => {
    const kept = new KeptSessions(new Spill().partition(), none)
    const first = new Story("sesn_0")
    for (let n = 0; n < 50; n++) {
      const story = first.beside(`sesn_${n}`).started().requested()
      if (n > 0) story.responded([text("x".repeat(10_000))]).idled()
    }
    for (const { event, at } of first.records) kept.apply(event, at)
    const before = kept.bytes
    assert.ok(before > 500_000)
    kept.spillDownTo(100_000, (sessionId) => sessionId === "sesn_7")
    assert.ok(kept.bytes <= 100_000)
    const inMemory = [...kept.inMemory()].map(([sessionId]) => sessionId)
    assert.ok(inMemory.includes("sesn_0") && inMemory.includes("sesn_7"), "what runs and what is busy stays")
    assert.deepEqual(Object.fromEntries(kept.counts()), { running: 1, idle: 49 })
    kept.spillDownTo(0, never)
    assert.deepEqual(
      [...kept.inMemory()].map(([sessionId]) => sessionId),
      ["sesn_0"],
    )
    for (const { event } of first.records) kept.get(event.sessionId)
    assert.ok(kept.bytes < before / 2, "what comes back comes without what was said")
  })
})

// Found by the simulation: who took over from the snapshot of a session that waited on in part never said what it waited for.
it("a session that idles and of which something is due stays in memory, and runs for whoever takes it over", () => {
  const story = new Story("sesn_0").started({ ...agent([tool("add")]), params: "[]" }, { input: null })
  const kept = new KeptSessions(new Spill().partition(), none)
  const fold = (): void => {
    for (const { event, at } of story.records) kept.apply(event, at)
  }
  fold()
  assert.ok(story.session.phase === "idle" && story.session.breach !== null, "it is about to be parked")
  kept.spillDownTo(0, never)
  assert.deepEqual([[...kept.inMemory()].length, kept.statusOf("sesn_0"), kept.frozen("sesn_0").status], [1, "idle", "running"])
  story.parked()
  fold()
  assert.equal(kept.frozen("sesn_0").status, "parked")
  kept.spillDownTo(0, never)
  assert.equal([...kept.inMemory()].length, 0)
})

describe("the agents of sessions in memory", () => {
  const large = agent([tool("add", { description: "Adds. ".repeat(20_000) })])

  it("are kept once and counted once, whoever brings them, and not beyond the last session that has them", () => {
    const kept = new KeptSessions(new Spill().partition(), none)
    const first = new Story("sesn_0")
    // Each from a record of its own.
    for (let n = 0; n < 30; n++) first.beside(`sesn_${n}`).started(JSON.parse(JSON.stringify(large)), { input: null })
    for (const { event, at } of first.records) kept.apply(event, at)
    assert.ok(kept.bytes > 100_000 && kept.bytes < 300_000, String(kept.bytes))
    kept.spillDownTo(0, never)
    assert.equal(kept.bytes, 0)
    const agents = new Set<unknown>()
    for (const { event } of first.records) {
      const session = kept.get(event.sessionId)
      assert.ok(isStarted(session))
      agents.add(session.agent)
    }
    assert.equal(agents.size, 1)
    assert.ok(kept.bytes > 100_000 && kept.bytes < 300_000, String(kept.bytes))
  })

  it("count for what they are where every session has its own", () => {
    const kept = new KeptSessions(new Spill().partition(), none)
    const first = new Story("sesn_0")
    for (let n = 0; n < 30; n++) first.beside(`sesn_${n}`).started({ ...large, name: `agent-${n}` }, { input: null })
    for (const { event, at } of first.records) kept.apply(event, at)
    assert.ok(kept.bytes > 3_000_000, String(kept.bytes))
    kept.spillDownTo(1_000_000, never)
    assert.ok(kept.bytes <= 1_000_000 && kept.bytes > 0, String(kept.bytes))
  })
})

describe("a conversation that is not in memory", () => {
  const topic = topicNames("t").sessions

  async function told(): Promise<{ log: MemoryLog; broker: MemoryBroker; codec: Codec; kept: KeptSessions; story: Story }> {
    const broker = new MemoryBroker()
    const log = broker.connect()
    await log.applyTopics(topicSettings("t", 1, []))
    const codec = await Codec.open(broker.registry)
    const story = new Story("sesn_0")
      .started(agent([tool("add")]))
      .requested()
      .responded([toolUse("toolu_1", "add")])
    story
      .dispatched("toolu_1")
      .completed("toolu_1", "17")
      .requested()
      .responded([text("It is 17.")])
      .idled()
    const kept = new KeptSessions(new Spill().partition(), none)
    for (const { event, at } of story.records) {
      const offset = broker.inject(topic, 0, { key: `k${at.offset}`, value: codec.encode("sessions", event) })
      assert.equal(offset, at.offset)
      kept.apply(event, at)
    }
    kept.spillDownTo(0, never)
    return { log, broker, codec, kept, story }
  }

  it("is recalled from the records that it follows from, to the byte, with what was said since", async () => {
    const { log, codec, kept, story } = await told()
    const had = story.records.length
    story.message("And 18?").requested()
    for (const { event, at } of story.records.slice(had)) assert.equal(kept.apply(event, at), "accepted")
    const session = kept.get("sesn_0")
    assert.ok(isStarted(session) && forgottenPart(session.conversation) !== null)
    const recalled = await recallConversation(log, codec, topic, 0, session, kept.recordsOf("sesn_0"))
    assert.ok(typeof recalled === "function")
    kept.recall("sesn_0", recalled)
    const whole = kept.get("sesn_0")
    assert.ok(isStarted(whole))
    assert.equal(requestBody(whole.agent, whole.conversation), requestBody(story.known.agent, story.known.conversation))
    assert.equal(stateDigest(whole), stateDigest(story.session))
  })

  it("cannot be recalled where one of its records is gone or cannot be read", async () => {
    for (const value of [null, Buffer.from("garbage")]) {
      const { log, broker, codec, kept } = await told()
      broker.inject(topic, 0, { key: "k2", value })
      broker.compact(topic, 0)
      const session = kept.get("sesn_0")
      const recalled = await recallConversation(log, codec, topic, 0, session, kept.recordsOf("sesn_0"))
      assert.ok("code" in recalled && recalled.code === "content_missing")
    }
  })
})
