import { type SessionEvent, type ToolEvent, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import { openRequestBody, type Session, SessionsFold, sha256Hex, stateDigest, ToolsFold } from "@reins/session"
import type { LoggedRecord } from "../scenarios/long-session.ts"

/** Everything that a log holds, by session, folded from its beginning. */
export interface WholeLog {
  readonly records: ReadonlyMap<string, readonly LoggedRecord[]>
  readonly sessions: ReadonlyMap<string, Session>
  /** By session: of the fold's state. */
  readonly digests: ReadonlyMap<string, string>
  /** Accepted model requests whose body was rebuilt, and those whose hash then differs from the recorded one. */
  readonly requestsRebuilt: number
  readonly requestsDiffering: readonly string[]
  /** Records that nobody can read, as `topic[partition]@offset`. */
  readonly unreadable: readonly string[]
}

/** Reads the whole log once, each partition in one pass; nothing is executed. */
export async function readWholeLog(log: Pick<Log, "describeTopics" | "replay">, codec: Codec, prefix: string): Promise<WholeLog> {
  const names = topicNames(prefix)
  const records = new Map<string, LoggedRecord[]>()
  const sessions = new Map<string, Session>()
  const unreadable: string[] = []
  const requestsDiffering: string[] = []
  let requestsRebuilt = 0
  const keep = (sessionId: string, record: LoggedRecord): void => {
    const known = records.get(sessionId)
    if (known === undefined) records.set(sessionId, [record])
    else known.push(record)
  }
  const topics = await log.describeTopics()
  const partitions = topics.find(({ name }) => name === names.sessions)?.partitions ?? 0
  const folded = [names.sessions, ...topics.map(({ name }) => name).filter((name) => names.backendOf(name) !== null)]
  for (const topic of folded) {
    for (let partition = 0; partition < partitions; partition++) {
      const sessionsFold = new SessionsFold()
      const toolsFold = new ToolsFold()
      for await (const batch of log.replay(topic, partition, 0)) {
        for (const record of batch) {
          // A tombstone. What it erases stands until the cleaner comes, and is judged with the rest.
          if (record.value === null) continue
          const family = topic === names.sessions ? "sessions" : "tools"
          const decoded = await decodeLearning(codec, family, record)
          if (!decoded.ok) {
            unreadable.push(`${topic}[${partition}]@${record.offset}`)
            continue
          }
          const event = decoded.said as unknown as SessionEvent | ToolEvent
          const at = { offset: record.offset, timestamp: record.timestamp }
          const verdict = family === "sessions" ? sessionsFold.apply(event as SessionEvent, at) : toolsFold.apply(event as ToolEvent, at)
          keep(event.sessionId, { topic, partition, ...at, key: record.key, type: event.type, verdict, value: event })
          if (event.type !== "model.requested" || verdict !== "accepted") continue
          const session = sessionsFold.get(event.sessionId)
          if (session.phase !== "awaiting-model") continue
          requestsRebuilt++
          if (sha256Hex(openRequestBody(session)) !== event.bodyHash)
            requestsDiffering.push(`${event.sessionId} turn ${event.turn} @${record.offset}`)
        }
      }
      if (topic === names.sessions) for (const [sessionId, session] of sessionsFold.sessions) sessions.set(sessionId, session)
    }
  }
  const digests = new Map([...sessions].map(([sessionId, session]) => [sessionId, stateDigest(session)]))
  return { records, sessions, digests, requestsRebuilt, requestsDiffering, unreadable }
}
