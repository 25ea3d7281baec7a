import { readDeadLetters } from "@reins/runtime"
import { isStarted, statusOf } from "@reins/session"
import { type Bench, type Environment, linesOf } from "../e2e/harness.ts"
import type { LedgerLine, ToolFaultLine } from "../fixtures/ledger-tools.ts"
import type { JournalLine } from "../scenarios/long-session.ts"
import type { Clients } from "./clients.ts"
import { eraserKinds, type Faults, faultKinds, lossKinds } from "./faults.ts"
import { type ModelFaultLine, modelFaultKinds, windowFaultKinds } from "./model.ts"
import { type Account, addAccount, emptyAccount, judge } from "./oracle.ts"
import { readWholeLog, type WholeLog } from "./read-log.ts"
import { firstAccepted, percentile, recoveries } from "./recovery.ts"
import type { ChaosReport } from "./report.ts"
import { readAgain, settledIn } from "./second-reading.ts"
import { ledgered, type PlannedSession } from "./sessions.ts"
import { findStanding, type Standing } from "./standing.ts"
import type { World } from "./world.ts"

/** What is judged: the world at rest, and who did what in it. */
export interface Ran {
  readonly seed: number
  readonly plans: readonly PlannedSession[]
  readonly clients: Clients
  readonly faults: Faults
  readonly faultsOver: number
  readonly settledMs: number
  /** What was found wrong while it ran. */
  readonly breaches: readonly string[]
}

export async function verdictOn(world: World, ran: Ran): Promise<Omit<ChaosReport, "load">> {
  const { bench, log, codec, prefix, names, ledger, fleet, proxy, env } = world
  const { seed, plans, clients, faults, faultsOver, settledMs } = ran
  const breaches = [...ran.breaches]
  const whole = await readWholeLog(log, codec, prefix)
  const again = await readWholeLog(log, codec, prefix)
  // Whom the fold lets through is judged by the reference; where the two differ one of them is wrong.
  const second = readAgain(whole, prefix)
  for (const difference of second.differing) breaches.push(`I13: ${difference}`)
  for (const { sessionId } of plans) {
    if (!atRest(whole, sessionId)) breaches.push(`I2: ${sessionId} is ${statusIn(whole, sessionId)} ${settledMs} ms after the last fault`)
    if (!settledIn(second, sessionId))
      breaches.push(`I2: by the reference ${sessionId} is ${second.sessions.get(sessionId)?.phase ?? "absent"} and not at rest`)
  }
  const account = emptyAccount()
  const effects = byKey(linesOf<LedgerLine>(ledger), ({ sessionId }) => sessionId)
  const journal = byKey(linesOf<JournalLine>(bench.path("journal.jsonl")), ({ sha256 }) => sha256)
  const byOutcome: Record<string, number> = {}
  for (const { sessionId, traits } of plans) {
    const records = second.records.get(sessionId) ?? []
    const judgement = judge({
      sessionId,
      records,
      effects: effects.get(sessionId) ?? [],
      journal,
      acknowledged: clients.acknowledged.get(sessionId) ?? [],
      ledgered,
    })
    addAccount(account, judgement)
    breaches.push(...judgement.breaches)
    const outcome = statusIn(whole, sessionId)
    byOutcome[outcome] = (byOutcome[outcome] ?? 0) + 1
    if (outcome.startsWith("parked")) breaches.push(`P8: ${sessionId} is ${outcome}`)
    // Who speaks to a session that waits is told so; an answer may come after an interrupt or an end.
    for (const { type, verdict, value } of records)
      if (
        type === "command.rejected" &&
        verdict === "accepted" &&
        !refusedToWaiting.has(value.code) &&
        !(traits.doomed && refusedToDoomed.has(value.code))
      )
        breaches.push(`I1: ${sessionId}: ${value.commandId} was rejected: ${value.message}`)
    if (whole.digests.get(sessionId) !== again.digests.get(sessionId)) breaches.push(`I13: two readers come to two states of ${sessionId}`)
  }
  for (const [sessionId] of effects) if (!whole.sessions.has(sessionId)) breaches.push(`I7: effects of ${sessionId}, which is no session`)
  breaches.push(...whole.requestsDiffering.map((request) => `I13: ${request} is rebuilt otherwise`))
  // Among them a narrow one, a large one, and one that asks.
  const shown = plans.slice(0, 3).map(({ sessionId }) => sessionId)
  breaches.push(...(await replayed(bench, env, shown, whole)))
  const letters = await readDeadLetters(log, names)
  const buried = faults.poisons.map(
    ({ topic, partition, offset }) =>
      letters.filter((letter) => letter.topic === topic && letter.partition === partition && letter.originalOffset === offset).length,
  )
  for (const [index, count] of buried.entries())
    if (count === 0) breaches.push(`I25: the poison ${JSON.stringify(faults.poisons[index])} is not among the dead letters`)
  const { breaches: besides, ...standing } = await findStanding(world, plans, faults, second)
  breaches.push(...besides)
  for (const [what, count] of Object.entries(exercised(account, standing)))
    if (count === 0) breaches.push(`chaos itself: ${what}: none, so this run proves nothing about it`)

  const counts = faultCounts(world, faults, faultsOver)
  const expected = [
    ...faultKinds,
    ...eraserKinds,
    ...lossKinds,
    "clock-skew",
    ...modelFaultKinds,
    ...windowFaultKinds,
    "tool-hang",
    "tool-throw-before",
    "tool-throw-after",
  ]
  const recovery = recoveries(faults.kills, second)
  return {
    seed,
    faults: Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    missing: expected.filter((kind) => (counts.get(kind) ?? 0) === 0),
    account,
    sessions: plans.length,
    commands: clients.commands,
    byOutcome,
    lost: breaches.filter((text) => text.includes("I1: ")).length,
    recoveryMs: { p50: percentile(recovery, 50), p95: percentile(recovery, 95), max: percentile(recovery, 100), measured: recovery.length },
    settledMs,
    starved: proxy.starved,
    outagesMs: faults.backAgain.map((at) => Math.max(0, firstAccepted(second, at) - at)),
    deadLetters: {
      poisoned: faults.poisons.length,
      buried: buried.filter((count) => count > 0).length,
      twice: buried.filter((count) => count > 1).length,
    },
    requestsRebuilt: whole.requestsRebuilt,
    ...standing,
    surprises: counted(
      fleet.surprises.map(({ name, code, signal, stderr }) => `${name} ended by itself (${code ?? signal}): ${lastLine(stderr)}`),
    ),
    breaches,
  }
}

/** What a run must have had, so that it says something about it. */
function exercised(account: Account, { snapshots, blobs, erasure }: Standing): Readonly<Record<string, number>> {
  return {
    "calls held": account.held,
    "calls allowed": account.allowed,
    "calls denied": account.denied,
    "results given by clients and people": account.given,
    "conversations made short": account.summaries,
    "snapshots written": snapshots.written,
    "partitions taken over from snapshots": snapshots.partitionsRestored,
    "turns of sessions known from a snapshot": snapshots.turns,
    "values in the blob store": blobs.named,
    "sessions deleted": erasure.sessions,
    "records erased": erasure.records,
    "snapshots of deleted sessions": erasure.snapshots,
    "commands for deleted sessions": erasure.lateRefused,
  }
}

/** Codes of refusals that are as they should be where people are asked and others speak at the same time. */
const refusedToWaiting: ReadonlySet<string> = new Set(["action_required", "call_unknown", "call_not_held", "session_ended"])
/** And where someone wants it deleted while it runs, or speaks to it afterwards. */
const refusedToDoomed: ReadonlySet<string> = new Set(["session_running", "session_deleted", "session_exists"])

function statusIn(whole: WholeLog, sessionId: string): string {
  const session = whole.sessions.get(sessionId)
  if (session === undefined || !isStarted(session)) return session?.phase ?? "absent"
  const status = statusOf(session)
  return session.phase === "idle" ? `${status} ${session.reason}` : session.phase === "parked" ? `parked ${session.message}` : status
}

export function atRest(whole: WholeLog, sessionId: string): boolean {
  return /^(idle|ended|parked|deleted)/.test(statusIn(whole, sessionId))
}

/** I13 and P5 once more, by the command line: another process comes to the same state and the same bytes, from the log and from the newest snapshot. */
async function replayed(bench: Bench, env: Environment, sessionIds: readonly string[], whole: WholeLog): Promise<readonly string[]> {
  const breaches: string[] = []
  for (const sessionId of sessionIds) {
    const { code, stdout, stderr } = await bench.run(["replay", sessionId, "--check", "--from-snapshot"], env)
    if (code !== 0) breaches.push(`I13: reins replay ${sessionId} --check ends with ${code}: ${stdout}${stderr}`)
    else if (!stdout.includes(`State digest ${whole.digests.get(sessionId)}`))
      breaches.push(`I13: reins replay ${sessionId} comes to another state`)
    else if (!/^same {2}from the snapshot/m.test(stdout)) breaches.push(`P5: reins replay ${sessionId} finds no snapshot: ${stdout}`)
  }
  return breaches
}

/** All that happened until the last fault: to processes and brokers, and what the model and the tools say of themselves. */
function faultCounts({ bench, ledger }: World, { counts }: Faults, until: number): ReadonlyMap<string, number> {
  const all = new Map(counts)
  const add = (kind: string, at: number): void => {
    if (at <= until) all.set(kind, (all.get(kind) ?? 0) + 1)
  }
  for (const { kind, at } of linesOf<ModelFaultLine>(bench.path("model-faults.jsonl"))) add(kind, at)
  for (const { fault, at } of linesOf<ToolFaultLine>(`${ledger}.faults`)) add(`tool-${fault}`, at)
  return all
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? ""
}

/** Each line once, with how often it came. */
function counted(lines: readonly string[]): readonly string[] {
  return [...byKey(lines, (line) => line)].map(([line, same]) => (same.length > 1 ? `${line} (${same.length} times)` : line))
}

function byKey<T>(lines: readonly T[], keyOf: (line: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>()
  for (const line of lines) {
    const known = found.get(keyOf(line))
    if (known === undefined) found.set(keyOf(line), [line])
    else known.push(line)
  }
  return found
}
