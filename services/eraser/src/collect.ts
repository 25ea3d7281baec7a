import type { TopicNames } from "@reins/events"
import { blobsHeader, folderOf, type Log, readNamed, type StoredBlob } from "@reins/log"

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

/** Leaves only those that no record names; what a deleted session's records name goes with it. */
async function spareNamed(log: Log, topics: TopicNames, wanted: Map<string, StoredBlob>, signal?: AbortSignal): Promise<void> {
  const names = (await log.describeTopics())
    .map(({ name }) => name)
    .filter((name) => [topics.sessions, topics.commands, topics.deadLetters].includes(name) || topics.backendOf(name) !== null)
  // A log without sessions is another log than the one that these blobs belong to.
  if (!names.includes(topics.sessions)) throw new Error(`There is no topic ${topics.sessions}: nothing is collected.`)
  const named = new Set<string>()
  const deleted = new Set<string>()
  for (const name of names) {
    for (const { partition, start, end } of await log.bounds(name)) {
      for await (const records of log.replay(name, partition, start, end, { bare: true })) {
        signal?.throwIfAborted()
        for (const { headers, value } of records) {
          const { session, type, [blobsHeader]: header } = headers
          if (session === undefined || value === null) continue
          if (type === "session.deleted" && name === topics.sessions) deleted.add(folderOf(session))
          if (header === undefined) continue
          const folder = folderOf(session)
          for (const { sha256 } of readNamed(header) ?? []) named.add(`${folder}/${sha256}`)
        }
      }
    }
  }
  for (const [key, { folder }] of wanted) if (named.has(key) && !deleted.has(folder)) wanted.delete(key)
}
