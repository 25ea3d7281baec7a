import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { after, afterEach, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import {
  type Append,
  AppendUnknownError,
  type Log,
  LogOwnedError,
  type LogRecord,
  LogUnavailableError,
  TopicMismatchError,
} from "../src/index.ts"
import { LogVersionError, openSqlite, type SqliteOptions } from "../src/sqlite.ts"

const folders: string[] = []
const opened: Log[] = []
const children: ChildProcess[] = []

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "reins-sqlite-"))
  folders.push(dir)
  return dir
}

function open(options: SqliteOptions): ReturnType<typeof openSqlite> {
  const made = openSqlite(options)
  opened.push(made.log)
  return made
}

const topic = { name: "t", partitions: 2, cleanup: "compact", config: { "retention.ms": "-1" } } as const
const entry = (value: string, partition = 0): Append => ({
  topic: "t",
  partition,
  key: () => value,
  value: new TextEncoder().encode(value),
  headers: { n: value },
  certainty: "always",
})

async function recordsOf(log: Log): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay("t", 0, 0)) records.push(...stretch)
  return records
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 30_000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Waited in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Another process that owns the log; resolves when it has had a few acknowledgements. */
async function owner(dir: string): Promise<{ readonly child: ChildProcess; readonly acknowledged: () => number }> {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", fileURLToPath(new URL("sqlite-owner.ts", import.meta.url)), dir],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  )
  children.push(child)
  let last = -1
  createInterface({ input: child.stdout }).on("line", (line) => {
    last = Number(line)
  })
  await until(() => last >= 5, "the owner appends")
  return { child, acknowledged: () => last }
}

async function killed(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit")
  child.kill("SIGKILL")
  await gone
}

afterEach(async () => {
  for (const log of opened.splice(0)) await log.close()
  for (const child of children.splice(0)) if (child.exitCode === null && child.signalCode === null) await killed(child)
})

after(() => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true })
})

describe("the SQLite file", () => {
  it("holds records, topics, commits and schemas over a restart, and goes on at the next offset", async () => {
    const dir = join(folder(), "made", "as needed")
    const first = open({ dir })
    assert.deepEqual(await first.log.applyTopics([topic]), ["t"])
    for (const value of ["a", "b"]) await first.log.append(entry(value))
    const id = await first.registry.register("session.started", '{"type":"string"}')
    assert.equal(await first.registry.register("session.started", '{"type":"string"}'), id)
    const member = await first.log.follow({ group: "g", instance: "one", topics: ["t"], records: () => {} })
    await member.commit([{ topic: "t", partition: 0, offset: 1, note: "low" }])
    const before = await recordsOf(first.log)
    await first.log.close()

    const second = open({ dir })
    assert.deepEqual(await second.log.applyTopics([topic]), [])
    assert.deepEqual(await second.log.describeTopics(), [topic])
    assert.deepEqual(await recordsOf(second.log), before)
    assert.equal((await second.log.append(entry("c"))).offset, 2)
    assert.equal(await second.registry.schema(id), '{"type":"string"}')
    let committed: unknown
    await second.log.follow({
      group: "g",
      instance: "two",
      topics: ["t"],
      from: (_, partition, found) => {
        if (partition === 0) committed = found
        return 0
      },
      records: () => {},
    })
    await until(() => committed !== undefined, "the partition is assigned")
    assert.deepEqual(committed, { offset: 1, note: "low" })
  })

  it("never goes back in time over a restart", async () => {
    const dir = folder()
    const first = open({ dir })
    await first.log.applyTopics([topic])
    await first.log.append(entry("a"))
    await first.log.close()
    const future = Date.now() + 3_600_000
    const db = new DatabaseSync(join(dir, "reins.db"))
    db.prepare("UPDATE records SET timestamp = ?").run(future)
    db.close()
    assert.equal((await open({ dir }).log.append(entry("b"))).timestamp, future)
  })

  it("is synced at every commit unless told otherwise, and is a write-ahead log", async () => {
    for (const [synchronous, level] of [
      [undefined, 2],
      ["FULL", 2],
      ["NORMAL", 1],
    ] as const) {
      const dir = folder()
      const seen: string[] = []
      const exec = DatabaseSync.prototype.exec
      DatabaseSync.prototype.exec = function (this: DatabaseSync, sql: string): void {
        exec.call(this, sql)
        if (sql.includes("synchronous"))
          seen.push(
            String(this.prepare("PRAGMA synchronous").get()?.["synchronous"]),
            String(this.prepare("PRAGMA journal_mode").get()?.["journal_mode"]),
          )
      }
      try {
        open({ dir, ...(synchronous === undefined ? {} : { synchronous }) })
      } finally {
        DatabaseSync.prototype.exec = exec
      }
      assert.deepEqual(seen, [String(level), "wal"])
    }
  })

  it("says what to do about a file of a later version, one that is no log, and a folder that cannot be made", async () => {
    const dir = folder()
    await open({ dir }).log.close()
    const db = new DatabaseSync(join(dir, "reins.db"))
    db.exec("PRAGMA user_version = 99")
    db.close()
    for (const readOnly of [false, true]) {
      assert.throws(
        () => open({ dir, readOnly }),
        (error) => error instanceof LogVersionError && !error.retryable && /version 99.*knows versions up to 1.*newer/.test(error.message),
      )
    }
    const odd = folder()
    writeFileSync(
      join(odd, "reins.db"),
      "This is a text file of more than a hundred bytes, so that SQLite reads a header from it and finds that it is none. ".repeat(3),
    )
    for (const readOnly of [false, true])
      assert.throws(
        () => open({ dir: odd, readOnly }),
        (error) => error instanceof LogUnavailableError && error.message.includes(odd),
      )
    const file = join(folder(), "file")
    writeFileSync(file, "")
    assert.throws(
      () => open({ dir: file }),
      (error) => error instanceof LogUnavailableError && error.message.includes("REINS_DATA"),
    )
    await open({ dir: folder() }).log.close()
  })

  it("is as it was after a commit that failed: a `once` is unknown, what must stand is tried again in its place", async () => {
    const dir = folder()
    const { log } = open({ dir })
    await log.applyTopics([topic])
    await log.append(entry("a"))
    // Another connection makes the second insert of the transaction fail, as a full disk would.
    const other = new DatabaseSync(join(dir, "reins.db"), { timeout: 5000 })
    other.exec("CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.key = 'c' BEGIN SELECT RAISE(ABORT, 'The disk is full.'); END")
    const standing = [log.append(entry("b")), log.append(entry("c"))]
    await assert.rejects(
      log.append({ ...entry("d", 1), certainty: "once" }),
      (error) => error instanceof AppendUnknownError && error.message.includes("full"),
    )
    assert.deepEqual(
      (await log.bounds("t")).map(({ end }) => end),
      [1, 0],
    )
    other.exec("DROP TRIGGER full")
    other.close()
    assert.deepEqual(
      (await Promise.all(standing)).map(({ offset }) => offset),
      [1, 2],
    )
    assert.deepEqual(
      (await recordsOf(log)).map((record) => record.key),
      ["a", "b", "c"],
    )
  })

  it("leaves the folder free when it could not open the log in it", async () => {
    const dir = folder()
    writeFileSync(join(dir, "reins.db"), "no log ".repeat(100))
    assert.throws(() => open({ dir }), LogUnavailableError)
    rmSync(join(dir, "reins.db"))
    open({ dir })
  })
})

describe("the owner of a data folder", () => {
  it("is one: a second writer is told who it is and what to do, in this process and from another", async () => {
    const dir = folder()
    const { log } = open({ dir })
    const told =
      (pid: number | undefined) =>
      (error: unknown): boolean =>
        error instanceof LogOwnedError && [dir, `process ${pid}`, "REINS_DATA"].every((word) => error.message.includes(word))
    assert.throws(() => open({ dir }), told(process.pid))
    await log.close()
    const { child } = await owner(dir)
    assert.throws(() => open({ dir }), told(child.pid))
  })

  it("may be killed at any moment: the folder is free at once, and everything acknowledged stands", async () => {
    const dir = folder()
    for (let round = 0; round < 3; round++) {
      const { child, acknowledged } = await owner(dir)
      assert.throws(() => open({ dir }), LogOwnedError)
      await killed(child)
      const { log } = open({ dir })
      const records = await recordsOf(log)
      assert.ok(records.length > acknowledged(), `${acknowledged() + 1} were acknowledged, ${records.length} stand`)
      assert.deepEqual(
        records.map((record) => record.offset),
        records.map((_, offset) => offset),
      )
      await log.close()
    }
  })
})

describe("a reader of a data folder", () => {
  it("reads beside an owner of another process, and follows what it writes", async () => {
    const dir = folder()
    const { acknowledged } = await owner(dir)
    const { log } = open({ dir, readOnly: true })
    const then = acknowledged()
    assert.ok((await recordsOf(log)).length > then)
    assert.ok(((await log.bounds("t"))[0]?.end ?? 0) > then)
    assert.deepEqual(
      (await log.describeTopics()).map(({ name }) => name),
      ["t"],
    )
    const offsets: number[] = []
    let caughtUp = false
    await log.follow({
      instance: "reader",
      topics: ["t"],
      records: (_topic, _partition, records) => void offsets.push(...records.map((record) => record.offset)),
      caughtUp: () => {
        caughtUp = true
      },
    })
    await until(() => caughtUp && offsets.length > then + 20, "the reader keeps up")
    assert.deepEqual(
      offsets,
      offsets.map((_, offset) => offset),
    )
  })

  it("sees topics that are made after it opened", async () => {
    const dir = folder()
    const { log: writer } = open({ dir })
    const { log } = open({ dir, readOnly: true })
    assert.deepEqual(await log.describeTopics(), [])
    await assert.rejects(log.bounds("t"), TopicMismatchError)
    await writer.applyTopics([topic])
    await writer.append(entry("a"))
    assert.equal((await recordsOf(log)).length, 1)
  })

  it("reads without an owner: after a clean end, and after a kill", async () => {
    const dir = folder()
    const { log } = open({ dir })
    await log.applyTopics([topic])
    await log.append(entry("a"))
    await log.close()
    assert.equal((await recordsOf(open({ dir, readOnly: true }).log)).length, 1)
    const crashed = folder()
    const { child, acknowledged } = await owner(crashed)
    await killed(child)
    assert.ok((await recordsOf(open({ dir: crashed, readOnly: true }).log)).length > acknowledged())
  })

  it("leaves the folder free for an owner, and is not disturbed by its end", async () => {
    const dir = folder()
    const first = open({ dir })
    await first.log.applyTopics([topic])
    await first.log.append(entry("a"))
    const { log } = open({ dir, readOnly: true })
    await first.log.close()
    assert.equal((await recordsOf(log)).length, 1)
    const second = open({ dir })
    await second.log.append(entry("b"))
    assert.equal((await recordsOf(log)).length, 2)
  })

  it("writes nothing and joins nothing, and says why", async () => {
    const dir = folder()
    const writer = open({ dir })
    await writer.log.applyTopics([topic])
    const { log, registry } = open({ dir, readOnly: true })
    const told = (error: unknown): boolean => error instanceof LogUnavailableError && error.message.includes("reading only")
    await assert.rejects(log.append(entry("a")), told)
    await assert.rejects(log.follow({ group: "g", instance: "i", topics: ["t"], records: () => {} }), told)
    await assert.rejects(log.applyTopics([topic]), told)
    await assert.rejects(registry.register("new", "{}"), told)
    assert.equal(await log.members("g"), null)
    const id = await writer.registry.register("known", "{}")
    assert.equal(await registry.register("known", "{}"), id)
    assert.equal(await registry.schema(id), "{}")
  })

  it("says that there is no log yet, and makes no folder", () => {
    const dir = join(folder(), "none")
    assert.throws(
      () => open({ dir, readOnly: true }),
      (error) => error instanceof LogUnavailableError && /no log in .*reins run/.test(error.message),
    )
    assert.equal(existsSync(dir), false)
    const beginning = folder()
    writeFileSync(join(beginning, "reins.db"), "")
    assert.throws(() => open({ dir: beginning, readOnly: true }), /no log in/)
  })
})

describe("closing", () => {
  it("sends what waits, ends the followers and gives the folder back", async () => {
    const dir = folder()
    const { log } = open({ dir })
    await log.applyTopics([topic])
    let got = 0
    await log.follow({ group: "g", instance: "i", topics: ["t"], records: (_topic, _partition, records) => void (got += records.length) })
    const waiting = Array.from({ length: 20 }, (_, n) => log.append({ ...entry(String(n)), certainty: "once" }))
    await log.close()
    await Promise.all(waiting)
    await log.close()
    await assert.rejects(log.append(entry("late")))
    await assert.rejects(async () => log.replay("t", 0, 0), LogUnavailableError)
    const before = got
    const { log: next } = open({ dir })
    assert.equal((await recordsOf(next)).length, 20)
    assert.equal(got, before)
  })
})
