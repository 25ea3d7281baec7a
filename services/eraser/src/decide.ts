import type { Intent, View } from "@reins/runtime"
import { isStarted, statusOf } from "@reins/session"
import type { EraserLimits } from "./config.ts"

export type Work =
  /** Of a deleted session, from the offset where records of it may stand. */
  | { readonly do: "erase"; readonly sessionId: string; readonly from: number }
  | { readonly do: "delete"; readonly sessionId: string; readonly commandId: string; readonly unchangedSince: number }

/** What is deleted is erased, and what has not run for so long is to be deleted. */
export function decide(view: View, { retentionMs }: Pick<EraserLimits, "retentionMs">): readonly Intent<Work>[] {
  // Only what was read back: an erasure cannot be taken back.
  const { settled, sessionId, standing } = view
  if (settled.phase === "deleted") {
    if (standing === null) return []
    const key = `erase/${sessionId}`
    return [{ do: "perform", key, work: { do: "erase", sessionId, from: standing }, stoppedBy: key, again: true }]
  }
  if (retentionMs === null || !isStarted(settled) || statusOf(settled) === "running") return []
  const due = settled.changedAt + retentionMs
  if (view.now < due) return [{ do: "wake", at: due }]
  // Asked for again after a restart it is the same command; after anything new in the session it is another.
  const commandId = `retention/${sessionId}/${settled.changedAt}`.slice(-200)
  return [
    {
      do: "perform",
      key: commandId,
      work: { do: "delete", sessionId, commandId, unchangedSince: settled.changedAt },
      stoppedBy: commandId,
    },
  ]
}
