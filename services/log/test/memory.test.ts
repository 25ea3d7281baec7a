import assert from "node:assert/strict"
import { describe, it } from "node:test"
import {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  erasesHeader,
  type Following,
  type FollowOptions,
  type Log,
  type LogRecord,
} from "../src/index.ts"
import { MemoryBroker, type MemoryLog } from "../src/memory.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const entry = (value: string, partition = 0): Append => ({
  topic: "t",
  partition,
  key: () => value,
  value: bytes(value),
  headers: {},
  certainty: "always",
})
const textOf = (record: LogRecord): string => new TextDecoder().decode(record.value ?? new Uint8Array(0))
/** Long enough for everything that is already on its way: each turn of the loop runs what the one before deferred. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

async function broker(options: ConstructorParameters<typeof MemoryBroker>[0] = {}): Promise<{ broker: MemoryBroker; admin: MemoryLog }> {
  const made = new MemoryBroker(options)
  const admin = made.connect()
  await admin.applyTopics([{ name: "t", partitions: 2, cleanup: "delete", config: {} }])
  return { broker: made, admin }
}

interface Story {
  readonly following: Following
  readonly told: string[]
}

async function follow(log: Log, instance: string, options: Partial<FollowOptions> = {}): Promise<Story> {
  const told: string[] = []
  const following = await log.follow({
    group: "g",
    instance,
    topics: ["t"],
    assigned: (partition) => told.push(`assigned ${partition}`),
    lost: (partition) => told.push(`lost ${partition}`),
    caughtUp: (_, partition) => told.push(`caught up ${partition}`),
    records: (_, partition, records) => void told.push(...records.map((record) => `${partition}: ${textOf(record)}`)),
    ...options,
  })
  return { following, told }
}

async function standing(log: Log, partition = 0): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay("t", partition, 0)) records.push(...stretch)
  return records
}

describe("a carried write", () => {
  it("stands from the moment at which its carrier places it, even if its sender is dead by then", async () => {
    const made = new MemoryBroker()
    const admin = made.connect()
    await admin.applyTopics([{ name: "t", partitions: 1, cleanup: "delete", config: {} }])
    const left: (() => unknown)[] = []
    const log = made.connect((batches, write) => {
      left.push(() => write(batches))
      return Promise.reject(new Error("Nobody answered."))
    })
    await assert.rejects(log.append({ ...entry("x"), certainty: "once" }), AppendUnknownError)
    assert.deepEqual((await standing(admin)).map(textOf), [])
    log.kill()
    for (const write of left) write()
    assert.deepEqual((await standing(admin)).map(textOf), ["x"])
  })
})

describe("a local log", () => {
  it("tells nobody anything inside an append, nor before its acknowledgement was heard", async () => {
    const { admin } = await broker()
    const { told } = await follow(admin, "a")
    await settle()
    told.length = 0
    const placed = admin.append(entry("x")).then(() => told.push("acknowledged"))
    assert.deepEqual([...told], [])
    await placed
    await settle()
    assert.deepEqual(told, ["acknowledged", "0: x"])
  })

  it("delivers nothing that its reader has folded at the acknowledgement", async () => {
    const { admin } = await broker()
    let position = 0
    const { told } = await follow(admin, "a", { position: (_, partition) => (partition === 0 ? position : undefined) })
    await settle()
    told.length = 0
    for (let n = 0; n < 100; n++) position = (await admin.append(entry(String(n)))).offset + 1
    await settle()
    assert.deepEqual([...told], [])
    await admin.append(entry("of another"))
    await settle()
    assert.deepEqual(told, ["0: of another"])
  })

  it("says `assigned`, then what stands, then `caught up`, then what is new", async () => {
    const { admin } = await broker()
    await admin.append(entry("old"))
    const { told } = await follow(admin, "a")
    assert.deepEqual([...told], [], "not before the caller has its follower")
    await settle()
    await admin.append(entry("new"))
    await settle()
    assert.deepEqual(
      told.filter((one) => !one.endsWith("1")),
      ["assigned 0", "0: old", "caught up 0", "0: new"],
    )
  })

  it("tells the one that loses a partition before the one that gets it", async () => {
    const { broker: shared, admin } = await broker()
    const told: string[] = []
    const say = (who: string): Partial<FollowOptions> => ({
      assigned: (partition) => told.push(`${who} has ${partition}`),
      lost: (partition) => told.push(`${who} lost ${partition}`),
    })
    await follow(admin, "a", say("a"))
    await settle()
    await follow(shared.connect(), "b", say("b"))
    await settle()
    assert.deepEqual(told, ["a has 0", "a has 1", "a lost 1", "b has 1"])
  })

  it("gives the former owner nothing more, though it was in the middle of what stands when it lost the partition", async () => {
    const { broker: shared, admin } = await broker()
    for (let n = 0; n < 1200; n++) shared.inject("t", 1, { key: "k", value: bytes(String(n)) })
    let goOn: (() => void) | undefined
    let got = 0
    const { told } = await follow(admin, "a", {
      records: async (_, partition, records) => {
        if (partition === 0) return
        got += records.length
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
      },
    })
    await settle()
    const before = got
    assert.ok(before > 0 && before < 1200)
    const heir = await follow(shared.connect(), "b")
    await settle()
    assert.ok(told.includes("lost 1"))
    goOn?.()
    await settle()
    assert.equal(got, before)
    assert.ok(!told.includes("caught up 1"))
    assert.equal(heir.told.filter((one) => one.startsWith("1: ")).length, 1200)
  })

  it("takes a follower that failed out of its group, and another goes on", async () => {
    const { broker: shared, admin } = await broker()
    const failures: Error[] = []
    const broken = {
      failed: (error: Error) => void failures.push(error),
      assigned: () => {
        throw new Error("No state for it.")
      },
    }
    await follow(shared.connect(), "a", broken)
    await settle()
    assert.match(String(failures), /No state for it/)
    assert.equal(await admin.members("g"), null, "nobody is left")
    const other = await follow(admin, "b")
    await settle()
    assert.deepEqual(other.following.partitions(), [0, 1])
  })

  it("fails closed where a group would read on beyond what stands", async () => {
    const { admin } = await broker()
    const failures: Error[] = []
    await follow(admin, "a", { from: () => 7, failed: (error) => failures.push(error) })
    await settle()
    assert.match(String(failures[0]), /offset 7.*ends at 0.*missing/)
  })

  it("stamps records with its own clock, which cannot be turned back", async () => {
    let now = 1000
    const { admin } = await broker({ now: () => now })
    await admin.append(entry("a"))
    now = 500
    await admin.append(entry("b"))
    await admin.append(entry("elsewhere", 1))
    now = 2000.7
    await admin.append(entry("c"))
    assert.deepEqual(
      (await standing(admin)).map((record) => record.timestamp),
      [1000, 1000, 2000],
    )
    assert.deepEqual(
      (await standing(admin, 1)).map((record) => record.timestamp),
      [500],
    )
  })

  it("refuses a record without a key in a compacted topic, as a broker does", async () => {
    const { admin } = await broker()
    await admin.applyTopics([{ name: "compacted", partitions: 1, cleanup: "compact", config: {} }])
    await assert.rejects(admin.append({ ...entry("x"), topic: "compacted", key: () => null }), AppendRejectedError)
  })
})

describe("the memory broker's faults", () => {
  it("a paused client neither reads nor writes, holds its group up until it is expired, and wakes as a zombie whose write lands", async () => {
    const { broker: shared, admin } = await broker()
    const client = shared.connect()
    const zombie = await follow(client, "zombie")
    await settle()
    client.pause()
    const late = client.append(entry("written while paused"))
    const other = await follow(admin, "other")
    await admin.append(entry("meanwhile"))
    await settle()
    assert.deepEqual([...other.told], [], "the group waits for the one that does not answer")
    assert.deepEqual([...((await admin.members("g")) ?? [])].sort(), ["other", "zombie"])
    client.expire()
    await settle()
    assert.equal(zombie.following.alive(), false)
    assert.deepEqual(other.following.partitions(), [0, 1])
    assert.ok(!zombie.told.includes("0: meanwhile"))
    await assert.rejects(zombie.following.commit([{ topic: "t", partition: 0, offset: 1, note: "" }]))
    assert.deepEqual((await standing(admin)).map(textOf), ["meanwhile"])
    zombie.told.length = 0
    client.resume()
    assert.equal((await late).offset, 1)
    await settle()
    assert.deepEqual(zombie.told.slice(0, 2), ["lost 0", "lost 1"])
    assert.equal(zombie.following.alive(), true, "it has joined again")
    assert.deepEqual(
      [...zombie.following.partitions(), ...other.following.partitions()].sort((a, b) => a - b),
      [0, 1],
    )
    assert.deepEqual(
      other.told.filter((one) => one.startsWith("0: ")),
      ["0: meanwhile", "0: written while paused"],
    )
  })

  it("a client paused and resumed within its session timeout goes on where it was", async () => {
    const { broker: shared, admin } = await broker()
    const client = shared.connect()
    const { told, following } = await follow(client, "a")
    await settle()
    client.pause()
    await admin.append(entry("meanwhile"))
    await settle()
    client.resume()
    await settle()
    assert.deepEqual(
      told.filter((one) => one.startsWith("lost")),
      [],
    )
    assert.equal(following.alive(), true)
    assert.ok(told.includes("0: meanwhile"))
  })

  it("a killed client is a member until its session timeout, and none of its appends lands", async () => {
    const { broker: shared, admin } = await broker()
    const client = shared.connect()
    const victim = await follow(client, "victim")
    await settle()
    const waiting = client.append(entry("waiting"))
    client.kill()
    void waiting.then(() => assert.fail("A dead process heard an answer."))
    void client.append(entry("later")).then(() => assert.fail("A dead process heard an answer."))
    const heir = await follow(admin, "heir")
    await admin.append(entry("of the living"))
    await settle()
    assert.ok((await admin.members("g"))?.has("victim"))
    assert.deepEqual([...heir.told], [])
    client.expire()
    await settle()
    assert.deepEqual([...((await admin.members("g")) ?? [])], ["heir"])
    assert.deepEqual(heir.following.partitions(), [0, 1])
    assert.ok(!victim.told.some((one) => one.startsWith("lost") || one.includes("living")))
    assert.deepEqual((await standing(admin)).map(textOf), ["of the living"])
    await client.close()
  })

  it("an expired client that runs loses everything and joins again", async () => {
    const { broker: shared } = await broker()
    const client = shared.connect()
    const { told, following } = await follow(client, "a")
    await settle()
    told.length = 0
    client.expire()
    await settle()
    assert.deepEqual(told.slice(0, 4), ["lost 0", "lost 1", "assigned 0", "assigned 1"])
    assert.equal(following.alive(), true)
  })

  it("refuses what is too large from then on", async () => {
    const { broker: shared, admin } = await broker()
    await admin.append(entry("x".repeat(100)))
    shared.refuseAbove(50)
    await assert.rejects(admin.append(entry("x".repeat(100))), AppendRejectedError)
    await admin.append(entry("x"))
  })

  it("compacts to the last record of each key, keeps or drops tombstones, and leaves the newest", async () => {
    const { broker: shared, admin } = await broker()
    const inject = (key: string, value: string | null): number =>
      shared.inject("t", 0, { key, value: value === null ? null : bytes(value) })
    for (const [key, value] of [
      ["a", "1"],
      ["b", "1"],
      ["a", "2"],
      ["c", "1"],
      ["c", null],
      ["b", "2"],
      ["d", "1"],
    ] as const)
      inject(key, value)
    const left = async (): Promise<number[]> => (await standing(admin)).map((record) => record.offset)
    shared.compact("t", 0)
    assert.deepEqual(await left(), [2, 4, 5, 6])
    shared.compact("t", 0, { tombstones: "drop" })
    assert.deepEqual(await left(), [2, 5, 6])
    assert.equal(inject("e", "1"), 7)
    assert.deepEqual(await admin.bounds("t"), [
      { partition: 0, start: 0, end: 8 },
      { partition: 1, start: 0, end: 0 },
    ])
  })

  it("injects what no client of ours would write, and followers get it", async () => {
    const { broker: shared, admin } = await broker()
    const { told } = await follow(admin, "a")
    await settle()
    const value = new Uint8Array([0xff, 0xfe])
    shared.inject("t", 1, { value, headers: { odd: "" }, timestamp: 5 })
    await settle()
    assert.equal(told.filter((one) => one.startsWith("1: ")).length, 1)
    assert.deepEqual(await standing(admin, 1), [
      { topic: "t", partition: 1, offset: 0, timestamp: 5, key: null, value, headers: { odd: "" } },
    ])
  })

  it("keeps one registry for all its clients: the same schema has the same id, another subject another", async () => {
    const { registry } = new MemoryBroker()
    const id = await registry.register("a", "{}")
    assert.equal(await registry.register("a", "{}"), id)
    assert.notEqual(await registry.register("b", "{}"), id)
    assert.notEqual(await registry.register("a", "[]"), id)
    assert.equal(await registry.schema(id), "{}")
    assert.equal(await registry.schema(99), null)
  })
})

describe("a memory log without a cleaner", () => {
  const values = async (log: Log): Promise<readonly (string | null)[]> =>
    (await standing(log)).map((record) => (record.value === null ? null : textOf(record)))

  it("takes out at once what is removed, and keeps its offsets, also where the newest record was removed", async () => {
    const { admin } = await broker({ cleaner: "none" })
    for (const value of ["a", "b", "c"]) await admin.append(entry(value))
    await admin.remove?.("t", 0, [0, 2])
    await admin.rewrite?.()
    assert.deepEqual(await values(admin), ["b", null])
    assert.equal((await admin.append(entry("d"))).offset, 3)
  })

  it("takes out what a tombstone names under its key, and nothing else", async () => {
    const { admin } = await broker({ cleaner: "none" })
    for (const value of ["a", "b"]) await admin.append(entry(value))
    const tombstone = (key: string, erases: string): Append => ({
      ...entry(key),
      value: null,
      headers: { [erasesHeader]: erases },
    })
    await admin.append(tombstone("a", "1"))
    assert.deepEqual(await values(admin), ["a", "b", null])
    await admin.append(tombstone("a", "0"))
    assert.deepEqual(await values(admin), ["b", null, null])
  })

  it("is not what a broker is: that takes nothing out but by its cleaner", async () => {
    const { admin } = await broker()
    assert.deepEqual([admin.remove, admin.rewrite], [undefined, undefined])
    await admin.append(entry("a"))
    await admin.append({ ...entry("a"), value: null, headers: { [erasesHeader]: "0" } })
    assert.deepEqual(await values(admin), ["a", null])
  })
})
