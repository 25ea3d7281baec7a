import type { TopicNames } from "@reins/events"
import { type Log, type LogRecord, partitionOf } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import { type Erasing, type Performing, pause } from "@reins/runtime"
import type { Logger } from "pino"
import { sessionOf } from "./belongs.ts"
import type { EraserLimits } from "./config.ts"
import type { Work } from "./decide.ts"

export interface Means {
  readonly log: Log
  readonly codec: Codec
  readonly topics: TopicNames
  readonly partitions: number
  readonly logger: Logger
  readonly limits: EraserLimits
}

interface Wanted {
  readonly sessionId: string
  readonly from: number
  readonly erasing: Erasing
  readonly signal: AbortSignal
  readonly done: () => void
  readonly failed: (error: unknown) => void
}

/** How often a rewriting is tried while another process reads old pages. */
const rewritesMax = 10

/**
 * Erases: reads a partition once and appends a tombstone for every record of the sessions that are to go.
 *
 * R1 A `session.deleted` is never erased, whatever the fold made of it.
 * R2 Tombstones of a session follow the order of what they erase, so that the newest tells how far they have come.
 * R3 Nothing is remembered: a stretch of records is erased before the next is read, and who dies leaves the rest to whoever comes next.
 * R4 On a log of this machine what stands beside the session log goes first: where that is cut off, the session log still says that there is work.
 * R5 Blobs go before the tombstones of the records that name them: whoever goes on where it was cut off finds them gone, or the records.
 */
export class Erasure {
  readonly #means: Means
  readonly #wanted = new Map<number, Wanted[]>()
  readonly #reading = new Set<number>()
  #rewriting: Promise<void> | undefined

  constructor(means: Means) {
    this.#means = means
  }

  async perform(work: Work, performing: Performing): Promise<readonly []> {
    const { logger, limits } = this.#means
    try {
      if (work.do === "delete") await this.#ask(work)
      else await this.#erase(work, performing)
    } catch (error) {
      if (performing.signal.aborted) return []
      logger.warn(
        { err: error, sessionId: work.sessionId },
        "An erasure was cut off. Whoever owns the session's partition goes on with it.",
      )
      await pause(performing.clock, limits.againMs)
    }
    return []
  }

  /** As any client would: intake refuses it where the session runs again, or has been used meanwhile. */
  async #ask({ sessionId, commandId, unchangedSince }: Extract<Work, { do: "delete" }>): Promise<void> {
    const { log, topics, partitions } = this.#means
    await log.append({
      topic: topics.commands,
      partition: partitionOf(sessionId, partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify({ type: "session.delete", commandId, sessionId, unchangedSince })),
      headers: { type: "session.delete", session: sessionId, command: commandId },
      certainty: "always",
    })
  }

  /** All who wait when a reading of their partition begins share it. */
  #erase({ sessionId, from }: Extract<Work, { do: "erase" }>, { erasing, signal, clock }: Performing): Promise<void> {
    if (erasing === undefined) throw new Error("The contract of a service that erases says so.")
    const { partition } = erasing
    return new Promise((done, failed) => {
      const wanted = this.#wanted.get(partition) ?? []
      wanted.push({ sessionId, from, erasing, signal, done, failed })
      this.#wanted.set(partition, wanted)
      if (this.#reading.has(partition)) return
      this.#reading.add(partition)
      // What the same turn decides is asked for in the same turn.
      queueMicrotask(() => void this.#readAll(partition, clock))
    })
  }

  async #readAll(partition: number, clock: Performing["clock"]): Promise<void> {
    for (;;) {
      const wanted = this.#wanted.get(partition) ?? []
      this.#wanted.delete(partition)
      if (wanted.length === 0) break
      try {
        await this.#read(partition, wanted)
        await this.#rewrite(clock)
        for (const { done } of wanted) done()
      } catch (error) {
        for (const { failed } of wanted) failed(error)
      }
    }
    this.#reading.delete(partition)
  }

  async #read(partition: number, wanted: readonly Wanted[]): Promise<void> {
    const { log, topics } = this.#means
    const bySession = new Map(wanted.map((one) => [one.sessionId, one]))
    await this.#removeBeside(bySession)
    const end = (await log.bounds(topics.sessions)).find((one) => one.partition === partition)?.end ?? 0
    // R5: what a record below the end names was put before it; what is put later is named by later records, which bring us back.
    for (const { sessionId } of wanted) await log.blobs?.removeSession(sessionId)
    const from = Math.min(...wanted.map((one) => one.from))
    for await (const records of log.replay(topics.sessions, partition, from, end, { bare: true })) {
      for (const { signal } of wanted) signal.throwIfAborted()
      const tombstones: Promise<void>[] = []
      for (const record of records) {
        const one = await this.#toErase(record, bySession)
        if (one !== undefined) tombstones.push(one.erasing.tombstone(record))
      }
      await settled(tombstones)
    }
    await settled(wanted.map(({ erasing }) => erasing.replaceSnapshot()))
    for (const { erasing } of wanted) erasing.erased(end)
  }

  /** Whose record this is, if it is one to erase. */
  async #toErase(record: LogRecord, bySession: ReadonlyMap<string, Wanted>): Promise<Wanted | undefined> {
    const { codec } = this.#means
    if (record.value === null || record.key === null) return undefined
    const one =
      bySession.get(record.headers["session"] ?? "") ?? bySession.get(record.key.slice(0, Math.max(0, record.key.lastIndexOf("/"))))
    if (one === undefined || record.offset < one.from) return undefined
    const decoded = await decodeLearning(codec, "sessions", record)
    // R1
    return decoded.ok && decoded.said.type === "session.deleted" ? undefined : one
  }

  /** R4. Elsewhere these topics keep their records for days and no longer, and nobody can take single ones out. */
  async #removeBeside(bySession: ReadonlyMap<string, Wanted>): Promise<void> {
    const { log, codec, topics } = this.#means
    if (log.remove === undefined) return
    const [{ erasing }] = [...bySession.values()] as [Wanted]
    const sessions = new Set(bySession.keys())
    const decode: Codec["decode"] = (value) => codec.decode(value)
    for (const { name } of await log.describeTopics()) {
      const beside = [topics.commands, topics.deltas, topics.deadLetters].includes(name) || topics.backendOf(name) !== null
      if (!beside) continue
      for (const { partition, start, end } of await log.bounds(name)) {
        // A command that nobody has answered yet is still needed: its answer comes to the session log, and brings us back.
        const to = name === topics.commands ? Math.min(end, erasing.commandsDealtWith(partition)) : end
        for await (const records of log.replay(name, partition, start, to, { bare: true })) {
          const ours = records.filter((record) => record.value !== null && sessionOf(record, sessions, decode) !== null)
          if (ours.length > 0)
            await log.remove(
              name,
              partition,
              ours.map(({ offset }) => offset),
            )
        }
      }
    }
  }

  /** Once for all who have come so far by then. */
  async #rewrite(clock: Performing["clock"]): Promise<void> {
    if (this.#means.log.rewrite === undefined) return
    this.#rewriting ??= this.#tryRewriting(clock).finally(() => {
      this.#rewriting = undefined
    })
    await this.#rewriting
  }

  async #tryRewriting(clock: Performing["clock"]): Promise<void> {
    const { log, logger, limits } = this.#means
    for (let tries = 1; ; tries++) {
      // Partitions that are read at the same time share it.
      await pause(clock, 0)
      try {
        return await log.rewrite?.()
      } catch (error) {
        if (tries < rewritesMax) await pause(clock, limits.againMs)
        else {
          logger.warn(
            { err: error },
            "The log could not be written anew: bytes of what was erased stay on the disk until the next erasure or start.",
          )
          return
        }
      }
    }
  }
}

/** All of them, before the first failure is told: what is under way must not outlive the reading. */
async function settled(promises: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(promises)) if (outcome.status === "rejected") throw outcome.reason
}
