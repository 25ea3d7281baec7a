import { type FoldReader, KeptSessions, type SharedFold, type Spill } from "@reins/runtime"

/** What the loop tells of one record. */
type What = Parameters<FoldReader["moved"]>[2]

/** So far the loop may be ahead when its fold is joined: what it folds meanwhile waits in memory. */
const aheadMax = 1000

/**
 * One partition as it is shown: folded here, or by the loop of the same process where it owns the partition and both have come to the same place.
 *
 * J1 A record is shown once: up to `from` as folded here, from there on as folded by the loop.
 * J2 One of the two folds is dropped in the moment in which they meet, and the other goes on.
 */
export class Part {
  readonly number: number
  /** One past what is shown. */
  next = 0
  /** All that stood at the start has been read. */
  caughtUp = false
  /** Sessions to be read again once the loop's fold is the one that is shown. */
  readonly anew: Set<string> = new Set()
  /** Sessions to be read again as soon as no reading is under way. */
  readonly toReread: Set<string> = new Set()
  readonly rereading: Set<string> = new Set()
  readonly #spill: Spill
  #own: KeptSessions | null
  #shared: SharedFold | null = null
  #from = 0
  #heard: { readonly next: number; readonly what: What }[] = []

  constructor(number: number, spill: Spill) {
    this.number = number
    this.#spill = spill
    this.#own = ownFold(this.#spill)
  }

  get sessions(): KeptSessions {
    return this.#own ?? (this.#shared as SharedFold).sessions
  }

  /** Folded here; null where the loop folds it. */
  get own(): KeptSessions | null {
    return this.#own
  }

  /** Whether what the loop folds is heard. */
  get hears(): boolean {
    return this.#shared !== null
  }

  /** The offset from which on it is not folded here. */
  get end(): number {
    return this.#shared === null ? Number.POSITIVE_INFINITY : this.#from
  }

  /** From now on what the loop folds is heard, if there is such a fold and it is not far from here. */
  listen(shared: SharedFold | undefined): void {
    if (shared === undefined || this.#shared !== null) return
    const from = shared.next()
    if (from < this.next || from - this.next > aheadMax) return
    this.#shared = shared
    this.#from = from
  }

  /** True in the moment in which the loop's fold takes the place of the one here. */
  meet(): boolean {
    if (this.#own === null || this.#shared === null || this.next < this.#from) return false
    this.#own.drop()
    this.#own = null
    return true
  }

  /** What the loop says of a record; false where it is read here. */
  hear(next: number, what: What): boolean {
    if (this.#shared === null) return false
    if (this.#own !== null && this.#heard.length >= aheadMax) {
      // Reading stands still here, and must not take memory for it: the two meet later.
      this.#forget()
      return false
    }
    this.#heard.push({ next, what })
    return true
  }

  /** What was heard and is not shown yet, once it is its turn. */
  *heard(): Iterable<{ readonly next: number; readonly what: What }> {
    if (this.#own !== null || this.#heard.length === 0) return
    yield* this.#heard.splice(0)
  }

  /**
   * The loop has lost the partition. Where its sessions are kept here, reading goes on at `next`: told are those of which something is not in
   * their state. Null where it was folded here all the time.
   */
  leave(): readonly string[] | null {
    const shared = this.#shared
    this.#forget()
    if (this.#own !== null || shared === null) return null
    this.#own = shared.sessions
    // Whoever only shows what was said does not have to send it.
    for (const [sessionId] of this.#own.inMemory()) this.#own.forget(sessionId)
    return shared.unread()
  }

  #forget(): void {
    this.#shared = null
    this.#heard = []
    this.anew.clear()
  }

  spillDownTo(bytes: number): void {
    if (this.#own === null) this.#shared?.spill()
    else this.#own.spillDownTo(bytes, () => false)
  }
}

/** The read model is made from the records. */
export function ownFold(spill: Spill): KeptSessions {
  return new KeptSessions(spill.partition(), () => {
    throw new Error("The gateway restores nothing from snapshots.")
  })
}
