import assert from "node:assert/strict"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, beforeEach, describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { erasesHeader, folderOf } from "@reins/log"
import { sha256Of } from "@reins/log/blobs"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { topicSettings } from "@reins/runtime"
import { foldVersion, freeze, type Session } from "@reins/session"
import { Story, text } from "@reins/session/testing"
import { findBlobs } from "./blobs.ts"
import { findErased } from "./erased.ts"
import { findSnapshots, restorationsIn, turnsFromSnapshots } from "./snapshots.ts"
import { canaryOf } from "./traits.ts"

// Who judges what is left has to be shown that it can find something: each rule is broken once.

const names = topicNames("t")
const [gone, kept] = ["sesn_gone", "sesn_kept"]
const doomed = new Set([gone])

let broker: MemoryBroker
let log: MemoryLog
let codec: Codec

async function empty(): Promise<void> {
  broker = new MemoryBroker()
  log = broker.connect()
  await log.applyTopics(topicSettings("t", 1, []))
  codec = await Codec.open(broker.registry)
}

function says(breaches: readonly string[], wanted: RegExp): void {
  assert.ok(
    breaches.some((breach) => wanted.test(breach)),
    breaches.join("\n") || "nothing was found",
  )
}

describe("what is left of deleted sessions", () => {
  beforeEach(empty)

  const record = (sessionId: string, n: number, type = "message.received", value = `said in ${canaryOf(sessionId)}`): string => {
    const key = `${sessionId}/${n}`
    broker.inject(names.sessions, 0, { key, value: Buffer.from(value), headers: { session: sessionId, type } })
    return key
  }
  const tombstone = (sessionId: string, key: string): void =>
    void broker.inject(names.sessions, 0, { key, value: null, headers: { session: sessionId, [erasesHeader]: "0" } })
  const snapshot = (sessionId: string, status: string, state: string): void =>
    void broker.inject(names.snapshots, 0, { key: sessionId, value: Buffer.from(state), headers: { session: sessionId, status } })
  const found = () => findErased(log, names, doomed)

  it("is nothing but the deletion where all else has its tombstone", async () => {
    const first = record(gone, 1)
    record(kept, 1)
    snapshot(gone, "idle", canaryOf(gone))
    record(gone, 2, "session.deleted", "{}")
    const late = record(gone, 3, "command.rejected")
    tombstone(gone, first)
    tombstone(gone, late)
    snapshot(gone, "deleted", "{}")
    const { records, snapshotsReplaced, breaches } = await found()
    assert.deepEqual({ records, snapshotsReplaced, breaches }, { records: 2, snapshotsReplaced: 1, breaches: [] })
  })

  it("I28: a record without a tombstone, and what it tells", async () => {
    record(gone, 1)
    record(gone, 2, "session.deleted", "{}")
    const { breaches } = await found()
    says(breaches, /message\.received @0 of sesn_gone stands/)
    says(breaches, /what was said in sesn_gone stands in/)
  })

  it("I28: one that came after its tombstone, under the same key", async () => {
    const key = record(gone, 1)
    record(gone, 2, "session.deleted", "{}")
    tombstone(gone, key)
    record(gone, 1)
    says((await found()).breaches, /@3 of sesn_gone stands/)
  })

  it("I28: a tombstone for another session, before the deletion, or for the deletion itself", async () => {
    tombstone(kept, record(kept, 1))
    tombstone(gone, record(gone, 1))
    tombstone(gone, record(gone, 2, "session.deleted", "{}"))
    const { breaches } = await found()
    says(breaches, /sesn_kept, which nobody deleted/)
    says(breaches, /before its session was deleted/)
    says(breaches, /session\.deleted of sesn_gone @\d is erased/)
  })

  it("I28: what was said in it, in another session's record or in a snapshot; and a snapshot that knows nothing of the deletion", async () => {
    record(gone, 1, "session.deleted", "{}")
    record(kept, 1, "message.received", canaryOf(gone))
    snapshot(gone, "deleted", "{}")
    snapshot(gone, "idle", canaryOf(gone))
    const { breaches } = await found()
    says(breaches, /stands in message\.received @1 of sesn_kept/)
    says(breaches, /stands in the newest snapshot of sesn_gone/)
    says(breaches, /newest snapshot of sesn_gone @1 says idle/)
  })
})

describe("blobs", () => {
  const root = mkdtempSync(join(tmpdir(), "reins-chaos-blobs-"))
  const said = Buffer.from("so much is to be said")
  beforeEach(async () => {
    rmSync(root, { recursive: true, force: true })
    await empty()
  })
  after(() => rmSync(root, { recursive: true, force: true }))

  const put = (sessionId: string, bytes: Buffer, name = sha256Of(bytes)): void => {
    mkdirSync(join(root, folderOf(sessionId)), { recursive: true })
    writeFileSync(join(root, folderOf(sessionId), name), bytes)
  }
  const record = (sessionId: string, bytes: Buffer): void =>
    void broker.inject(names.sessions, 0, {
      key: `${sessionId}/1`,
      value: Buffer.from("{}"),
      headers: { session: sessionId, blobs: `content=${sha256Of(bytes)}:${bytes.length}` },
    })
  const found = () => findBlobs(log, names, root, doomed)

  it("are all there, and what nobody names is told apart", async () => {
    record(kept, said)
    put(kept, said)
    put(kept, Buffer.from("of an append that never stood"))
    record(gone, said)
    const { named, bytes, orphans, breaches } = await found()
    assert.deepEqual({ named, bytes, orphans: orphans.length, breaches }, { named: 1, bytes: said.length, orphans: 1, breaches: [] })
  })

  it("P2: one that is missing, cut off, or another", async () => {
    record(kept, said)
    says((await found()).breaches, /is missing/)
    put(kept, said.subarray(1), sha256Of(said))
    says((await found()).breaches, /has 20 bytes, not 21/)
    put(kept, Buffer.from(said).fill(0x21, 3, 4), sha256Of(said))
    says((await found()).breaches, /is damaged/)
  })

  it("I28: one of a deleted session, or with its words elsewhere", async () => {
    put(gone, said)
    says((await found()).breaches, /I28: the blob/)
    rmSync(root, { recursive: true })
    put(kept, Buffer.from(canaryOf(gone)))
    says((await found()).breaches, /I28: the blob/)
  })
})

describe("snapshots", () => {
  let story: Story
  before(() => {
    story = new Story(kept)
    story.started().requested()
    story.responded([text("Hello.")]).idled()
  })
  beforeEach(async () => {
    await empty()
    for (const { event, at } of story.records)
      broker.inject(names.sessions, 0, {
        key: `${kept}/${event.eventId}`,
        value: codec.encode("sessions", event),
        headers: { session: kept },
        timestamp: at.timestamp,
      })
  })

  const upTo = (offset: number): Session => {
    const copy = new Story(kept)
    for (const { event } of story.records.slice(0, offset + 1)) copy.tell(event)
    return copy.session
  }
  const write = (offset: number, session: Session): void =>
    void broker.inject(names.snapshots, 0, {
      key: kept,
      value: codec.encode("snapshots", {
        type: "session.snapshot",
        sessionId: kept,
        foldVersion,
        offset,
        first: 0,
        newest: offset,
        erasedTo: -1,
        status: "idle",
        state: freeze({ session, records: [] }),
      }),
    })

  it("are the state that the log comes to where they say, also those that were replaced", async () => {
    write(1, upTo(1))
    write(3, upTo(3))
    assert.deepEqual(await findSnapshots(log, codec, "t"), { written: 2, sessions: 1, firstAt: new Map([[kept, 0]]), breaches: [] })
  })

  it("P5: one that says that it covers more than it does, or less", async () => {
    write(3, upTo(1))
    write(0, upTo(3))
    const { breaches } = await findSnapshots(log, codec, "t")
    assert.equal(breaches.length, 2)
    says(breaches, /covers offset 3 is another state/)
  })

  it("are counted where a process says that it began from them, and so is a turn of a session that it knows from nowhere else", () => {
    const line = (snapshots: number): string =>
      `{"instance":"invoker-1","partition":3,"sessions":7,"from":9,"snapshots":${snapshots},"msg":"A partition is taken over from snapshots."}\nother words\n`
    const everyone = [{ stderr: line(40) }, { stderr: line(60) + line(50) }] as never
    const restorations = restorationsIn({ everyone })
    assert.deepEqual(
      restorations.map(({ instance, sessions, snapshots }) => ({ instance, sessions, snapshots })),
      [40, 60, 50].map((snapshots) => ({ instance: "invoker-1", sessions: 7, snapshots })),
    )
    const turns = (at: number, instance: string, partition: number): number => {
      const request = { type: "model.requested", verdict: "accepted", offset: 70, partition, value: { instance } }
      return turnsFromSnapshots({ records: new Map([[kept, [request]]]) } as never, restorations, new Map([[kept, at]]))
    }
    assert.deepEqual(
      [turns(39, "invoker-1", 3), turns(45, "invoker-1", 3), turns(39, "invoker-2", 3), turns(39, "invoker-1", 4)],
      [1, 0, 0, 0],
    )
  })
})
