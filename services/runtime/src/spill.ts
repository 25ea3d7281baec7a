import { DatabaseSync, type StatementSync } from "node:sqlite"

/** Where a session rests, in one word: what its snapshot and its spilled state are looked for by. */
export type Rest = "absent" | "running" | "idle" | "ended" | "parked" | "deleted"

/** One session outside of memory. */
export interface Spilled {
  readonly rest: Rest
  /** As `freeze` writes it, or the value of a snapshot that holds that: most are never looked at again. */
  readonly state: string | Uint8Array
}

interface Opened {
  readonly db: DatabaseSync
  readonly put: StatementSync
  readonly get: StatementSync
  readonly delete: StatementSync
  readonly drop: StatementSync
}

/**
 * Sessions that are not kept in memory, in a file without a name: SQLite deletes it with the process, and whatever was in it follows from
 * the log. One for a process, opened when it is first needed.
 */
export class Spill {
  #opened: Opened | undefined
  #partitions = 0

  /** Another one each time, also for a partition that was owned before. */
  partition(): PartitionSpill {
    return new PartitionSpill(++this.#partitions, () => this.#open())
  }

  close(): void {
    this.#opened?.db.close()
    this.#opened = undefined
  }

  #open(): Opened {
    if (this.#opened !== undefined) return this.#opened
    const db = new DatabaseSync("")
    // Nothing of it has to survive anything, so it is one transaction that never ends.
    db.exec(`PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;
      CREATE TABLE sessions (partition INTEGER NOT NULL, id TEXT NOT NULL, rest TEXT NOT NULL, state ANY NOT NULL,
        PRIMARY KEY (partition, id)) STRICT, WITHOUT ROWID;
      BEGIN`)
    this.#opened = {
      db,
      put: db.prepare("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)"),
      get: db.prepare("SELECT rest, state FROM sessions WHERE partition = ? AND id = ?"),
      delete: db.prepare("DELETE FROM sessions WHERE partition = ? AND id = ?"),
      drop: db.prepare("DELETE FROM sessions WHERE partition = ?"),
    }
    return this.#opened
  }
}

/** The spilled sessions of one partition. */
export class PartitionSpill {
  readonly #number: number
  readonly #open: () => Opened
  readonly #rests = new Map<string, Rest>()
  readonly #counts = new Map<Rest, number>()

  constructor(number: number, open: () => Opened) {
    this.#number = number
    this.#open = open
  }

  get size(): number {
    return this.#rests.size
  }

  restOf(sessionId: string): Rest | undefined {
    return this.#rests.get(sessionId)
  }

  get counts(): ReadonlyMap<Rest, number> {
    return this.#counts
  }

  /** Sessions that rest so. */
  *ids(wanted: (rest: Rest) => boolean): Iterable<string> {
    for (const [sessionId, rest] of this.#rests) if (wanted(rest)) yield sessionId
  }

  put(sessionId: string, { rest, state }: Spilled): void {
    this.#open().put.run(this.#number, sessionId, rest, state)
    this.#uncount(sessionId)
    this.#rests.set(sessionId, rest)
    this.#counts.set(rest, (this.#counts.get(rest) ?? 0) + 1)
  }

  get(sessionId: string): Spilled | undefined {
    if (!this.#rests.has(sessionId)) return undefined
    return this.#open().get.get(this.#number, sessionId) as Spilled | undefined
  }

  delete(sessionId: string): void {
    if (!this.#rests.has(sessionId)) return
    this.#open().delete.run(this.#number, sessionId)
    this.#uncount(sessionId)
  }

  /** The partition is not ours any more. */
  drop(): void {
    if (this.#rests.size > 0) this.#open().drop.run(this.#number)
    this.#rests.clear()
    this.#counts.clear()
  }

  #uncount(sessionId: string): void {
    const rest = this.#rests.get(sessionId)
    if (rest === undefined) return
    this.#counts.set(rest, (this.#counts.get(rest) ?? 0) - 1)
    this.#rests.delete(sessionId)
  }
}
