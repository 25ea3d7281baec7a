import type { Account } from "./oracle.ts"
import type { Standing } from "./standing.ts"

export interface ChaosReport extends Standing {
  readonly seed: number
  /** Faults injected while work was running, by kind. */
  readonly faults: Readonly<Record<string, number>>
  /** Kinds that should have happened and did not. */
  readonly missing: readonly string[]
  readonly account: Account
  readonly sessions: number
  readonly commands: number
  readonly byOutcome: Readonly<Record<string, number>>
  /** Acknowledged and not in the log. */
  readonly lost: number
  readonly recoveryMs: { readonly p50: number; readonly p95: number; readonly max: number; readonly measured: number }
  readonly settledMs: number
  /** From the brokers' being back after each total outage to the next accepted record. */
  readonly outagesMs: readonly number[]
  /** Answers of the proxy that too few replicas are in sync: where nothing was written, and where it stands all the same. */
  readonly starved: { readonly refused: number; readonly written: number }
  readonly deadLetters: { readonly poisoned: number; readonly buried: number; readonly twice: number }
  readonly requestsRebuilt: number
  readonly surprises: readonly string[]
  readonly breaches: readonly string[]
  readonly load: readonly number[]
}

/** The report as people read it. */
export function told(report: ChaosReport): string {
  const { account, recoveryMs, deadLetters, snapshots, blobs, erasure } = report
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ")
  const lines = [
    `seed ${report.seed}; load ${report.load.map((load) => load.toFixed(1)).join(" → ")}`,
    `faults while work was running: ${list(report.faults)}`,
    `sessions ${report.sessions} (${list(report.byOutcome)}), commands acknowledged ${report.commands}, lost ${report.lost}`,
    `turns ${account.turns}, calls ${account.calls}, effects ${account.effects}, unknown ${account.unknown}`,
    `held ${account.held}, allowed ${account.allowed}, denied ${account.denied}, results of clients and people ${account.given}`,
    `run again by class: ${list(account.reruns)}; extra model calls ${account.extraModelCalls}; takeovers ${account.takeovers}`,
    `records late ${account.late}, superseded ${account.superseded}, duplicate ${account.duplicate}; requests rebuilt ${report.requestsRebuilt}`,
    `summaries ${account.summaries}, requests and answers that the window cut off ${account.tooLong}`,
    `snapshots ${snapshots.written} of ${snapshots.sessions} sessions, each the state that the log comes to; ${snapshots.partitionsRestored} partitions taken over from them, with ${snapshots.sessionsRestored} sessions, and ${snapshots.turns} turns of these`,
    `blobs named ${blobs.named}, ${(blobs.bytes / 2 ** 20).toFixed(0)} MB, each there and whole; named by none and collected ${blobs.collected}`,
    `deleted ${erasure.sessions}: records erased ${erasure.records}, snapshots replaced ${erasure.snapshots}, late commands refused ${erasure.lateRefused}; erasures that outlived every eraser ${erasure.takenOver}`,
    `time to recover, kill → next accepted record of the role in a partition: p50 ${recoveryMs.p50} ms, p95 ${recoveryMs.p95} ms, max ${recoveryMs.max} ms (${recoveryMs.measured} measured)`,
    `settled ${report.settledMs} ms after the last fault; poison ${deadLetters.poisoned}, in the dead letters ${deadLetters.buried}, twice ${deadLetters.twice}`,
    `writes told of too few replicas: ${report.starved.refused} refused, ${report.starved.written} that stand`,
    `total outages: ${report.outagesMs.map((ms) => `${ms} ms`).join(", ") || "none"} from the brokers' return to the next accepted record`,
    ...report.surprises.map((text) => `by itself: ${text}`),
    ...(report.missing.length > 0 ? [`NOT INJECTED: ${report.missing.join(", ")}`] : []),
    ...report.breaches.map((text) => `BREACH ${text}`),
    report.breaches.length === 0 && report.missing.length === 0 ? "Everything held." : "It did NOT hold.",
  ]
  return lines.join("\n")
}
