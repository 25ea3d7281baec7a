import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type SessionEvent, topicNames } from "@reins/events"
import type { Commit, Log } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { evolve, type Session, stateDigest } from "@reins/session"
import { Story, text } from "@reins/session/testing"
import { pino } from "pino"
import { Loop } from "../src/loop.ts"
import { Metrics } from "../src/metrics.ts"
import type { AnyService } from "../src/service.ts"
import type { FoldReader } from "../src/shared-folds.ts"
import { topicSettings } from "../src/topics.ts"

const topics = topicNames("t")
const group = "t.keeping"

const keeping: AnyService = {
  name: "keeping",
  contract: { reads: ["sessions", "snapshots"], says: [], buries: [], needsDeclarations: false, keepsSnapshots: true },
}

/** What a loop tells, a line for each. */
class Reader implements FoldReader {
  readonly lines: string[] = []
  /** The sessions as they follow from what was told. */
  readonly sessions: Map<string, Session> = new Map()

  ready(partition: number): void {
    this.lines.push(`ready ${partition}`)
  }

  moved(_partition: number, next: number, what: Parameters<FoldReader["moved"]>[2]): void {
    this.lines.push(`${next} ${what === null ? "nothing" : "verdict" in what ? `${what.event.type} ${what.verdict}` : "unread"}`)
    if (what === null || !("verdict" in what)) return
    const { sessionId } = what.event
    assert.equal(stateDigest(what.before), stateDigest(this.sessions.get(sessionId) ?? what.before))
    assert.equal(stateDigest(evolve(what.before, what.event, what).session), stateDigest(what.after))
    this.sessions.set(sessionId, what.after)
  }

  reread(_partition: number, sessionId: string): void {
    this.lines.push(`reread ${sessionId}`)
  }

  lost(partition: number): boolean {
    this.lines.push(`lost ${partition}`)
    return true
  }
}

function loopOn(log: Log, codec: Codec): Loop {
  return new Loop({
    log,
    codec,
    services: [keeping],
    prefix: "t",
    partitions: 1,
    group,
    instance: "loop",
    backends: [],
    metrics: new Metrics("test"),
    logger: pino({ level: "silent" }),
    failed: (error) => assert.fail(error),
    commitIntervalMs: 1,
    snapshotRestsMs: 0,
  })
}

/** A session at rest, between the records of one that runs. */
function twoSessions(): readonly SessionEvent[] {
  const resting = new Story("sesn_resting").started()
  const running = resting.beside("sesn_running").started()
  running.requested()
  resting
    .requested()
    .responded([text("Hello.")])
    .idled()
  return running.records.map(({ event }) => event)
}

function inject(broker: MemoryBroker, codec: Codec, event: SessionEvent, offset: number): void {
  const key = `${event.sessionId}/${offset}`
  broker.inject(topics.sessions, 0, { key, value: codec.encode("sessions", event), headers: { session: event.sessionId } })
}

async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000; turn++) {
    if (holds()) return
    await new Promise<void>((resolve) => setTimeout(resolve, 1))
  }
  assert.fail("It never came true.")
}

async function newBroker(): Promise<{ readonly broker: MemoryBroker; readonly log: MemoryLog; readonly codec: Codec }> {
  const broker = new MemoryBroker()
  const log = broker.connect()
  await log.applyTopics(topicSettings("t", 1, []))
  return { broker, log, codec: await Codec.open(broker.registry) }
}

describe("what a loop folds", () => {
  it("is told to a reader of its process, record by record, and no more once it is lost", async () => {
    const { broker, log, codec } = await newBroker()
    const events = twoSessions()
    for (const [offset, event] of events.slice(0, 4).entries()) inject(broker, codec, event, offset)
    const loop = loopOn(log, codec)
    const reader = new Reader()
    loop.folds.tell(reader)
    await loop.start()
    await until(() => loop.folds.of(0) !== undefined)
    inject(broker, codec, events[4] as SessionEvent, 4)
    broker.inject(topics.sessions, 0, { key: "sesn_other/5", value: Buffer.from("poison") })
    broker.inject(topics.sessions, 0, { key: "sesn_other/6", value: null })
    inject(broker, codec, events[4] as SessionEvent, 7)
    inject(broker, codec, events[5] as SessionEvent, 8)
    await until(() => loop.folds.of(0)?.next() === 9)
    const fold = loop.folds.of(0)
    await loop.stop()
    inject(broker, codec, events[5] as SessionEvent, 9)
    await new Promise((resolve) => setTimeout(resolve, 10))
    assert.deepEqual(reader.lines, [
      "1 session.started accepted",
      "2 session.started accepted",
      "3 model.requested accepted",
      "4 model.requested accepted",
      "ready 0",
      "5 model.responded accepted",
      "6 nothing",
      "7 nothing",
      "8 model.responded late",
      "9 session.idled accepted",
      "lost 0",
    ])
    assert.equal(loop.folds.of(0), undefined)
    assert.equal(fold?.sessions.get("sesn_resting").phase, "idle")
  })

  it("is told to be lost before it is waited for that the log lets go", async () => {
    const { broker, log, codec } = await newBroker()
    inject(broker, codec, twoSessions()[0] as SessionEvent, 0)
    const reader = new Reader()
    const follow = log.follow.bind(log)
    log.follow = async (options) => {
      const following = await follow(options)
      const stop = following.stop.bind(following)
      following.stop = async () => {
        reader.lines.push("letting go")
        await stop()
      }
      return following
    }
    const loop = loopOn(log, codec)
    loop.folds.tell(reader)
    await loop.start()
    await until(() => loop.folds.of(0) !== undefined)
    await loop.stop()
    assert.deepEqual(reader.lines.slice(-2), ["lost 0", "letting go"])
  })

  it("is not to be joined before everything is folded that is in a state already", async () => {
    const events = twoSessions()
    const first = await newBroker()
    const commits: Commit[] = []
    const follow = first.log.follow.bind(first.log)
    first.log.follow = async (options) => {
      const following = await follow(options)
      following.commit = async (some) => void commits.push(...some)
      return following
    }
    for (const [offset, event] of events.entries()) inject(first.broker, first.codec, event, offset)
    const writer = loopOn(first.log, first.codec)
    await writer.start()
    const relied = (): Commit | undefined => commits.find(({ topic, note }) => topic === topics.sessions && note.endsWith("snapshots=1/1"))
    await until(() => relied() !== undefined)
    await writer.stop()
    const second = await newBroker()
    // The last record of the resting session comes only once the partition is ready, and its snapshot stands before. A log says where it ends a
    // little later than a reader was told.
    const last = events.length - 1
    for (const [offset, event] of events.slice(0, last).entries()) inject(second.broker, second.codec, event, offset)
    for await (const records of first.log.replay(topics.snapshots, 0, 0))
      for (const { key, value, headers } of records) second.broker.inject(topics.snapshots, 0, { key, value, headers })
    const before = await second.log.follow({ group, instance: "before", topics: [topics.sessions], records: () => undefined })
    await until(() => before.alive())
    await before.commit([relied() as Commit])
    await before.stop()
    const bounds = second.log.bounds.bind(second.log)
    second.log.bounds = async (topic) => (await bounds(topic)).map((one) => ({ ...one, end: Math.max(one.end, last + 1) }))
    const loop = loopOn(second.log, second.codec)
    const wasJoinable: [next: number, joinable: boolean][] = []
    const reader = new Reader()
    reader.ready = () => {
      wasJoinable.push([-1, loop.folds.of(0) !== undefined])
      inject(second.broker, second.codec, events[last] as SessionEvent, last)
    }
    reader.moved = (_, next) => void wasJoinable.push([next, loop.folds.of(0) !== undefined])
    loop.folds.tell(reader)
    await loop.start()
    await until(() => loop.folds.of(0) !== undefined)
    await loop.stop()
    assert.deepEqual(wasJoinable.slice(-2), [
      [-1, false],
      [events.length, true],
    ])
  })
})
