import type { Random } from "./random.ts"

/** Everything that may go wrong, by the name under which it is counted and can be left out. */
export const faultKinds = [
  "kill",
  "outage",
  "pause",
  "zombie",
  "drain",
  "join",
  "append-lost",
  "append-unanswered",
  "append-late",
  "append-partial",
  "look-failed",
  "read-failed",
  "member-hidden",
  "command-again",
  "slow-topic",
  "clock-skew",
  "compaction",
  "poison",
  "model-429",
  "model-500",
  "model-refused",
  "model-connection",
  "model-slow",
  "model-hang",
  "model-malformed",
  "model-cut",
  "model-window",
  "blob-slow",
  "blob-away",
  "blob-unanswered",
  "blob-spoilt",
  "tool-throw",
  "tool-break",
  "tool-slow",
  "tool-hang",
  "tool-orphaned",
] as const
export type FaultKind = (typeof faultKinds)[number]

/** Which faults this world knows, how often each strikes, and how often each did. */
export class Faults {
  readonly counts: Map<FaultKind, number> = new Map()
  readonly #rates = new Map<FaultKind, number>()
  readonly #random: Random
  #over = false

  /** Each kind has a rate of its own, drawn per world: some worlds know it not at all, some hardly anything else. */
  constructor(random: Random, without: ReadonlySet<FaultKind>, often: ReadonlySet<FaultKind>) {
    this.#random = random
    for (const kind of faultKinds) {
      const own = random.fork(kind)
      const rate = own.chance(0.25) ? 0 : own.next() ** 2
      if (!without.has(kind)) this.#rates.set(kind, often.has(kind) ? 1 : rate)
    }
  }

  get over(): boolean {
    return this.#over
  }

  stop(): void {
    this.#over = true
  }

  /** From 0 to 1. */
  rate(kind: FaultKind): number {
    return this.#rates.get(kind) ?? 0
  }

  /** Whether it strikes now, at most with this probability; counted where it does. */
  strikes(kind: FaultKind, most: number): boolean {
    const rate = this.rate(kind)
    // Drawn in any case, so that leaving one kind out moves the others as little as possible.
    const strikes = this.#random.chance(rate * most)
    if (this.#over || !strikes) return false
    this.count(kind)
    return true
  }

  count(kind: FaultKind): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }
}
