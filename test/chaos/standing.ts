import { collectBlobs } from "@reins/eraser"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import { findBlobs } from "./blobs.ts"
import { findErased } from "./erased.ts"
import type { Faults } from "./faults.ts"
import type { SecondReading } from "./second-reading.ts"
import { doomedIn, type PlannedSession } from "./sessions.ts"
import { findSnapshots, restorationsIn, turnsFromSnapshots } from "./snapshots.ts"
import type { World } from "./world.ts"

/** What stands at the end beside what the sessions came to, and what does not stand any more. */
export interface Standing {
  readonly snapshots: {
    readonly written: number
    /** Sessions that have one. */
    readonly sessions: number
    /** Partitions that processes took over from snapshots, and the sessions in them. */
    readonly partitionsRestored: number
    readonly sessionsRestored: number
    /** That were asked for by an invoker which knew of the session from a snapshot. */
    readonly turns: number
  }
  /** Named by records of sessions that stand. */
  readonly blobs: { readonly named: number; readonly bytes: number; readonly collected: number }
  readonly erasure: {
    readonly sessions: number
    /** Records with a tombstone. */
    readonly records: number
    /** Of deleted sessions that a snapshot had told of. */
    readonly snapshots: number
    /** Commands that came after the deletion, and were refused. */
    readonly lateRefused: number
    /** That were due or going on when every eraser was killed, and are complete. */
    readonly takenOver: number
  }
}

/** Nobody runs any more. */
export async function findStanding(
  world: World,
  plans: readonly PlannedSession[],
  { erasersKilled }: Faults,
  second: SecondReading,
): Promise<Standing & { readonly breaches: readonly string[] }> {
  const { log, codec, prefix, names, fleet } = world
  const doomed = doomedIn(plans)
  const root = world.blobs.of(prefix)
  const snapshots = await findSnapshots(log, codec, prefix)
  const restored = restorationsIn(fleet)
  const erased = await findErased(log, names, doomed)
  const late = lateCommands(second, doomed)
  const blobs = await findBlobs(log, names, root, doomed)
  const collected = await collect(world)
  const left = await findBlobs(log, names, root, doomed)
  return {
    snapshots: {
      written: snapshots.written,
      sessions: snapshots.sessions,
      partitionsRestored: restored.length,
      sessionsRestored: restored.reduce((sum, { sessions }) => sum + sessions, 0),
      turns: turnsFromSnapshots(second, restored, snapshots.firstAt),
    },
    blobs: { named: blobs.named, bytes: blobs.bytes, collected },
    erasure: {
      sessions: doomed.size,
      records: erased.records,
      snapshots: erased.snapshotsReplaced,
      lateRefused: late.refused,
      takenOver: [...erased.times.values()].filter(({ deleted, done }) => erasersKilled.some((at) => deleted <= at && at < done)).length,
    },
    breaches: [
      ...snapshots.breaches,
      ...erased.breaches,
      ...late.breaches,
      ...new Set([...blobs.breaches, ...left.breaches]),
      ...left.orphans.map((file) => `P2: the blob ${file}, which no record names, is not collected`),
    ],
  }
}

/** Clocks of files are not those of processes. */
const anyAgeMs = -60_000

/** The product takes out what no record names, whatever its age: nothing is on its way any more. */
async function collect({ env, names }: World): Promise<number> {
  const { log } = await openLog(readConfig(env), newInstance("collector"))
  try {
    return (await collectBlobs(log, names, anyAgeMs)).collected
  } finally {
    await log.close()
  }
}

/** B15: of a deleted session nothing is accepted any more but that something was refused. */
function lateCommands({ records }: SecondReading, doomed: ReadonlySet<string>): { refused: number; breaches: readonly string[] } {
  const breaches: string[] = []
  const refused = new Set<string>()
  for (const sessionId of doomed) {
    const accepted = (records.get(sessionId) ?? []).filter(({ topic, verdict }) => topic.endsWith(".sessions") && verdict === "accepted")
    const deletion = accepted.findIndex(({ type }) => type === "session.deleted")
    if (deletion < 0) breaches.push(`I28: ${sessionId} is not deleted`)
    for (const { type, value, offset } of deletion < 0 ? [] : accepted.slice(deletion + 1)) {
      if (type === "command.rejected") refused.add(value.commandId as string)
      else breaches.push(`B15: ${type} @${offset} was accepted after ${sessionId} was deleted`)
    }
  }
  return { refused: refused.size, breaches }
}
