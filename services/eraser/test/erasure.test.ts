import assert from "node:assert/strict"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, describe, it } from "node:test"
import { type SessionEvent, topicNames } from "@reins/events"
import { erasesHeader, type Log, type LogRecord } from "@reins/log"
import { Codec, decodeRecord } from "@reins/log/codec"
import { type Carry, MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { openSqlite } from "@reins/log/sqlite"
import { Loop, Metrics, topicSettings } from "@reins/runtime"
import { SessionsFold, stateDigest } from "@reins/session"
import { fact, Story, text } from "@reins/session/testing"
import { pino } from "pino"
import { type EraserLimits, eraser } from "../src/index.ts"

const topics = topicNames("t")
const canary = "CANARY-77c1"
const logger = pino({ level: "silent" })

/** Three sessions told between each other, two of them deleted; what they said holds the canary. */
function told(turns: number): Story {
  const a = new Story("sesn_a")
  const stories = [a, a.beside("sesn_b"), a.beside("sesn_c")]
  for (const story of stories) story.started(undefined, { input: null })
  for (let turn = 0; turn < turns; turn++) {
    for (const story of stories) {
      const word = story.sessionId === "sesn_b" ? "hello" : canary
      story
        .message(word)
        .requested()
        .responded([text(word)])
        .idled()
    }
  }
  for (const story of [stories[0], stories[2]] as Story[]) remove(story)
  return a
}

function remove(story: Story): void {
  const { commandId, command } = story.draft((s) => s.rejected()) as Extract<SessionEvent, { commandId: string }>
  story.tell(fact("session.deleted", { sessionId: story.sessionId, eventId: `evt_delete_${story.sessionId}`, commandId, command }))
}

interface Stage {
  readonly broker: MemoryBroker
  readonly admin: MemoryLog
  readonly codec: Codec
  say(event: SessionEvent): Promise<void>
  standing(): Promise<LogRecord[]>
  start(instance: string, options?: { carry?: Carry; limits?: Partial<EraserLimits> }): Promise<{ loop: Loop; log: MemoryLog }>
}

async function stage(records: readonly { readonly event: SessionEvent }[]): Promise<Stage> {
  const broker = new MemoryBroker()
  const admin = broker.connect()
  await admin.applyTopics(topicSettings("t", 1, []))
  const codec = await Codec.open(broker.registry)
  let keys = 0
  const say = async (event: SessionEvent): Promise<void> => {
    const { sessionId, type } = event
    await admin.append({
      topic: topics.sessions,
      partition: 0,
      key: () => `${sessionId}/said${keys++}`,
      value: codec.encode("sessions", event),
      headers: { type, session: sessionId },
      certainty: "always",
    })
  }
  for (const { event } of records) await say(event)
  return {
    broker,
    admin,
    codec,
    say,
    standing: () => recordsOf(admin, topics.sessions),
    start: async (instance, { carry, limits } = {}) => {
      const log = broker.connect(carry)
      const loop = loopOf(log, codec, instance, limits)
      await loop.start()
      return { loop, log }
    },
  }
}

function loopOf(log: Log, codec: Codec, instance: string, limits: Partial<EraserLimits> = {}): Loop {
  return new Loop({
    log,
    codec,
    services: [eraser({ log, codec, prefix: "t", partitions: 1, logger, limits: { againMs: 5, ...limits } })],
    prefix: "t",
    partitions: 1,
    group: "t.eraser",
    instance,
    backends: [],
    metrics: new Metrics("test"),
    logger,
    failed: (error) => assert.fail(error),
    commitIntervalMs: 5,
  })
}

async function recordsOf(log: Log, topic: string): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay(topic, 0, 0)) records.push(...stretch)
  return records
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 20_000; turn++) {
    if (await holds()) return
    await new Promise<void>((resolve) => setTimeout(resolve, 1))
  }
  assert.fail("It never came true.")
}

function typeOf(codec: Codec, record: LogRecord): string {
  const decoded = decodeRecord(codec, "sessions", record)
  return decoded.ok ? decoded.said.type : "unreadable"
}

/** The keys of deleted sessions that stand without a tombstone. */
function left(codec: Codec, records: readonly LogRecord[], ids: readonly string[] = ["sesn_a", "sesn_c"]): string[] {
  const erased = new Set(records.filter(({ value }) => value === null).map(({ key }) => key))
  return records
    .filter((record) => record.value !== null && !erased.has(record.key) && ids.some((id) => record.key?.startsWith(`${id}/`)))
    .filter((record) => typeOf(codec, record) !== "session.deleted")
    .map(({ key }) => key as string)
}

function digests(codec: Codec, records: readonly LogRecord[]): Record<string, string> {
  const fold = new SessionsFold()
  for (const record of records) {
    const decoded = record.value === null ? null : decodeRecord(codec, "sessions", record)
    if (decoded?.ok === true) fold.apply(decoded.said as unknown as SessionEvent, record)
  }
  return Object.fromEntries([...fold.sessions].sort(([x], [y]) => (x < y ? -1 : 1)).map(([id, session]) => [id, stateDigest(session)]))
}

function tombstonesOf(records: readonly LogRecord[]): LogRecord[] {
  return records.filter(({ value }) => value === null)
}

describe("the records of a deleted session", () => {
  it("all have a tombstone, each once and in their order; its session.deleted and every other session have none", async () => {
    const { codec, standing, start } = await stage(told(20).records)
    const before = digests(codec, await standing())
    const { loop } = await start("one")
    await until(async () => left(codec, await standing()).length === 0)
    await loop.stop()
    const records = await standing()
    const tombstones = tombstonesOf(records)
    assert.equal(new Set(tombstones.map(({ key }) => key)).size, tombstones.length)
    for (const id of ["sesn_a", "sesn_c"]) {
      const erased = tombstones.filter(({ headers }) => headers["session"] === id).map(({ headers }) => Number(headers[erasesHeader]))
      assert.equal(erased.length, 1 + 4 * 20)
      assert.deepEqual(
        erased,
        [...erased].sort((x, y) => x - y),
      )
    }
    assert.ok(!tombstones.some(({ key }) => key?.startsWith("sesn_b/")))
    for (const record of records.filter(({ value }) => value !== null))
      if (typeOf(codec, record) === "session.deleted") assert.ok(!tombstones.some(({ key }) => key === record.key))
    assert.deepEqual(digests(codec, records), before)
  })

  it("are gone after compaction, and the log folds to what it folded to before and in between", async () => {
    const { broker, codec, standing, start } = await stage(told(10).records)
    const before = digests(codec, await standing())
    const { loop } = await start("one")
    await until(async () => left(codec, await standing()).length === 0)
    await loop.stop()
    // A cleaner that has come only so far: the oldest erased records are gone, the newer ones still stand.
    const all = await standing()
    const erased = new Set(tombstonesOf(all).map(({ key }) => key))
    for (let gone = 0; gone <= erased.size; gone += 7) {
      let skipped = 0
      const during = all.filter(({ key, value }) => value === null || !erased.has(key) || skipped++ >= gone)
      assert.deepEqual(digests(codec, during), before)
    }
    for (const tombstones of ["keep", "drop"] as const) {
      broker.compact(topics.sessions, 0, { tombstones })
      const after = await standing()
      assert.deepEqual(digests(codec, after), before)
      const ofDeleted = after.filter(({ key, value }) => value !== null && !key?.startsWith("sesn_b/"))
      assert.deepEqual(
        ofDeleted.map((record) => typeOf(codec, record)),
        ["session.deleted", "session.deleted"],
      )
      assert.ok(!after.some(({ value }) => value !== null && Buffer.from(value).includes(canary)))
    }
    // Whoever takes the partition over now finds nothing to do.
    const { loop: next } = await start("two")
    await until(() => next.ready())
    await new Promise<void>((resolve) => setTimeout(resolve, 50))
    const end = (await standing()).length
    await next.stop()
    assert.equal((await standing()).length, end)
  })

  for (const dies of ["before a write", "after a write, before its acknowledgement"]) {
    it(`are all erased though every process dies ${dies}`, async () => {
      const { codec, standing, start } = await stage(told(12).records)
      let lives = 0
      while (left(codec, await standing()).length > 0) {
        assert.ok(++lives < 400, "it gets on")
        let dead = false
        let writes = 0
        const allowed = lives % 3
        const { loop, log } = await start(`life-${lives}`, {
          // Entry by entry, so that it dies between the tombstones of one batch too.
          carry: (batches, write) => {
            const parts = batches.flatMap((batch) => batch.entries.map((entry) => ({ ...batch, entries: [entry] })))
            for (const part of parts) {
              const isTombstone = part.topic === topics.sessions
              if (isTombstone && writes++ >= allowed + 5) {
                if (dies.startsWith("after")) write([part])
                dead = true
                return new Promise(() => {})
              }
              if (isTombstone) write([part])
            }
            // What came through in part is not acknowledged as a whole; the writer does not know.
            return parts.length > 1 ? Promise.reject(new Error("The acknowledgement was lost.")) : Promise.resolve(write([]))
          },
        })
        await until(async () => dead || left(codec, await standing()).length === 0)
        log.kill()
        log.expire()
        await loop.stop()
      }
      assert.ok(lives > 3, `${lives} processes died over it`)
      assert.deepEqual(left(codec, await standing()), [])
      // It ends: the next one has nothing to add.
      const { loop } = await start("last")
      await until(() => loop.ready())
      await new Promise<void>((resolve) => setTimeout(resolve, 50))
      const end = (await standing()).length
      await loop.stop()
      assert.equal((await standing()).length, end)
    })
  }

  it("that land after the deletion are superseded and erased too: a zombie's result, a start of last week, what nobody can read", async () => {
    const story = told(3)
    const { broker, codec, say, standing, start } = await stage(story.records)
    const { loop } = await start("one")
    await until(async () => left(codec, await standing()).length === 0)
    const before = digests(codec, await standing())
    assert.equal(tombstonesOf(await standing()).length, 2 * (1 + 4 * 3))
    const late = story.records.filter(
      ({ event }) => ["session.started", "model.responded"].includes(event.type) && event.sessionId === "sesn_a",
    )
    for (const { event } of late) await say({ ...event, eventId: `${event.eventId}-late` })
    await say(fact("command.rejected", { sessionId: "sesn_a", commandId: "late", command: { partition: 0, offset: 5000 } }))
    broker.inject(topics.sessions, 0, { key: "sesn_c/zombie", value: Buffer.from(`not Avro ${canary}`), headers: {} })
    broker.inject(topics.sessions, 0, { key: "sesn_b/zombie", value: Buffer.from("not Avro"), headers: {} })
    await until(async () => left(codec, await standing()).length === 0)
    await loop.stop()
    assert.equal(tombstonesOf(await standing()).length, 2 * (1 + 4 * 3) + late.length + 2)
    assert.deepEqual(digests(codec, await standing()), before)
    assert.deepEqual(left(codec, await standing(), ["sesn_b"]).length, 1 + 4 * 3 + 1)
  })

  it("are erased by a zombie and by the owner beside each other without harm", async () => {
    const { codec, standing, start } = await stage(told(30).records)
    const before = digests(codec, await standing())
    const first = await start("one")
    first.log.pause()
    first.log.expire()
    const second = await start("two")
    first.log.resume()
    await until(async () => left(codec, await standing()).length === 0)
    await first.loop.stop()
    await second.loop.stop()
    assert.deepEqual(digests(codec, await standing()), before)
  })

  it("are not erased while the deletion is superseded: the session went on under another command", async () => {
    const story = new Story("sesn_a").started()
    const { codec, standing, start } = await stage(story.records)
    const { loop } = await start("one")
    await until(() => loop.ready())
    await new Promise<void>((resolve) => setTimeout(resolve, 30))
    await loop.stop()
    assert.deepEqual(tombstonesOf(await standing()), [])
    assert.equal(left(codec, await standing()).length, story.records.length)
  })
})

describe("retention", () => {
  it("publishes a command for what has not run for so long, once, and for nothing that runs", async () => {
    const a = new Story("sesn_a")
      .started()
      .requested()
      .responded([text("Hello.")])
      .idled()
    const running = a.beside("sesn_b").started().requested()
    const { admin, start, standing } = await stage(running.records)
    const changedAt = (await standing()).findLast(({ headers }) => headers["session"] === "sesn_a")?.timestamp
    const commands = async (): Promise<string[]> =>
      (await recordsOf(admin, topics.commands)).map(({ value }) => Buffer.from(value ?? []).toString())
    const { loop } = await start("one", { limits: { retentionMs: 20 } })
    await until(async () => (await commands()).length > 0)
    await new Promise<void>((resolve) => setTimeout(resolve, 60))
    await loop.stop()
    assert.deepEqual(
      (await commands()).map((json) => {
        const { type, sessionId, unchangedSince } = JSON.parse(json) as { type: string; sessionId: string; unchangedSince: number }
        return [type, sessionId, unchangedSince]
      }),
      [["session.delete", "sesn_a", changedAt]],
    )
  })
})

describe("on a log of this machine", () => {
  const dir = mkdtempSync(join(tmpdir(), "reins-eraser-"))
  after(() => rmSync(dir, { recursive: true, force: true }))

  const sightings = (): string[] =>
    globSync("**", { cwd: dir, withFileTypes: true })
      .filter((file) => file.isFile() && readFileSync(join(file.parentPath, file.name)).includes(canary))
      .map(({ name }) => name)

  it("what stands beside the session log goes too, and the file is written anew", async () => {
    const { log, registry } = openSqlite({ dir, synchronous: "NORMAL" })
    await log.applyTopics(topicSettings("t", 1, ["function"]))
    const codec = await Codec.open(registry)
    const put = async (
      topic: string,
      key: string | null,
      value: string | Uint8Array,
      headers: Record<string, string> = {},
    ): Promise<void> => {
      await log.append({ topic, partition: 0, key: () => key, value: Buffer.from(value), headers, certainty: "always" })
    }
    for (const { event } of told(20).records)
      await put(topics.sessions, `${event.sessionId}/${event.eventId}`, codec.encode("sessions", event), { session: event.sessionId })
    for (const sessionId of ["sesn_a", "sesn_b", "sesn_c"]) {
      const word = sessionId === "sesn_b" ? "hello" : canary
      await put(topics.commands, null, JSON.stringify({ type: "message.send", sessionId, content: word }))
      await put(topics.tools("function"), `${sessionId}/1`, JSON.stringify({ type: "tool-call.finished", sessionId, content: word }))
      await put(topics.deltas, sessionId, word)
      await put(topics.deadLetters, `${sessionId}/broken`, word)
    }
    assert.ok(sightings().length > 0)
    const loop = loopOf(log, codec, "one")
    await loop.start()
    // Commands are followed by intake; where it runs elsewhere, those that nobody has dealt with stay.
    await until(async () => left(codec, await recordsOf(log, topics.sessions)).length === 0)
    await until(async () => (await recordsOf(log, topics.tools("function"))).filter(({ value }) => value !== null).length === 1)
    await loop.stop()
    assert.equal((await recordsOf(log, topics.commands)).filter(({ value }) => value !== null).length, 3)
    assert.equal((await recordsOf(log, topics.deltas)).filter(({ value }) => value !== null).length, 1)
    assert.equal((await recordsOf(log, topics.deadLetters)).filter(({ value }) => value !== null).length, 1)
    const commands = (await recordsOf(log, topics.commands)).map(({ offset }) => offset)
    await log.remove?.(topics.commands, 0, commands)
    await log.rewrite?.()
    await log.close()
    assert.deepEqual(sightings(), [])
  })
})
