import { type SessionEvent, type ToolEvent, topicNames } from "@reins/events"
import { type Log, type LogRecord, partitionOf } from "@reins/log"
import { type Codec, type Decoded, decodeLearning, type Said } from "@reins/log/codec"
import { type Session, SessionsFold, ToolsFold, type Verdict } from "@reins/session"

/** One record of a session as it stands in the log, with what the fold makes of it. */
export interface ReadRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly key: string | null
  readonly type: string
  /** Null where nobody can read it. */
  readonly verdict: Verdict | null
  readonly value: Said | null
  /** Why nobody can read it. */
  readonly problem?: string
}

/**
 * Reads one session out of the log, by replay alone: nothing is executed. The fold runs over the whole partition, as whether a command was
 * answered before is known per partition; other sessions' records are folded and not shown.
 */
export class SessionReader {
  readonly sessionId: string
  readonly partition: number
  /** The next offset to read, by topic. */
  readonly next: Map<string, number> = new Map()
  readonly #log: Log
  readonly #codec: Codec
  readonly #sessions = new SessionsFold()
  readonly #tools = new Map<string, ToolsFold>()
  readonly #names: ReturnType<typeof topicNames>
  readonly topics: readonly string[]

  private constructor(log: Log, codec: Codec, prefix: string, sessionId: string, partition: number, topics: readonly string[]) {
    this.#log = log
    this.#codec = codec
    this.#names = topicNames(prefix)
    this.sessionId = sessionId
    this.partition = partition
    this.topics = topics
  }

  /** The partition follows from the id and from the number of partitions that the topic has. Null where there is no session log yet. */
  static async open(log: Log, codec: Codec, prefix: string, sessionId: string): Promise<SessionReader | null> {
    const names = topicNames(prefix)
    const topics = await log.describeTopics()
    const sessions = topics.find((topic) => topic.name === names.sessions)
    if (sessions === undefined) return null
    const tools = topics
      .filter((topic) => names.backendOf(topic.name) !== null && topic.partitions === sessions.partitions)
      .map((topic) => topic.name)
    return new SessionReader(log, codec, prefix, sessionId, partitionOf(sessionId, sessions.partitions), [names.sessions, ...tools])
  }

  get session(): Session {
    return this.#sessions.get(this.sessionId)
  }

  /** What stands now, of the session log alone or of the backends' topics too, in an order in which every cause precedes its effects. */
  async read(options: {
    readonly tools: boolean
    readonly to?: number
    readonly each?: (record: ReadRecord, session: Session) => void
  }): Promise<readonly ReadRecord[]> {
    const lanes: ReadRecord[][] = []
    for (const topic of options.tools ? this.topics : this.topics.slice(0, 1)) {
      const lane: ReadRecord[] = []
      const limit = topic === this.#names.sessions ? options.to : undefined
      for await (const records of this.#log.replay(topic, this.partition, this.next.get(topic) ?? 0)) {
        for (const record of records) {
          if (limit !== undefined && record.offset > limit) break
          const read = await this.fold(record)
          if (read === null) continue
          lane.push(read)
          options.each?.(read, this.session)
        }
      }
      lanes.push(lane)
    }
    return merge(lanes)
  }

  /** Folds one record; what it is, if it belongs to this session. */
  async fold(record: LogRecord): Promise<ReadRecord | null> {
    this.next.set(record.topic, record.offset + 1)
    const backend = this.#names.backendOf(record.topic)
    const { topic, partition, offset, timestamp, key } = record
    if (record.value === null) return null
    const ours = record.headers["session"] === this.sessionId || key?.startsWith(`${this.sessionId}/`) === true
    // On a backend's topic other sessions do not matter; on the session log their commands do.
    if (backend !== null && !ours && record.headers["session"] !== undefined) return null
    const decoded = await decodeLearning(this.#codec, backend === null ? "sessions" : "tools", record)
    const place = { topic, partition, offset, timestamp, key }
    if (!decoded.ok)
      return ours
        ? { ...place, type: record.headers["type"] ?? "unreadable", verdict: null, value: null, problem: problemOf(decoded) }
        : null
    const event = decoded.said as unknown as SessionEvent | ToolEvent
    let verdict: Verdict
    if (backend === null) verdict = this.#sessions.apply(event as SessionEvent, { offset, timestamp })
    else {
      let fold = this.#tools.get(backend)
      if (fold === undefined) {
        fold = new ToolsFold()
        this.#tools.set(backend, fold)
      }
      verdict = fold.apply(event as ToolEvent, { offset, timestamp })
    }
    return event.sessionId === this.sessionId ? { ...place, type: event.type, verdict, value: decoded.said } : null
  }
}

function problemOf(decoded: Exclude<Decoded, { ok: true }>): string {
  return "message" in decoded ? decoded.message : `Its schema ${decoded.unknownSchema} is not known.`
}

/** Merges the topics of one session: each topic in its own order, no record before the one that caused it, else by log time. */
function merge(lanes: readonly (readonly ReadRecord[])[]): readonly ReadRecord[] {
  const heads = lanes.map(() => 0)
  const outstanding = new Set(lanes.flat().map((record) => String(record.value?.["eventId"])))
  const merged: ReadRecord[] = []
  for (;;) {
    let best: { lane: number; record: ReadRecord; ready: boolean } | undefined
    for (const [lane, records] of lanes.entries()) {
      const record = records[heads[lane] as number]
      if (record === undefined) continue
      const ready = !outstanding.has(String(record.value?.["causedBy"]))
      if (best === undefined || (ready && !best.ready) || (ready === best.ready && record.timestamp < best.record.timestamp))
        best = { lane, record, ready }
    }
    if (best === undefined) return merged
    outstanding.delete(String(best.record.value?.["eventId"]))
    merged.push(best.record)
    heads[best.lane] = (heads[best.lane] as number) + 1
  }
}

/** Folds every session of the log: for lists and totals. */
export async function readSessions(log: Log, codec: Codec, prefix: string): Promise<ReadonlyMap<string, Session>> {
  const names = topicNames(prefix)
  const sessions = new Map<string, Session>()
  const topic = (await log.describeTopics()).find((one) => one.name === names.sessions)
  for (let partition = 0; partition < (topic?.partitions ?? 0); partition++) {
    const fold = new SessionsFold()
    for await (const records of log.replay(names.sessions, partition, 0)) {
      for (const record of records) {
        if (record.value === null) continue
        const decoded = await decodeLearning(codec, "sessions", record)
        if (decoded.ok) fold.apply(decoded.said as unknown as SessionEvent, record)
      }
    }
    for (const [sessionId, session] of fold.sessions) sessions.set(sessionId, session)
  }
  return sessions
}
