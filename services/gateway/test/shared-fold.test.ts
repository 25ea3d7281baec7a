import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { setImmediate as turn } from "node:timers/promises"
import type { SessionEvent } from "@reins/events"
import type { Following, FollowOptions, Log } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { KeptSessions, type SharedFold, Spill, topicSettings } from "@reins/runtime"
import { SessionsFold } from "@reins/session"
import { Story, text, toolUse } from "@reins/session/testing"
import { Part } from "../src/projection/part.ts"
import type { Projection } from "../src/projection/projection.ts"
import { Loop, projectionOn, topics } from "./shared-fold-stage.ts"

/** One session after the other says what it has to say, in an order of its own. */
function facts(random: () => number): readonly SessionEvent[] {
  const left = Array.from({ length: 4 }, (_, index) => {
    const story = new Story(`sesn_${index}`)
      .started()
      .requested()
      .responded([text("I see."), toolUse("toolu_0", "add", {})])
    story
      .dispatched("toolu_0")
      .completed("toolu_0", "1")
      .requested()
      .responded([text("Done.")])
      .idled()
    if (index > 0) story.message("More.").requested().interrupted().idled()
    return story.records.map(({ event }) => event)
  })
  const said: SessionEvent[] = []
  while (left.some((events) => events.length > 0)) {
    const next = left[Math.floor(random() * left.length)]?.shift()
    if (next !== undefined) said.push(next)
  }
  return said
}

function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32
  }
}

/** Every event that a stream is told, in order, and what is shown at the end. */
async function watched(projection: Projection, events: readonly SessionEvent[]): Promise<{ told: string[]; shown: () => unknown }> {
  const told: string[] = []
  const ids = new Set(events.map(({ sessionId }) => sessionId))
  for (const id of ids)
    projection.listen(id, ({ event, place }) => told.push(`${place?.offset}.${place?.index} ${id} ${JSON.stringify(event)}`))
  await projection.start()
  const shown = (): unknown =>
    [...ids].map((sessionId) => {
      const query = { sessionId, types: [], from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY, descending: false, after: null }
      const { session, ...times } = projection.session("default", sessionId) ?? {}
      return { phase: session?.phase, asked: session?.usage, times, events: projection.store.events({ ...query, limit: 1000 }) }
    })
  return { told, shown }
}

const stateOf = (session: unknown): string =>
  JSON.stringify(session, (key, value: unknown) => (key === "conversation" ? undefined : value)) ?? "absent"

/** What each session is after each of its records. */
function statesOf(events: readonly SessionEvent[]): readonly { readonly id: string; readonly offset: number; readonly state: string }[] {
  const fold = new SessionsFold()
  return events.map((event, offset) => {
    fold.apply(event, { offset, timestamp: 1000 + offset })
    return { id: event.sessionId, offset, state: stateOf(fold.get(event.sessionId)) }
  })
}

/** What a session was shown as at some time, and how much of it had been told by then. */
interface Look {
  readonly id: string
  /** Of the first record after which it was so. */
  readonly offset: number
  readonly told: number
}

const offsetOf = (line: string): number => Number(line.split(".")[0])
const sessionOf = (line: string): string => line.split(" ")[1] as string

/** That a session is at least as new as what streams were told of it. */
function looked(projection: Projection, states: ReturnType<typeof statesOf>, told: readonly string[]): readonly Look[] {
  return [...new Set(states.map((one) => one.id))].flatMap((id) => {
    const shown = stateOf(projection.session("default", id)?.session)
    const toldOf = told.filter((line) => sessionOf(line) === id)
    const newest = Math.max(-1, ...toldOf.map(offsetOf))
    const same = states.filter((one) => one.id === id && one.state === shown)
    const isNew = same.some((one) => one.offset >= newest)
    assert.ok(
      isNew || (newest < 0 && shown === stateOf(undefined)),
      `${id} is older than the event at offset ${newest} that was told of it`,
    )
    return same[0] === undefined ? [] : [{ id, offset: same[0].offset, told: toldOf.length }]
  })
}

describe("what a loop of the same process folds", () => {
  it("is waited for no longer than it takes little memory", () => {
    const spill = new Spill()
    const part = new Part(0, spill)
    let next = 5
    const shared: SharedFold = {
      sessions: new KeptSessions(spill.partition(), () => assert.fail()),
      next: () => next,
      unread: () => [],
      spill: () => undefined,
    }
    part.listen(shared)
    assert.equal(part.end, 5)
    while (part.hear(++next, null)) assert.ok(next < 10_000, "it is heard without end")
    assert.equal(next, 1006)
    // As if it had never been listened to: everything is read here, until the two are near again.
    part.listen(shared)
    assert.equal(part.end, Number.POSITIVE_INFINITY)
    part.next = 1006
    part.listen(shared)
    assert.equal(part.meet(), true)
    spill.close()
  })

  it("is shown as it is read, once and in order, wherever the two meet and part", async () => {
    let [joined, kept, read] = [0, 0, 0]
    for (let seed = 1; seed <= 150; seed++) {
      const random = numbers(seed)
      let now = 1000
      const broker = new MemoryBroker({ now: () => now })
      const log = broker.connect()
      await log.applyTopics(topicSettings("t", 1, []))
      const codec = await Codec.open(broker.registry)
      const events = facts(random).map((event) => codec.decodeAs("sessions", event.type, codec.encode("sessions", event)) as SessionEvent)
      const states = statesOf(events)
      const loop = new Loop(events)
      let paused = false
      let pauses = 0
      /** The log of the gateway: at times it is slow, and it says what is delivered to whom. */
      const slow = new Proxy<Log>(log, {
        get: (target, name: keyof Log) => {
          if (name !== "follow") {
            const value = target[name]
            return typeof value === "function" ? value.bind(target) : value
          }
          return async (options: FollowOptions): Promise<Following> => {
            const following = await target.follow({
              ...options,
              records: async (topic, partition, records) => {
                assert.ok(topic !== topics.sessions || !paused, "what is heard is read all the same")
                const then = pauses
                for (let turns = Math.floor(random() * 12); turns > 0; turns--) await turn()
                // What was under way when it was paused is dropped by the log, or is with the gateway already.
                if (pauses !== then && random() < 0.5) return
                read += records.length
                await options.records(topic, partition, records)
              },
            })
            if (options.topics[0] !== topics.sessions) return following
            return Object.assign(Object.create(following) as Following, {
              stop: () => following.stop(),
              pause: (topic: string, partition: number) => {
                paused = true
                pauses++
                joined++
                following.pause(topic, partition)
              },
              resume: (topic: string, partition: number, from: number) => {
                paused = false
                following.resume(topic, partition, from)
              },
            })
          }
        },
      })
      const projection = projectionOn(slow, codec, loop)
      const looks: Look[] = []
      let end = 0
      const append = async (): Promise<void> => {
        const event = events[end]
        if (event === undefined) return
        end++
        now = 999 + end
        const headers = { type: event.type, session: event.sessionId }
        const value = codec.encode("sessions", event)
        await log.append({
          topic: topics.sessions,
          partition: 0,
          key: () => `${event.sessionId}/${end}`,
          value,
          headers,
          certainty: "once",
        })
      }
      for (let at = Math.floor(random() * 20); at > 0; at--) await append()
      const here = await watched(projection, events)
      while (end < events.length || random() < 0.9) {
        const dice = random()
        if (dice < 0.35) await append()
        else if (dice < 0.7 && loop.owns) loop.fold(end)
        else if (dice < 0.8) await turn()
        else if (dice < 0.9 && !loop.owns) loop.own(Math.floor(random() * end))
        else if (dice < 0.95 && loop.owns) loop.ready()
        else if (loop.owns && random() < 0.3) loop.lose()
        if (random() < 0.3) looks.push(...looked(projection, states, here.told))
      }
      if (loop.owns) for (let at = 0; at < events.length; at++) loop.fold(end)
      await projection.caughtUp()
      const alone = projectionOn(log, codec)
      const there = await watched(alone, events)
      await alone.caughtUp()
      assert.deepEqual(here.shown(), there.shown(), `seed ${seed}`)
      assert.deepEqual(here.told.slice(-there.told.length), there.told.slice(-here.told.length), `seed ${seed}`)
      assert.equal(here.told.length, there.told.length, `seed ${seed}`)
      for (const { id, offset, told } of looks)
        assert.ok(
          there.told.filter((line) => sessionOf(line) === id && offsetOf(line) <= offset).length <= told,
          `seed ${seed}: ${id} was newer than what stood in the read model`,
        )
      kept += loop.kept
      await projection.stop()
      await alone.stop()
      loop.spill.close()
      await log.close()
    }
    assert.ok(joined > 100 && kept > 30 && read > 1000, `joined ${joined} times, left ${kept} times, read ${read} records`)
  })
})
