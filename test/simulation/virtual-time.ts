interface Due {
  readonly at: number
  readonly order: number
  run: (() => void) | undefined
}

/**
 * Time without waiting: one queue of everything that will happen, in order of its time. Between two events every promise that can
 * settle does, in a turn of the real event loop, so what runs is the same for the same seed on any machine.
 */
export class VirtualTime {
  #now = 0
  #order = 0
  #happened = 0
  readonly #heap: Due[] = []

  get now(): number {
    return this.#now
  }

  /** Events that have happened. */
  get happened(): number {
    return this.#happened
  }

  /** Runs something once, `ms` from now; the answer cancels it. */
  after(ms: number, run: () => void): () => void {
    const due: Due = { at: this.#now + Math.max(0, ms), order: this.#order++, run }
    let child = this.#heap.push(due) - 1
    while (child > 0) {
      const parent = (child - 1) >> 1
      if (!isBefore(due, this.#heap[parent] as Due)) break
      this.#heap[child] = this.#heap[parent] as Due
      child = parent
    }
    this.#heap[child] = due
    return () => {
      due.run = undefined
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve))
  }

  /** Lets time pass until `over` says so after an event, or nothing is left to happen. */
  run(over: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const next = (): void => {
        try {
          if (over()) return resolve()
          for (;;) {
            const due = this.#pop()
            if (due === undefined) return resolve()
            if (due.run === undefined) continue
            this.#now = due.at
            this.#happened++
            due.run()
            break
          }
          setImmediate(next)
        } catch (error) {
          reject(error)
        }
      }
      setImmediate(next)
    })
  }

  #pop(): Due | undefined {
    const first = this.#heap[0]
    const last = this.#heap.pop()
    if (first === undefined || last === undefined || this.#heap.length === 0) return first
    let parent = 0
    for (;;) {
      let least = 2 * parent + 1
      if (least >= this.#heap.length) break
      if (least + 1 < this.#heap.length && isBefore(this.#heap[least + 1] as Due, this.#heap[least] as Due)) least++
      if (!isBefore(this.#heap[least] as Due, last)) break
      this.#heap[parent] = this.#heap[least] as Due
      parent = least
    }
    this.#heap[parent] = last
    return first
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
