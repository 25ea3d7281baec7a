import type { Clock } from "@reins/runtime"
import type { VirtualTime } from "./virtual-time.ts"

/** A moment at which the world began; records look as they would in a real log. */
export const epochMs = 1_795_000_000_000

/**
 * The life of one process: while it stands still its events wait for it, and once it is dead they never happen. What has left the
 * process (a request on the wire) is the world's and not its own.
 */
export class Life implements Clock {
  readonly instance: string
  readonly #time: VirtualTime
  readonly #skewMs: number
  #state: "running" | "paused" | "dead" = "running"
  #waiting: (() => void)[] = []

  /** `skewMs`: by how much this machine's wall clock is wrong. */
  constructor(instance: string, time: VirtualTime, skewMs: number) {
    this.instance = instance
    this.#time = time
    this.#skewMs = skewMs
  }

  get dead(): boolean {
    return this.#state === "dead"
  }

  get running(): boolean {
    return this.#state === "running"
  }

  wall(): number {
    return Math.floor(epochMs + this.#time.now + this.#skewMs)
  }

  monotonic(): number {
    return this.#time.now
  }

  after(ms: number, run: () => void): () => void {
    let cancelled = false
    const cancel = this.#time.after(ms, () =>
      this.#live(() => {
        if (!cancelled) run()
      }),
    )
    return () => {
      cancelled = true
      cancel()
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve))
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused"
  }

  resume(): void {
    if (this.#state !== "paused") return
    this.#state = "running"
    for (const run of this.#waiting.splice(0)) this.#time.after(0, () => this.#live(run))
  }

  end(): void {
    this.#state = "dead"
    this.#waiting = []
  }

  #live(run: () => void): void {
    if (this.#state === "running") run()
    else if (this.#state === "paused") this.#waiting.push(run)
  }
}
