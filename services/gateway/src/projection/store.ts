import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite"
import type { ApiEvent } from "@reins/session"
import { anyTime, type TimeRange } from "../time-range.ts"

/** One event of the API as it stands in the read model. */
export interface EventRow {
  readonly event: ApiEvent
  readonly place: Place
}

/** Where an event stands in its session: the offset of its record, and its number among the events of that record. */
export interface Place {
  readonly partition: number
  readonly offset: number
  readonly index: number
}

export interface SessionRow {
  readonly sessionId: string
  readonly createdAt: number
}

/** The time of an event is its `processed_at`; of what still waits, none is. */
export interface EventQuery extends TimeRange {
  readonly sessionId: string
  readonly types: readonly string[]
  readonly descending: boolean
  readonly after: { readonly queued: number; readonly offset: number; readonly index: number } | null
  readonly limit: number
}

export interface SessionQuery extends TimeRange {
  readonly tenant: string
  readonly agentId: string | null
  readonly agentVersion: number | null
  readonly statuses: readonly string[]
  readonly includeArchived: boolean
  readonly descending: boolean
  readonly after: { readonly createdAt: number; readonly sessionId: string } | null
  readonly limit: number
}

/** What a command came to: the logical id of its fact, or why it was rejected. */
export type Answer = { readonly eventId: string } | { readonly code: string; readonly message: string }

/**
 * The read model: a temporary SQLite database that the system deletes with the process. Nothing in it is the truth; it is made anew
 * from the log at every start.
 */
export class Store {
  readonly #db: DatabaseSync
  readonly #putEvent: StatementSync
  readonly #putSession: StatementSync
  readonly #putAnswer: StatementSync
  readonly #answer: StatementSync
  readonly #recent: StatementSync
  readonly #event: StatementSync
  readonly #ofEnvironment: StatementSync
  readonly #queries = new Map<string, StatementSync>()

  constructor() {
    // An empty name is a database on disk that has no name and goes with its connection.
    this.#db = new DatabaseSync("")
    this.#db.exec(`
      PRAGMA journal_mode = OFF;
      PRAGMA synchronous = OFF;
      CREATE TABLE sessions (
        id TEXT PRIMARY KEY, tenant TEXT, status TEXT, created_at INTEGER, archived INTEGER,
        agent_id TEXT, agent_version INTEGER, environment_id TEXT) WITHOUT ROWID;
      CREATE INDEX sessions_by_time ON sessions (tenant, created_at, id);
      CREATE INDEX sessions_by_environment ON sessions (environment_id);
      CREATE TABLE events (
        session_id TEXT, id TEXT, type TEXT, queued INTEGER, partition INTEGER, offset INTEGER, idx INTEGER, at INTEGER, json TEXT,
        PRIMARY KEY (session_id, id)) WITHOUT ROWID;
      CREATE UNIQUE INDEX events_in_order ON events (session_id, queued, offset, idx);
      CREATE TABLE answers (
        command_id TEXT, session_id TEXT, at INTEGER, event_id TEXT, code TEXT, message TEXT,
        PRIMARY KEY (command_id, session_id)) WITHOUT ROWID;
    `)
    this.#putEvent = this.#db.prepare("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
    this.#putSession = this.#db.prepare("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
    this.#putAnswer = this.#db.prepare("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)")
    this.#answer = this.#db.prepare("SELECT event_id, code, message FROM answers WHERE command_id = ? AND session_id = ?")
    this.#recent = this.#db.prepare(
      "SELECT command_id FROM answers WHERE command_id >= ? AND command_id < ? AND at >= ? ORDER BY at DESC LIMIT 1",
    )
    this.#event = this.#db.prepare("SELECT json, partition, offset, idx FROM events WHERE session_id = ? AND id = ?")
    this.#ofEnvironment = this.#db.prepare("SELECT 1 FROM sessions WHERE environment_id = ? LIMIT 1")
  }

  /** Everything or nothing: a reader never sees half of a batch. */
  transaction(write: () => void): void {
    this.#db.exec("BEGIN")
    try {
      write()
      this.#db.exec("COMMIT")
    } catch (error) {
      this.#db.exec("ROLLBACK")
      throw error
    }
  }

  putEvent(sessionId: string, event: ApiEvent, place: Place, at: number): void {
    const queued = event.processed_at === null ? 1 : 0
    this.#putEvent.run(sessionId, event.id, event.type, queued, place.partition, place.offset, place.index, at, JSON.stringify(event))
  }

  putSession(row: {
    readonly sessionId: string
    readonly tenant: string
    readonly status: string
    readonly createdAt: number
    readonly archived: boolean
    readonly agentId: string
    readonly agentVersion: number
    readonly environmentId: string
  }): void {
    const { sessionId, tenant, status, createdAt, archived, agentId, agentVersion, environmentId } = row
    this.#putSession.run(sessionId, tenant, status, createdAt, archived ? 1 : 0, agentId, agentVersion, environmentId)
  }

  dropSession(sessionId: string): void {
    this.#db.prepare("DELETE FROM sessions WHERE id = ?").run(sessionId)
    this.#db.prepare("DELETE FROM events WHERE session_id = ?").run(sessionId)
  }

  putAnswer(sessionId: string, commandId: string, at: number, answer: Answer): void {
    const [eventId, code, message] = "code" in answer ? [null, answer.code, answer.message] : [answer.eventId, null, null]
    this.#putAnswer.run(commandId, sessionId, at, eventId, code, message)
  }

  answer(sessionId: string, commandId: string): Answer | null {
    const row = this.#answer.get(commandId, sessionId)
    if (row === undefined) return null
    const eventId = row["event_id"]
    return typeof eventId === "string" ? { eventId } : { code: String(row["code"]), message: String(row["message"]) }
  }

  /** The newest command whose id begins so, not older than `since`. */
  recentCommand(prefix: string, since: number): string | null {
    const row = this.#recent.get(prefix, `${prefix}\u{ffff}`, since)
    return row === undefined ? null : String(row["command_id"])
  }

  event(sessionId: string, id: string): EventRow | null {
    const row = this.#event.get(sessionId, id)
    return row === undefined ? null : eventRow(row)
  }

  eventIds(sessionId: string): ReadonlySet<string> {
    const rows = this.#prepared("SELECT id FROM events WHERE session_id = ?").all(sessionId)
    return new Set(rows.map((row) => String(row["id"])))
  }

  hasSessionOf(environmentId: string): boolean {
    return this.#ofEnvironment.get(environmentId) !== undefined
  }

  /** In order of processing; what waits comes last. */
  events(query: EventQuery): readonly EventRow[] {
    const { sessionId, types, from, to, descending, after, limit } = query
    const values: (string | number)[] = [sessionId]
    let where = "session_id = ?"
    if (types.length > 0) {
      where += ` AND type IN (${types.map(() => "?").join(", ")})`
      values.push(...types)
    }
    if (from > anyTime.from || to < anyTime.to) {
      where += " AND queued = 0 AND at >= ? AND at <= ?"
      values.push(from, to)
    }
    if (after !== null) {
      where += ` AND (queued, offset, idx) ${descending ? "<" : ">"} (?, ?, ?)`
      values.push(after.queued, after.offset, after.index)
    }
    const direction = descending ? "DESC" : "ASC"
    const sql = `SELECT json, partition, offset, idx FROM events WHERE ${where} ORDER BY queued ${direction}, offset ${direction}, idx ${direction} LIMIT ?`
    return this.#prepared(sql)
      .all(...values, limit)
      .map(eventRow)
  }

  sessions(query: SessionQuery): readonly SessionRow[] {
    const { tenant, agentId, agentVersion, statuses, from, to, includeArchived, descending, after, limit } = query
    const values: (string | number)[] = [tenant, from, to]
    let where = "tenant = ? AND created_at >= ? AND created_at <= ?"
    if (agentId !== null) {
      where += " AND agent_id = ?"
      values.push(agentId)
    }
    if (agentVersion !== null) {
      where += " AND agent_version = ?"
      values.push(agentVersion)
    }
    if (statuses.length > 0) {
      where += ` AND status IN (${statuses.map(() => "?").join(", ")})`
      values.push(...statuses)
    }
    if (!includeArchived) where += " AND archived = 0"
    if (after !== null) {
      where += ` AND (created_at, id) ${descending ? "<" : ">"} (?, ?)`
      values.push(after.createdAt, after.sessionId)
    }
    const direction = descending ? "DESC" : "ASC"
    const sql = `SELECT id, created_at FROM sessions WHERE ${where} ORDER BY created_at ${direction}, id ${direction} LIMIT ?`
    return this.#prepared(sql)
      .all(...values, limit)
      .map((row) => ({ sessionId: String(row["id"]), createdAt: Number(row["created_at"]) }))
  }

  #prepared(sql: string): StatementSync {
    let statement = this.#queries.get(sql)
    if (statement === undefined) {
      statement = this.#db.prepare(sql)
      // Filters make a handful of forms; a client that varies them without end does not get to keep them.
      if (this.#queries.size < 200) this.#queries.set(sql, statement)
    }
    return statement
  }

  close(): void {
    this.#db.close()
  }
}

function eventRow(row: Record<string, SQLOutputValue>): EventRow {
  return {
    event: JSON.parse(String(row["json"])) as ApiEvent,
    place: { partition: Number(row["partition"]), offset: Number(row["offset"]), index: Number(row["idx"]) },
  }
}
