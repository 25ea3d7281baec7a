import type { ToolEvent, TopicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import type { Logger } from "pino"
import { type Clock, pause } from "./clock.ts"
import type { OwnedPartition } from "./owned-partition.ts"
import type { Spill } from "./spill.ts"
import { isReadable, type Rereading, rereadSession, type UnreadRecord, unreadRecord } from "./unread.ts"

const readAgainMs = 500

export interface UnreadWatchOptions {
  readonly log: Log
  readonly codec: Codec
  readonly logger: Logger
  readonly clock: Clock
  readonly topics: TopicNames
  /** Where sessions stand while their partition is read again, and what they may take in memory meanwhile, in bytes. */
  readonly spill: Spill
  readonly sessionBytes: number
  /** How often what could not be read is looked for again. */
  readonly againMs: number
  /** False once the partition is lost, or the process stops. */
  current(owned: OwnedPartition): boolean
  /** Whether it is folded to its end. Before that no session is to be looked at: its state may still be on its way out of the snapshots. */
  ready(owned: OwnedPartition): boolean
  /** Told of a session that was read again: everything of it below this offset of `sessions`. */
  reread(owned: OwnedPartition, sessionId: string, below: number): void
  /** Told when there is something to decide about a session. */
  wake(owned: OwnedPartition, sessionId: string): void
}

/** Looks for what was missing from the blob store, and reads a session again once it is back. */
export class UnreadWatch {
  readonly #options: UnreadWatchOptions

  constructor(options: UnreadWatchOptions) {
    this.#options = options
  }

  /** Looks now and then, as long as something of the partition is unread: nobody need resume a session that has ended. */
  watch(owned: OwnedPartition): void {
    if (owned.unreadWatched) return
    owned.unreadWatched = true
    this.#options.clock.after(this.#options.againMs, () => {
      owned.unreadWatched = false
      if (!this.#options.current(owned)) return
      void this.#look(owned).then(() => {
        if (owned.unread.size > 0) this.watch(owned)
      })
    })
  }

  async #look(owned: OwnedPartition): Promise<void> {
    if (!this.#options.ready(owned)) return
    for (const sessionId of owned.unread.sessions()) {
      if (owned.sessions.get(sessionId).phase === "deleted") owned.unread.set(sessionId, [])
      const [first] = owned.unread.of(sessionId)
      // What cannot be asked now is asked again later.
      const isBack = first !== undefined && (await isReadable(this.#options, owned.number, first).catch(() => false))
      if (isBack && this.#options.current(owned)) await this.reread(owned, sessionId)
    }
  }

  /** Its blobs may be back: it is folded anew, until it stands as for whoever reads it first now. */
  async reread(owned: OwnedPartition, sessionId: string): Promise<void> {
    if (owned.rereading.has(sessionId)) return
    owned.rereading.add(sessionId)
    const { clock, logger, topics, spill, sessionBytes } = this.#options
    const rereading: Rereading = {
      topic: topics.sessions,
      partition: owned.number,
      next: () => owned.next.get(topics.sessions) ?? 0,
      current: () => this.#options.current(owned),
    }
    for (let isRead = false; !isRead && rereading.current(); ) {
      try {
        const beside = await this.#rereadBeside(owned, sessionId)
        const memory = { spill: spill.partition(), bytes: sessionBytes }
        await rereadSession(this.#options, rereading, sessionId, memory, ({ session, records, unread }) => {
          if (session.phase !== "absent") owned.sessions.replace(sessionId, session, records)
          owned.unread.set(sessionId, session.phase === "deleted" ? [] : [...unread, ...beside])
          this.#options.reread(owned, sessionId, rereading.next())
        })
        isRead = true
      } catch (error) {
        logger.warn({ err: error, sessionId }, "A session could not be read again; it is tried again.")
        await pause(clock, readAgainMs)
      }
    }
    owned.rereading.delete(sessionId)
    this.#options.wake(owned, sessionId)
  }

  /** What of a session was unread on the topics of backends; what still is. */
  async #rereadBeside(owned: OwnedPartition, sessionId: string): Promise<readonly UnreadRecord[]> {
    const { log, codec, current } = this.#options
    const unread: UnreadRecord[] = []
    for (const { topic, offset, call } of owned.unread.of(sessionId)) {
      if (call === undefined) continue
      for await (const records of log.replay(topic, owned.number, offset, offset + 1)) {
        for (const record of records) {
          const read = await decodeLearning(codec, "tools", record)
          const still = unreadRecord(record)
          if (still !== null) unread.push({ ...still, call })
          else if (read.ok && current(owned)) owned.toolsFold(call.backend).mend(read.said as unknown as ToolEvent)
        }
      }
    }
    return unread
  }
}
