import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { setTimeout as sleep } from "node:timers/promises"
import type { SessionEvent } from "@reins/events"
import { blobsHeader, type Log, type LogRecord, LogUnavailableError, TopicMismatchError } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { KeptSessions, topicSettings } from "@reins/runtime"
import { agent, Story, text } from "@reins/session/testing"
import type { Projection } from "../src/projection/projection.ts"
import { anyTime } from "../src/time-range.ts"
import { Loop, projectionOn, topics } from "./shared-fold-stage.ts"

const sessionId = "sesn_0"

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let at = 0; at < 5000; at++) {
    if (await holds()) return
    await sleep(2)
  }
  assert.fail("It never came true.")
}

function shownBy({ store }: Projection): readonly string[] {
  const query = { sessionId, types: [], ...anyTime, descending: false, after: null, limit: 1000 }
  return store.events(query).map(({ event }) => event.type)
}

interface World {
  readonly loop: Loop
  readonly projection: Projection
  readonly failures: readonly Error[]
  /** Records of the session from this one on stand, up to that one. */
  stand(from: number, to: number): void
  /** Whether it shows what a gateway shows that reads everything by itself. */
  isTrue(): Promise<boolean>
  /** All that stands is folded by the loop, and heard. */
  join(): Promise<void>
}

/** One session in one partition, and the gateway of a process whose loop does what it is told. `change`: what its log does otherwise. */
async function world(change: (log: MemoryLog) => Partial<Log> = () => ({})): Promise<World> {
  const broker = new MemoryBroker({ now: () => 1000 })
  const log = broker.connect()
  await log.applyTopics(topicSettings("t", 1, []))
  const codec = await Codec.open(broker.registry)
  const story = new Story(sessionId)
    .started()
    .requested()
    .responded([text("I see.")])
    .idled()
    .message("More.")
    .requested()
  const events = story.records.map(({ event }) => codec.decodeAs("sessions", event.type, codec.encode("sessions", event)) as SessionEvent)
  const loop = new Loop(events)
  const changed = change(log)
  const its = new Proxy<Log>(log, {
    get: (target, name: keyof Log) => {
      const value = changed[name] ?? target[name]
      return typeof value === "function" ? value.bind(target) : value
    },
  })
  const failures: Error[] = []
  const projection = projectionOn(its, codec, loop, { failed: (error) => void failures.push(error), unreadAgainMs: 5 })
  let end = 0
  return {
    loop,
    projection,
    failures,
    stand: (from, to) => {
      end = to
      for (const [index, event] of events.slice(from, to).entries())
        broker.inject(topics.sessions, 0, {
          key: `${sessionId}/${from + index}`,
          value: codec.encode("sessions", event),
          headers: { session: sessionId },
        })
    },
    isTrue: async () => {
      const alone = projectionOn(log, codec)
      await alone.start()
      await alone.caughtUp()
      const expected = shownBy(alone)
      await alone.stop()
      return JSON.stringify(shownBy(projection)) === JSON.stringify(expected)
    },
    join: async () => {
      await until(() => projection.ready())
      loop.own(end)
      loop.ready()
    },
  }
}

describe("a gateway beside a loop", () => {
  it("begins to read once the log can be reached, and ends no process because it cannot", async () => {
    const away = new LogUnavailableError("The log cannot be reached.")
    const refused = new Set([topics.sessions, topics.deltas])
    let isAway = true
    const { projection, failures, stand, isTrue } = await world((log) => ({
      bounds: async (topic) => (isAway ? Promise.reject(away) : log.bounds(topic)),
      follow: async (options) => {
        // Each of the two topics once, when the other may stand already.
        if (refused.delete(options.topics[0] as string)) throw away
        return log.follow(options)
      },
    }))
    stand(0, 6)
    await projection.start()
    await sleep(50)
    assert.equal(projection.ready(), false)
    isAway = false
    await until(() => projection.ready())
    assert.equal(refused.size, 0)
    assert.ok(await isTrue())
    await projection.stop()
    assert.deepEqual(failures, [])
  })

  it("may be stopped while the log cannot be reached", async () => {
    const { projection, failures } = await world(() => ({ bounds: () => Promise.reject(new LogUnavailableError("It is away.")) }))
    await projection.start()
    await sleep(20)
    await projection.stop()
    assert.deepEqual(failures, [])
  })

  it("says what cannot become better by waiting", async () => {
    const { projection, failures } = await world(() => ({
      bounds: () => Promise.reject(new TopicMismatchError("There is no such topic.")),
    }))
    await projection.start()
    await until(() => failures.length === 1)
    await projection.stop()
  })

  /** The log without a blob of the third record, until that is back; `following`: also where it is followed. */
  function lacking(log: MemoryLog, isMissing: () => boolean, following: boolean): Partial<Log> {
    const aside = { fault: "blob_missing" as const, message: "It is missing." }
    const without = (records: readonly LogRecord[]): readonly LogRecord[] =>
      records.map((record) =>
        isMissing() && record.topic === topics.sessions && record.offset === 2
          ? { ...record, headers: { ...record.headers, [blobsHeader]: "content=x:1" }, aside }
          : record,
      )
    return {
      follow: (options) =>
        log.follow({
          ...options,
          records: (topic, partition, records) => options.records(topic, partition, following ? without(records) : records),
        }),
      replay: async function* (topic, partition, from, to) {
        for await (const records of log.replay(topic, partition, from, to)) yield without(records)
      },
    }
  }

  it("reads a session again once the blob is back that was missing here and not there", async () => {
    let isMissing = true
    const { projection, stand, isTrue, join } = await world((log) => lacking(log, () => isMissing, true))
    stand(0, 6)
    await projection.start()
    await join()
    await sleep(30)
    assert.equal(await isTrue(), false)
    isMissing = false
    await until(isTrue)
    await projection.stop()
  })

  it("looks for a blob that is missing where it goes on alone, until that is back", async () => {
    let isMissing = true
    const { projection, stand, isTrue, loop } = await world((log) => lacking(log, () => isMissing, false))
    loop.unreadable = 2
    stand(0, 4)
    await projection.start()
    await until(() => projection.ready())
    loop.own(4)
    loop.ready()
    stand(4, 6)
    loop.fold(6)
    loop.fold(6)
    loop.lose()
    await sleep(30)
    assert.equal(await isTrue(), false)
    isMissing = false
    await until(isTrue)
    await projection.stop()
  })

  for (const when of ["after the two met", "before they meet", "when the partition is lost"] as const)
    it(`reads a session again of which the loop had less, ${when}`, async () => {
      const { projection, stand, isTrue, loop } = await world()
      loop.unreadable = 2
      stand(0, 4)
      await projection.start()
      await until(() => projection.ready())
      loop.own(4)
      if (when !== "before they meet") loop.ready()
      stand(4, 6)
      loop.fold(6)
      if (when === "before they meet") loop.ready()
      loop.fold(6)
      if (when === "when the partition is lost") loop.lose()
      else loop.reread()
      await until(isTrue)
      assert.equal(projection.session("default", sessionId)?.session.phase, "awaiting-model")
      await projection.stop()
    })

  it("says that its read model cannot be written, since what is heard is heard once", async () => {
    const { projection, stand, failures, loop, join } = await world()
    stand(0, 4)
    await projection.start()
    await join()
    stand(4, 6)
    projection.store.transaction = () => {
      throw new Error("The disk is full.")
    }
    loop.fold(6)
    await until(() => failures.length === 1)
    assert.match(String(failures[0]), /The disk is full/)
    await projection.stop()
  })

  it("reads many sessions again in few readings, one after the other", async () => {
    const broker = new MemoryBroker()
    const log = broker.connect()
    await log.applyTopics(topicSettings("t", 1, []))
    const codec = await Codec.open(broker.registry)
    const first = new Story("sesn_0").started()
    // What nobody can show holds no other up. Intake takes no such profile; a stranger may have written it.
    for (let n = 1; n < 50; n++) first.beside(`sesn_${n}`).started(agent(), n === 3 ? { profile: "no JSON" } : {})
    const events = first.records.map(({ event }) => event)
    for (const event of events)
      broker.inject(topics.sessions, 0, {
        key: `${event.sessionId}/1`,
        value: codec.encode("sessions", event),
        headers: { session: event.sessionId },
      })
    const [open, readings] = [new Set<number>(), { count: 0, mostAtOnce: 0 }]
    const counting = new Proxy<Log>(log, {
      get: (target, name: keyof Log) => {
        if (name !== "replay") return typeof target[name] === "function" ? target[name].bind(target) : target[name]
        return async function* (...of: Parameters<Log["replay"]>) {
          const reading = readings.count++
          open.add(reading)
          readings.mostAtOnce = Math.max(readings.mostAtOnce, open.size)
          for await (const records of target.replay(...of)) {
            await sleep(1)
            yield records
          }
          open.delete(reading)
        }
      },
    })
    const loop = new Loop(events)
    // All but the first are without a record in the loop's fold.
    const of = loop.of.bind(loop)
    loop.of = () => {
      const fold = of()
      return fold === undefined ? undefined : { ...fold, unread: () => events.slice(1).map((event) => event.sessionId) }
    }
    const projection = projectionOn(counting, codec, loop)
    await projection.start()
    await until(() => projection.ready())
    loop.own(events.length)
    loop.ready()
    const before = readings.count
    loop.lose()
    await until(() => readings.count > before && open.size === 0)
    await sleep(20)
    assert.deepEqual({ readings: readings.count - before, mostAtOnce: readings.mostAtOnce }, { readings: 3, mostAtOnce: 1 })
    await projection.stop()
  })

  it("does not go on with a fold that could not take a record", async () => {
    const { projection, stand, failures } = await world()
    stand(0, 2)
    await projection.start()
    await until(() => projection.ready())
    const { apply } = KeptSessions.prototype
    try {
      KeptSessions.prototype.apply = function (this: KeptSessions, event, at) {
        if (event.type === "model.responded") throw new Error("The disk with the spilled sessions is full.")
        return apply.call(this, event, at)
      }
      stand(2, 6)
      await until(() => failures.length === 1)
      assert.match(String(failures[0]), /disk .* is full/)
    } finally {
      KeptSessions.prototype.apply = apply
      await projection.stop()
    }
  })
})
