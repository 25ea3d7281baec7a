/** Time as the runtime sees it; a simulation gives its own. */
export interface Clock {
  /** Milliseconds since the epoch by this machine's clock. Only ever written into `at`. */
  wall(): number
  /** Milliseconds that never go back. */
  monotonic(): number
  /** Calls `run` once after `ms`; the answer cancels it. */
  after(ms: number, run: () => void): () => void
}

export const systemClock: Clock = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, Math.min(Math.max(0, ms), 2 ** 31 - 1))
    return () => clearTimeout(timer)
  },
}

/** Resolves after `ms`. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve))
}

/**
 * Log time (design rule 11): the newest timestamp read plus the monotonic time since, so that a wrong wall clock on this machine
 * moves no deadline.
 */
export class LogTime {
  readonly #clock: Clock
  #ahead = Number.NEGATIVE_INFINITY

  constructor(clock: Clock) {
    this.#clock = clock
  }

  read(timestamp: number): void {
    const ahead = timestamp - this.#clock.monotonic()
    if (ahead > this.#ahead) this.#ahead = ahead
  }

  now(): number {
    return this.#ahead === Number.NEGATIVE_INFINITY ? 0 : Math.floor(this.#clock.monotonic() + this.#ahead)
  }
}
