/** mulberry32: small, quick, and the same numbers from the same seed everywhere. */
export class Random {
  readonly #seed: number
  #state: number

  constructor(seed: number) {
    this.#seed = seed >>> 0
    this.#state = this.#seed
  }

  /** From 0 up to but not including 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }

  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.next() * choices.length)] as T
  }

  /** A stream of its own for one purpose: leaving a fault out does not change what the others draw. */
  fork(purpose: string): Random {
    let hash = this.#seed ^ 0x9e3779b9
    for (const character of purpose) hash = Math.imul(hash ^ (character.codePointAt(0) as number), 0x85ebca6b) ^ (hash >>> 13)
    return new Random(hash)
  }
}
