import { unavailable } from "../http/errors.ts"

/** How far a topic of one partition has been read, for a read that must see what stood in the log when it came. */
export class ReadPlace {
  readonly #askEnd: () => Promise<number>
  readonly #timeoutMs: number
  #next = 0
  #asking: Promise<number> | undefined
  #waiters: { readonly end: number; readonly resolve: () => void }[] = []

  constructor(askEnd: () => Promise<number>, timeoutMs: number) {
    this.#askEnd = askEnd
    this.#timeoutMs = timeoutMs
  }

  reached(next: number): void {
    this.#next = Math.max(this.#next, next)
    if (this.#waiters.length === 0) return
    for (const { end, resolve } of this.#waiters) if (end <= this.#next) resolve()
    this.#waiters = this.#waiters.filter(({ end }) => end > this.#next)
  }

  /** Resolves when all that stands now has been read. Throws 503 where the log does not say, or reading does not come so far in time. */
  async caughtUp(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => reject(new Error("The log has not answered in time.")), this.#timeoutMs)
    this.#endNow().then((end) => {
      if (end <= this.#next) resolve()
      else this.#waiters.push({ end, resolve })
    }, reject)
    try {
      await promise
    } catch {
      throw unavailable("The log cannot be reached. Try again.")
    } finally {
      clearTimeout(timer)
      this.#waiters = this.#waiters.filter((waiter) => waiter.resolve !== resolve)
    }
  }

  /** One question to the log serves all that came while the one before it was under way: its answer is newer than they are. */
  async #endNow(): Promise<number> {
    await this.#asking?.catch(() => undefined)
    this.#asking ??= this.#askEnd().finally(() => {
      this.#asking = undefined
    })
    return await this.#asking
  }
}
