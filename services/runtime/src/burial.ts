import type { TopicNames } from "@reins/events"
import type { Append, Log, LogRecord } from "@reins/log"
import type { Logger } from "pino"
import { type Clock, pause } from "./clock.ts"
import { coordinatesOf, deadLetterOf } from "./dead-letters.ts"

/** A dead letter is stamped after its record, but for how far brokers' clocks differ. */
const clockMarginMs = 60_000
/** Dead letters read at once on the way back. */
const stretchLength = 200
const againMsMin = 100
const againMsMax = 5000

/** Whether a record is still ours to bury: `unsure` where membership may have been lost. */
export type Ours = "yes" | "no" | "unsure"

/** Someone who wants to know which records have their letter already. */
interface Look {
  readonly since: number
  readonly found: (standing: ReadonlySet<string>) => void
  readonly failed: (error: unknown) => void
}

/**
 * Puts records into the dead letters, each once (I25).
 *
 * A letter may stand already where a predecessor died before it committed how far it had buried, or where an acknowledgement was
 * lost. In these two cases the coordinates of the letters since the record are read before it is buried; else nothing is read. What
 * no reading can find is a request that lands after it was given up; whoever reads the letters takes two of one record for one.
 */
export class Burial {
  readonly #log: Log
  readonly #names: TopicNames
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #underWay = new Map<string, Promise<boolean>>()
  #looks: Look[] = []
  #looking = false

  constructor(log: Log, names: TopicNames, clock: Clock, logger: Logger) {
    this.#log = log
    this.#names = names
    this.#clock = clock
    this.#logger = logger
  }

  /**
   * True once the letter of this record stands; false where the record is not ours any more, and whoever owns its partition sees to it.
   * `fresh`: nobody can have buried it before us. Rejects where the log refuses the letter for good, or closes.
   */
  bury(record: LogRecord, service: string, reason: string, message: string, fresh: boolean, ours: () => Ours): Promise<boolean> {
    const id = `${record.topic}/${record.partition}/${record.offset}`
    // Its partition may have been lost and have come back while its letter was on its way.
    const known = this.#underWay.get(id)
    if (known !== undefined) return known
    const letter = deadLetterOf(this.#names, record, service, reason, message)
    const burying = this.#bury(id, record.timestamp - clockMarginMs, letter, fresh, ours).finally(() => this.#underWay.delete(id))
    this.#underWay.set(id, burying)
    return burying
  }

  async #bury(id: string, since: number, letter: Append, fresh: boolean, ours: () => Ours): Promise<boolean> {
    let mayStand = !fresh
    for (let waitMs = againMsMin; ; waitMs = Math.min(againMsMax, 2 * waitMs)) {
      try {
        if (mayStand && ours() !== "no" && (await this.#standing(since)).has(id)) return true
        const now = ours()
        if (now === "no") return false
        if (now === "yes") {
          await this.#log.append(letter)
          return true
        }
      } catch (error) {
        if ((error as { readonly retryable?: boolean }).retryable !== true) throw error
        if (!mayStand) this.#logger.warn({ err: error, record: id }, "Nobody can say whether a dead letter stands: it is looked for.")
        mayStand = true
      }
      await pause(this.#clock, waitMs)
    }
  }

  /** The coordinates of all letters from this log time on, and perhaps of older ones. All who wait when a reading begins share it. */
  #standing(since: number): Promise<ReadonlySet<string>> {
    return new Promise((found, failed) => {
      this.#looks.push({ since, found, failed })
      if (!this.#looking) void this.#lookAll()
    })
  }

  async #lookAll(): Promise<void> {
    this.#looking = true
    // What the same stretch of records needs is asked for in the same turn.
    await Promise.resolve()
    while (this.#looks.length > 0) {
      const looks = this.#looks.splice(0)
      try {
        const standing = await this.#read(Math.min(...looks.map(({ since }) => since)))
        for (const { found } of looks) found(standing)
      } catch (error) {
        for (const { failed } of looks) failed(error)
      }
    }
    this.#looking = false
  }

  /** Backwards from the end, stretch by stretch, until one begins before `since`. */
  async #read(since: number): Promise<ReadonlySet<string>> {
    const standing = new Set<string>()
    const [bounds] = await this.#log.bounds(this.#names.deadLetters)
    if (bounds === undefined) return standing
    let oldest = Number.POSITIVE_INFINITY
    for (let to = bounds.end; to > bounds.start && oldest >= since; ) {
      const from = Math.max(bounds.start, to - stretchLength)
      for await (const records of this.#log.replay(this.#names.deadLetters, 0, from, to, { bare: true })) {
        for (const { headers, timestamp } of records) {
          oldest = Math.min(oldest, timestamp)
          const id = coordinatesOf(headers)
          if (id !== null) standing.add(id)
        }
      }
      to = from
    }
    return standing
  }
}
