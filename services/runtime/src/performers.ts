/** The effects of one service that run beside the loop: each key begins at most once in this process, and only so many at a time. */
export class Performers {
  readonly #concurrency: number
  readonly #begun = new Set<string>()
  readonly #waiting: { readonly key: string; readonly partition: number; readonly begin: () => Promise<void> }[] = []
  #running = 0

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Whether it has begun, was given up, or waits for a free place. */
  has(key: string): boolean {
    return this.#begun.has(key)
  }

  perform(key: string, partition: number, begin: () => Promise<void>): void {
    if (this.#begun.has(key)) return
    this.#remember(key)
    if (this.#running < this.#concurrency) this.#run(begin)
    else this.#waiting.push({ key, partition, begin })
  }

  /** Never begin this one. False where it runs or has run. */
  giveUp(key: string): boolean {
    const index = this.#waiting.findIndex((one) => one.key === key)
    if (index >= 0) this.#waiting.splice(index, 1)
    else if (this.#begun.has(key)) return false
    this.#remember(key)
    return true
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

  #run(begin: () => Promise<void>): void {
    this.#running++
    void begin().finally(() => {
      this.#running--
      const next = this.#waiting.shift()
      if (next !== undefined) this.#run(next.begin)
    })
  }
}
