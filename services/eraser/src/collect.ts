import type { TopicNames } from "@reins/events"
import { blobsHeader, erasesHeader, folderOf, type Log, readNamed, type StoredBlob } from "@reins/log"

export interface Collected {
  /** Blobs in the store, and how many of them were old enough to be looked for in the log. */
  readonly stored: number
  readonly old: number
  readonly collected: number
  readonly bytes: number
}

/** Looked for in one reading of the log: what they take in memory is to be bounded. */
const lookedForMax = 100_000

/**
 * Takes blobs out that no record names: of an append that never came to stand, of records that retention has taken, of a session that was
 * deleted. It never races a writer:
 *
 * B1 A blob stands before the record that names it is appended, and putting it makes it young. So one that is old, and that no record
 *    names, is named by none that is on its way either, as long as no append takes as long as `graceMs`.
 * B2 Its age is looked at again in the moment in which it goes, by the store.
 * B3 A session counts as deleted once nothing else of it stands in `sessions`: a `session.deleted` alone may have lost, and is there all the same.
 */
export async function collectBlobs(log: Log, topics: TopicNames, graceMs: number, signal?: AbortSignal): Promise<Collected> {
  const total = { stored: 0, old: 0, collected: 0, bytes: 0 }
  if (log.blobs === undefined) return total
  let wanted = new Map<string, StoredBlob>()
  const sweep = async (): Promise<void> => {
    if (wanted.size === 0) return
    const batch = wanted
    wanted = new Map()
    await spareNamed(log, topics, batch, signal)
    for (const blob of batch.values()) {
      signal?.throwIfAborted()
      // B2
      if (!(await log.blobs?.collect(blob, graceMs))) continue
      total.collected++
      total.bytes += blob.bytes
    }
  }
  for await (const blob of log.blobs.list()) {
    signal?.throwIfAborted()
    total.stored++
    if (blob.ageMs <= graceMs) continue
    total.old++
    wanted.set(`${blob.folder}/${blob.name}`, blob)
    if (wanted.size >= lookedForMax) await sweep()
  }
  await sweep()
  return total
}

/** Leaves only those that no record names; what the records of a deleted session name goes with it. */
async function spareNamed(log: Log, topics: TopicNames, wanted: Map<string, StoredBlob>, signal?: AbortSignal): Promise<void> {
  const names = (await log.describeTopics())
    .map(({ name }) => name)
    .filter((name) => [topics.sessions, topics.commands, topics.deadLetters].includes(name) || topics.backendOf(name) !== null)
  // A log without sessions is another log than the one that these blobs belong to.
  if (!names.includes(topics.sessions)) throw new Error(`There is no topic ${topics.sessions}: nothing is collected.`)
  const folders = new Set([...wanted.values()].map(({ folder }) => folder))
  /** By the place of a record, those of these that it names. */
  const named = new Map<string, readonly string[]>()
  /** Sessions of which somebody said that they are deleted. */
  const closed = new Map<string, number>()
  for (const name of names) {
    for (const { partition, start, end } of await log.bounds(name)) {
      for await (const records of log.replay(name, partition, start, end, { bare: true })) {
        signal?.throwIfAborted()
        for (const { offset, headers, value } of records) {
          const { session, type, [blobsHeader]: header } = headers
          if (session === undefined) continue
          const folder = folderOf(session)
          if (value === null) {
            // Nothing is erased so elsewhere, where anyone may write.
            if (name === topics.sessions) named.delete(`${name}/${partition}/${headers[erasesHeader]}`)
            continue
          }
          if (type === "session.deleted" && name === topics.sessions && folders.has(folder)) closed.set(folder, partition)
          if (header === undefined) continue
          const keys = (readNamed(header) ?? []).map(({ sha256 }) => `${folder}/${sha256}`).filter((key) => wanted.has(key))
          if (keys.length > 0) named.set(`${name}/${partition}/${offset}`, keys)
        }
      }
    }
  }
  const spared = new Set([...named.values()].flat())
  const kept = new Set([...spared].map((key) => wanted.get(key)?.folder))
  const doubtful = new Map([...closed].filter(([folder]) => kept.has(folder)))
  const living = await livingAmong(log, topics.sessions, doubtful, signal)
  for (const key of spared) {
    const { folder } = wanted.get(key) as StoredBlob
    if (!closed.has(folder) || living.has(folder)) wanted.delete(key)
  }
}

/**
 * Those of which a record stands beside a `session.deleted`: they are yet to be erased, or that lost against other facts and they live. Of a
 * session that is deleted everything else is erased.
 */
async function livingAmong(
  log: Log,
  sessions: string,
  closed: ReadonlyMap<string, number>,
  signal?: AbortSignal,
): Promise<ReadonlySet<string>> {
  const standing = new Map<string, Set<number>>()
  const partitions = new Set(closed.values())
  for (const { partition, start, end } of partitions.size === 0 ? [] : await log.bounds(sessions)) {
    if (!partitions.has(partition)) continue
    for await (const records of log.replay(sessions, partition, start, end, { bare: true })) {
      signal?.throwIfAborted()
      for (const { offset, headers, value } of records) {
        const { session, type } = headers
        const folder = session === undefined ? undefined : folderOf(session)
        if (folder === undefined || closed.get(folder) !== partition || type === "session.deleted") continue
        const offsets = standing.get(folder) ?? new Set()
        standing.set(folder, offsets)
        if (value === null) offsets.delete(Number(headers[erasesHeader]))
        else offsets.add(offset)
      }
    }
  }
  return new Set([...standing].filter(([, offsets]) => offsets.size > 0).map(([folder]) => folder))
}
