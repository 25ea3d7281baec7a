import type { Clock } from "./clock.ts"

interface Due<T> {
  readonly at: number
  readonly key: string
  readonly what: T
}

/** Log time may turn out to be later than it seemed when the timer was set, by any amount where nothing had been read yet: it is looked at again. */
const againMs = 1000

/** Due times in a heap with one real timer under it. A wake-up may come for something that is no longer due: deciding again does no harm. */
export class Timers<T> {
  readonly #clock: Clock
  readonly #now: () => number
  readonly #fire: (what: T) => void
  readonly #heap: Due<T>[] = []
  /** The earliest due time of each key: one key never fills the heap, however often it is asked for. */
  readonly #earliest = new Map<string, number>()
  #cancel: (() => void) | undefined
  #armedFor = Number.POSITIVE_INFINITY

  constructor(clock: Clock, now: () => number, fire: (what: T) => void) {
    this.#clock = clock
    this.#now = now
    this.#fire = fire
  }

  /** Fires for this key at `at` or before: whoever is woken early sets the next time anew. */
  set(at: number, key: string, what: T): void {
    if ((this.#earliest.get(key) ?? Number.POSITIVE_INFINITY) <= at) return
    this.#earliest.set(key, at)
    this.#heap.push({ at, key, what })
    let child = this.#heap.length - 1
    while (child > 0) {
      const parent = (child - 1) >> 1
      if (this.#at(parent) <= this.#at(child)) break
      this.#swap(parent, child)
      child = parent
    }
    this.#arm()
  }

  stop(): void {
    this.#cancel?.()
    this.#heap.length = 0
    this.#armedFor = Number.POSITIVE_INFINITY
  }

  #arm(): void {
    const first = this.#heap[0]
    if (first === undefined || first.at >= this.#armedFor) return
    this.#cancel?.()
    this.#armedFor = first.at
    this.#cancel = this.#clock.after(Math.min(first.at - this.#now() + 1, againMs), () => this.#run())
  }

  #run(): void {
    this.#armedFor = Number.POSITIVE_INFINITY
    const now = this.#now()
    const due: T[] = []
    while (this.#heap[0] !== undefined && this.#heap[0].at <= now) {
      const { at, key, what } = this.#pop()
      if (this.#earliest.get(key) === at) this.#earliest.delete(key)
      due.push(what)
    }
    for (const what of due) this.#fire(what)
    this.#arm()
  }

  #pop(): Due<T> {
    const first = this.#heap[0] as Due<T>
    const last = this.#heap.pop() as Due<T>
    if (this.#heap.length > 0) {
      this.#heap[0] = last
      let parent = 0
      for (;;) {
        const left = 2 * parent + 1
        let least = parent
        if (left < this.#heap.length && this.#at(left) < this.#at(least)) least = left
        if (left + 1 < this.#heap.length && this.#at(left + 1) < this.#at(least)) least = left + 1
        if (least === parent) break
        this.#swap(parent, least)
        parent = least
      }
    }
    return first
  }

  #at(index: number): number {
    return (this.#heap[index] as Due<T>).at
  }

  #swap(a: number, b: number): void {
    const held = this.#heap[a] as Due<T>
    this.#heap[a] = this.#heap[b] as Due<T>
    this.#heap[b] = held
  }
}
