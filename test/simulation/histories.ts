import { isDeepStrictEqual } from "node:util"
import type { SessionEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import { type ApiEvent, apiEvents, SessionsFold } from "@reins/session"
import { orderingProblems } from "../sdk/ordering.ts"

// I22: what a client is shown of a session, whenever and from wherever it reads, is one history.

/** A record of `sessions` as it is read; null: it says nothing, or nobody can tell what. */
export interface Said {
  readonly record: LogRecord
  readonly event: SessionEvent | null
}

const iso = (ms: number): string => new Date(ms).toISOString()

/** What becomes of these records, by session, in the order in which it is shown. */
function shown(records: readonly Said[]): Map<string, ApiEvent[]> {
  const fold = new SessionsFold()
  const histories = new Map<string, ApiEvent[]>()
  for (const { record, event } of records) {
    if (event === null) continue
    const before = fold.get(event.sessionId)
    const verdict = fold.apply(event, record)
    const events = apiEvents(before, event, { session: fold.get(event.sessionId), verdict }, record.timestamp, iso)
    const history = histories.get(event.sessionId)
    if (history === undefined) histories.set(event.sessionId, [...events])
    else history.push(...events)
  }
  return histories
}

/** Sentences about what is wrong with what the records of one partition are shown as; `end`: where another reader has read to. */
export function historyProblems(records: readonly Said[], end: number): readonly string[] {
  const problems: string[] = []
  const whole = shown(records)
  const early = shown(records.slice(0, end))
  for (const [sessionId, history] of whole) {
    const wrong = (what: string): void => void problems.push(`${sessionId}: ${what}`)
    const read = early.get(sessionId) ?? []
    if (!isDeepStrictEqual(read, history.slice(0, read.length))) wrong(`who read ${end} records was shown what does not begin its history`)
    const byId = new Map<string, ApiEvent>()
    for (const event of history) {
      const before = byId.get(event.id)
      byId.set(event.id, event)
      if (before === undefined) continue
      const { processed_at: was, ...said } = before
      const { processed_at: is, ...saysNow } = event
      if (event.type !== "user.message" || was !== null || is === null) wrong(`${event.type} ${event.id} is shown again`)
      if (!isDeepStrictEqual(said, saysNow)) wrong(`${event.id} was ${JSON.stringify(said)} and is ${JSON.stringify(saysNow)}`)
    }
    for (const problem of orderingProblems(history, { asksAgain: true })) wrong(`${problem}${context(history, problem)}`)
  }
  return problems
}

/** What was shown around the place that a sentence names. */
function context(history: readonly ApiEvent[], problem: string): string {
  const at = Number(/ at (\d+): /.exec(problem)?.[1] ?? history.length)
  const around = history.slice(Math.max(0, at - 6), at + 2).map(({ type, id }) => `${type} ${id}`)
  return `, in: ${around.join(" · ")}`
}
