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
  readonly breaches: readonly string[]
}

export async function findSnapshots(log: Pick<Log, "bounds" | "replay">, codec: Codec, prefix: string): Promise<FoundSnapshots> {
  const names = topicNames(prefix)
  const breaches: string[] = []
  const sessions = new Set<string>()
  let written = 0
  for (const { partition } of await log.bounds(names.sessions)) {
    const snapshots = await snapshotsIn(log, codec, names, partition)
    written += snapshots.length
    for (const { sessionId } of snapshots) sessions.add(sessionId)
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
  return { written, sessions: sessions.size, breaches }
}

async function snapshotsIn(
  log: Pick<Log, "replay">,
  codec: Codec,
  names: TopicNames,
  partition: number,
): Promise<readonly SessionSnapshot[]> {
  const found: SessionSnapshot[] = []
  for await (const records of log.replay(names.snapshots, partition, 0)) {
    for (const record of records) {
      if (record.value === null) continue
      const decoded = await decodeLearning(codec, "snapshots", record)
      if (decoded.ok) found.push(decoded.said as unknown as SessionSnapshot)
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
  /** From here on it read the session log. */
  readonly from: number
}

/** What the processes of a run say of how they began, those too that were killed since. */
export function restorationsIn({ everyone }: Pick<Fleet, "everyone">): readonly Restoration[] {
  const lines = everyone.flatMap(({ stderr }) => stderr.split("\n"))
  return lines.filter((line) => line.includes('"A partition is taken over from snapshots."')).map((line) => JSON.parse(line) as Restoration)
}

/** Turns of sessions that began before anything that their invoker has read: it knew of them by a snapshot, and had to recall what was said. */
export function turnsFromSnapshots({ records }: Pick<SecondReading, "records">, restorations: readonly Restoration[]): number {
  const readFrom = new Map<string, number>()
  for (const { instance, partition, from } of restorations) {
    const place = `${instance}/${partition}`
    readFrom.set(place, Math.min(from, readFrom.get(place) ?? from))
  }
  let turns = 0
  for (const own of records.values()) {
    const began = own.find(({ type }) => type === "session.started")?.offset ?? Number.POSITIVE_INFINITY
    turns += own.filter(
      ({ type, verdict, partition, value }) =>
        type === "model.requested" && verdict === "accepted" && began < (readFrom.get(`${value.instance}/${partition}`) ?? -1),
    ).length
  }
  return turns
}
