import { type Append, AppendRejectedError, AppendUnknownError, AppendWithdrawnError, type Placed } from "./log.ts"

/** What one write did to one partition. `refused` entries (by index in `entries`) will never land; an `unknown` partition may. */
export type WriteOutcome =
  | { readonly placed: { readonly baseOffset: number; readonly timestamp: number } }
  | { readonly unknown: Error }
  | { readonly refused: Error }

/** The entries of one partition within one write, in order, with the keys of this physical append. */
export interface PartitionBatch {
  readonly topic: string
  readonly partition: number
  readonly entries: readonly {
    readonly key: string | null
    readonly value: Uint8Array | null
    readonly headers: Readonly<Record<string, string>>
  }[]
}

interface Waiting {
  readonly append: Append
  /** It was sent before, with an unknown outcome. */
  sent: boolean
  readonly resolve: (placed: Placed) => void
  readonly reject: (error: Error) => void
}

interface Lane {
  readonly topic: string
  readonly partition: number
  queue: Waiting[]
  /** Monotonic time before which nothing more is sent here, after an unknown outcome. */
  notBefore: number
  backoffMs: number
  /** Set after a refusal of a batch of several: send one by one, so that only the guilty entry fails. */
  single: boolean
}

/** Most bytes and entries that leave together; a broker's default limit is 1 MiB a partition batch. */
const batchBytesMax = 768 * 1024
const batchEntriesMax = 500

/** How a group commit tells time; a simulation gives its own. */
export interface CommitClock {
  /** Decides how long a write waits for company when none is in flight. */
  defer(run: () => void): void
  /** Milliseconds that never go back. */
  monotonic(): number
  /** Calls `run` once after `ms`; the answer cancels it. */
  after(ms: number, run: () => void): () => void
}

/** What one callback and what it wakes append leaves together. */
export const commitClock: CommitClock = {
  defer: (run) => queueMicrotask(() => queueMicrotask(run)),
  monotonic: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}

/**
 * Group commit (design rule 9): one write is in flight at a time; what is appended meanwhile leaves together with the next.
 * One write in flight is also what keeps the order (kafkajs reorders concurrent sends). Rule 10 lives here too: an error is an
 * unknown; entries that must stand are sent again ahead of everything newer of their partition.
 */
export class GroupCommit {
  readonly #write: (batches: readonly PartitionBatch[]) => Promise<readonly WriteOutcome[]>
  readonly #clock: CommitClock
  readonly #lanes = new Map<string, Lane>()
  #inFlight = false
  #scheduled = false
  #closing = false
  #idle: (() => void) | undefined
  #cancelTimer: (() => void) | undefined

  /** `write` answers one outcome per batch, in the order given; it throws only when it cannot say anything about any of them. */
  constructor(write: (batches: readonly PartitionBatch[]) => Promise<readonly WriteOutcome[]>, clock: CommitClock = commitClock) {
    this.#write = write
    this.#clock = clock
  }

  append(append: Append): Promise<Placed> {
    if (this.#closing) return Promise.reject(new AppendWithdrawnError("The log is closing."))
    return new Promise((resolve, reject) => {
      this.#lane(append.topic, append.partition).queue.push({ append, sent: false, resolve, reject })
      this.#schedule()
    })
  }

  withdraw(topic: string, partition: number): void {
    const lane = this.#lanes.get(`${topic}\u0000${partition}`)
    if (lane === undefined) return
    const taken = lane.queue.filter((waiting) => waiting.append.certainty !== "always")
    lane.queue = lane.queue.filter((waiting) => waiting.append.certainty === "always")
    for (const waiting of taken) waiting.reject(takenBack(waiting, "its partition was lost"))
  }

  /** Sends what waits for at most `graceMs`, then withdraws the rest. */
  async close(graceMs: number): Promise<void> {
    const deadline = this.#clock.monotonic() + graceMs
    while (this.#busy() && this.#clock.monotonic() < deadline) {
      await Promise.race([
        new Promise<void>((resolve) => {
          this.#idle = resolve
        }),
        new Promise<void>((resolve) => void this.#clock.after(50, resolve)),
      ])
    }
    this.#closing = true
    this.#cancelTimer?.()
    this.#giveUp()
  }

  #giveUp(): void {
    for (const lane of this.#lanes.values()) {
      for (const waiting of lane.queue.splice(0)) waiting.reject(takenBack(waiting, "the log was closed"))
    }
  }

  #busy(): boolean {
    return this.#inFlight || [...this.#lanes.values()].some((lane) => lane.queue.length > 0)
  }

  #lane(topic: string, partition: number): Lane {
    const id = `${topic}\u0000${partition}`
    let lane = this.#lanes.get(id)
    if (lane === undefined) {
      lane = { topic, partition, queue: [], notBefore: 0, backoffMs: 0, single: false }
      this.#lanes.set(id, lane)
    }
    return lane
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight) return
    this.#scheduled = true
    this.#clock.defer(() => {
      this.#scheduled = false
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    if (this.#inFlight || this.#closing) return
    const now = this.#clock.monotonic()
    const taken: { lane: Lane; waiting: Waiting[]; batch: PartitionBatch }[] = []
    let soonest = Number.POSITIVE_INFINITY
    for (const lane of this.#lanes.values()) {
      if (lane.queue.length === 0) continue
      if (lane.notBefore > now) {
        soonest = Math.min(soonest, lane.notBefore)
        continue
      }
      const waiting = takeBatch(lane)
      taken.push({
        lane,
        waiting,
        batch: {
          topic: lane.topic,
          partition: lane.partition,
          entries: waiting.map(({ append }) => ({ key: append.key(), value: append.value, headers: append.headers })),
        },
      })
    }
    if (taken.length === 0) {
      if (soonest !== Number.POSITIVE_INFINITY) {
        this.#cancelTimer?.()
        this.#cancelTimer = this.#clock.after(soonest - now, () => this.#schedule())
      } else {
        this.#idle?.()
      }
      return
    }
    this.#inFlight = true
    let outcomes: readonly WriteOutcome[]
    try {
      outcomes = await this.#write(taken.map(({ batch }) => batch))
    } catch (error) {
      outcomes = taken.map(() => ({ unknown: error as Error }))
    }
    this.#inFlight = false
    taken.forEach(({ lane, waiting }, index) => {
      this.#settle(lane, waiting, outcomes[index] ?? { unknown: new Error("The log gave no answer for this partition.") })
    })
    // A write that outlived its closing may have put entries back; nobody will send them.
    if (this.#closing) this.#giveUp()
    else this.#schedule()
  }

  #settle(lane: Lane, waiting: Waiting[], outcome: WriteOutcome): void {
    if ("placed" in outcome) {
      lane.backoffMs = 0
      const { baseOffset, timestamp } = outcome.placed
      waiting.forEach((one, index) => {
        one.resolve({ offset: baseOffset + index, timestamp })
      })
      if (lane.queue.length === 0) lane.single = false
      return
    }
    if ("refused" in outcome) {
      if (waiting.length === 1) {
        waiting[0]?.reject(
          new AppendRejectedError(`The log refused a record for ${lane.topic}[${lane.partition}]: ${outcome.refused.message}`, {
            cause: outcome.refused,
          }),
        )
      } else {
        lane.single = true
        lane.queue.unshift(...waiting)
      }
      return
    }
    lane.backoffMs = Math.min(1000, Math.max(20, lane.backoffMs * 2))
    lane.notBefore = this.#clock.monotonic() + lane.backoffMs
    const again = waiting.filter((one) => one.append.certainty !== "once")
    for (const one of again) one.sent = true
    lane.queue.unshift(...again)
    for (const one of waiting) {
      if (one.append.certainty === "once") {
        one.reject(
          new AppendUnknownError(
            `Nobody can say whether a record for ${lane.topic}[${lane.partition}] landed: ${outcome.unknown.message}`,
            { cause: outcome.unknown },
          ),
        )
      }
    }
  }
}

/** Taken back before its first sending it is nowhere; after one whose outcome is unknown it may stand all the same. */
function takenBack(waiting: Waiting, why: string): Error {
  const { topic, partition } = waiting.append
  if (!waiting.sent) return new AppendWithdrawnError(`A record for ${topic}[${partition}] was not sent: ${why}.`)
  return new AppendUnknownError(`Nobody can say whether a record for ${topic}[${partition}] landed, and it is not sent again: ${why}.`)
}

function takeBatch(lane: Lane): Waiting[] {
  if (lane.single) return lane.queue.splice(0, 1)
  let bytes = 0
  let count = 0
  for (const { append } of lane.queue) {
    bytes += (append.value?.byteLength ?? 0) + 200
    if (count > 0 && (bytes > batchBytesMax || count >= batchEntriesMax)) break
    count++
  }
  return lane.queue.splice(0, count)
}
