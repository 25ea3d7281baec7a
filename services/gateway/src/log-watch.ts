import type { Log } from "@reins/log"

/** How many questions go by in the longest silence: one answer that is late says nothing. */
const questionsPerSilence = 5

export interface LogWatchOptions {
  readonly log: Pick<Log, "bounds">
  readonly topic: string
  /** The log may be silent for so long. */
  readonly silenceMaxMs: number
  readonly askEveryMs?: number
  /** Told the first of the failures in a row. */
  readonly failing: (error: Error) => void
}

/**
 * Asks the log something small, over and over. A follower without a group, which is all that a gateway is, waits for news and tells nobody
 * that none can come any more: a log that is away looks like one in which nothing happens.
 */
export class LogWatch {
  readonly #options: LogWatchOptions
  #heardAt = 0
  #isFailing = false
  #next: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: LogWatchOptions) {
    this.#options = options
  }

  /** From now on; whoever starts it has just been answered. */
  start(): void {
    this.#heardAt = performance.now()
    this.#askLater()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#next)
  }

  /** That the log counts as out of reach, in a few words that anyone may read; null where it does not. */
  unreachable(): string | null {
    const silentMs = performance.now() - this.#heardAt
    return silentMs <= this.#options.silenceMaxMs ? null : `the log has not answered for ${Math.round(silentMs / 1000)} s`
  }

  #askLater(): void {
    const { silenceMaxMs, askEveryMs = silenceMaxMs / questionsPerSilence } = this.#options
    if (!this.#stopped) this.#next = setTimeout(() => void this.#ask(), askEveryMs).unref()
  }

  async #ask(): Promise<void> {
    const { log, topic, silenceMaxMs, failing } = this.#options
    const answered = log.bounds(topic).then(
      () => {
        this.#heardAt = performance.now()
        this.#isFailing = false
      },
      (error: Error) => {
        if (!this.#isFailing && !this.#stopped) failing(error)
        this.#isFailing = true
      },
    )
    // A question that is never answered must not be the last.
    await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, silenceMaxMs).unref())])
    this.#askLater()
  }
}
