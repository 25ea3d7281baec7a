import { topicNames } from "@reins/events"
import { digestOf, isStarted } from "@reins/session"
import type { LoggedRecord } from "../scenarios/long-session.ts"
import { isSettled, type RefSession, RefSessions, RefTools } from "../simulation/reference.ts"
import type { WholeLog } from "./read-log.ts"

/** The whole log once more, judged by the reference fold of the simulation, which shares no code with the product's. */
export interface SecondReading {
  /** The same records with the reference's verdicts. */
  readonly records: ReadonlyMap<string, readonly LoggedRecord[]>
  readonly sessions: ReadonlyMap<string, RefSession>
  /** Where the two folds differ: about a record, or about what a session has come to. */
  readonly differing: readonly string[]
}

/** Of a backend's topic the two must agree on what is accepted of these; for the rest the reference keeps less than the product does. */
const decisive: ReadonlySet<string> = new Set(["tool-call.dispatched", "tool-call.claimed", "tool-call.finished"])

export function readAgain(whole: Pick<WholeLog, "records" | "sessions">, prefix: string): SecondReading {
  const names = topicNames(prefix)
  const differing: string[] = []
  const verdicts = new Map<LoggedRecord, LoggedRecord["verdict"]>()
  const sessions = new Map<string, RefSession>()
  for (const [place, records] of byPartition(whole.records)) {
    const onSessions = records[0]?.topic === names.sessions
    const ofSessions = new RefSessions()
    const ofTools = new RefTools()
    for (const record of records) {
      const { type, value, offset, timestamp, verdict } = record
      const reference = onSessions ? ofSessions.apply(value, timestamp) : ofTools.apply(value, offset, timestamp)
      verdicts.set(record, reference)
      const differs = onSessions ? verdict !== reference : decisive.has(type) && (verdict === "accepted") !== (reference === "accepted")
      if (differs) differing.push(`the fold says ${verdict} of ${type} ${place}@${offset}, the reference ${reference}`)
    }
    for (const [sessionId, session] of ofSessions.sessions) sessions.set(sessionId, session)
  }
  for (const [sessionId, session] of whole.sessions) {
    const reference = sessions.get(sessionId)
    const phase = reference?.phase ?? "absent"
    if (!isStarted(session) || reference === undefined || phase === "absent") {
      if (session.phase !== phase) differing.push(`${sessionId} is ${session.phase} in the fold and ${phase} in the reference`)
      continue
    }
    if (digestOf(session.conversation) !== reference.digest) differing.push(`the conversation of ${sessionId} is another in the reference`)
    // While it runs each calls its phases by names of its own.
    const resting = ["idle", "parked", "ended"]
    if (session.phase !== phase && (resting.includes(session.phase) || resting.includes(phase)))
      differing.push(`${sessionId} is ${session.phase} in the fold and ${phase} in the reference`)
  }
  const records = new Map(
    [...whole.records].map(([sessionId, own]) => [sessionId, own.map((one) => ({ ...one, verdict: verdicts.get(one) ?? null }))]),
  )
  return { records, sessions, differing }
}

/** Whether by the reference nothing more will happen in this session until something new arrives. */
export function settledIn({ sessions }: Pick<SecondReading, "sessions">, sessionId: string): boolean {
  const session = sessions.get(sessionId)
  return session !== undefined && session.phase !== "absent" && isSettled(session)
}

/** The records of all sessions as each partition holds them. */
function byPartition(bySession: WholeLog["records"]): ReadonlyMap<string, readonly LoggedRecord[]> {
  const found = new Map<string, LoggedRecord[]>()
  for (const record of [...bySession.values()].flat()) {
    const place = `${record.topic}[${record.partition}]`
    const known = found.get(place)
    if (known === undefined) found.set(place, [record])
    else known.push(record)
  }
  for (const records of found.values()) records.sort((a, b) => a.offset - b.offset)
  return found
}
