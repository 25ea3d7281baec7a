import { type SessionEvent, topicNames } from "@reins/events"
import { decodeRecord } from "@reins/log/codec"
import { type Config, type OpenLog, readSessions } from "@reins/runtime"
import { iso, reading } from "./open.ts"
import { clean } from "./render.ts"
import { needs, shownCall, type WaitingCall, waitingCalls } from "./waiting-calls.ts"

/** Every call that waits for someone, in all sessions, the oldest first. */
export async function approvalsList(options: { readonly json?: boolean }): Promise<void> {
  await reading(async (opened, config) => {
    const sessions = await readSessions(opened.log, opened.codec, config.prefix)
    const waiting = [...sessions.values()].flatMap(waitingCalls)
    const heldAt = waiting.length === 0 ? new Map<string, number>() : await timesOfHolds(opened, config)
    const rows = waiting.map((call) => ({ call, since: heldAt.get(call.heldBy) ?? 0 })).sort((a, b) => a.since - b.since)
    if (options.json === true) process.stdout.write(`${JSON.stringify(rows.map(plain), null, 2)}\n`)
    else for (const { call, since } of rows) process.stdout.write(`${row(call, Date.now() - since)}\n`)
    if (rows.length === 0) process.stderr.write("No call waits for anyone.\n")
  })
}

/** When each hold was said, by its eventId: the fold keeps no times of calls. */
async function timesOfHolds({ log, codec }: OpenLog, config: Config): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number>()
  const topic = topicNames(config.prefix).sessions
  for (const { partition } of await log.bounds(topic)) {
    for await (const records of log.replay(topic, partition, 0)) {
      for (const record of records) {
        if (record.value === null || record.headers["type"] !== "tool-call.held") continue
        const decoded = decodeRecord(codec, "sessions", record)
        if (!decoded.ok) continue
        const { eventId } = decoded.said as unknown as SessionEvent
        if (!times.has(eventId)) times.set(eventId, record.timestamp)
      }
    }
  }
  return times
}

function plain({ call, since }: { readonly call: WaitingCall; readonly since: number }): unknown {
  const { sessionId, agent, toolUseId, eventId, tool, reason, argumentsHash, message } = call
  return {
    sessionId,
    agent,
    toolUseId,
    eventId,
    tool,
    arguments: JSON.parse(call.arguments) as unknown,
    argumentsHash,
    reason,
    message,
    since: iso(since),
    ageMs: Math.max(0, Date.now() - since),
  }
}

function row(call: WaitingCall, ageMs: number): string {
  return `${age(ageMs).padStart(6)}  ${clean(call.sessionId).padEnd(28)} ${shownCall(call)}  ${needs(call)}`
}

/** Roughly, as a person says it. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} d`
}
