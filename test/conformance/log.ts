import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { after, afterEach, before, describe, it, type TestContext } from "node:test"
import {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  type Certainty,
  type Commit,
  type Following,
  type FollowOptions,
  type Log,
  type LogRecord,
  TopicMismatchError,
  type TopicSettings,
} from "@reins/log"

// One suite for every log. It states the promises G1 to G5 of services/log/src/log.ts and what stands beside them; whatever
// an adapter cannot be made to suffer here it names in `lacks`, with the reason, and the test says so.

/** What one adapter brings along to be held to the promises. */
export interface LogHarness {
  /** How many partitions the topics of this suite have. At least 3. */
  readonly partitions: number
  /** A record with a value of this many bytes is refused by this log. */
  readonly refusedBytes: number
  /** A client of its own, as another process would have; the harness closes it in `stop`. */
  log(instance?: string): Promise<Log>
  /** Creates a topic under a fresh name. */
  topic(settings?: Partial<Omit<TopicSettings, "name">>): Promise<string>
  /** The process of this client dies: the promise resolves when its memberships have ended. */
  kill?(log: Log): Promise<void>
  /** The next write of this client lands or not, or lands later; its acknowledgement does not arrive. */
  loseNextAck?(log: Log, how: "landed" | "lost" | "late"): Promise<void>
  /** A partition in which the log cleaner has left a stretch without records (on Kafka an empty batch), and the offsets that are left. */
  compactedHole?(): Promise<{ readonly topic: string; readonly partition: number; readonly left: readonly number[]; readonly end: number }>
  /** A partition of a `delete` topic whose first records, of ten at least, have passed their retention. */
  expired(): Promise<{ readonly topic: string; readonly partition: number; readonly end: number }>
  /** Why a capability is missing. */
  readonly lacks?: Partial<Record<"kill" | "loseNextAck" | "compactedHole", string>>
  stop(): Promise<void>
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

function entry(topic: string, partition: number, value: string, certainty: Certainty = "always"): Append {
  return { topic, partition, key: () => randomUUID(), value: text(value), headers: {}, certainty }
}

function textOf(record: LogRecord): string {
  return record.value === null ? "" : new TextDecoder().decode(record.value)
}

async function replayed(log: Log, topic: string, partition: number, from = 0, to?: number): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay(topic, partition, from, to)) records.push(...stretch)
  return records
}

/** Waits for a condition, not for a time; the limit only ends a test that hangs. */
async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 30_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const range = (length: number): number[] => Array.from({ length }, (_, index) => index)

/** One unbroken ownership of one partition of one topic: where it began, and what it got. */
interface Spell {
  readonly topic: string
  readonly partition: number
  readonly records: LogRecord[]
  from: number
}

/** A follower that watches the promises made to it and keeps what it got. */
class Reader {
  readonly instance: string
  readonly spells: Spell[] = []
  readonly broken: string[] = []
  readonly caughtUp: Set<string> = new Set()
  readonly committed: Map<string, { offset: number; note: string } | null> = new Map()
  failure: Error | undefined
  /** Runs in every `records`, before it counts as handled. */
  handle: ((topic: string, partition: number, records: readonly LogRecord[]) => void | Promise<void>) | undefined
  readonly #log: Log
  readonly #options: Partial<FollowOptions> & { topics: readonly string[] }
  readonly #owned = new Set<number>()
  readonly #open = new Map<string, Spell>()
  readonly #busy = new Set<string>()
  readonly #peers: Reader[]
  #following: Following | undefined

  /** `peers` are the members of one group: no two of them may own a partition while both think themselves alive (G4). */
  constructor(log: Log, options: Partial<FollowOptions> & { topics: readonly string[] }, peers: Reader[] = []) {
    this.#log = log
    this.#options = options
    this.#peers = peers
    this.instance = options.instance ?? `reader-${randomUUID()}`
    peers.push(this)
  }

  get following(): Following {
    assert.ok(this.#following, "The reader has not started.")
    return this.#following
  }

  get records(): LogRecord[] {
    return this.spells.flatMap((spell) => spell.records)
  }

  owns(partition: number): boolean {
    return this.#following !== undefined && this.#following.alive() && this.#following.partitions().includes(partition)
  }

  async start(): Promise<this> {
    this.#following = await this.#log.follow({
      ...this.#options,
      instance: this.instance,
      from: (topic, partition, committed) => {
        this.committed.set(`${topic}/${partition}`, committed)
        const begin = (from: number): number => {
          this.#open.set(`${topic}/${partition}`, { topic, partition, records: [], from })
          return from
        }
        const from = this.#options.from?.(topic, partition, committed) ?? 0
        return typeof from === "number" ? begin(from) : from.then(begin)
      },
      assigned: (partition) => {
        this.#expect(!this.#owned.has(partition), `partition ${partition} was assigned twice`)
        this.#owned.add(partition)
        this.#sole(partition)
      },
      lost: (partition) => {
        this.#expect(this.#owned.delete(partition), `partition ${partition} was lost without being owned`)
        for (const [id, spell] of this.#open) if (spell.partition === partition) this.#open.delete(id)
      },
      records: async (topic, partition, records) => {
        const id = `${topic}/${partition}`
        this.#expect(this.#owned.has(partition), `records of ${id} came without ownership`)
        this.#expect(!this.#busy.has(id), `records of ${id} came before the last ones were handled`)
        this.#expect(records.length > 0, `an empty batch of ${id} came`)
        this.#busy.add(id)
        // While a rebalance is under way records may still come, to one that knows that it is not sure of what it owns (G4).
        if (this.owns(partition)) this.#sole(partition)
        const spell = this.#open.get(id)
        this.#expect(spell !== undefined, `records of ${id} came before from() was asked`)
        if (spell !== undefined) {
          if (!this.spells.includes(spell)) this.spells.push(spell)
          spell.records.push(...records)
        }
        for (const record of records)
          this.#expect(record.topic === topic && record.partition === partition, `a record of another partition came as one of ${id}`)
        try {
          await this.handle?.(topic, partition, records)
        } finally {
          this.#busy.delete(id)
        }
      },
      caughtUp: (topic, partition) => {
        const id = `${topic}/${partition}`
        this.#expect(this.#owned.has(partition), `${id} caught up without ownership`)
        this.caughtUp.add(id)
      },
      failed: (error) => {
        this.failure = error
      },
    })
    return this
  }

  async commit(commits: readonly Commit[]): Promise<void> {
    await this.following.commit(commits)
  }

  /** Throws where a promise was broken; `holes` allows offsets that the cleaner has taken. */
  check(holes: "none" | "compacted" = "none"): void {
    assert.deepEqual(this.broken, [], `${this.instance} saw promises broken`)
    for (const { topic, partition, records, from } of this.spells) {
      let next = from
      for (const { offset } of records) {
        assert.ok(
          holes === "none" ? offset === next : offset >= next,
          `${this.instance}: ${topic}[${partition}] went on at ${offset}, not at ${next}`,
        )
        next = offset + 1
      }
    }
  }

  #sole(partition: number): void {
    for (const peer of this.#peers) {
      this.#expect(peer === this || !peer.owns(partition), `partition ${partition} was owned by ${peer.instance} too`)
    }
  }

  #expect(condition: boolean, otherwise: string): void {
    if (!condition) this.broken.push(otherwise)
  }
}

/** Holds one adapter to the promises of the port. */
export function conformance(adapter: string, open: () => Promise<LogHarness>): void {
  describe(`the ${adapter} log`, { timeout: 240_000 }, () => {
    let harness: LogHarness
    let log: Log
    const readers: Reader[] = []

    before(async () => {
      harness = await open()
      log = await harness.log()
    })

    // What one test leaves behind must not cost the next one a rebalance.
    afterEach(async () => {
      await Promise.allSettled(readers.splice(0).map((one) => one.following.stop()))
    })

    after(() => harness.stop())

    async function reader(on: Log, options: Partial<FollowOptions> & { topics: readonly string[] }, peers: Reader[] = []): Promise<Reader> {
      const started = new Reader(on, options, peers)
      readers.push(started)
      return started.start()
    }

    async function member(group: string, topics: readonly string[], peers: Reader[], from?: FollowOptions["from"]): Promise<Reader> {
      const instance = `member-${randomUUID()}`
      return reader(await harness.log(instance), { group, topics, instance, ...(from === undefined ? {} : { from }) }, peers)
    }

    const group = (): string => `group-${randomUUID()}`
    const allPartitions = (): number[] => range(harness.partitions)
    const sharedOut = (members: readonly Reader[]): boolean =>
      JSON.stringify(members.flatMap((one) => (one.following.alive() ? one.following.partitions() : [])).sort((a, b) => a - b)) ===
        JSON.stringify(allPartitions()) && members.every((one) => one.following.partitions().length > 0)

    async function fill(topic: string, each: number): Promise<void> {
      await Promise.all(
        allPartitions().flatMap((partition) => range(each).map((n) => log.append(entry(topic, partition, `${partition}:${n}`)))),
      )
    }

    function can(t: TestContext, capability: "kill" | "loseNextAck" | "compactedHole"): boolean {
      if (harness[capability] !== undefined) return true
      t.skip(harness.lacks?.[capability] ?? `${capability} is missing in this harness`)
      return false
    }

    describe("append and replay", () => {
      it("gives back the key, the bytes and the headers that were written, where the promise said (G1, G5)", async () => {
        const topic = await harness.topic({ cleanup: "delete" })
        const entries: Omit<Append, "topic" | "partition" | "certainty">[] = [
          { key: () => "sesn_1/a", value: text("plain"), headers: { type: "session.started", session: "sesn_1" } },
          { key: () => "sesn_1/b", value: Uint8Array.from(range(256)), headers: {} },
          { key: () => "sesn_1/c", value: null, headers: { why: "a tombstone" } },
          { key: () => "sesn_1/d", value: new Uint8Array(0), headers: { empty: "" } },
          { key: () => null, value: text("no key"), headers: {} },
          { key: () => "schlüssel/鍵/🔑", value: text("größer 大 🙂"), headers: { title: "Überschrift 見出し 🎈" } },
          { key: () => "", value: new Uint8Array(200_000).fill(7), headers: {} },
        ]
        const placed = await Promise.all(entries.map((one) => log.append({ ...one, topic, partition: 1, certainty: "always" })))
        assert.deepEqual(
          placed.map((one) => one.offset),
          range(entries.length),
        )
        const records = await replayed(log, topic, 1)
        assert.equal(records.length, entries.length)
        records.forEach((record, index) => {
          const written = entries[index] as (typeof entries)[number]
          assert.equal(record.topic, topic)
          assert.equal(record.partition, 1)
          assert.equal(record.offset, placed[index]?.offset)
          assert.equal(record.timestamp, placed[index]?.timestamp)
          assert.equal(record.key, written.key())
          assert.deepEqual(record.value === null ? null : [...record.value], written.value === null ? null : [...written.value])
          assert.deepEqual({ ...record.headers }, { ...written.headers })
        })
      })

      it("keeps the order of 64 appends at once in every partition, and asks for each key once (G2)", async () => {
        const topic = await harness.topic()
        let asked = 0
        const placed = await Promise.all(
          range(64).flatMap((n) =>
            allPartitions().map((partition) => {
              const key = (): string => `${partition}/${n}/${asked++}`
              return log.append({ topic, partition, key, value: text(String(n)), headers: {}, certainty: "once" })
            }),
          ),
        )
        assert.equal(asked, placed.length)
        for (const partition of allPartitions()) {
          const records = await replayed(log, topic, partition)
          assert.deepEqual(records.map(textOf), range(64).map(String))
          assert.equal(new Set(records.map((record) => record.key)).size, 64)
        }
      })

      it("keeps the order of appends that follow one another while earlier ones are under way (G2)", async () => {
        const topic = await harness.topic()
        const under: Promise<unknown>[] = []
        for (const n of range(200)) {
          under.push(log.append(entry(topic, 0, String(n))))
          if (n % 7 === 0) await under.at(-3)
        }
        await Promise.all(under)
        assert.deepEqual((await replayed(log, topic, 0)).map(textOf), range(200).map(String))
      })

      it("never lets timestamps go backwards in a partition", async () => {
        const topic = await harness.topic()
        for (const n of range(20)) await log.append(entry(topic, 2, String(n)))
        const stamps = (await replayed(log, topic, 2)).map((record) => record.timestamp)
        assert.deepEqual(
          stamps,
          [...stamps].sort((a, b) => a - b),
        )
        assert.ok(stamps.every(Number.isInteger))
      })

      it("does not change what is written when the writer uses its buffer again, nor what stands when a reader does", async () => {
        const topic = await harness.topic()
        const value = text("first")
        await log.append({ topic, partition: 0, key: () => "k", value, headers: {}, certainty: "always" })
        value.fill(0)
        const [record] = await replayed(log, topic, 0)
        assert.equal(textOf(record as LogRecord), "first")
        record?.value?.fill(0)
        assert.equal(textOf((await replayed(log, topic, 0))[0] as LogRecord), "first")
      })

      it("replays a stretch, and no further than the log stood when it was asked", async () => {
        const topic = await harness.topic()
        await Promise.all(range(10).map((n) => log.append(entry(topic, 0, String(n)))))
        const offsets = async (from: number, to?: number): Promise<number[]> =>
          (await replayed(log, topic, 0, from, to)).map((record) => record.offset)
        assert.deepEqual(await offsets(3, 6), [3, 4, 5])
        assert.deepEqual(await offsets(8), [8, 9])
        assert.deepEqual(await offsets(8, 100), [8, 9])
        assert.deepEqual(await offsets(10), [])
        assert.deepEqual(await offsets(4, 4), [])
      })

      it("says where every partition begins and ends", async () => {
        const topic = await harness.topic()
        assert.deepEqual(
          await log.bounds(topic),
          allPartitions().map((partition) => ({ partition, start: 0, end: 0 })),
        )
        await log.append(entry(topic, 1, "a"))
        await log.append(entry(topic, 1, "b"))
        assert.deepEqual(
          await log.bounds(topic),
          allPartitions().map((partition) => ({ partition, start: 0, end: partition === 1 ? 2 : 0 })),
        )
        await assert.rejects(log.bounds(`none-${randomUUID()}`))
      })

      it("refuses a partition that does not exist, and fails only that entry", async () => {
        const topic = await harness.topic()
        const wrong = log.append(entry(topic, harness.partitions, "nowhere"))
        const right = log.append(entry(topic, 0, "somewhere"))
        await assert.rejects(wrong, AppendRejectedError)
        assert.equal((await right).offset, 0)
      })

      it("fails a record that is too large alone, without holding up or reordering its neighbours", async () => {
        const topic = await harness.topic()
        const earlier = range(5).map((n) => log.append(entry(topic, 0, `before ${n}`)))
        const large = log.append({ ...entry(topic, 0, ""), value: new Uint8Array(harness.refusedBytes) })
        const later = range(5).map((n) => log.append(entry(topic, 0, `after ${n}`)))
        await assert.rejects(large, AppendRejectedError)
        await Promise.all([...earlier, ...later])
        assert.deepEqual((await replayed(log, topic, 0)).map(textOf), [
          ...range(5).map((n) => `before ${n}`),
          ...range(5).map((n) => `after ${n}`),
        ])
      })

      it("takes as much as the topic says, and no more", async () => {
        const topic = await harness.topic({ config: { "max.message.bytes": "5000000", "message.timestamp.type": "LogAppendTime" } })
        const large = new Uint8Array(4_900_000).fill(7)
        const placed = await Promise.all([
          log.append(entry(topic, 0, "before")),
          log.append({ ...entry(topic, 0, ""), value: large }),
          log.append(entry(topic, 0, "after")),
        ])
        await assert.rejects(log.append({ ...entry(topic, 0, ""), value: new Uint8Array(5_000_001) }), AppendRejectedError)
        assert.deepEqual(
          placed.map(({ offset }) => offset),
          range(3),
        )
        const follower = await reader(log, { topics: [topic] })
        await until(() => follower.records.length === 3, "all of it is delivered")
        for (const records of [follower.records, await replayed(log, topic, 0)]) {
          assert.deepEqual(
            records.map(({ value }) => value?.byteLength),
            [6, 4_900_000, 5],
          )
          assert.deepEqual(Buffer.from(records[1]?.value as Uint8Array), Buffer.from(large))
        }
      })

      it("takes back what waits unsent, except what must stand", async () => {
        const topic = await harness.topic()
        const once = log.append(entry(topic, 0, "once", "once"))
        const withdrawn = log.append(entry(topic, 0, "until withdrawn", "until-withdrawn"))
        const always = log.append(entry(topic, 0, "always", "always"))
        const elsewhere = log.append(entry(topic, 1, "elsewhere", "once"))
        log.withdraw(topic, 0)
        await assert.rejects(once, AppendWithdrawnError)
        await assert.rejects(withdrawn, AppendWithdrawnError)
        await Promise.all([always, elsewhere])
        assert.deepEqual((await replayed(log, topic, 0)).map(textOf), ["always"])
        assert.deepEqual((await replayed(log, topic, 1)).map(textOf), ["elsewhere"])
      })

      it("hands out values that do not pin a buffer many times their size", async () => {
        const topic = await harness.topic()
        await Promise.all(range(300).map((n) => log.append(entry(topic, 0, `${n}`.padEnd(1000, ".")))))
        const follower = await reader(log, { topics: [topic] })
        await until(() => follower.records.length === 300, "all records are delivered")
        for (const record of [...follower.records, ...(await replayed(log, topic, 0))]) {
          assert.ok((record.value?.buffer.byteLength ?? 0) <= 16_384, `1,000 bytes keep ${record.value?.buffer.byteLength} alive`)
        }
      })
    })

    describe("an acknowledgement that is lost", () => {
      for (const how of ["landed", "lost", "late"] as const) {
        it(`tells a "once" that nobody knows, when it ${how === "landed" ? "landed" : how === "lost" ? "did not land" : "lands later"}`, async (t) => {
          if (!can(t, "loseNextAck")) return
          const client = await harness.log()
          const topic = await harness.topic()
          await client.append(entry(topic, 0, "first"))
          await harness.loseNextAck?.(client, how)
          await assert.rejects(client.append(entry(topic, 0, "second", "once")), AppendUnknownError)
          await client.append(entry(topic, 0, "third"))
          const find = async (): Promise<string[]> => (await replayed(log, topic, 0)).map(textOf)
          if (how === "late") await until(async () => (await find()).includes("second"), "the late record lands")
          const stood = await find()
          assert.deepEqual(
            stood.filter((one) => one !== "second"),
            ["first", "third"],
          )
          assert.equal(stood.filter((one) => one === "second").length, how === "lost" ? 0 : 1)
          assert.deepEqual(stood.filter((one) => one !== "third").slice(0, 1), ["first"])
        })

        it(`makes an "always" stand, in its place and under a new key each time, when it ${how === "landed" ? "landed" : how === "lost" ? "did not land" : "lands later"} (G2)`, async (t) => {
          if (!can(t, "loseNextAck")) return
          const client = await harness.log()
          const topic = await harness.topic()
          await harness.loseNextAck?.(client, how)
          let keys = 0
          const first = client.append({
            topic,
            partition: 0,
            key: () => `first/${keys++}`,
            value: text("first"),
            headers: {},
            certainty: "always",
          })
          await new Promise((resolve) => setImmediate(resolve))
          const rest = range(5).map((n) => client.append(entry(topic, 0, `next ${n}`)))
          const { offset } = await first
          await Promise.all(rest)
          const copies = how === "lost" ? 1 : 2
          await until(
            async () => (await replayed(log, topic, 0)).filter((record) => textOf(record) === "first").length >= copies,
            "all copies stand",
          )
          const stood = await replayed(log, topic, 0)
          const firsts = stood.filter((record) => textOf(record) === "first")
          assert.equal(keys, 2)
          assert.equal(firsts.length, copies)
          assert.equal(new Set(firsts.map((record) => record.key)).size, firsts.length)
          assert.ok(
            firsts.some((record) => record.offset === offset),
            "one stands where the promise said",
          )
          assert.deepEqual([...new Set(stood.map(textOf))], ["first", ...range(5).map((n) => `next ${n}`)])
        })
      }
    })

    describe("follow", () => {
      it("gives one member everything once and in order, and says when it has caught up (G3)", async () => {
        const topic = await harness.topic()
        await fill(topic, 100)
        const follower = await reader(log, { group: group(), topics: [topic] })
        await until(() => follower.caughtUp.size === harness.partitions, "it caught up")
        assert.equal(follower.records.length, 100 * harness.partitions)
        await fill(topic, 10)
        await until(() => follower.records.length >= 110 * harness.partitions, "the new records are delivered")
        follower.check()
        assert.equal(follower.records.length, 110 * harness.partitions)
        assert.deepEqual([...follower.following.partitions()], allPartitions())
        assert.equal(follower.following.alive(), true)
      })

      it("says of an empty partition that it has caught up", async () => {
        const follower = await reader(log, { group: group(), topics: [await harness.topic()] })
        await until(() => follower.caughtUp.size === harness.partitions, "it caught up")
        assert.equal(follower.records.length, 0)
        follower.check()
      })

      it("begins where `from` says, and skips what the reader already has", async () => {
        const topic = await harness.topic()
        await fill(topic, 20)
        const follower = await reader(log, { group: group(), topics: [topic], from: () => 5 })
        const ahead = await reader(log, { group: group(), topics: [topic], position: (_, partition) => (partition === 0 ? 12 : undefined) })
        await until(() => follower.caughtUp.size === harness.partitions && ahead.caughtUp.size === harness.partitions, "both caught up")
        follower.check()
        assert.equal(follower.records.length, 15 * harness.partitions)
        assert.deepEqual(
          ahead.records.filter((record) => record.partition === 0).map((record) => record.offset),
          range(8).map((n) => n + 12),
        )
        assert.equal(ahead.records.filter((record) => record.partition === 1).length, 20)
      })

      it("pauses a partition, and goes on with it where it is told, while the others are read", async () => {
        const topic = await harness.topic()
        await fill(topic, 20)
        const follower = new Reader(log, { topics: [topic] }, [])
        readers.push(follower)
        follower.handle = (_, partition, records) => {
          // In the middle of a delivery, from within it.
          if (partition === 0 && records.some(({ offset }) => offset === 19)) follower.following.pause(topic, 0)
        }
        await follower.start()
        const offsets = (partition: number): number[] =>
          follower.records.filter((record) => record.partition === partition).map(({ offset }) => offset)
        await until(() => offsets(0).length === 20 && offsets(1).length === 20, "what stood is delivered")
        await fill(topic, 5)
        await until(() => offsets(1).length === 25, "the other partitions go on")
        await new Promise((resolve) => setTimeout(resolve, 300))
        assert.equal(offsets(0).length, 20)
        follower.caughtUp.clear()
        follower.handle = undefined
        follower.following.resume(topic, 0, 12)
        await until(() => offsets(0).length === 33, "it goes on")
        await log.append(entry(topic, 0, "one more"))
        await until(() => offsets(0).length === 34, "and follows again")
        assert.deepEqual(offsets(0), [...range(20), ...range(14).map((n) => n + 12)])
        assert.ok(follower.caughtUp.has(`${topic}/0`), "that it has caught up is said again")
        // Where nothing is paused, nothing happens; and a pause may be ended where it began.
        follower.following.resume(topic, 0, 0)
        follower.following.pause(topic, 0)
        follower.following.pause(topic, 0)
        follower.following.resume(topic, 0, 26)
        await log.append(entry(topic, 0, "last"))
        await until(() => offsets(0).length === 35, "it follows once")
        await new Promise((resolve) => setTimeout(resolve, 100))
        assert.equal(offsets(0).length, 35)
        assert.deepEqual(follower.broken, [])
      })

      it("stops and says so when the reader throws", async () => {
        const topic = await harness.topic()
        await log.append(entry(topic, 0, "poison"))
        const follower = new Reader(log, { group: group(), topics: [topic] })
        readers.push(follower)
        follower.handle = () => {
          throw new Error("The fold is broken.")
        }
        await follower.start()
        await until(() => follower.failure !== undefined, "it failed")
        assert.match(String(follower.failure), /The fold is broken/)
        assert.equal(follower.following.alive(), false)
      })

      it("gives a follower without a group every partition of topics of any size", async () => {
        const small = await harness.topic({ partitions: 1 })
        const large = await harness.topic({ partitions: harness.partitions + 2 })
        await log.append(entry(small, 0, "small"))
        await log.append(entry(large, harness.partitions + 1, "large"))
        const tail = await reader(log, { topics: [small, large] })
        const other = await reader(log, { topics: [large], from: (_, partition) => (partition === harness.partitions + 1 ? 1 : 0) })
        await until(() => tail.records.length === 2 && other.caughtUp.has(`${large}/${harness.partitions + 1}`), "what stands is delivered")
        await log.append(entry(large, 0, "more"))
        await log.append(entry(large, harness.partitions + 1, "more"))
        await until(() => tail.records.length === 4 && other.records.length === 2, "what is new is delivered")
        tail.check()
        other.check()
        assert.equal(tail.following.alive(), true)
      })

      it("follows one more topic from then on, in the same partitions", async () => {
        const [first, second] = [await harness.topic(), await harness.topic()]
        await fill(first, 3)
        await fill(second, 5)
        const peers: Reader[] = []
        const name = group()
        const members = [await member(name, [first], peers), await member(name, [first], peers)]
        await until(() => sharedOut(members), "the partitions are shared out")
        for (const one of members) await one.following.add(second)
        const ofSecond = (one: Reader): LogRecord[] => one.records.filter((record) => record.topic === second)
        const total = (): number => members.reduce((sum, one) => sum + ofSecond(one).length, 0)
        await until(
          () =>
            total() >= 5 * harness.partitions &&
            members.every((one) => one.following.partitions().every((partition) => one.caughtUp.has(`${second}/${partition}`))),
          "the second topic is delivered",
        )
        await fill(second, 2)
        await until(() => total() >= 7 * harness.partitions, "what is new is delivered")
        for (const one of members) {
          one.check()
          const owned = new Set(one.following.partitions())
          assert.ok(
            ofSecond(one).every((record) => owned.has(record.partition)),
            "a member read a partition of the second topic that it does not own",
          )
        }
      })

      it("goes on over a stretch that the cleaner has emptied", async (t) => {
        if (!can(t, "compactedHole")) return
        const hole = await harness.compactedHole?.()
        assert.ok(hole)
        assert.ok(hole.left.length < hole.end, "the cleaner has taken something")
        assert.deepEqual(
          (await replayed(log, hole.topic, hole.partition)).map((record) => record.offset),
          hole.left,
        )
        const follower = await reader(log, { group: group(), topics: [hole.topic] })
        const id = `${hole.topic}/${hole.partition}`
        await until(() => follower.caughtUp.has(id), "it caught up")
        const inside = Array.from({ length: hole.end }, (_, offset) => offset).find((offset) => !hole.left.includes(offset)) as number
        const late = await reader(log, { topics: [hole.topic], from: (_, partition) => (partition === hole.partition ? inside : 0) })
        await until(() => late.caughtUp.has(id), "the one that began inside the hole caught up")
        const { offset } = await log.append(entry(hole.topic, hole.partition, "after the hole"))
        const got = (one: Reader): number[] =>
          one.records.filter((record) => record.partition === hole.partition).map((record) => record.offset)
        await until(() => got(follower).includes(offset) && got(late).includes(offset), "what is new is delivered")
        assert.deepEqual(got(follower), [...hole.left, offset])
        assert.deepEqual(got(late), [...hole.left.filter((one) => one >= inside), offset])
        follower.check("compacted")
      })
    })

    describe("a group", () => {
      it("shares the partitions of two topics out, each to one member and both alike (G4)", async () => {
        const topics = [await harness.topic(), await harness.topic()]
        const peers: Reader[] = []
        const name = group()
        assert.equal(await log.members(name), null)
        const first = await member(name, topics, peers)
        await until(() => sharedOut([first]), "the first owns all")
        const held = first.following.partitions()
        const second = await member(name, topics, peers)
        await until(() => sharedOut([first, second]), "both have a share")
        // A join moves no more than the share of the one that joins.
        assert.equal(second.following.partitions().length, Math.floor(harness.partitions / 2))
        assert.ok(first.following.partitions().every((partition) => held.includes(partition)))
        await until(async () => (await log.members(name))?.size === 2, "the group knows both")
        assert.deepEqual([...((await log.members(name)) ?? [])].sort(), [first.instance, second.instance].sort())
        for (const topic of topics) await fill(topic, 10)
        await until(() => first.records.length + second.records.length >= 20 * harness.partitions, "all is delivered")
        assert.equal(first.records.length + second.records.length, 20 * harness.partitions)
        for (const one of peers) {
          one.check()
          const owned = new Set(one.following.partitions())
          assert.ok(one.records.every((record) => owned.has(record.partition)))
        }
      })

      it("hands over what a member leaves, and the next one resumes at what was committed", async () => {
        const topic = await harness.topic()
        await fill(topic, 10)
        const peers: Reader[] = []
        const name = group()
        const resume: FollowOptions["from"] = (_topic, _partition, committed) => committed?.offset ?? 0
        const first = await member(name, [topic], peers, resume)
        await until(() => first.records.length === 10 * harness.partitions, "the first has read all")
        assert.ok([...first.committed.values()].every((committed) => committed === null))
        await first.commit(allPartitions().map((partition) => ({ topic, partition, offset: 9, note: "too far" })))
        const note = JSON.stringify({ low: 4, why: "é".repeat(20) })
        await first.commit(allPartitions().map((partition) => ({ topic, partition, offset: 4, note })))
        const second = await member(name, [topic], peers, resume)
        await until(() => sharedOut([first, second]), "both have a share")
        await first.following.stop()
        await until(() => sharedOut([second]), "the second owns all")
        await until(() => second.records.length >= 6 * harness.partitions, "the second has read the rest")
        second.check()
        for (const spell of second.spells) assert.equal(spell.from, 4)
        assert.deepEqual(second.committed.get(`${topic}/0`), { offset: 4, note })
        await until(async () => (await log.members(name))?.has(first.instance) === false, "the first is no member any more")
        await log.append(entry(topic, 0, "new"))
        await until(() => second.records.length === 6 * harness.partitions + 1, "the new record is delivered")
        assert.equal(first.records.length, 10 * harness.partitions, "nothing came after stop")
      })

      it("refuses a commit without a group and a note beyond its limit", async () => {
        const topic = await harness.topic()
        const alone = await reader(log, { topics: [topic] })
        await assert.rejects(alone.commit([{ topic, partition: 0, offset: 0, note: "" }]))
        const one = await reader(log, { group: group(), topics: [topic] })
        await until(() => one.following.partitions().length === harness.partitions, "it owns all")
        await assert.rejects(one.commit([{ topic, partition: 0, offset: 0, note: "x".repeat(1001) }]))
        await one.commit([{ topic, partition: 0, offset: 0, note: "x".repeat(1000) }])
      })

      it("loses and doubles nothing within an ownership when members join and leave in mid-batch (G3, G4)", async () => {
        const topic = await harness.topic()
        const peers: Reader[] = []
        const name = group()
        const positions = new Map<string, number>()
        const each = 600
        const resume: FollowOptions["from"] = (_topic, _partition, committed) => committed?.offset ?? 0
        const join = async (): Promise<Reader> => {
          const instance = `member-${randomUUID()}`
          const one = new Reader(await harness.log(instance), { group: name, topics: [topic], instance, from: resume }, peers)
          readers.push(one)
          one.handle = async (of, partition, records) => {
            await new Promise((resolve) => setImmediate(resolve))
            const next = (records.at(-1)?.offset ?? -1) + 1
            positions.set(`${of}/${partition}`, Math.max(next, positions.get(`${of}/${partition}`) ?? 0))
            // A commit that arrives after the ownership has moved may be refused; the next owner then begins further back.
            if (one.following.partitions().includes(partition))
              await one.commit([{ topic: of, partition, offset: next, note: "" }]).catch(() => {})
          }
          return one.start()
        }
        const first = await join()
        await until(() => sharedOut([first]), "the first owns all")
        let written = 0
        const joined = new AbortController()
        const writing = (async () => {
          // At least until the second one reads: where a broker arranges it, a join takes its time.
          while (written < each || !joined.signal.aborted) {
            const n = written
            await Promise.all(
              allPartitions().flatMap((partition) => range(20).map((k) => log.append(entry(topic, partition, String(n + k))))),
            )
            written += 20
            await new Promise((resolve) => setTimeout(resolve, 1))
          }
        })()
        await until(() => first.records.length > 0, "reading has begun")
        const second = await join()
        await until(() => second.records.length > 0, "the second reads").finally(() => joined.abort())
        await first.following.stop()
        await writing
        await until(() => sharedOut([second]), "the second owns all")
        await until(() => allPartitions().every((partition) => positions.get(`${topic}/${partition}`) === written), "all is read")
        for (const partition of allPartitions()) {
          const seen = new Set(
            peers
              .flatMap((one) => one.records)
              .filter((record) => record.partition === partition)
              .map((record) => record.offset),
          )
          assert.equal(seen.size, written)
        }
        for (const one of peers) one.check()
      })

      it("gives the partitions of a killed member to the others, and lets nothing of it land any more", async (t) => {
        if (!can(t, "kill")) return
        const topic = await harness.topic()
        await fill(topic, 5)
        const peers: Reader[] = []
        const name = group()
        const doomed = await harness.log("doomed")
        const victim = await reader(doomed, { group: name, topics: [topic], instance: `doomed-${randomUUID()}` }, peers)
        const survivor = await member(name, [topic], peers)
        await until(() => sharedOut([victim, survivor]), "both have a share")
        await until(() => victim.records.length + survivor.records.length >= 5 * harness.partitions, "all is delivered")
        peers.splice(peers.indexOf(victim), 1)
        await harness.kill?.(doomed)
        const got = victim.records.length
        await until(() => sharedOut([survivor]), "the survivor owns all")
        await until(async () => (await log.members(name))?.has(victim.instance) === false, "the dead one is no member any more")
        void doomed.append(entry(topic, 0, "from the grave")).catch(() => {})
        await fill(topic, 5)
        const ofLast = (): LogRecord[] => survivor.records.filter((record) => record.offset >= 5)
        await until(() => ofLast().length >= 5 * harness.partitions, "the survivor reads all")
        assert.equal(victim.records.length, got)
        assert.ok((await replayed(log, topic, 0)).every((record) => textOf(record) !== "from the grave"))
        survivor.check()
      })
    })

    describe("retention", () => {
      it("takes away the oldest records, and nothing else changes: not an offset, not a follower's way, not the next append", async () => {
        const { topic, partition, end } = await harness.expired()
        const bounds = (await log.bounds(topic)).find((one) => one.partition === partition)
        assert.ok(bounds !== undefined && bounds.start > 0 && bounds.start < end, JSON.stringify(bounds))
        assert.equal(bounds.end, end)
        const left = range(end - bounds.start).map((n) => bounds.start + n)
        assert.deepEqual(
          (await replayed(log, topic, partition)).map(({ offset }) => offset),
          left,
        )
        const one = await reader(log, { group: group(), topics: [topic] })
        await until(() => one.caughtUp.has(`${topic}/${partition}`), "it has caught up")
        const { offset } = await log.append(entry(topic, partition, "new"))
        assert.equal(offset, end)
        const offsets = (): number[] => one.records.filter((record) => record.partition === partition).map((record) => record.offset)
        await until(() => offsets().includes(end), "the new record is delivered")
        assert.deepEqual(offsets(), [...left, end])
        one.check("compacted")
      })
    })

    describe("topics", () => {
      const settings = (changes: Partial<TopicSettings> = {}): TopicSettings => ({
        name: `topic-${randomUUID()}`,
        partitions: harness.partitions,
        cleanup: "compact",
        config: {},
        ...changes,
      })

      it("creates what is missing, and only that", async () => {
        const [one, two] = [settings(), settings({ cleanup: "delete", partitions: 1 })]
        await assert.rejects(log.verifyTopics([one]), (error) => error instanceof TopicMismatchError && error.message.includes(one.name))
        assert.deepEqual(await log.applyTopics([one]), [one.name])
        assert.deepEqual(await log.applyTopics([one, two]), [two.name])
        assert.deepEqual(await log.applyTopics([one, two]), [])
        await log.verifyTopics([one, two])
        const described = (await log.describeTopics())
          .filter(({ name }) => name === one.name || name === two.name)
          .map(({ name, partitions, cleanup }) => ({ name, partitions, cleanup }))
        assert.deepEqual(
          described.sort((a, b) => (a.name === one.name ? -1 : b.name === one.name ? 1 : 0)),
          [one, two].map(({ name, partitions, cleanup }) => ({ name, partitions, cleanup })),
        )
      })

      it("refuses a topic with another number of partitions or another cleanup policy, and says how to mend it", async () => {
        const wanted = settings()
        await log.applyTopics([wanted])
        const more = { ...wanted, partitions: harness.partitions + 1 }
        const counts = (error: unknown): boolean =>
          error instanceof TopicMismatchError &&
          [wanted.name, String(harness.partitions), String(harness.partitions + 1), "REINS_PARTITIONS"].every((word) =>
            error.message.includes(word),
          )
        await assert.rejects(log.verifyTopics([more]), counts)
        await assert.rejects(log.applyTopics([more]), counts)
        const cleanup = (error: unknown): boolean =>
          error instanceof TopicMismatchError &&
          [wanted.name, "compact", "delete", "cleanup.policy"].every((word) => error.message.includes(word))
        await assert.rejects(log.verifyTopics([{ ...wanted, cleanup: "delete" }]), cleanup)
      })
    })

    describe("close", () => {
      it("sends what waits first, and takes nothing more", async (t) => {
        const client = await harness.log()
        if (client === log) return t.skip("all of this suite shares one client; services/log/test/sqlite.test.ts closes one of its own")
        const topic = await harness.topic()
        const waiting = range(20).map((n) => client.append(entry(topic, 0, String(n), "once")))
        await client.close()
        await Promise.all(waiting)
        await assert.rejects(client.append(entry(topic, 0, "too late", "once")))
        assert.deepEqual((await replayed(log, topic, 0)).map(textOf), range(20).map(String))
      })
    })
  })
}
