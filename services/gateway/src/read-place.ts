import type { Log } from "@reins/log"
import { unavailable } from "./http/errors.ts"

/** How far a topic has been read, for a request that must see what stood in the log when it came, whichever gateway wrote it. */
export class ReadPlace {
  readonly #log: Pick<Log, "bounds">
  readonly #topic: string
  readonly #timeoutMs: number
  readonly #next = new Map<number, number>()
  readonly #waiters = new Set<{ readonly ends: ReadonlyMap<number, number>; readonly resolve: () => void }>()
  #asking: Promise<ReadonlyMap<number, number>> | undefined

  constructor(log: Pick<Log, "bounds">, topic: string, timeoutMs: number) {
    this.#log = log
    this.#topic = topic
    this.#timeoutMs = timeoutMs
  }

  /** Everything of this partition below `next` has been read. */
  reached(partition: number, next: number): void {
    this.#next.set(partition, Math.max(this.#next.get(partition) ?? 0, next))
    for (const { ends, resolve } of this.#waiters) if (this.#isAt(ends)) resolve()
  }

  /** Resolves when all that stands now has been read. Throws 503 where the log does not say, or reading does not come so far in time. */
  async caughtUp(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => reject(new Error("The log has not answered in time.")), this.#timeoutMs)
    let waiter: { readonly ends: ReadonlyMap<number, number>; readonly resolve: () => void } | undefined
    this.#endsNow().then((ends) => {
      if (this.#isAt(ends)) resolve()
      else this.#waiters.add((waiter = { ends, resolve }))
    }, reject)
    try {
      await promise
    } catch {
      throw unavailable("The log cannot be reached, or not be read in time. Try again.")
    } finally {
      clearTimeout(timer)
      if (waiter !== undefined) this.#waiters.delete(waiter)
    }
  }

  #isAt(ends: ReadonlyMap<number, number>): boolean {
    for (const [partition, end] of ends) if ((this.#next.get(partition) ?? 0) < end) return false
    return true
  }

  /** Where every partition ends. One question to the log serves all that came while the one before it was under way: its answer is newer than they are. */
  async #endsNow(): Promise<ReadonlyMap<number, number>> {
    await this.#asking?.catch(() => undefined)
    this.#asking ??= this.#log
      .bounds(this.#topic)
      .then((bounds) => new Map(bounds.map(({ partition, end }) => [partition, end])))
      .finally(() => {
        this.#asking = undefined
      })
    return await this.#asking
  }
}
