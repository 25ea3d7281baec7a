import type { TopicNames } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"
import { canariesIn } from "./traits.ts"

// I28: what stands of deleted sessions, by raw reading. Kafka's cleaner comes a day later at the soonest, so the log is read as it will leave it:
// of each key the newest record, unless that is a tombstone.

export interface Erased {
  /** Records of deleted sessions that have their tombstone. */
  readonly records: number
  /** By session, when it was deleted, and when its newest tombstone was written. */
  readonly times: ReadonlyMap<string, { readonly deleted: number; readonly done: number }>
  /** Deleted sessions of which a snapshot told, and tells no more. */
  readonly snapshotsReplaced: number
  readonly breaches: readonly string[]
}

type Reading = Pick<Log, "bounds" | "replay">

export async function findErased(log: Reading, names: TopicNames, doomed: ReadonlySet<string>): Promise<Erased> {
  const breaches: string[] = []
  const times = new Map<string, { readonly deleted: number; readonly done: number }>()
  let records = 0
  for await (const partition of partitionsOf(log, names.sessions)) {
    const tombstones = new Map(partition.flatMap((record) => (record.value === null ? [[record.key, record] as const] : [])))
    const deletedAt = new Map<string, number>()
    for (const record of partition) {
      const { offset, timestamp, key, value, headers } = record
      const sessionId = sessionOf(record)
      const deletion = headers["type"] === "session.deleted"
      if (value === null) {
        times.set(sessionId, { deleted: Number.POSITIVE_INFINITY, ...times.get(sessionId), done: timestamp })
        if (!doomed.has(sessionId)) breaches.push(`I28: ${key} of ${sessionId}, which nobody deleted, has a tombstone @${offset}`)
        else if ((deletedAt.get(sessionId) ?? offset) >= offset)
          breaches.push(`I28: ${key} has a tombstone @${offset} before its session was deleted`)
        continue
      }
      if (deletion && !deletedAt.has(sessionId)) {
        deletedAt.set(sessionId, offset)
        times.set(sessionId, { deleted: timestamp, done: times.get(sessionId)?.done ?? timestamp })
      }
      const isErased = (tombstones.get(key)?.offset ?? -1) > offset
      if (isErased && deletion) breaches.push(`I28: the session.deleted of ${sessionId} @${offset} is erased`)
      if (isErased) records++
      else {
        if (doomed.has(sessionId) && !deletion) breaches.push(`I28: ${headers["type"]} @${offset} of ${sessionId} stands`)
        breaches.push(...told(value, doomed, `${headers["type"]} @${offset} of ${sessionId}`))
      }
    }
    for (const sessionId of doomed)
      if (partition.some((record) => sessionOf(record) === sessionId) && !deletedAt.has(sessionId))
        breaches.push(`I28: ${sessionId} was not deleted`)
  }
  let snapshotsReplaced = 0
  for await (const partition of partitionsOf(log, names.snapshots)) {
    const newest = new Map(partition.map((record) => [record.key, record]))
    for (const [sessionId, { offset, value, headers }] of newest) {
      breaches.push(...told(value, doomed, `the newest snapshot of ${sessionId} @${offset}`))
      if (sessionId === null || !doomed.has(sessionId)) continue
      if (value !== null && headers["status"] !== "deleted")
        breaches.push(`I28: the newest snapshot of ${sessionId} @${offset} says ${headers["status"]}`)
      if (partition.some(({ key, value: before }) => key === sessionId && canariesIn(before).has(sessionId))) snapshotsReplaced++
    }
  }
  return { records, times, snapshotsReplaced, breaches }
}

/** By header, or by key where there is none. */
function sessionOf({ key, headers }: LogRecord): string {
  return headers["session"] ?? key?.slice(0, Math.max(0, key.lastIndexOf("/"))) ?? ""
}

function told(value: Uint8Array | null, doomed: ReadonlySet<string>, where: string): readonly string[] {
  return [...canariesIn(value)]
    .filter((sessionId) => doomed.has(sessionId))
    .map((sessionId) => `I28: what was said in ${sessionId} stands in ${where}`)
}

async function* partitionsOf(log: Reading, topic: string): AsyncGenerator<readonly LogRecord[]> {
  for (const { partition, start, end } of await log.bounds(topic)) {
    const records: LogRecord[] = []
    for await (const some of log.replay(topic, partition, start, end, { bare: true })) records.push(...some)
    yield records
  }
}
