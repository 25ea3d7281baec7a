import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { type Kafka, sharedKafka, skipWithoutKafka, startKafka } from "@reins/infra/kafka"
import type { Following, LogRecord } from "@reins/log"
import { decodeRecord } from "@reins/log/codec"
import { newInstance, openLog, readSessions } from "@reins/runtime"
import { SessionsFold, stateDigest, statusOf } from "@reins/session"
import { type Environment, until } from "./harness.ts"
import { HostedWorld, type WorldOptions } from "./hosted-world.ts"

// What is deleted is nowhere on the disk: a word that was said in the prompt, in the arguments of a tool, in its result and by the model.

const skip = await skipWithoutKafka()
const canary = `CANARY${randomBytes(6).toString("hex")}`
const doomed = "sesn_doomed"
const others = ["sesn_kept_1", "sesn_kept_2"]

/** How many files of a folder hold the canary, by name: as it is, or as SQLite and Kafka may have it between other bytes. */
function sightings(dir: string): string[] {
  return globSync("**", { cwd: dir, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => join(file.parentPath, file.name))
    .filter((file) => {
      // The cleaner renames and removes files meanwhile.
      try {
        return readFileSync(file).includes(canary)
      } catch {
        return false
      }
    })
}

/** One session that is to go and two that stay, over one partition, so that every session is a neighbour of the others. */
class ErasureWorld extends HostedWorld {
  static async open(env: Environment, options: WorldOptions = {}): Promise<ErasureWorld> {
    return await ErasureWorld.start({ ...env, REINS_PARTITIONS: "1" }, { ...options, gateway: "open" })
  }

  /** What may be asked of a session: one call of a tool that gives its argument back, which the model then quotes. */
  async begin(sessionId: string, word: string): Promise<void> {
    const agent = { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "echo", backend: "function" }] }
    const input = [{ type: "text", text: `[[call echo {"text":"${word}"}]]` }]
    await this.command(sessionId, { type: "session.start", commandId: `start-${sessionId}`, agent, input, title: word })
  }

  async rested(sessionId: string): Promise<void> {
    await until(async () => {
      const session = await this.session(sessionId)
      return session.phase === "idle" && statusOf(session) === "idle"
    }, `${sessionId} rests`)
  }

  /** Folded anew from the log as it stands. */
  async digests(): Promise<Record<string, string>> {
    const sessions = await readSessions(this.host.log, this.host.codec, this.names.prefix)
    return Object.fromEntries([...sessions].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, session]) => [id, stateDigest(session)]))
  }

  /** The types of the deleted session's records that stand without a tombstone. */
  async left(): Promise<string[]> {
    const records = await this.records(this.names.sessions)
    const erased = new Set(records.filter(({ value }) => value === null).map(({ key }) => key))
    return records
      .filter(({ key, value }) => value !== null && !erased.has(key) && key?.startsWith(`${doomed}/`))
      .map(({ headers }) => headers["type"] ?? "")
  }

  async erased(): Promise<void> {
    await until(async () => (await this.left()).join() === "session.deleted", "only session.deleted is left")
  }

  /** Everyone says what they have to say; the doomed one the word that is to go. */
  async tell(): Promise<void> {
    await Promise.all([this.begin(doomed, canary), ...others.map((id) => this.begin(id, "kept"))])
    await Promise.all([doomed, ...others].map((id) => this.rested(id)))
    await this.command(doomed, { type: "message.send", commandId: "more", content: `Once more: ${canary}` })
    await until(async () => {
      const session = await this.session(doomed)
      return session.phase === "idle" && !session.wake && session.turns > 2
    }, "its second turn is over")
    const types = new Set(await this.canaryIn(this.names.sessions))
    for (const type of ["session.started", "message.received", "model.responded", "tool-call.completed"])
      assert.ok(types.has(type), `${type} holds the canary`)
    assert.ok((await this.canaryIn(this.names.tools("function"))).length >= 2, "the dispatch and the result hold it")
    await until(async () => (await this.canaryIn(this.names.snapshots)).length > 0, "its snapshot holds the canary")
  }

  async canaryIn(topic: string): Promise<string[]> {
    const records = await this.records(topic)
    return records.filter(({ value }) => value !== null && Buffer.from(value).includes(canary)).map(({ headers }) => headers["type"] ?? "")
  }
}

function withoutDoomed(digests: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(digests).filter(([id]) => id !== doomed))
}

describe("a session that is deleted, embedded", { timeout: 120_000 }, () => {
  let world: ErasureWorld

  before(async () => {
    world = await ErasureWorld.open({})
    await world.tell()
  })

  after(() => world.stop())

  it("leaves not one byte of what was said in the data folder, and everyone else as they were", async () => {
    const before = withoutDoomed(await world.digests())
    assert.ok(sightings(world.dir).length > 0)
    assert.deepEqual(await world.client().beta.sessions.delete(doomed), { id: doomed, type: "session_deleted" })
    await world.erased()
    await until(() => sightings(world.dir).length === 0, "the canary is nowhere on the disk")
    assert.deepEqual(withoutDoomed(await world.digests()), before)
    assert.equal((await world.session(doomed)).phase, "deleted")
  })

  it("is not there for the API", async () => {
    const client = world.client()
    await assert.rejects(client.beta.sessions.retrieve(doomed).then(), { status: 404 })
    await assert.rejects(client.beta.sessions.events.list(doomed).then(), { status: 404 })
    const listed: string[] = []
    for await (const session of client.beta.sessions.list()) listed.push(session.id)
    assert.deepEqual(listed.sort(), others)
  })

  it("takes nothing more in: what is said to it is refused, and gone as well", async () => {
    const tombstones = async (): Promise<number> => (await world.records(world.names.sessions)).filter(({ value }) => value === null).length
    const had = await tombstones()
    await world.command(doomed, { type: "message.send", commandId: "late", content: `Are you there? ${canary}` })
    await until(async () => (await tombstones()) > had, "the refusal is erased")
    await until(() => sightings(world.dir).length === 0, "the canary is nowhere on the disk")
    assert.deepEqual(await world.left(), ["session.deleted"])
  })

  it("is deleted after a restart too, by the log alone; others go on", async () => {
    const before = await world.digests()
    await world.restart()
    assert.deepEqual(await world.digests(), before)
    await assert.rejects(world.client().beta.sessions.retrieve(doomed).then(), { status: 404 })
    await world.begin(doomed, "again")
    const [kept] = others as [string]
    await world.command(kept, { type: "message.send", commandId: "on", content: "Go on." })
    await until(async () => {
      const session = await world.session(kept)
      return session.phase === "idle" && !session.wake && session.turns > 2
    }, "another session goes on")
    await world.erased()
    assert.equal((await world.session(doomed)).phase, "deleted")
    assert.deepEqual(sightings(world.dir), [])
    assert.deepEqual(world.failures, [])
  })
})

describe("a session that is deleted, on Kafka", { skip, timeout: 240_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "reins-erasure-kafka-"))
  let kafka: Kafka
  let world: ErasureWorld

  before(async () => {
    const { registryUrl } = await sharedKafka()
    // Of its own, because its folder is looked into.
    kafka = await startKafka({ registry: false, dataDir: dir })
    world = await ErasureWorld.open(
      { ...kafka.env, SCHEMA_REGISTRY_URL: registryUrl },
      {
        topics: (topic, names) =>
          [names.sessions, names.snapshots].includes(topic.name) ? { ...topic, config: { ...topic.config, ...cleanedAtOnce } } : topic,
      },
    )
    await world.tell()
  })

  after(async () => {
    await world?.stop()
    await kafka?.stop()
    rmSync(dir, { recursive: true, force: true })
  })

  /** The topic as in production, but for how soon its cleaner comes. */
  const cleanedAtOnce = {
    "segment.ms": "100",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "100",
    "file.delete.delay.ms": "0",
  }

  /** Files of the session log and its snapshots that hold the canary. */
  const segments = (): string[] =>
    sightings(dir).filter((file) => [world.names.sessions, world.names.snapshots].some((name) => file.includes(name)))

  /** Every record after a pause closes a segment, and a closed one may be cleaned. Another session is renamed meanwhile. */
  async function compacted(): Promise<void> {
    let title = 0
    await until(
      async () => {
        await world.command(others[0] as string, { type: "session.update", changes: { title: `Title ${title++}` } })
        await new Promise((resolve) => setTimeout(resolve, 200))
        const records = await world.records(world.names.sessions)
        return segments().length === 0 && records.filter(({ key }) => key?.startsWith(`${doomed}/`)).every(isDeletion)
      },
      "the cleaner has come",
      120_000,
    )
  }

  const isDeletion = ({ headers }: LogRecord): boolean => headers["type"] === "session.deleted"

  /** Reads from the beginning, and stands still at a record until it is let go: what it has still to read is erased meanwhile. */
  async function slowReader(
    at: number,
  ): Promise<{ letGo(): void; caughtUp(): Promise<unknown>; fold: SessionsFold; nulls(): number; stop(): Promise<void> }> {
    const { log, codec } = await openLog(world.config, newInstance("slow"))
    const fold = new SessionsFold()
    const gate = Promise.withResolvers<void>()
    let nulls = 0
    let next = 0
    const following: Following = await log.follow({
      instance: newInstance("slow"),
      topics: [world.names.sessions],
      records: async (_topic, _partition, records) => {
        for (const record of records) {
          if (record.offset >= at) await gate.promise
          next = record.offset + 1
          if (record.value === null) {
            nulls++
            continue
          }
          const decoded = decodeRecord(codec, "sessions", record)
          assert.ok(decoded.ok)
          fold.apply(decoded.said as never, record)
        }
      },
    })
    return {
      letGo: gate.resolve,
      caughtUp: () =>
        until(async () => {
          const [bounds] = await log.bounds(world.names.sessions)
          return bounds !== undefined && next >= bounds.end
        }, "the slow reader has read all"),
      fold,
      nulls: () => nulls,
      stop: async () => {
        await following.stop()
        await log.close()
      },
    }
  }

  const digestsOf = (fold: SessionsFold): Record<string, string> =>
    Object.fromEntries([...fold.sessions].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, session]) => [id, stateDigest(session)]))

  let raw: readonly LogRecord[] = []

  it("is erased by tombstones, which change nothing for anyone else, nor for who is in the middle of a replay", async () => {
    raw = await world.records(world.names.sessions)
    const before = withoutDoomed(await world.digests())
    const slow = await slowReader(5)
    await world.command(doomed, { type: "session.delete", commandId: "delete" })
    await world.erased()
    assert.deepEqual(withoutDoomed(await world.digests()), before)
    slow.letGo()
    await slow.caughtUp()
    assert.ok(slow.nulls() > 5, `${slow.nulls()} null values were met`)
    assert.deepEqual(digestsOf(slow.fold), await world.digests())
    await slow.stop()
  })

  it("is nowhere in the session log's segments once they are compacted: one session.deleted is left of it", async () => {
    const slow = await slowReader(3)
    await compacted()
    assert.deepEqual(
      (await world.records(world.names.sessions)).filter(({ key }) => key?.startsWith(`${doomed}/`)).map(({ headers }) => headers["type"]),
      ["session.deleted"],
    )
    slow.letGo()
    await slow.caughtUp()
    assert.deepEqual(digestsOf(slow.fold), await world.digests())
    await slow.stop()
    assert.equal((await world.session(doomed)).phase, "deleted")
    for (const id of others) assert.equal((await world.session(id)).phase, "idle")
  })

  it("stays so when a zombie's records and a command of last week come late", async () => {
    const copies = raw.filter(({ key, value }) => key?.startsWith(`${doomed}/`) && value !== null && Buffer.from(value).includes(canary))
    assert.ok(copies.length > 3)
    for (const [index, { value, headers }] of copies.entries())
      await world.host.log.append({
        topic: world.names.sessions,
        partition: 0,
        key: () => `${doomed}/zombie${index}`,
        value,
        headers,
        certainty: "always",
      })
    await world.begin(doomed, canary)
    await until(async () => (await world.left()).join() === "session.deleted", "what came late is erased too")
    await compacted()
    assert.equal((await world.session(doomed)).phase, "deleted")
  })

  it("is deleted for a process that reads the compacted log from its beginning; others go on", async () => {
    const before = await world.digests()
    await world.restart()
    assert.deepEqual(await world.digests(), before)
    const [kept] = others as [string]
    const turns = async (): Promise<number> => {
      const session = await world.session(kept)
      return session.phase === "idle" && !session.wake ? session.turns : 0
    }
    const had = await turns()
    await world.command(kept, { type: "message.send", commandId: "on", content: "Go on." })
    await until(async () => (await turns()) > had, "another session goes on")
    assert.deepEqual(world.failures, [])
  })

  it("is still in what retention takes in its time: commands and the topics of tools, which nobody can erase single records of", async () => {
    assert.ok((await world.canaryIn(world.names.commands)).length > 0)
    assert.ok((await world.canaryIn(world.names.tools("function"))).length > 0)
    for (const name of [world.names.commands, world.names.tools("function")]) {
      const topic = (await world.host.log.describeTopics()).find((one) => one.name === name)
      assert.equal(topic?.cleanup, "delete")
    }
  })
})
