import { join } from "node:path"
import { type SessionEvent, type SessionSnapshot, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { decodeLearning } from "@reins/log/codec"
import type { OpenLog, SessionReader } from "@reins/runtime"
import { evolve, foldVersion, stateDigest, thaw } from "@reins/session"

/** What a session comes to from its newest snapshot, beside what it comes to from the beginning of the log. */
export type FromSnapshot =
  | { readonly found: "none" }
  /** Made by another build of the fold: nobody uses it, so there is nothing to compare. */
  | { readonly found: "other-version"; readonly offset: number; readonly foldVersion: string }
  | { readonly found: "state"; readonly offset: number; readonly digest: string; readonly same: boolean }

/** Folds the tail of the log onto the newest snapshot. `reader` has folded the session from the beginning. */
export async function fromSnapshot({ log, codec }: OpenLog, prefix: string, reader: SessionReader): Promise<FromSnapshot> {
  const names = topicNames(prefix)
  if (!(await log.describeTopics()).some(({ name }) => name === names.snapshots)) return { found: "none" }
  let newest: SessionSnapshot | undefined
  for await (const records of log.replay(names.snapshots, reader.partition, 0)) {
    for (const record of records) {
      if (record.key !== reader.sessionId || record.value === null) continue
      const decoded = await decodeLearning(codec, "snapshots", record)
      if (decoded.ok) newest = decoded.said as unknown as SessionSnapshot
    }
  }
  if (newest === undefined) return { found: "none" }
  const { offset } = newest
  if (newest.foldVersion !== foldVersion) return { found: "other-version", offset, foldVersion: newest.foldVersion }
  let { session } = thaw(newest.state)
  for await (const records of log.replay(names.sessions, reader.partition, offset + 1, reader.next.get(names.sessions))) {
    for (const record of records) {
      if (record.value === null) continue
      const decoded = await decodeLearning(codec, "sessions", record)
      if (!decoded.ok || decoded.said["sessionId"] !== reader.sessionId) continue
      session = evolve(session, decoded.said as unknown as SessionEvent, record).session
    }
  }
  const digest = stateDigest(session)
  return { found: "state", offset, digest, same: digest === stateDigest(reader.session) }
}

/** What to do about snapshots that come to another state than the log: nothing is lost with them. */
export function remedy(kind: Log["kind"], topic: string, dataDir: string): string {
  const then = "Whoever starts next reads the log from its beginning and writes them anew."
  if (kind === "kafka")
    return `Stop the services, delete the topic with the broker's own tools (kafka-topics.sh --bootstrap-server … --delete --topic ${topic}), and run \`reins topics apply\`, which makes it again. ${then}`
  const statement = `DELETE FROM records WHERE topic_id = (SELECT id FROM topics WHERE name = '${topic}')`
  return `Stop the process that owns the log, and delete the snapshots: sqlite3 '${join(dataDir, "reins.db")}' "${statement}". ${then}`
}
