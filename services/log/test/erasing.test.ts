import assert from "node:assert/strict"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { after, afterEach, describe, it } from "node:test"
import { type Append, erasesHeader, type Log, type LogRecord } from "@reins/log"
import { openSqlite } from "../src/sqlite.ts"

const canary = "CANARY-4b7d"
const folders: string[] = []
const opened: Log[] = []

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "reins-erasing-"))
  folders.push(dir)
  return dir
}

async function open(dir: string): Promise<Log> {
  const { log } = openSqlite({ dir, synchronous: "NORMAL" })
  opened.push(log)
  await log.applyTopics([
    { name: "truth", partitions: 2, cleanup: "compact", config: {} },
    { name: "beside", partitions: 1, cleanup: "delete", config: {} },
  ])
  return log
}

function entry(topic: string, key: string, value: string | null, headers: Record<string, string> = {}): Append {
  return { topic, partition: 0, key: () => key, value: value === null ? null : Buffer.from(value), headers, certainty: "always" }
}

async function standing(log: Log, topic: string): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay(topic, 0, 0)) records.push(...stretch)
  return records
}

/** How often the canary stands in the folder, in whatever file. */
function sightings(dir: string): number {
  return globSync("**", { cwd: dir, withFileTypes: true })
    .filter((file) => file.isFile())
    .reduce((sum, file) => sum + readFileSync(join(file.parentPath, file.name)).toString("latin1").split(canary).length - 1, 0)
}

/** Sessions of very different records, written between each other, so that pages are split and balanced: one in four holds the canary. */
async function written(log: Log): Promise<readonly LogRecord[]> {
  const appends: Promise<unknown>[] = []
  for (let n = 0; n < 1200; n++) {
    const size = n % 11 === 0 ? 9000 : (n * 37) % 1400
    const value = n % 4 === 0 ? `${canary} `.repeat(1 + size / 12) : "x".repeat(size)
    appends.push(log.append(entry("truth", `s${n % 4}/${n}`, value)), log.append(entry("beside", `s${n % 4}`, value)))
    if (n % 50 === 0) await Promise.all(appends)
  }
  await Promise.all(appends)
  return (await standing(log, "truth")).filter(({ key }) => key?.startsWith("s0/"))
}

function tombstone(log: Log, { key, offset }: LogRecord): Promise<unknown> {
  return log.append(entry("truth", key as string, null, { [erasesHeader]: String(offset) }))
}

afterEach(async () => {
  for (const log of opened.splice(0)) await log.close()
})

after(() => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true })
})

describe("a log on SQLite from which a session is erased", () => {
  it("has no byte of it left in any file, and everything else as it was", async () => {
    const dir = folder()
    const log = await open(dir)
    const doomed = await written(log)
    const others = async (): Promise<LogRecord[]> =>
      [...(await standing(log, "truth")), ...(await standing(log, "beside"))].filter(
        ({ key, value }) => value !== null && !key?.startsWith("s0"),
      )
    const before = await others()
    assert.ok(sightings(dir) > 1000)
    await Promise.all(doomed.map((record) => tombstone(log, record)))
    const beside = (await standing(log, "beside")).filter(({ key }) => key === "s0")
    await log.remove?.(
      "beside",
      0,
      beside.map(({ offset }) => offset),
    )
    await log.rewrite?.()
    assert.equal(sightings(dir), 0)
    assert.deepEqual(await others(), before)
  })

  it("takes out what a tombstone names and nothing else: not another key, nor a place that it does not name", async () => {
    const log = await open(folder())
    for (const key of ["a/1", "b/1", "a/2"]) await log.append(entry("truth", key, key))
    await log.append(entry("truth", "a/1", null))
    await log.append(entry("truth", "a/1", null, { [erasesHeader]: "1" }))
    await log.append(entry("truth", "a/2", null, { [erasesHeader]: "not a number" }))
    const values = async (): Promise<(string | null)[]> =>
      (await standing(log, "truth")).map(({ value }) => (value === null ? null : Buffer.from(value).toString()))
    assert.deepEqual(await values(), ["a/1", "b/1", "a/2", null, null, null])
    await log.append(entry("truth", "a/1", null, { [erasesHeader]: "0" }))
    assert.deepEqual(await values(), ["b/1", "a/2", null, null, null, null])
  })

  it("goes on at the same offsets after a restart, also where its newest record was removed", async () => {
    const dir = folder()
    const log = await open(dir)
    for (const value of ["a", canary]) await log.append(entry("beside", "s", value, { secret: canary }))
    await log.remove?.("beside", 0, [0, 1])
    await log.rewrite?.()
    assert.equal(sightings(dir), 0)
    await log.close()
    const again = await open(dir)
    assert.equal((await again.append(entry("beside", "s", "b"))).offset, 2)
    assert.deepEqual(
      (await standing(again, "beside")).map(({ offset, value }) => [offset, value === null]),
      [
        [1, true],
        [2, false],
      ],
    )
  })

  it("is finished by whoever opens it next, when its process died before the file was written anew", async () => {
    const dir = folder()
    const log = await open(dir)
    for (const record of await written(log)) await tombstone(log, record)
    const beside = (await standing(log, "beside")).filter(({ key }) => key === "s0")
    await log.remove?.(
      "beside",
      0,
      beside.map(({ offset }) => offset),
    )
    await log.close()
    assert.ok(sightings(dir) > 0, "a deletion alone leaves bytes behind")
    await open(dir)
    assert.equal(sightings(dir), 0)
  })

  it("says so where another process is still reading old pages, and does it when that one has gone", async () => {
    const dir = folder()
    const log = await open(dir)
    await log.append(entry("beside", "s", canary))
    await log.append(entry("beside", "s", "b"))
    const reader = new DatabaseSync(join(dir, "reins.db"), { readOnly: true })
    reader.exec("BEGIN; SELECT count(*) FROM records")
    await log.remove?.("beside", 0, [0])
    await assert.rejects(async () => log.rewrite?.(), { code: "reader-in-the-way" })
    reader.close()
    await log.rewrite?.()
    assert.equal(sightings(dir), 0)
  })
})
