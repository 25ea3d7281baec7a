import type { ApiEvent } from "@reins/session"
import type { Answer, Place } from "./store.ts"

/** An event as it becomes known; one that is only previewed has no place yet. */
export interface Told {
  readonly event: ApiEvent
  readonly place: Place | null
}

export type Listener = (told: Told) => void

/** Who waits to be told of a session: streams of what happens in it, senders of what their command came to. */
export class Audience {
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #waiters = new Map<string, Set<(answer: Answer) => void>>()

  listen(sessionId: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(sessionId) ?? new Set()
    this.#listeners.set(sessionId, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(sessionId)
    }
  }

  /** Listeners of all sessions. */
  get size(): number {
    let all = 0
    for (const listeners of this.#listeners.values()) all += listeners.size
    return all
  }

  isHeard(sessionId: string): boolean {
    return this.#listeners.has(sessionId)
  }

  tell(sessionId: string, told: Told): void {
    for (const listener of this.#listeners.get(sessionId) ?? []) listener(told)
  }

  /** Resolves with the answer to come. Rejects with the signal's reason where none does in time. */
  answered(sessionId: string, commandId: string, signal: AbortSignal): Promise<Answer> {
    const key = keyOf(sessionId, commandId)
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(key) ?? new Set()
      const heard = (answer: Answer): void => {
        leave()
        resolve(answer)
      }
      const stop = (): void => {
        leave()
        reject(signal.reason as Error)
      }
      const leave = (): void => {
        signal.removeEventListener("abort", stop)
        waiters.delete(heard)
        if (waiters.size === 0 && this.#waiters.get(key) === waiters) this.#waiters.delete(key)
      }
      signal.addEventListener("abort", stop, { once: true })
      this.#waiters.set(key, waiters.add(heard))
    })
  }

  answer(sessionId: string, commandId: string, answer: Answer): void {
    for (const waiter of this.#waiters.get(keyOf(sessionId, commandId)) ?? []) waiter(answer)
  }
}

/** Ids of commands are their sender's to choose: in another session the same id is another command. */
function keyOf(sessionId: string, commandId: string): string {
  return `${sessionId} ${commandId}`
}
