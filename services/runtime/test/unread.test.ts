import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type SessionEvent, type SessionEventOf, topicNames } from "@reins/events"
import { type Log, type LogRecord, readNamed } from "@reins/log"
import { MemoryBlobs, withBlobs } from "@reins/log/blobs"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { stateDigest } from "@reins/session"
import { Story } from "@reins/session/testing"
import { pino } from "pino"
import { Loop } from "../src/loop.ts"
import { Metrics } from "../src/metrics.ts"
import { SessionReader } from "../src/read-session.ts"
import type { AnyService, View } from "../src/service.ts"
import { topicSettings } from "../src/topics.ts"

const topics = topicNames("t")
const large = "This is longer than what a record of this test may hold. ".repeat(5)

interface Stage {
  readonly admin: Log
  readonly raw: MemoryLog
  readonly blobs: MemoryBlobs
  /** What was decided on, each time. */
  readonly decided: View[]
  say(event: SessionEvent): Promise<void>
  start(unreadAgainMs?: number): Promise<Loop>
  records(type: string): Promise<SessionEvent[]>
  /** The state of a session as whoever starts now reads it. */
  replayed(sessionId: string): Promise<string>
}

async function stage(): Promise<Stage> {
  const broker = new MemoryBroker()
  const raw = broker.connect()
  await raw.applyTopics(topicSettings("t", 1, []))
  const codec = await Codec.open(broker.registry)
  const blobs = new MemoryBlobs()
  const whole = (log: Log): Log => withBlobs(log, { codec, blobs, fieldBytesMax: 200 })
  const admin = whole(raw)
  const decided: View[] = []
  const router: AnyService = {
    name: "router",
    contract: { reads: ["sessions"], says: ["session.parked"], buries: ["sessions"], needsDeclarations: false },
    decide: (view) => {
      decided.push(view)
      return []
    },
  }
  let keys = 0
  return {
    admin,
    raw,
    blobs,
    decided,
    say: async (event) => {
      const { sessionId, type } = event
      await admin.append({
        topic: topics.sessions,
        partition: 0,
        key: () => `${sessionId}/${keys++}`,
        value: codec.encode("sessions", event),
        headers: { type, session: sessionId },
        certainty: "always",
      })
    },
    start: async (unreadAgainMs = 3_600_000) => {
      const loop = new Loop({
        log: whole(broker.connect()),
        codec,
        services: [router],
        prefix: "t",
        partitions: 1,
        group: "t.router",
        instance: `i${keys++}`,
        backends: [],
        metrics: new Metrics("test"),
        logger: pino({ level: "silent" }),
        failed: (error) => assert.fail(error),
        commitIntervalMs: 5,
        unreadAgainMs,
      })
      await loop.start()
      await until(() => loop.ready())
      return loop
    },
    records: async (type) => {
      const found: SessionEvent[] = []
      for await (const records of admin.replay(topics.sessions, 0, 0))
        for (const { value } of records) {
          const decoded = codec.decode(value as Uint8Array)
          if (decoded.ok && decoded.said.type === type) found.push(decoded.said as unknown as SessionEvent)
        }
      return found
    },
    replayed: async (sessionId) => {
      const reader = await SessionReader.open(admin, codec, "t", sessionId)
      await reader?.read({ tools: false })
      return stateDigest((reader as SessionReader).session)
    },
  }
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 10_000; turn++) {
    if (await holds()) return
    await new Promise<void>((resolve) => setTimeout(resolve, 1))
  }
  assert.fail("It never came true.")
}

/** Two sessions in one partition; the first said something long. */
function told(): { readonly story: Story; readonly events: readonly SessionEvent[] } {
  const story = new Story("sesn_a")
  const other = story.beside("sesn_b")
  story.started(undefined, { input: null })
  other.started(undefined, { input: null })
  story.message(large)
  other.message("short")
  return { story, events: story.records.map(({ event }) => event) }
}

async function loseBlob({ raw, blobs }: Stage, how: "missing" | "damaged"): Promise<() => void> {
  const named: LogRecord[] = []
  for await (const records of raw.replay(topics.sessions, 0, 0))
    named.push(...records.filter(({ headers }) => headers["blobs"] !== undefined))
  const [record] = named
  const [one] = readNamed(record?.headers["blobs"] ?? "") ?? []
  assert.ok(record !== undefined && one !== undefined)
  return blobs.damage(record.headers["session"] as string, one.sha256, how)
}

const isFaulty = (event: SessionEvent | undefined, code: string): event is SessionEventOf<"session.parked"> =>
  event?.type === "session.parked" && event.sessionId === "sesn_a" && event.code === code

describe("a session of which a record cannot be read whole", () => {
  for (const how of ["missing", "damaged"] as const)
    it(`waits for a person where its blob is ${how}; its partition goes on`, async () => {
      const at = await stage()
      for (const event of told().events) await at.say(event)
      await loseBlob(at, how)
      const loop = await at.start()
      await until(async () => (await at.records("session.parked")).length > 0)
      const [parked] = await at.records("session.parked")
      assert.ok(isFaulty(parked, `blob_${how}`))
      assert.match(
        parked.message,
        /t\.sessions\[0\] says at offset 2 .*sesn_a\.[0-9a-f]{32}.*Put it back from a copy, then resume the session/,
      )
      await until(() => loop.session(0, "sesn_a")?.phase === "parked")
      assert.ok(
        at.decided.every(({ sessionId, session }) => sessionId !== "sesn_a" || session.phase === "parked"),
        "nothing is decided on it",
      )
      assert.ok(at.decided.some(({ sessionId, session }) => sessionId === "sesn_b" && session.phase === "idle"))
      assert.equal((await at.records("session.parked")).length, 1)
      assert.equal(loop.unread, 1)
      await loop.stop()
    })

  it("is what its log says once it is resumed and its blob is back", async () => {
    const at = await stage()
    const { story, events } = told()
    for (const event of events) await at.say(event)
    const mend = await loseBlob(at, "missing")
    const loop = await at.start()
    await until(() => loop.session(0, "sesn_a")?.phase === "parked")
    // Resumed too early it waits again.
    await at.say(story.draft((s) => s.resumed({ commandId: "early" })))
    await until(async () => (await at.records("session.parked")).length === 2)
    mend()
    assert.notEqual(stateDigest(loop.session(0, "sesn_a") as never), await at.replayed("sesn_a"))
    at.decided.length = 0
    await at.say(story.draft((s) => s.resumed({ commandId: "again", command: { partition: 0, offset: 99 } })))
    await until(() => loop.unread === 0)
    assert.equal(stateDigest(loop.session(0, "sesn_a") as never), await at.replayed("sesn_a"))
    await until(() => at.decided.some(({ session }) => session.phase === "idle" && session.queued.length === 1))
    await loop.stop()
  })

  it("is what its log says soon after its blob is back, also if nobody resumes it", async () => {
    const at = await stage()
    for (const event of told().events) await at.say(event)
    const mend = await loseBlob(at, "damaged")
    const loop = await at.start(5)
    await until(() => loop.session(0, "sesn_a")?.phase === "parked")
    mend()
    await until(() => loop.unread === 0)
    assert.equal(loop.session(0, "sesn_a")?.phase, "parked")
    assert.equal(stateDigest(loop.session(0, "sesn_a") as never), await at.replayed("sesn_a"))
    await loop.stop()
  })

  it("is not there while its beginning is missing, and is once that is back", async () => {
    const at = await stage()
    const story = new Story("sesn_a")
    story.started(undefined, { input: JSON.stringify([{ type: "text", text: large }]) })
    for (const { event } of story.records) await at.say(event)
    const mend = await loseBlob(at, "missing")
    const loop = await at.start(5)
    assert.equal(loop.session(0, "sesn_a")?.phase, "absent")
    mend()
    await until(() => loop.session(0, "sesn_a")?.phase === "idle")
    await loop.stop()
  })
})
