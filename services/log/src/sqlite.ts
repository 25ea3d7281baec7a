import { existsSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync, type StatementSync } from "node:sqlite"
import type { PartitionBatch } from "./group-commit.ts"
import { LocalHub, LocalLog } from "./local-log.ts"
import { retentionMsOf, Sweeps, sweptMax } from "./local-retention.ts"
import type { Store, StoredAt, Stretch, StretchLimit } from "./local-store.ts"
import {
  type Bounds,
  type Commit,
  erasesHeader,
  type Log,
  LogOwnedError,
  type LogRecord,
  LogUnavailableError,
  type TopicDescription,
  type TopicSettings,
} from "./log.ts"
import { type OwnerLock, takeOwnership } from "./owner-lock.ts"
import { LocalRegistry } from "./registry/local.ts"
import type { SchemaRegistry } from "./registry/registry.ts"

// The log of embedded mode: one SQLite file that one process writes and any number read. A group commit is one transaction,
// so it costs one fsync however many sessions it carries; nothing is acknowledged before that.

export interface SqliteOptions {
  /** The data folder; created if it is missing, unless `readOnly`. */
  readonly dir: string
  /** FULL (the default) syncs every commit to disk. NORMAL may lose the last moments with the power, though never with the process. */
  readonly synchronous?: "FULL" | "NORMAL"
  /** Reads beside whoever owns the folder, or without an owner. */
  readonly readOnly?: boolean
}

export interface SqliteLog {
  readonly log: Log
  readonly registry: SchemaRegistry
}

/** The file was written by a later Reins, which may mean other things by what stands in it. */
export class LogVersionError extends LogUnavailableError {
  override readonly code = "log-version"
  override readonly retryable = false
}

/** Old pages cannot go while someone reads them. */
class ReaderInTheWayError extends Error {
  readonly code = "reader-in-the-way"
  readonly retryable = true
}

const fileName = "reins.db"

/** Raised with every change to the tables below. */
const schemaVersion = 1

/** How long a reader waits for a lock that another connection holds for a moment. */
const busyTimeoutMs = 5000

/** How often a reader looks for what the owner has written. */
const pollMs = 50

const tables = `
  CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, cleanup TEXT NOT NULL, config TEXT NOT NULL) STRICT;
  CREATE TABLE records (
    topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, key TEXT, value BLOB, headers TEXT NOT NULL,
    PRIMARY KEY (topic_id, partition, offset)) STRICT, WITHOUT ROWID;
  CREATE TABLE commits (
    group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, note TEXT NOT NULL,
    PRIMARY KEY (group_name, topic_id, partition)) STRICT, WITHOUT ROWID;
  CREATE TABLE schemas (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, schema TEXT NOT NULL, UNIQUE (subject, schema)) STRICT;
  PRAGMA user_version = ${schemaVersion};
`

/** Holds a row while the file has pages from which a session was erased: whoever owns it next finishes that. Earlier builds need not know it. */
const rewriteDue = "CREATE TABLE IF NOT EXISTS rewrite_due (one INTEGER PRIMARY KEY CHECK (one = 1)) STRICT"

const isDue = "INSERT OR IGNORE INTO rewrite_due VALUES (1)"

/** Opens the log in a folder. Throws `LogOwnedError` where another process writes it, `LogUnavailableError` where it cannot be opened. */
export function openSqlite(options: SqliteOptions): SqliteLog {
  const place = `the log in ${options.dir}`
  if (options.readOnly === true) {
    const store = new SqliteStore(openFile(options), false)
    const hub = new LocalHub(store, { place, pollMs })
    const readOnly = `The log in ${options.dir} is open for reading only: its owner writes and shares out partitions.`
    return { log: new LocalLog({ kind: "sqlite", hub, readOnly, closed: () => store.close() }), registry: new LocalRegistry(store) }
  }
  let lock: OwnerLock | undefined
  try {
    mkdirSync(options.dir, { recursive: true })
    lock = takeOwnership(options.dir)
    const held = lock
    const store = new SqliteStore(openFile(options), true)
    finishRewrite(store)
    const hub = new LocalHub(store, { place })
    const closed = (): void => {
      store.close()
      held.release()
    }
    return { log: new LocalLog({ kind: "sqlite", hub, closed }), registry: new LocalRegistry(store) }
  } catch (error) {
    lock?.release()
    throw error instanceof LogUnavailableError || error instanceof LogOwnedError ? error : unavailable(options.dir, error)
  }
}

function openFile({ dir, synchronous = "FULL", readOnly = false }: SqliteOptions): DatabaseSync {
  const file = join(dir, fileName)
  if (readOnly && !existsSync(file)) throw noLogYet(dir)
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(file, { readOnly, timeout: busyTimeoutMs })
    const version = Number(db.prepare("PRAGMA user_version").get()?.["user_version"])
    if (version > schemaVersion) {
      throw new LogVersionError(
        `The log in ${dir} has version ${version}; this Reins knows versions up to ${schemaVersion}. Use the Reins that wrote it or a newer one, or another folder (REINS_DATA).`,
      )
    }
    if (readOnly && version === 0) throw noLogYet(dir)
    if (!readOnly) {
      db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous};`)
      if (version === 0) db.exec(`BEGIN IMMEDIATE; ${tables} COMMIT;`)
      db.exec(rewriteDue)
    }
    return db
  } catch (error) {
    db?.close()
    throw error instanceof LogUnavailableError ? error : unavailable(dir, error)
  }
}

/** What a process that died had begun. Where a reader is in the way or the disk is full, the next erasure or the next start does it. */
function finishRewrite(store: SqliteStore): void {
  try {
    store.rewrite()
  } catch {
    // It stays due; the log can be used all the same.
  }
}

function noLogYet(dir: string): LogUnavailableError {
  return new LogUnavailableError(
    `There is no log in ${dir} yet. \`reins run\` or \`reins dev\` creates one; REINS_DATA names another folder.`,
  )
}

function unavailable(dir: string, cause: unknown): LogUnavailableError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new LogUnavailableError(
    `The log in ${dir} cannot be opened: ${why}. Check that the folder may be written, that its disk has room and that ${fileName} is a Reins log, or use another folder (REINS_DATA).`,
    { cause },
  )
}

interface StoredPartition {
  end: number
  /** Of the newest record. */
  timestamp: number
  /** Of the oldest record as far as it is known: never later than that. Only the topics that are swept keep it. */
  oldest: number
}

interface StoredTopic {
  readonly id: number
  readonly description: TopicDescription
  readonly partitions: readonly StoredPartition[]
}

interface Swept {
  readonly count: number
  readonly oldest: ReadonlyMap<StoredPartition, number>
}

type Row = Record<string, unknown>

class SqliteStore implements Store {
  readonly #db: DatabaseSync
  readonly #owner: boolean
  /** A topic never changes once it is made. The ends of its partitions are known to the owner only, who alone moves them. */
  readonly #known = new Map<string, StoredTopic>()
  readonly #begin: StatementSync
  readonly #end: StatementSync
  readonly #insert: StatementSync
  readonly #select: StatementSync
  readonly #newest: StatementSync
  readonly #topic: StatementSync
  readonly #oldest: StatementSync
  readonly #lowestCommit: StatementSync
  readonly #expired: StatementSync
  readonly #erase: StatementSync
  readonly #remove: StatementSync
  readonly #empty: StatementSync
  readonly #sweeps = new Sweeps()

  constructor(db: DatabaseSync, owner: boolean) {
    this.#db = db
    this.#owner = owner
    this.#begin = db.prepare("BEGIN IMMEDIATE")
    this.#end = db.prepare("COMMIT")
    this.#insert = db.prepare(
      "INSERT INTO records (topic_id, partition, offset, timestamp, key, value, headers) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    this.#select = db.prepare(
      "SELECT offset, timestamp, key, value, headers FROM records WHERE topic_id = ? AND partition = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
    )
    this.#newest = db.prepare("SELECT offset, timestamp FROM records WHERE topic_id = ? AND partition = ? ORDER BY offset DESC LIMIT 1")
    this.#topic = db.prepare("SELECT id, name, partitions, cleanup, config FROM topics WHERE name = ?")
    this.#oldest = db.prepare("SELECT offset, timestamp FROM records WHERE topic_id = ? AND partition = ? ORDER BY offset LIMIT 1")
    this.#lowestCommit = db.prepare("SELECT min(offset) AS offset FROM commits WHERE topic_id = ? AND partition = ?")
    // Timestamps never go backwards in a partition, so what has expired is a stretch at its beginning.
    this.#expired = db.prepare(
      `DELETE FROM records WHERE topic_id = ?1 AND partition = ?2 AND offset <= (
        SELECT max(offset) FROM (SELECT offset, timestamp FROM records WHERE topic_id = ?1 AND partition = ?2 AND offset < ?3 ORDER BY offset LIMIT ?4)
        WHERE timestamp < ?5)`,
    )
    this.#erase = db.prepare("DELETE FROM records WHERE topic_id = ? AND partition = ? AND offset = ? AND key = ?")
    this.#remove = db.prepare("DELETE FROM records WHERE topic_id = ? AND partition = ? AND offset = ?")
    this.#empty = db.prepare("UPDATE records SET value = NULL, headers = '{}' WHERE topic_id = ? AND partition = ? AND offset = ?")
    if (owner) for (const { name } of this.topics()) this.#load(name)
  }

  append(batches: readonly PartitionBatch[], now: number): readonly StoredAt[] {
    const placed: StoredAt[] = []
    const after: { readonly stored: StoredPartition; readonly end: number; readonly timestamp: number }[] = []
    let swept: Swept | undefined
    let erased = false
    this.#transact(() => {
      for (const { topic, partition, entries } of batches) {
        const { id } = this.#stored(topic)
        const stored = this.#partition(topic, partition)
        const timestamp = Math.max(stored.timestamp, now)
        let offset = stored.end
        placed.push({ baseOffset: offset, timestamp })
        for (const { key, value, headers } of entries) {
          this.#insert.run(id, partition, offset++, timestamp, key, value, JSON.stringify(headers))
          const erases = headers[erasesHeader]
          // There is no cleaner here: what a tombstone erases, or a newer record replaces, goes with it.
          if (erases !== undefined && Number(this.#erase.run(id, partition, Number(erases), key).changes) > 0) erased ||= value === null
        }
        after.push({ stored, end: offset, timestamp })
      }
      if (erased) this.#db.exec(isDue)
      if (this.#sweeps.due(now)) swept = this.#sweep(now)
    })
    // Only now do they stand; a transaction that failed leaves everything as it was.
    for (const { stored, end, timestamp } of after) Object.assign(stored, { end, timestamp })
    if (swept !== undefined) {
      for (const [stored, oldest] of swept.oldest) stored.oldest = oldest
      this.#sweeps.done(now, swept.count)
    }
    return placed
  }

  remove(topic: string, partition: number, offsets: readonly number[]): void {
    const { id } = this.#stored(topic)
    const newest = this.end(topic, partition) - 1
    this.#transact(() => {
      for (const offset of offsets) (offset === newest ? this.#empty : this.#remove).run(id, partition, offset)
      this.#db.exec(isDue)
    })
  }

  rewrite(): void {
    if (this.#db.prepare("SELECT one FROM rewrite_due").get() === undefined) return
    // Overwriting what is deleted (secure_delete) is not enough: pages that were balanced before keep copies of their cells in the space between
    // them. A file written anew has none.
    this.#db.exec("VACUUM")
    // Before this, the write-ahead log holds pages as they were. Another process that is just reading them keeps it from being emptied.
    const { busy } = this.#db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get() as { busy: number }
    if (busy !== 0) throw new ReaderInTheWayError("Another process is reading old pages of the log, which are to go.")
    this.#db.exec("DELETE FROM rewrite_due")
  }

  read(topic: string, partition: number, from: number, to: number, limit: StretchLimit): Stretch {
    const records: LogRecord[] = []
    let bytes = 0
    for (const row of this.#select.iterate(this.#stored(topic).id, partition, from, to, limit.records) as Iterable<Row>) {
      const value = row["value"] as Uint8Array | null
      bytes += value?.byteLength ?? 0
      const offset = row["offset"] as number
      if (records.length > 0 && bytes > limit.bytes) return { records, next: offset }
      const headers = JSON.parse(row["headers"] as string) as Record<string, string>
      records.push({ topic, partition, offset, timestamp: row["timestamp"] as number, key: row["key"] as string | null, value, headers })
    }
    const last = records.at(-1)
    return { records, next: last !== undefined && records.length === limit.records ? last.offset + 1 : to }
  }

  end(topic: string, partition: number): number {
    return this.#partition(topic, partition).end
  }

  bounds(topic: string): readonly Bounds[] {
    const { id, description } = this.#stored(topic)
    return Array.from({ length: description.partitions }, (_, partition) => {
      const end = this.end(topic, partition)
      // What is compacted keeps its beginning, also where nothing stands there any more.
      const oldest = description.cleanup === "delete" ? (this.#oldest.get(id, partition) as Row | undefined) : undefined
      return { partition, start: (oldest?.["offset"] as number | undefined) ?? 0, end }
    })
  }

  createTopic({ name, partitions, cleanup, config }: TopicSettings): void {
    this.#db
      .prepare("INSERT INTO topics (name, partitions, cleanup, config) VALUES (?, ?, ?, ?)")
      .run(name, partitions, cleanup, JSON.stringify(config))
    this.#load(name)
  }

  topic(name: string): TopicDescription | undefined {
    return this.#find(name)?.description
  }

  topics(): readonly TopicDescription[] {
    return (this.#db.prepare("SELECT id, name, partitions, cleanup, config FROM topics ORDER BY name").all() as Row[]).map(describe)
  }

  commit(group: string, commits: readonly Commit[]): void {
    const upsert = this.#db.prepare(
      "INSERT INTO commits VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset, note = excluded.note",
    )
    this.#transact(() => {
      for (const { topic, partition, offset, note } of commits) upsert.run(group, this.#stored(topic).id, partition, offset, note)
    })
  }

  committed(group: string, topic: string, partition: number): { readonly offset: number; readonly note: string } | null {
    const row = this.#db
      .prepare("SELECT offset, note FROM commits WHERE group_name = ? AND topic_id = ? AND partition = ?")
      .get(group, this.#stored(topic).id, partition) as Row | undefined
    return row === undefined ? null : { offset: row["offset"] as number, note: row["note"] as string }
  }

  register(subject: string, schema: string): number {
    if (this.#owner) this.#db.prepare("INSERT OR IGNORE INTO schemas (subject, schema) VALUES (?, ?)").run(subject, schema)
    const row = this.#db.prepare("SELECT id FROM schemas WHERE subject = ? AND schema = ?").get(subject, schema) as Row | undefined
    if (row === undefined)
      throw new LogUnavailableError(`The log does not have this schema of ${subject}, and it is open for reading only.`)
    return row["id"] as number
  }

  schema(id: number): string | null {
    const row = this.#db.prepare("SELECT schema FROM schemas WHERE id = ?").get(id) as Row | undefined
    return row === undefined ? null : (row["schema"] as string)
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close()
  }

  /** Takes away what is older than its topic's retention. What this transaction has inserted is not looked at. */
  #sweep(now: number): Swept {
    const swept = { count: 0, oldest: new Map<StoredPartition, number>() }
    for (const { id, description, partitions } of this.#known.values()) {
      const retentionMs = retentionMsOf(description)
      if (retentionMs === null) continue
      const before = now - retentionMs
      for (const [partition, stored] of partitions.entries()) {
        if (swept.count === sweptMax) return swept
        if (stored.end < 2 || stored.oldest >= before) continue
        // A laptop may sleep longer than any retention: what a group has not dealt with yet stays.
        const dealtWith = (this.#lowestCommit.get(id, partition) as Row)["offset"] as number | null
        const end = Math.min(stored.end - 1, dealtWith ?? stored.end)
        swept.count += Number(this.#expired.run(id, partition, end, sweptMax - swept.count, before).changes)
        const oldest = this.#oldest.get(id, partition) as Row | undefined
        swept.oldest.set(stored, (oldest?.["timestamp"] as number | undefined) ?? now)
      }
    }
    return swept
  }

  #transact(run: () => void): void {
    this.#begin.run()
    try {
      run()
      this.#end.run()
    } catch (error) {
      // SQLite has rolled back by itself after some errors, a full disk among them.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK")
      throw error
    }
  }

  #stored(name: string): StoredTopic {
    const stored = this.#find(name)
    if (stored === undefined) throw new Error(`There is no topic ${name}.`)
    return stored
  }

  #find(name: string): StoredTopic | undefined {
    return this.#known.get(name) ?? this.#load(name)
  }

  #load(name: string): StoredTopic | undefined {
    const row = this.#topic.get(name) as Row | undefined
    if (row === undefined) return undefined
    const id = row["id"] as number
    const description = describe(row)
    const partitions = this.#owner ? Array.from({ length: description.partitions }, (_, partition) => this.#newestOf(id, partition)) : []
    const stored = { id, description, partitions }
    this.#known.set(name, stored)
    return stored
  }

  #partition(topic: string, partition: number): StoredPartition {
    const { id, partitions } = this.#stored(topic)
    return partitions[partition] ?? this.#newestOf(id, partition)
  }

  #newestOf(id: number, partition: number): StoredPartition {
    const row = this.#newest.get(id, partition) as Row | undefined
    // The first sweep finds the oldest by itself.
    return row === undefined
      ? { end: 0, timestamp: 0, oldest: 0 }
      : { end: (row["offset"] as number) + 1, timestamp: row["timestamp"] as number, oldest: 0 }
  }
}

function describe(row: Row): TopicDescription {
  return {
    name: row["name"] as string,
    partitions: row["partitions"] as number,
    cleanup: row["cleanup"] as string,
    config: JSON.parse(row["config"] as string) as Record<string, string>,
  }
}
