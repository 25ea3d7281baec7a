import type { Logger } from "pino"
import type { Clock } from "./clock.ts"
import type { AnyService } from "./service.ts"

/** What services do now and then, beside everything else. One at a time of each; what fails is tried again at its next time. */
export class Chores {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #due: Map<AnyService, number>
  readonly #stop = new AbortController()

  constructor(services: readonly AnyService[], clock: Clock, logger: Logger) {
    this.#clock = clock
    this.#logger = logger
    const now = clock.monotonic()
    this.#due = new Map(services.flatMap((service) => (service.chore === undefined ? [] : [[service, now + service.chore.firstAfterMs]])))
  }

  /** Begins what is due. */
  look(): void {
    const now = this.#clock.monotonic()
    for (const [service, due] of this.#due) {
      if (service.chore === undefined || now < due || this.#stop.signal.aborted) continue
      this.#due.set(service, Number.POSITIVE_INFINITY)
      service.chore
        .run(this.#stop.signal)
        .catch((error: unknown) => {
          if (!this.#stop.signal.aborted)
            this.#logger.warn({ err: error, service: service.name }, "A chore failed; it is tried again in its time.")
        })
        .finally(() => this.#due.set(service, this.#clock.monotonic() + (service.chore?.everyMs ?? 0)))
    }
  }

  stop(): void {
    this.#stop.abort()
  }
}
