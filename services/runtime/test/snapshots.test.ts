import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type SessionEvent, topicNames } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { foldVersion, stateDigest } from "@reins/session"
import { Story, text } from "@reins/session/testing"
import { pino } from "pino"
import { LogTime, systemClock } from "../src/clock.ts"
import type { Relied } from "../src/offsets.ts"
import { OwnedPartition } from "../src/owned-partition.ts"
import { Snapshots, type SnapshotsOptions } from "../src/snapshots.ts"
import { Spill } from "../src/spill.ts"
import { topicSettings } from "../src/topics.ts"

const topics = topicNames("t")
const later = 1_900_000_000_000

interface Stage {
  readonly log: MemoryLog
  readonly broker: MemoryBroker
  readonly snapshots: Snapshots
  readonly time: LogTime
  /** A process that has folded the log up to here, and knows no snapshot. */
  owned(upTo?: number): OwnedPartition
  read(): Promise<LogRecord[]>
  /** Everything that stands in `snapshots` is read back by this process. */
  readBack(owned: OwnedPartition): Promise<void>
  restored(committed: number, relied: Relied | null): Promise<{ readonly owned: OwnedPartition; readonly from: number }>
}

function snapshotsOn(log: Log, codec: Codec, more: Partial<SnapshotsOptions> = {}): Snapshots {
  const common = { log, codec, topics, logger: pino({ level: "silent" }), clock: systemClock, time: new LogTime(systemClock) }
  return new Snapshots({ ...common, restsMs: 0, uncoveredMax: 1000, ...more })
}

/** Two sessions at rest in one partition, by turns; the first of which has heard so many commands before. */
async function stage(heard = 0): Promise<Stage> {
  const broker = new MemoryBroker()
  const log = broker.connect()
  await log.applyTopics(topicSettings("t", 1, []))
  const codec = await Codec.open(broker.registry)
  const a = new Story("sesn_a")
  const b = a.beside("sesn_b")
  for (let index = 0; index < heard; index++) a.rejected({ commandId: `command-${index}-${"x".repeat(30)}` })
  for (const tell of [
    (story: Story) => story.started(),
    (story: Story) => story.requested(),
    (story: Story) => story.responded([text("Hello.")]),
    (story: Story) => story.idled(),
  ])
    for (const story of [a, b]) tell(story)
  for (const { event, at } of a.records)
    broker.inject(topics.sessions, 0, {
      key: `${event.sessionId}/${at.offset}`,
      value: codec.encode("sessions", event),
      headers: { session: event.sessionId },
    })
  const time = new LogTime(systemClock)
  const snapshots = snapshotsOn(log, codec, { time })
  const fresh = (): OwnedPartition => new OwnedPartition(0, new Spill().partition(), (value) => snapshots.stateIn(value))
  const records = async (topic: string): Promise<LogRecord[]> => {
    const found: LogRecord[] = []
    for await (const stretch of log.replay(topic, 0, 0)) found.push(...stretch)
    return found
  }
  const sessionRecords = await records(topics.sessions)
  const fold = (owned: OwnedPartition, from: number, upTo: number): void => {
    for (const record of sessionRecords) {
      if (record.offset < from || record.offset >= upTo) continue
      const decoded = codec.decode(record.value as Uint8Array)
      assert.ok(decoded.ok)
      const event = decoded.said as unknown as SessionEvent
      if (!owned.places.isRestored(event.sessionId, record.offset)) owned.foldSession(event, record)
      owned.next.set(topics.sessions, record.offset + 1)
    }
  }
  return {
    log,
    broker,
    snapshots,
    time,
    owned: (upTo = heard + 8) => {
      const owned = fresh()
      fold(owned, 0, upTo)
      return owned
    },
    read: () => records(topics.snapshots),
    readBack: async (owned) => {
      for (const record of await records(topics.snapshots)) {
        if (record.offset < (owned.next.get(topics.snapshots) ?? 0)) continue
        snapshots.read(owned, record)
        owned.next.set(topics.snapshots, record.offset + 1)
      }
    },
    restored: async (committed, relied) => {
      const owned = fresh()
      const { sessions: from } = await snapshots.restore(owned, committed, relied, () => true)
      fold(owned, from, heard + 8)
      return { owned, from }
    },
  }
}

function digests(owned: OwnedPartition): Record<string, string> {
  return Object.fromEntries(["sesn_a", "sesn_b"].map((id) => [id, stateDigest(owned.sessions.get(id))]))
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

/** Until so many snapshots stand. */
async function written(world: Stage, count: number): Promise<void> {
  const deadline = performance.now() + 10_000
  while ((await world.read()).length < count) {
    assert.ok(performance.now() < deadline, `${count} snapshots do not stand`)
    await settle()
  }
}

/** Both sessions have their snapshot, read back by who wrote it. */
async function covered(): Promise<Stage & { readonly first: OwnedPartition; readonly relied: Relied }> {
  const world = await stage()
  const first = world.owned()
  world.snapshots.write(first, later, () => false)
  await written(world, 2)
  await world.readBack(first)
  return { ...world, first, relied: { next: 2, count: 2 } }
}

describe("writing snapshots", () => {
  it("moves the low watermark only once they are read back", async () => {
    const world = await stage()
    const owned = world.owned()
    world.snapshots.write(owned, later, () => false)
    await written(world, 2)
    assert.equal(owned.places.lowWatermark(8), 0)
    await world.readBack(owned)
    assert.equal(owned.places.lowWatermark(8), 8)
    assert.equal(owned.places.snapshotCount, 2)
  })

  it("writes nothing again that is written and not read back yet, however long that takes", async () => {
    const world = await stage()
    const owned = world.owned()
    for (let beat = 0; beat < 5; beat++) {
      world.snapshots.write(owned, later, () => false)
      await settle()
    }
    await written(world, 2)
    await settle()
    assert.equal((await world.read()).length, 2)
  })

  it("tries again what nobody knows the fate of", async () => {
    const world = await stage()
    const owned = world.owned()
    world.log.loseNextAck("lost")
    const deadline = performance.now() + 10_000
    while ((await world.read()).length < 2) {
      assert.ok(performance.now() < deadline, "it is not tried again")
      world.snapshots.write(owned, later, () => false)
      await settle()
    }
    await world.readBack(owned)
    assert.equal(owned.places.lowWatermark(8), 8)
  })

  it("leaves out what runs, what is busy, and what has not rested for long enough", async () => {
    const world = await stage()
    const running = world.owned(6)
    world.snapshots.write(running, later, () => false)
    world.snapshots.write(world.owned(), later, () => true)
    const patient = snapshotsOn(world.log, await Codec.open(world.broker.registry), { restsMs: 3000 })
    const owned = world.owned()
    patient.write(owned, (owned.places.of("sesn_a")?.touchedAt ?? 0) + 2000, () => false)
    await settle()
    assert.deepEqual(await world.read(), [])
  })

  it("has room for a session that has heard many thousand commands", async () => {
    const heard = 25_000
    const world = await stage(heard)
    const owned = world.owned()
    world.snapshots.write(owned, later, () => false)
    await written(world, 2)
    assert.ok((await world.read()).some(({ value }) => (value?.byteLength ?? 0) > 1_100_000))
    await world.readBack(owned)
    assert.equal(owned.places.lowWatermark(heard + 8), heard + 8)
    const { owned: heir, from } = await world.restored(heard + 8, { next: 2, count: 2 })
    assert.equal(from, heard + 8)
    assert.deepEqual(digests(heir), digests(owned))
  })

  describe("of a state that the log does not take", () => {
    /** Asks for snapshots of sesn_a, over and over; the log takes none of it until it is told to. */
    async function refusing(owned: (world: Stage) => OwnedPartition) {
      const world = await stage()
      let [asked, refuses] = [0, true]
      let answered: Promise<void> = Promise.resolve()
      const log = world.broker.connect(async (batches, write) => {
        const isAsked = batches.some(({ entries }) => entries.some(({ key }) => key === "sesn_a"))
        if (!isAsked) return write(batches)
        asked++
        if (!refuses) return write(batches)
        await answered
        return batches.map(() => ({ refused: new Error("It is too large.") }))
      })
      const snapshots = snapshotsOn(log, await Codec.open(world.broker.registry), { uncoveredMax: 10 })
      const partition = owned(world)
      return {
        world,
        owned: partition,
        more: (count: number) => {
          for (let index = 0; index < count; index++) partition.places.read("sesn_a", (partition.places.of("sesn_a")?.newest ?? 0) + 10, 0)
        },
        asks: async () => {
          snapshots.write(partition, later, (sessionId) => sessionId === "sesn_b")
          await settle()
          await settle()
          return asked
        },
        takeAll: () => {
          refuses = false
        },
        answerAfter: (promise: Promise<void>) => {
          answered = promise
        },
      }
    }

    it("takes no other's place, and writes one at rest again as soon as there is more of it", async () => {
      const { world, owned, more, asks, takeAll } = await refusing((of) => of.owned())
      assert.equal(await asks(), 1)
      assert.equal(await asks(), 1)
      assert.equal(owned.snapshotsUnderWay.size, 0)
      more(1)
      assert.equal(await asks(), 2)
      more(1)
      takeAll()
      assert.equal(await asks(), 3)
      await world.readBack(owned)
      // As if it had always fitted.
      more(1)
      assert.equal(await asks(), 4)
      assert.equal(owned.snapshotsTooLarge.size, 0)
    })

    it("writes one that runs again once much more of it stands", async () => {
      const { more, asks } = await refusing((of) => of.owned(6))
      more(10)
      assert.equal(await asks(), 1)
      more(9)
      assert.equal(await asks(), 1)
      more(1)
      assert.equal(await asks(), 2)
    })

    it("writes what has changed before it was refused", async () => {
      const { more, asks, answerAfter } = await refusing((of) => of.owned())
      const { promise, resolve } = Promise.withResolvers<void>()
      answerAfter(promise)
      assert.equal(await asks(), 1)
      more(1)
      resolve()
      await settle()
      assert.equal(await asks(), 2)
    })
  })

  it("writes a session that has come far though it runs", async () => {
    const world = await stage()
    const owned = world.owned(6)
    for (let index = 0; index < 1000; index++) owned.places.read("sesn_a", 100 + index, 0)
    world.snapshots.write(owned, later, () => false)
    await written(world, 1)
    await settle()
    assert.deepEqual(
      (await world.read()).map(({ key }) => key),
      ["sesn_a"],
    )
  })
})

it("an append that lands late stands above the snapshot that was taken meanwhile", async () => {
  const world = await stage()
  const owned = world.owned()
  const writer = world.broker.connect()
  writer.loseNextAck("late")
  const unknown = writer.append({
    topic: topics.sessions,
    partition: 0,
    key: () => "sesn_a/late",
    value: Buffer.from("late"),
    headers: {},
    certainty: "once",
  })
  await assert.rejects(unknown)
  world.snapshots.write(owned, later, () => false)
  await written(world, 1)
  const [snapshot] = await world.read()
  assert.equal(snapshot?.headers["offset"], "7")
  writer.landLate()
  const landed: LogRecord[] = []
  for await (const records of world.log.replay(topics.sessions, 0, 8)) landed.push(...records)
  assert.deepEqual(
    landed.map(({ key, offset }) => [key, offset]),
    [["sesn_a/late", 8]],
  )
})

describe("a partition that is taken over from snapshots", () => {
  it("has the same sessions as one that is folded from the beginning, and reads nothing twice", async () => {
    const { restored, relied, first } = await covered()
    const { owned, from } = await restored(8, relied)
    assert.equal(from, 8)
    assert.deepEqual(digests(owned), digests(first))
    assert.equal(owned.places.lowWatermark(8), 8)
  })

  it("folds what a snapshot has no second time where it has to read from before it", async () => {
    const { restored, relied, first } = await covered()
    const { owned, from } = await restored(3, relied)
    assert.equal(from, 3)
    assert.deepEqual(digests(owned), digests(first))
  })

  it("is folded from its beginning where nobody says what was relied on, or that is not there any more", async () => {
    const { restored, first, relied } = await covered()
    for (const [committed, said] of [
      [0, relied],
      [8, null],
      [8, { next: 2, count: 3 }],
      [8, { next: 5, count: 2 }],
    ] as const) {
      const { owned, from } = await restored(committed, said)
      assert.equal(from, 0, JSON.stringify(said))
      assert.deepEqual(digests(owned), digests(first))
    }
  })

  /** Puts a record in the place of the snapshot of session a. */
  const replaced = async (
    change: (record: LogRecord) => Partial<Pick<LogRecord, "value" | "headers">>,
  ): Promise<Awaited<ReturnType<typeof covered>>> => {
    const world = await covered()
    const [a] = (await world.read()).filter(({ key }) => key === "sesn_a") as [LogRecord]
    world.broker.compact(topics.snapshots, 0)
    world.broker.inject(topics.snapshots, 0, { key: "sesn_a", value: a.value, headers: a.headers, ...change(a) })
    world.broker.compact(topics.snapshots, 0)
    return world
  }

  it("ignores a snapshot of another fold version, and reads its session from where that began", async () => {
    const { restored, first, relied } = await replaced(({ headers }) => ({ headers: { ...headers, fold: "another" } }))
    assert.notEqual(foldVersion, "another")
    const { owned, from } = await restored(8, relied)
    assert.equal(from, 0)
    assert.deepEqual(digests(owned), digests(first))
  })

  it("ignores one whose bytes are not what was written", async () => {
    const { restored, first, relied } = await replaced(({ value }) => {
      const bytes = Buffer.from(value as Uint8Array)
      bytes[bytes.length - 3] = 0x7a
      return { value: bytes }
    })
    const { owned, from } = await restored(8, relied)
    assert.equal(from, 0)
    assert.deepEqual(digests(owned), digests(first))
  })

  it("ignores what is no snapshot at all, also where it is followed", async () => {
    const { restored, first, relied, readBack } = await replaced(() => ({ value: Buffer.from("garbage"), headers: {} }))
    const { owned, from } = await restored(8, relied)
    assert.equal(from, 0)
    assert.deepEqual(digests(owned), digests(first))
    await readBack(first)
    assert.equal(first.places.lowWatermark(8), 0, "its session is to be read from the beginning, until it is written anew")
  })

  it("tells what log time is, though nothing is left to be read", async () => {
    const { time, restored, relied } = await covered()
    assert.equal(time.now(), 0)
    assert.equal((await restored(8, relied)).from, 8)
    assert.ok(Math.abs(time.now() - Date.now()) < 60_000, String(time.now()))
  })

  it("reads again what an older snapshot lacks that a zombie wrote after the commit (S3)", async () => {
    const world = await stage()
    const zombie = world.owned(4)
    for (let index = 0; index < 1000; index++) zombie.places.read("sesn_a", 3, 0)
    const first = world.owned()
    world.snapshots.write(first, later, () => false)
    await written(world, 2)
    await world.readBack(first)
    world.snapshots.write(zombie, later, () => false)
    await written(world, 3)
    world.broker.compact(topics.snapshots, 0)
    const left = (await world.read()).map(({ key, headers }) => [key, headers["offset"]])
    assert.deepEqual(left, [
      ["sesn_b", "7"],
      ["sesn_a", "3"],
    ])
    const { owned, from } = await world.restored(8, { next: 2, count: 2 })
    assert.equal(from, 4)
    assert.deepEqual(digests(owned), digests(first))
    assert.equal(owned.places.lowWatermark(8), 4, "and whoever comes next has to as well, until it is written again")
  })

  it("believes no snapshot that is ahead of the log", async () => {
    const { restored, first, relied } = await replaced(({ headers }) => ({ headers: { ...headers, offset: "4711" } }))
    const { owned, from } = await restored(8, relied)
    assert.equal(from, 0)
    assert.deepEqual(digests(owned), digests(first))
  })
})
