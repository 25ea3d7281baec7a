import type { TopicNames } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"
import type { Logger } from "pino"
import type { Clock } from "./clock.ts"
import type { OwnedPartition } from "./owned-partition.ts"

const askAgainMs = 500
/** How long the end of the log is waited for: where nothing at it can be delivered, reading does not come to it. */
const patienceMs = 5000

export interface WhatStoodOptions {
  readonly log: Log
  readonly topics: TopicNames
  readonly clock: Clock
  readonly logger: Logger
  /** Whether this partition is still ours. */
  readonly current: (owned: OwnedPartition) => boolean
  /** There is something new to be decided on. */
  readonly wake: (owned: OwnedPartition) => void
}

/**
 * Whether all is read here that stood in `sessions` when a command was read. The two topics are read apart, so that a command may overtake
 * the very record that its sender had read before.
 */
export class WhatStood {
  readonly #options: WhatStoodOptions

  constructor(options: WhatStoodOptions) {
    this.#options = options
  }

  /** False while that is not known, or not so yet; `wake` is called once it may be. */
  isRead(owned: OwnedPartition, command: LogRecord): boolean {
    const { topics, clock } = this.#options
    const { stood } = owned
    if (stood === undefined || command.offset >= stood.commandsNext) {
      this.#ask(owned)
      return false
    }
    return (owned.next.get(topics.sessions) ?? 0) >= stood.sessionsEnd || clock.monotonic() >= stood.patientUntil
  }

  #ask(owned: OwnedPartition): void {
    if (owned.askingWhatStood) return
    owned.askingWhatStood = true
    const { log, topics, clock, logger, current, wake } = this.#options
    // Of all that is read by now, which spares each of them its own question.
    const commandsNext = owned.next.get(topics.commands) ?? 0
    const again = (): void => {
      owned.askingWhatStood = false
      if (current(owned)) wake(owned)
    }
    log.bounds(topics.sessions).then(
      (bounds) => {
        const sessionsEnd = bounds.find(({ partition }) => partition === owned.number)?.end ?? 0
        owned.stood = { commandsNext, sessionsEnd, patientUntil: clock.monotonic() + patienceMs }
        clock.after(patienceMs, () => {
          if (current(owned)) wake(owned)
        })
        again()
      },
      (error: unknown) => {
        logger.warn({ err: error, partition: owned.number }, "The end of a partition cannot be asked for; what would be refused waits.")
        clock.after(askAgainMs, again)
      },
    )
  }
}
