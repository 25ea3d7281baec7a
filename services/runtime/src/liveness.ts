import type { Log } from "@reins/log"
import type { Clock } from "./clock.ts"

/** Looks come this often while someone wants to know. */
const lookEveryMs = 500
const freshMs = 4 * lookEveryMs

interface Watched {
  /** Monotonic times of the first and the newest of the trusted looks in a row that have missed the instance. */
  readonly absent: Map<string, { readonly sinceMs: number; readonly lastMs: number }>
  readonly asked: Map<string, Set<() => void>>
  looking: boolean
}

/**
 * Who is gone (design rule 6): an instance that every trusted look at its group has missed for the log's grace time. An answer about
 * our own group that lacks ourselves counts for nothing, as does one that the log cannot vouch for. The grace time is for the doubt that
 * absence leaves; an instance whose process the log knows to have ended is gone at once.
 */
export class Liveness {
  readonly #log: Log
  readonly #clock: Clock
  readonly #group: string
  readonly #instance: string
  readonly #groups = new Map<string, Watched>()
  #stopped = false

  constructor(log: Log, clock: Clock, group: string, instance: string) {
    this.#log = log
    this.#clock = clock
    this.#group = group
    this.#instance = instance
  }

  /** What is known now; where it is not known yet, `again` is called after the next look. */
  gone(group: string, instance: string, again: () => void): boolean {
    if (instance === this.#instance) return false
    if (this.#log.ended?.(group, instance) === true) return true
    let watched = this.#groups.get(group)
    if (watched === undefined) {
      watched = { absent: new Map(), asked: new Map(), looking: false }
      this.#groups.set(group, watched)
    }
    const absence = watched.absent.get(instance)
    if (absence !== undefined && this.#isFresh(absence.lastMs) && absence.lastMs - absence.sinceMs >= this.#log.absenceGraceMs) return true
    const waiting = watched.asked.get(instance) ?? new Set()
    waiting.add(again)
    watched.asked.set(instance, waiting)
    this.#lookSoon(group, watched)
    return false
  }

  #lookSoon(group: string, watched: Watched): void {
    if (watched.looking) return
    watched.looking = true
    this.#clock.after(0, () => void this.#look(group, watched))
  }

  /** An instance may have come back since a look that long ago: it says nothing of now, and a later miss is the first of a new row. */
  #isFresh(lookedAtMs: number): boolean {
    return this.#clock.monotonic() - lookedAtMs <= freshMs
  }

  stop(): void {
    this.#stopped = true
    this.#groups.clear()
  }

  async #look(group: string, watched: Watched): Promise<void> {
    if (this.#stopped) return
    const members = await this.#log.members(group).catch(() => null)
    const trusted = members !== null && (group === this.#group ? members.has(this.#instance) : members.size > 0)
    const now = this.#clock.monotonic()
    if (trusted) {
      for (const instance of watched.asked.keys()) {
        const absence = watched.absent.get(instance)
        const goesOn = absence !== undefined && this.#isFresh(absence.lastMs)
        if (members.has(instance)) watched.absent.delete(instance)
        else watched.absent.set(instance, { sinceMs: goesOn ? absence.sinceMs : now, lastMs: now })
      }
    }
    // Without a grace time one miss says it all, and whoever waits for that need not wait longer.
    const isKnown = this.#log.absenceGraceMs === 0 && trusted && [...watched.asked.keys()].some((instance) => !members.has(instance))
    const waiting = [...watched.asked.values()].flatMap((set) => [...set])
    watched.asked.clear()
    // Whoever still wants to know asks again when called.
    this.#clock.after(isKnown ? 0 : lookEveryMs, () => {
      watched.looking = false
      if (this.#stopped) return
      for (const again of waiting) again()
      // Who asked since the look waits for one of its own, whether or not anyone called just now asks again.
      if (watched.asked.size > 0) this.#lookSoon(group, watched)
    })
  }
}
