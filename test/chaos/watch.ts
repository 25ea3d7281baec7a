import { setTimeout as sleep } from "node:timers/promises"
import type { Following, Log, LogRecord } from "@reins/log"

const againMs = 500

/** What a stranger can tell from the headers alone: which sessions are under way. */
export class Watch {
  /** Records seen so far. */
  records = 0
  readonly #running = new Set<string>()
  readonly #started = new Set<string>()
  readonly #ended = new Set<string>()
  readonly #deleted = new Set<string>()
  #deletion = Promise.withResolvers<void>()
  #following: Following | undefined

  get running(): number {
    return this.#running.size
  }

  get started(): number {
    return this.#started.size
  }

  get deleted(): number {
    return this.#deleted.size
  }

  isDeleted(sessionId: string): boolean {
    return this.#deleted.has(sessionId)
  }

  /** Resolves at the moment in which the next session is seen to be deleted. */
  nextDeletion(): Promise<void> {
    return this.#deletion.promise
  }

  /** Follows the session log, from its beginning again whenever it loses sight of it. */
  async follow(log: Pick<Log, "follow">, topic: string, each: (record: LogRecord) => void): Promise<void> {
    this.#following = await log.follow({
      instance: "watch",
      topics: [topic],
      records: (_topic, _partition, records) => {
        for (const record of records) {
          this.#saw(record.headers["session"], record.headers["type"])
          each(record)
        }
      },
      failed: () => void this.#followAgain(log, topic, each),
    })
  }

  async #followAgain(log: Pick<Log, "follow">, topic: string, each: (record: LogRecord) => void): Promise<void> {
    for (;;) {
      try {
        return await this.follow(log, topic, each)
      } catch {
        await sleep(againMs)
      }
    }
  }

  async stop(): Promise<void> {
    await this.#following?.stop()
  }

  commanded(sessionId: string, type: string): void {
    if (type === "session.start" && !this.#started.has(sessionId)) this.#running.add(sessionId)
  }

  #saw(sessionId: string | undefined, type: string | undefined): void {
    if (sessionId === undefined || type === undefined) return
    this.records++
    this.#started.add(sessionId)
    if (type === "session.ended" || type === "session.deleted") this.#ended.add(sessionId)
    if (type === "session.deleted" && !this.#deleted.has(sessionId)) {
      this.#deleted.add(sessionId)
      this.#deletion.resolve()
      this.#deletion = Promise.withResolvers()
    }
    // What comes after an end is somebody's who does not know of it yet.
    if (this.#ended.has(sessionId) || type === "session.idled" || type === "session.parked") this.#running.delete(sessionId)
    else if (type === "session.started" || type === "message.received" || type === "model.requested" || type === "tool-call.dispatched")
      this.#running.add(sessionId)
  }
}
