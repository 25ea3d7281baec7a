import type { TopicDescription } from "./log.ts"

/** Between two looks for records that may go. */
const sweepEveryMs = 1000

/** Records that one sweep takes at most: an append that sweeps must not keep its neighbours waiting. More are taken with the next append. */
export const sweptMax = 1000

/** How long the records of a topic are kept; null: for ever. A topic without a number of its own is kept, as nobody said otherwise. */
export function retentionMsOf({ cleanup, config }: TopicDescription): number | null {
  const ms = cleanup === "delete" ? Number(config["retention.ms"] ?? -1) : -1
  return Number.isFinite(ms) && ms >= 0 ? ms : null
}

/**
 * When a store of this machine takes away what is older than its topic's retention: with an append, so that no timer runs and no transaction
 * is its own. A log to which nobody appends does not grow either. The newest record of a partition always stays: its offset is what the
 * next one counts from.
 */
export class Sweeps {
  #notBefore = 0

  due(now: number): boolean {
    return now >= this.#notBefore
  }

  /** `swept` of `sweptMax`: all of them means that there may be more. */
  done(now: number, swept: number): void {
    this.#notBefore = swept < sweptMax ? now + sweepEveryMs : 0
  }
}
