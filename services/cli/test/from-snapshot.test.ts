import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { after, before, describe, it } from "node:test"
import { type SessionSnapshot, topicNames } from "@reins/events"
import { Codec } from "@reins/log/codec"
import { openSqlite } from "@reins/log/sqlite"
import { SessionReader, topicSettings } from "@reins/runtime"
import { foldVersion, freeze } from "@reins/session"
import { Story, text } from "@reins/session/testing"
import { remedy } from "../src/from-snapshot.ts"
import { type Ended, reins } from "./reins.ts"

const names = topicNames("reins")

/** A log of one partition in which each session has another kind of snapshot, or none. */
async function written(dir: string): Promise<void> {
  const first = new Story("sesn_none")
  const stories = [first, ...["sesn_same", "sesn_other", "sesn_differs"].map((id) => first.beside(id))]
  for (const story of stories)
    story
      .started()
      .requested()
      .responded([text("Hello.")])
  const covered = first.records.length - 1
  for (const story of stories) story.idled()
  const last = first.records.length - 1

  const { log, registry } = openSqlite({ dir })
  const codec = await Codec.open(registry)
  await log.applyTopics(topicSettings("reins", 1, []))
  const append = async (topic: string, key: string, session: string, value: Uint8Array): Promise<void> =>
    void (await log.append({ topic, partition: 0, key: () => key, value, headers: { session }, certainty: "always" }))
  for (const { event, at } of first.records)
    await append(names.sessions, `${event.sessionId}/${at.offset}`, event.sessionId, codec.encode("sessions", event))
  /** As read back up to there, as every snapshot is. */
  const stateAt = async (sessionId: string, to: number): Promise<string> => {
    const reader = await SessionReader.open(log, codec, "reins", sessionId)
    assert.ok(reader !== null)
    await reader.read({ tools: false, to })
    return freeze({ session: reader.session, records: [] })
  }
  const snapshot = async (sessionId: string, state: string, fields: Partial<SessionSnapshot> = {}): Promise<void> => {
    const usual = { type: "session.snapshot", sessionId, foldVersion, first: 0, newest: covered, erasedTo: -1, status: "running" } as const
    await append(names.snapshots, sessionId, sessionId, codec.encode("snapshots", { ...usual, offset: covered, state, ...fields }))
  }
  // The newest counts.
  await snapshot("sesn_same", await stateAt("sesn_differs", covered))
  await snapshot("sesn_same", await stateAt("sesn_same", covered))
  await snapshot("sesn_other", await stateAt("sesn_other", covered), { foldVersion: "0123456789ab" })
  // It says that it has seen the end, and has not.
  await snapshot("sesn_differs", await stateAt("sesn_differs", covered), { offset: last })
  await log.close()
}

describe("reins replay --check --from-snapshot", () => {
  let dir: string
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "reins-from-snapshot-"))
    await written(dir)
  })
  after(() => rmSync(dir, { recursive: true, force: true }))

  const replayed = (sessionId: string): Promise<Ended> => reins(dir, ["replay", sessionId, "--check", "--from-snapshot"])

  it("folds what stands behind the newest snapshot, and comes to the same", async () => {
    const { code, stdout, stderr } = await replayed("sesn_same")
    assert.equal(code, 0, stderr)
    const [, whole] = /0 differ\. State digest ([0-9a-f]{64})$/m.exec(stdout) ?? []
    const [, digest] = /^same {2}from the snapshot that covers offset 11: state digest ([0-9a-f]{64})$/m.exec(stdout) ?? []
    assert.ok(digest !== undefined && digest === whole, stdout)
  })

  it("says where there is none, which is no fault", async () => {
    const { code, stdout, stderr } = await replayed("sesn_none")
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^There is no snapshot of it yet/m)
  })

  it("compares none of another fold, which is no fault either", async () => {
    const { code, stdout, stderr } = await replayed("sesn_other")
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^Its snapshot is of another fold \(0123456789ab\), which nobody uses/m)
  })

  it("ends with 6 where the log says something else, and names a way out that leads out", async () => {
    const { code, stdout, stderr } = await replayed("sesn_differs")
    assert.equal(code, 6)
    assert.match(stdout, /^DIFFERS {2}from the snapshot that covers offset 15: state digest [0-9a-f]{64}$/m)
    assert.match(stderr, /The snapshot that covers offset 15 comes to another state than the log\./)
    const [, file, statement] = /sqlite3 '(.*?)' "(.*?)"/.exec(stderr) ?? []
    assert.equal(file, join(dir, "reins.db"), stderr)
    const db = new DatabaseSync(file)
    db.exec(statement as string)
    db.close()
    const after = await replayed("sesn_differs")
    assert.equal(after.code, 0, after.stderr)
    assert.match(after.stdout, /^There is no snapshot of it yet/m)
  })

  it("names another way out of Kafka, where a topic can be deleted and has to be made anew", () => {
    const said = remedy("kafka", "acme.snapshots", dir)
    assert.match(said, /kafka-topics\.sh .*--delete --topic acme\.snapshots\b/)
    assert.match(said, /`reins topics apply`/)
  })
})
