import { type SessionEvent, type SessionSnapshot, type TopicNames, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import { digestOf, isStarted, type Session, SessionsFold, stateDigest, thaw } from "@reins/session"
import { type RefSession, RefSessions } from "../simulation/reference.ts"
import type { Fleet } from "./fleet.ts"
import type { SecondReading } from "./second-reading.ts"

// P5 of snapshots: each one that stands, also those that a newer one has replaced and no cleaner has taken yet, is what both folds make of
// the log up to the offset that it covers. Their writers may have begun from snapshots themselves; here it is read from the beginning.

export interface FoundSnapshots {
  readonly written: number
  /** Sessions that have one. */
  readonly sessions: number
  /** By session, where its first one stands in the topic of snapshots. */
  readonly firstAt: ReadonlyMap<string, number>
  readonly breaches: readonly string[]
}

export async function findSnapshots(log: Pick<Log, "bounds" | "replay">, codec: Codec, prefix: string): Promise<FoundSnapshots> {
  const names = topicNames(prefix)
  const breaches: string[] = []
  const firstAt = new Map<string, number>()
  let written = 0
  for (const { partition } of await log.bounds(names.sessions)) {
    const snapshots = await snapshotsIn(log, codec, names, partition)
    written += snapshots.length
    for (const { sessionId, at } of snapshots) firstAt.set(sessionId, Math.min(at, firstAt.get(sessionId) ?? at))
    // What is covered comes first.
    const waiting = snapshots.toSorted((a, b) => b.offset - a.offset)
    const fold = new SessionsFold()
    const reference = new RefSessions()
    const check = (below: number): void => {
      for (let next = waiting.at(-1); next !== undefined && next.offset < below; next = waiting.at(-1)) {
        const wrong = wrongState(thaw(next.state).session, fold.get(next.sessionId), reference.of(next.sessionId))
        if (wrong !== null) breaches.push(`P5: the snapshot of ${next.sessionId} that covers offset ${next.offset} ${wrong}`)
        waiting.pop()
      }
    }
    for await (const records of log.replay(names.sessions, partition, 0)) {
      for (const record of records) {
        check(record.offset)
        if (record.value === null) continue
        const decoded = await decodeLearning(codec, "sessions", record)
        if (!decoded.ok) continue
        fold.apply(decoded.said as unknown as SessionEvent, record)
        reference.apply(decoded.said, record.timestamp)
      }
    }
    check(Number.POSITIVE_INFINITY)
  }
  return { written, sessions: firstAt.size, firstAt, breaches }
}

interface Placed extends SessionSnapshot {
  /** Offset in the topic of snapshots. */
  readonly at: number
}

async function snapshotsIn(log: Pick<Log, "replay">, codec: Codec, names: TopicNames, partition: number): Promise<readonly Placed[]> {
  const found: Placed[] = []
  for await (const records of log.replay(names.snapshots, partition, 0)) {
    for (const record of records) {
      if (record.value === null) continue
      const decoded = await decodeLearning(codec, "snapshots", record)
      if (decoded.ok) found.push({ ...(decoded.said as unknown as SessionSnapshot), at: record.offset })
    }
  }
  return found
}

function wrongState(snapshot: Session, folded: Session, reference: RefSession): string | null {
  if (stateDigest(snapshot) !== stateDigest(folded)) return "is another state than the log comes to"
  if (!isStarted(snapshot))
    return snapshot.phase === reference.phase ? null : `is ${snapshot.phase}, and ${reference.phase} in the reference`
  return digestOf(snapshot.conversation) === reference.digest ? null : "has another conversation than the reference"
}

/** A partition that a process took over from snapshots. */
export interface Restoration {
  readonly instance: string
  readonly partition: number
  /** How many sessions a snapshot told of. */
  readonly sessions: number
  /** Below this offset of their topic it had read all snapshots. */
  readonly snapshots: number
}

/** What the processes of a run say of how they began, those too that were killed since. */
export function restorationsIn({ everyone }: Pick<Fleet, "everyone">): readonly Restoration[] {
  const lines = everyone.flatMap(({ stderr }) => stderr.split("\n"))
  return lines.filter((line) => line.includes('"A partition is taken over from snapshots."')).map((line) => JSON.parse(line) as Restoration)
}

/** Turns of sessions whose invoker had taken the partition over when a snapshot of them stood: it had to recall what was said before. */
export function turnsFromSnapshots(
  { records }: Pick<SecondReading, "records">,
  restorations: readonly Restoration[],
  firstAt: ReadonlyMap<string, number>,
): number {
  const readTo = new Map<string, number>()
  for (const { instance, partition, snapshots } of restorations) {
    const place = `${instance}/${partition}`
    // Whoever had the partition twice may have asked before the second time.
    readTo.set(place, Math.min(snapshots, readTo.get(place) ?? snapshots))
  }
  let turns = 0
  for (const [sessionId, own] of records) {
    const at = firstAt.get(sessionId) ?? Number.POSITIVE_INFINITY
    turns += own.filter(
      ({ type, verdict, partition, value }) =>
        type === "model.requested" && verdict === "accepted" && at < (readTo.get(`${value.instance}/${partition}`) ?? -1),
    ).length
  }
  return turns
}
