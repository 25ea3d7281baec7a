import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type { TopicNames } from "@reins/events"
import { folderOf, type Log } from "@reins/log"
import { canariesIn } from "./traits.ts"

// P2 and I28 of what stands beside the log: the folder of blobs as it lies on the disk, against what records name.

export interface FoundBlobs {
  /** Named by records of sessions that stand, each once, and their bytes. */
  readonly named: number
  readonly bytes: number
  /** Files that no record of a session that stands names: of appends that never came to stand. */
  readonly orphans: readonly string[]
  readonly breaches: readonly string[]
}

export async function findBlobs(
  log: Pick<Log, "bounds" | "replay" | "describeTopics">,
  names: TopicNames,
  root: string,
  doomed: ReadonlySet<string>,
): Promise<FoundBlobs> {
  const breaches: string[] = []
  const named = new Map<string, number>()
  const topics = (await log.describeTopics()).map(({ name }) => name)
  for (const topic of topics.filter((name) => name === names.sessions || names.backendOf(name) !== null)) {
    for (const { partition, start, end } of await log.bounds(topic)) {
      for await (const records of log.replay(topic, partition, start, end, { bare: true })) {
        for (const { offset, headers } of records) {
          const { session, blobs } = headers
          if (blobs === undefined || session === undefined || doomed.has(session)) continue
          for (const part of blobs.split(",")) {
            const [, sha256, bytes] = /^[A-Za-z]+=([0-9a-f]{64}):(\d+)$/.exec(part) ?? []
            if (sha256 === undefined) breaches.push(`P2: ${topic}[${partition}]@${offset} names ${part}`)
            else named.set(join(folderOf(session), sha256), Number(bytes))
          }
        }
      }
    }
  }
  let total = 0
  for (const [file, bytes] of named) {
    const wrong = wrongFile(join(root, file), bytes)
    if (wrong !== null) breaches.push(`P2: the blob ${file} ${wrong}`)
    total += bytes
  }
  const doomedFolders = new Set([...doomed].map(folderOf))
  const orphans: string[] = []
  for (const { file, folder } of filesIn(root)) {
    if (named.has(file)) continue
    orphans.push(file)
    const told = [...canariesIn(readFileSync(join(root, file)))].filter((sessionId) => doomed.has(sessionId))
    if (doomedFolders.has(folder) || told.length > 0) breaches.push(`I28: the blob ${file} of a deleted session stands`)
  }
  return { named: named.size, bytes: total, orphans, breaches }
}

function wrongFile(path: string, bytes: number): string | null {
  if (!existsSync(path)) return "is missing"
  const read = readFileSync(path)
  if (read.length !== bytes) return `has ${read.length} bytes, not ${bytes}`
  return createHash("sha256").update(read).digest("hex") === path.slice(-64) ? null : "is damaged"
}

function filesIn(root: string): readonly { readonly file: string; readonly folder: string }[] {
  if (!existsSync(root)) return []
  return readdirSync(root).flatMap((folder) => readdirSync(join(root, folder)).map((name) => ({ file: join(folder, name), folder })))
}
