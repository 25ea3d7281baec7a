import { DatabaseSync, type StatementSync } from "node:sqlite"
import type { Status } from "@reins/session"

/** One session outside of memory. */
export interface Spilled {
  readonly status: Status
  /** As `freeze` writes it, or the value of a snapshot that holds that: most are never looked at again. */
  readonly state: string | Uint8Array
}

interface Opened {
  readonly db: DatabaseSync
  readonly put: StatementSync
  readonly get: StatementSync
  readonly delete: StatementSync
}

/**
 * Sessions that are not kept in memory, in a file without a name: SQLite deletes it with the process, and whatever was in it follows from
 * the log. One for a process, opened when it is first needed.
 */
export class Spill {
  #opened: Opened | undefined

  /** Another one each time, also for a partition that was owned before. */
  partition(): PartitionSpill {
    return new PartitionSpill(() => this.#open())
  }

  close(): void {
    this.#opened?.db.close()
    this.#opened = undefined
  }

  #open(): Opened {
    if (this.#opened !== undefined) return this.#opened
    const db = new DatabaseSync("")
    // Nothing of it has to survive anything, so it is one transaction that never ends. Rows are only ever appended and found by their
    // number: an index by session would cost more than everything else.
    db.exec(`PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;
      CREATE TABLE states (id INTEGER PRIMARY KEY, state ANY NOT NULL) STRICT;
      BEGIN`)
    this.#opened = {
      db,
      put: db.prepare("INSERT INTO states (state) VALUES (?)"),
      get: db.prepare("SELECT state FROM states WHERE id = ?"),
      delete: db.prepare("DELETE FROM states WHERE id = ?"),
    }
    return this.#opened
  }
}

interface Row {
  readonly status: Status
  readonly id: number
}

/** The spilled sessions of one partition. */
export class PartitionSpill {
  readonly #open: () => Opened
  readonly #rows = new Map<string, Row>()
  readonly #counts = new Map<Status, number>()

  constructor(open: () => Opened) {
    this.#open = open
  }

  get size(): number {
    return this.#rows.size
  }

  statusOf(sessionId: string): Status | undefined {
    return this.#rows.get(sessionId)?.status
  }

  get counts(): ReadonlyMap<Status, number> {
    return this.#counts
  }

  /** Sessions that stand so. */
  *ids(wanted: (status: Status) => boolean): Iterable<string> {
    for (const [sessionId, { status }] of this.#rows) if (wanted(status)) yield sessionId
  }

  put(sessionId: string, { status, state }: Spilled): void {
    const { put } = this.#open()
    this.delete(sessionId)
    this.#rows.set(sessionId, { status, id: Number(put.run(state).lastInsertRowid) })
    this.#count(status, 1)
  }

  get(sessionId: string): Spilled | undefined {
    const row = this.#rows.get(sessionId)
    if (row === undefined) return undefined
    return { status: row.status, state: (this.#open().get.get(row.id) as { readonly state: string | Uint8Array }).state }
  }

  delete(sessionId: string): void {
    const row = this.#rows.get(sessionId)
    if (row === undefined) return
    this.#open().delete.run(row.id)
    this.#rows.delete(sessionId)
    this.#count(row.status, -1)
  }

  /** The partition is not ours any more. */
  drop(): void {
    for (const sessionId of this.#rows.keys()) this.delete(sessionId)
  }

  #count(status: Status, by: number): void {
    this.#counts.set(status, (this.#counts.get(status) ?? 0) + by)
  }
}
