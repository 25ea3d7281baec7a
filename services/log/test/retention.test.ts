import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it, type TestContext } from "node:test"
import type { Log } from "../src/log.ts"
import { MemoryBroker } from "../src/memory.ts"
import { openSqlite } from "../src/sqlite.ts"

const dayMs = 86_400_000
const topics = [
  { name: "short", partitions: 2, cleanup: "delete", config: { "retention.ms": "1000" } },
  { name: "long", partitions: 1, cleanup: "delete", config: { "retention.ms": String(dayMs) } },
  { name: "unlimited", partitions: 1, cleanup: "delete", config: { "retention.ms": "-1" } },
  { name: "unsaid", partitions: 1, cleanup: "delete", config: {} },
  { name: "compacted", partitions: 1, cleanup: "compact", config: { "retention.ms": "1000" } },
] as const

/** A log in which time stands still, that can be opened again where it outlives its process. */
interface Place {
  log: Log
  reopen(): Promise<void>
}

const places: Readonly<Record<string, (t: TestContext) => Place>> = {
  memory: () => {
    const broker = new MemoryBroker()
    return { log: broker.connect(), reopen: async () => {} }
  },
  sqlite: (t) => {
    const dir = mkdtempSync(join(tmpdir(), "reins-retention-"))
    const place = {
      log: openSqlite({ dir, synchronous: "NORMAL" }).log,
      reopen: async () => {
        await place.log.close()
        place.log = openSqlite({ dir, synchronous: "NORMAL" }).log
      },
    }
    t.after(async () => {
      await place.log.close()
      rmSync(dir, { recursive: true })
    })
    return place
  },
}

for (const [kind, open] of Object.entries(places)) {
  describe(`retention in the ${kind} log`, { timeout: 60_000 }, () => {
    async function begin(t: TestContext): Promise<Place> {
      t.mock.timers.enable({ apis: ["Date"], now: Date.UTC(2026, 10, 24) })
      const place = open(t)
      await place.log.applyTopics(topics)
      return place
    }

    async function say(log: Log, topic: string, count = 1, partition = 0): Promise<readonly number[]> {
      const append = { topic, partition, key: () => "k", value: new Uint8Array(20), headers: {}, certainty: "always" as const }
      return (await Promise.all(Array.from({ length: count }, () => log.append(append)))).map(({ offset }) => offset)
    }

    const startOf = async (log: Log, topic: string, partition = 0): Promise<number> => (await log.bounds(topic))[partition]?.start ?? -1

    async function standing(log: Log, topic: string): Promise<readonly number[]> {
      const offsets: number[] = []
      for await (const records of log.replay(topic, 0, 0)) offsets.push(...records.map(({ offset }) => offset))
      return offsets
    }

    it("takes what is older, once there is something newer, and leaves every other topic alone", async (t) => {
      const place = await begin(t)
      for (const { name } of topics) await say(place.log, name, 4)
      t.mock.timers.tick(999)
      await say(place.log, "unsaid")
      assert.equal(await startOf(place.log, "short"), 0, "not a moment too early")
      t.mock.timers.tick(1002)
      // An append to any topic sweeps them all.
      await say(place.log, "unsaid")
      assert.deepEqual(await standing(place.log, "short"), [3], "the newest stays")
      t.mock.timers.tick(2 * dayMs)
      await say(place.log, "short")
      assert.deepEqual(await standing(place.log, "short"), [3, 4])
      assert.deepEqual(await standing(place.log, "long"), [3])
      for (const [name, end] of [
        ["unlimited", 4],
        ["unsaid", 6],
        ["compacted", 4],
      ] as const)
        assert.deepEqual(await place.log.bounds(name), [{ partition: 0, start: 0, end }], name)
    })

    it("goes on counting, whatever was taken and however often it is opened", async (t) => {
      const place = await begin(t)
      await say(place.log, "short", 5)
      for (const [next, start] of [
        [5, 4],
        [6, 5],
        [7, 6],
      ] as const) {
        t.mock.timers.tick(dayMs)
        await place.reopen()
        assert.deepEqual(await say(place.log, "short"), [next])
        assert.equal(await startOf(place.log, "short"), start)
      }
      assert.deepEqual(await place.log.bounds("short"), [
        { partition: 0, start: 6, end: 8 },
        { partition: 1, start: 0, end: 0 },
      ])
    })

    it("keeps what a group has not dealt with yet, however old it is", async (t) => {
      const place = await begin(t)
      await say(place.log, "short", 5)
      const following = await place.log.follow({ group: "g", instance: "one", topics: ["short"], records: () => undefined })
      await following.commit([{ topic: "short", partition: 0, offset: 2, note: "" }])
      await following.stop()
      t.mock.timers.tick(dayMs)
      await say(place.log, "long")
      assert.deepEqual(await standing(place.log, "short"), [2, 3, 4])
      await place.reopen()
      t.mock.timers.tick(dayMs)
      await say(place.log, "long")
      assert.deepEqual(await standing(place.log, "short"), [2, 3, 4])
    })

    it("takes a thousand at a time and goes on with the next append, over all partitions", async (t) => {
      const place = await begin(t)
      await say(place.log, "short", 1500)
      await say(place.log, "short", 1500, 1)
      t.mock.timers.tick(5000)
      const starts: (readonly number[])[] = []
      for (let n = 0; n < 4; n++) {
        await say(place.log, "long")
        starts.push([await startOf(place.log, "short"), await startOf(place.log, "short", 1)])
      }
      assert.deepEqual(starts, [
        [1000, 0],
        [1499, 501],
        [1499, 1499],
        [1499, 1499],
      ])
    })

    it("lets a follower that was away go on behind what was taken", async (t) => {
      const place = await begin(t)
      await say(place.log, "short", 5)
      t.mock.timers.tick(5000)
      await say(place.log, "short", 2)
      const seen: number[] = []
      const caughtUp = Promise.withResolvers<void>()
      const following = await place.log.follow({
        instance: "one",
        topics: ["short"],
        from: (_topic, partition) => (partition === 0 ? 2 : 0),
        records: (_topic, _partition, records) => void seen.push(...records.map(({ offset }) => offset)),
        caughtUp: (_topic, partition) => void (partition === 0 && caughtUp.resolve()),
        failed: caughtUp.reject,
      })
      await caughtUp.promise
      await following.stop()
      assert.deepEqual(seen, [4, 5, 6])
    })
  })
}
