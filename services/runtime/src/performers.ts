interface Waiting {
  readonly key: string
  readonly partition: number
  readonly stoppedBy: string
  /** `waited`: there was no free place at first, and much may have happened since. */
  readonly begin: (stop: AbortController, waited: boolean) => Promise<void>
}

/** The effects of one service that run beside the loop: each key begins at most once in this process, and only so many at a time. */
export class Performers {
  readonly #concurrency: number
  readonly #begun = new Set<string>()
  readonly #waiting: Waiting[] = []
  readonly #stops = new Map<string, Set<AbortController>>()
  readonly #stoppedAhead = new Set<string>()
  #running = 0

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  get running(): number {
    return this.#running
  }

  /** Whether it has begun, was given up, or waits for a free place. */
  has(key: string): boolean {
    return this.#begun.has(key)
  }

  perform(waiting: Waiting): void {
    if (this.#begun.has(waiting.key)) return
    this.#remember(waiting.key)
    if (this.#running < this.#concurrency) this.#run(waiting, false)
    else this.#waiting.push(waiting)
  }

  /** Aborts the effects that this stops; one that waits for a place begins aborted, so that it says so. */
  stop(tag: string): void {
    for (const waiting of this.#waiting) if (waiting.stoppedBy === tag) this.#stoppedAhead.add(waiting.key)
    for (const controller of this.#stops.get(tag) ?? []) controller.abort()
  }

  /** Aborts all that run. */
  stopAll(): void {
    for (const controllers of this.#stops.values()) for (const controller of controllers) controller.abort()
  }

  /** Never begin this one. False where it runs or has run. */
  giveUp(key: string): boolean {
    const index = this.#waiting.findIndex((one) => one.key === key)
    if (index >= 0) this.#waiting.splice(index, 1)
    else if (this.#begun.has(key)) return false
    this.#remember(key)
    return true
  }

  /** It did not begin after all and may be asked for again. */
  forget(key: string): void {
    this.#begun.delete(key)
  }

  /** Takes back what waits for this partition; without a claim it may begin elsewhere, and here again later. */
  dropWaiting(partition: number): void {
    for (let index = this.#waiting.length - 1; index >= 0; index--) {
      const one = this.#waiting[index]
      if (one?.partition !== partition) continue
      this.#waiting.splice(index, 1)
      this.#begun.delete(one.key)
    }
  }

  #remember(key: string): void {
    this.#begun.add(key)
    // A key that old is of a claim closed long ago; the oldest go first, as a Set keeps its order.
    if (this.#begun.size > 200_000) {
      for (const old of this.#begun) {
        this.#begun.delete(old)
        break
      }
    }
  }

  #run({ key, begin, stoppedBy }: Waiting, waited: boolean): void {
    this.#running++
    const controller = new AbortController()
    if (this.#stoppedAhead.delete(key)) controller.abort()
    const controllers = this.#stops.get(stoppedBy) ?? new Set()
    controllers.add(controller)
    this.#stops.set(stoppedBy, controllers)
    void begin(controller, waited).finally(() => {
      controllers.delete(controller)
      if (controllers.size === 0) this.#stops.delete(stoppedBy)
      this.#running--
      const next = this.#waiting.shift()
      if (next !== undefined) this.#run(next, true)
    })
  }
}
