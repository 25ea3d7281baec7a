import { type ModelPreviewed, type SessionEvent, type TopicNames } from "@reins/events"
import { type Following, type Log, type LogRecord, LogUnavailableError } from "@reins/log"
import { type Codec, decodeRecord } from "@reins/log/codec"
import {
  type Folded,
  isReadable,
  type KeptSessions,
  type LogTime,
  type Rereading,
  rereadPartition,
  type SharedFolds,
  Spill,
  sessionBytesDefault,
  sessionOfRecord,
  type UnreadRecord,
  unreadRecord,
} from "@reins/runtime"
import { type ApiEvent, apiEvents, apiStatus, evolve, isStarted, type Session, type Started } from "@reins/session"
import type { Logger } from "pino"
import { retriedWithinMs } from "../http/idempotency.ts"
import { ReadPlace } from "../read-place.ts"
import { type Activity, Times } from "./activity.ts"
import { Audience, type Listener } from "./audience.ts"
import { learn } from "./learn.ts"
import { ownFold, Part } from "./part.ts"
import { Previews } from "./previews.ts"
import { answerOf, iso, type Reread, Rereader } from "./rereader.ts"
import { agentOf, environmentOf } from "./session-agent.ts"
import { type Answer, type Place, Store } from "./store.ts"

export interface ProjectionOptions {
  readonly log: Log
  readonly codec: Codec
  readonly topics: TopicNames
  readonly instance: string
  /** How long a request waits until what stands in the log is read. */
  readonly answerTimeoutMs: number
  /** Told the timestamp of every record. */
  readonly time: LogTime
  readonly logger: Logger
  readonly failed: (error: Error) => void
  /** How often what could not be read is looked for again. */
  readonly unreadAgainMs?: number
  /** What services of the same process fold: it is not folded a second time. */
  readonly folds?: SharedFolds
}

/** A session as the read model knows it. */
export interface ProjectedSession extends Activity {
  readonly session: Started
  readonly partition: number
}

const rereadAgainMs = 500
/** Sessions that are read again in one go: what is shown of them is in memory meanwhile. */
const rereadTogetherMax = 20
const followAgainMs = 500
/** So long the services of the process have to catch up before the read model is begun; and how often it is looked whether they have. */
const patienceMs = 60_000
const lookAgainMs = 5
const unreadAgainMsDefault = 10_000

/** A record of `sessions`, for the read model. */
type Shown = Omit<Folded, "verdict">

/**
 * Follows every partition of `sessions` into the read model, by the fold and by the projection of `schemas/session`; it decides nothing. What the
 * loop of the same process folds is not followed once more, but heard from it.
 *
 * R1 What a request reads is at least what stood in the log when the request came (`caughtUp`), whichever gateway wrote it.
 * R2 A batch is in the read model before the first of its events is told to a stream: who hears of idle can act on idle.
 */
export class Projection {
  readonly store: Store = new Store()
  readonly #options: ProjectionOptions
  readonly #parts = new Map<number, Part>()
  readonly #spill: Spill
  readonly #partitionOf = new Map<string, number>()
  readonly #times = new Times()
  readonly #audience = new Audience()
  readonly #place: ReadPlace
  readonly #previews: Previews
  readonly #behind = new Set<number>()
  /** Partitions of which something was heard and is not shown yet. */
  readonly #toShow = new Set<Part>()
  /** Sessions with records whose blobs are missing, each with one of these. */
  readonly #unread = new Map<string, { readonly partition: number; readonly unread: UnreadRecord }>()
  #watching: NodeJS.Timeout | undefined
  #following: Following | undefined
  #previewing: Following | undefined
  #beginning: Promise<void> | undefined
  #started = false
  #stopped = false

  constructor(options: ProjectionOptions) {
    this.#options = options
    this.#spill = options.folds?.spill ?? new Spill()
    this.#place = new ReadPlace(options.log, options.topics.sessions, options.answerTimeoutMs)
    this.#previews = new Previews()
  }

  /** Resolves when everything is followed, or, beside services, when it is bound to be. Rejects where the log cannot be asked. */
  async start(): Promise<void> {
    const { folds } = this.#options
    if (folds === undefined) return this.#follow()
    // Histories are long: what goes on comes first, since it is people who wait for it.
    const until = performance.now() + patienceMs
    const begin = (): void => {
      if (this.#stopped) return
      if (!folds.settled() && performance.now() < until) setTimeout(begin, lookAgainMs)
      else this.#beginning = this.#followSurely()
    }
    setImmediate(begin)
  }

  /** What the services outlive ends no process that they live in. */
  async #followSurely(): Promise<void> {
    const { logger, failed } = this.#options
    while (!this.#stopped) {
      try {
        return await this.#follow()
      } catch (error) {
        if (!(error instanceof LogUnavailableError) || !error.retryable) return failed(error as Error)
        logger.warn({ err: error }, "The log cannot be followed into the read model yet; it is tried again.")
        await new Promise<void>((resolve) => setTimeout(resolve, followAgainMs))
      }
    }
  }

  async #follow(): Promise<void> {
    if (this.#following === undefined) {
      this.#following = await this.#followSessions()
      this.#hearLoop()
    }
    this.#previewing ??= await this.#followPreviews()
    this.#started = true
  }

  async #followSessions(): Promise<Following> {
    const { log, topics, instance, failed } = this.#options
    const standing = new Map((await log.bounds(topics.sessions)).map(({ partition, end }) => [partition, end]))
    for (const [partition, end] of standing) if (end > 0) this.#behind.add(partition)
    return log.follow({
      instance,
      topics: [topics.sessions],
      records: (_topic, partition, records) => this.#read(this.#part(partition), records),
      caughtUp: (_topic, partition) => {
        this.#behind.delete(partition)
        const part = this.#part(partition)
        part.caughtUp = true
        // What was erased at the end of a partition is never delivered, and is read all the same.
        this.#reached(part, standing.get(partition) ?? 0)
        this.#join(part)
      },
      failed,
    })
  }

  async #followPreviews(): Promise<Following> {
    const { log, topics, instance, failed } = this.#options
    const ends = new Map((await log.bounds(topics.deltas)).map(({ partition, end }) => [partition, end]))
    return log.follow({
      instance: `${instance}-previews`,
      topics: [topics.deltas],
      from: (_topic, partition) => ends.get(partition) ?? 0,
      records: (_topic, _partition, records) => this.#preview(records),
      failed,
    })
  }

  /** Whether everything that stood at the start has been read. */
  ready(): boolean {
    return this.#started && this.#behind.size === 0
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#watching)
    await this.#beginning
    await this.#following?.stop()
    await this.#previewing?.stop()
    this.store.close()
    if (this.#options.folds === undefined) this.#spill.close()
  }

  /** The session, if there is one of this tenant. */
  session(tenant: string, sessionId: string): ProjectedSession | null {
    const partition = this.#partitionOf.get(sessionId)
    if (partition === undefined) return null
    const part = this.#part(partition)
    this.#showHeard(part)
    const session = part.sessions.get(sessionId)
    if (!isStarted(session) || session.tenant !== tenant) return null
    // A list may bring many back.
    this.#spillSome()
    return { session, partition, ...this.#times.of(sessionId) }
  }

  /** Whether there is, or was, a session of this id, whoever it belongs to. */
  isTaken(sessionId: string): boolean {
    return this.#partitionOf.has(sessionId)
  }

  get size(): number {
    return this.#partitionOf.size
  }

  /** Resolves when everything that is in the log now is in the read model. Rejects where the log cannot be asked, or read in time. */
  caughtUp(): Promise<void> {
    return this.#place.caughtUp()
  }

  /** What this command came to in its session. Rejects with the signal's reason where nobody answers in time. */
  answered(sessionId: string, commandId: string, signal: AbortSignal): Promise<Answer> {
    const known = this.store.answer(sessionId, commandId)
    return known === null ? this.#audience.answered(sessionId, commandId, signal) : Promise.resolve(known)
  }

  /** The newest command whose id begins so, of the last two minutes. */
  recentCommand(prefix: string, now: number): string | null {
    return this.store.recentCommand(prefix, now - retriedWithinMs)
  }

  listen(sessionId: string, listener: Listener): () => void {
    return this.#audience.listen(sessionId, listener)
  }

  get listening(): number {
    return this.#audience.size
  }

  // --- reading

  #part(partition: number): Part {
    let part = this.#parts.get(partition)
    if (part === undefined) {
      part = new Part(partition, this.#spill)
      this.#parts.set(partition, part)
    }
    return part
  }

  /** At once wherever it can be: while a reader is busy with a partition its follower polls the others, and comes back later. */
  #read(part: Part, records: readonly LogRecord[]): void | Promise<void> {
    const { codec } = this.#options
    const said: { event: SessionEvent | null; record: LogRecord }[] = []
    for (const record of records) {
      const decoded = record.value === null ? null : decodeRecord(codec, "sessions", record)
      if (decoded !== null && !decoded.ok && "unknownSchema" in decoded)
        return learn(codec, decoded.unknownSchema, () => this.#stopped).then(() => this.#read(part, records))
      const event = decoded?.ok === true ? (decoded.said as unknown as SessionEvent) : null
      said.push({ event, record })
    }
    this.#fold(part, said)
    this.#join(part)
  }

  #fold(part: Part, said: readonly { readonly event: SessionEvent | null; readonly record: LogRecord }[]): void {
    const fold = part.own
    const last = said.at(-1)
    if (fold === null || last === undefined) return
    // J1. What was under way when reading was paused may come twice: to the fold a second one is a copy.
    const ours = said.filter(({ record }) => record.offset < part.end)
    this.#show(part, Math.min(last.record.offset + 1, part.end), ours, ({ event, record }) => {
      const { partition, offset, timestamp } = record
      this.#options.time.read(timestamp)
      if (event === null) {
        if (record.value !== null) this.#leaveUnread(part, record)
        return null
      }
      const { sessionId } = event
      const before = fold.get(sessionId)
      const verdict = fold.apply(event, record)
      if (verdict !== "accepted") return null
      const after = fold.get(sessionId)
      // The words stand in the read model.
      fold.forget(sessionId)
      return { partition, offset, timestamp, event, before, after }
    })
  }

  // --- what the loop folds

  #hearLoop(): void {
    this.#options.folds?.tell({
      ready: (partition) => this.#join(this.#part(partition)),
      moved: (partition, next, what) => this.#hear(this.#part(partition), next, what),
      reread: (partition, sessionId) => this.#foldedAnew(this.#part(partition), sessionId),
      lost: (partition) => this.#leave(this.#part(partition)),
    })
    for (const part of this.#parts.values()) this.#join(part)
  }

  #join(part: Part): void {
    if (part.own === null || !part.caughtUp || this.#following === undefined || this.#stopped) return
    part.listen(this.#options.folds?.of(part.number))
    if (!part.meet()) return
    this.#following.pause(this.#options.topics.sessions, part.number)
    for (const [sessionId, { partition }] of this.#unread) if (partition === part.number) part.anew.add(sessionId)
    this.#reread(part, part.anew)
    part.anew.clear()
    this.#showSoon(part)
  }

  #hear(part: Part, next: number, what: Folded | LogRecord | null): void {
    if (this.#stopped) return
    if (!part.hear(next, what)) this.#join(part)
    else if (part.own === null) this.#showSoon(part)
  }

  /** What was heard of it before, the loop had made of less. */
  #foldedAnew(part: Part, sessionId: string): void {
    if (this.#stopped) return
    if (part.own === null) this.#reread(part, [sessionId])
    else if (part.hears) part.anew.add(sessionId)
  }

  #leave(part: Part): boolean {
    if (this.#stopped) return false
    this.#showHeard(part)
    const unread = part.leave()
    if (unread === null) return false
    this.#following?.resume(this.#options.topics.sessions, part.number, part.next)
    // What the loop could not read may have been read here, or may be readable by now.
    this.#reread(part, unread)
    return true
  }

  /** After everything that the same turn of the event loop folds, in one transaction. */
  #showSoon(part: Part): void {
    if (this.#toShow.size === 0)
      queueMicrotask(() => {
        for (const one of this.#toShow) this.#showHeard(one)
      })
    this.#toShow.add(part)
  }

  #showHeard(part: Part): void {
    this.#toShow.delete(part)
    const heard = [...part.heard()]
    const last = heard.at(-1)
    if (last === undefined || this.#stopped) return
    try {
      this.#show(part, last.next, heard, ({ what }) => {
        if (what === null) return null
        this.#options.time.read(what.timestamp)
        if ("verdict" in what) return what.verdict === "accepted" ? what : null
        this.#leaveUnread(part, what)
        return null
      })
    } catch (error) {
      // It is heard once: a read model that lacks it must not go on.
      this.#options.failed(error as Error)
    }
  }

  // --- showing

  /** Where its blob is missing, its session is shown without it until that is back. */
  #leaveUnread(part: Part, record: LogRecord): void {
    const unread = unreadRecord(record)
    if (unread === null) return
    const sessionId = sessionOfRecord(record)
    if (part.sessions.get(sessionId).phase === "deleted") return
    this.#unread.set(sessionId, { partition: part.number, unread })
    this.#options.logger.error({ partition: part.number, sessionId, ...unread }, "A session is shown without one of its records.")
    this.#watch()
  }

  #watch(): void {
    this.#watching ??= setTimeout(() => void this.#lookForUnread(), this.#options.unreadAgainMs ?? unreadAgainMsDefault).unref()
  }

  async #lookForUnread(): Promise<void> {
    for (const [sessionId, { partition, unread }] of this.#unread) {
      if (this.#stopped) return
      // Also where the loop folds it: from a snapshot, or its own memory, it may have what cannot be read here.
      if (await isReadable(this.#options, partition, unread).catch(() => false)) this.#reread(this.#part(partition), [sessionId])
    }
    this.#watching = undefined
    if (this.#unread.size > 0 && !this.#stopped) this.#watch()
  }

  /** Puts what follows from these into the read model, where something does. With it everything of the partition below `next` is shown. */
  #show<T>(part: Part, next: number, all: readonly T[], read: (one: T) => Shown | null): void {
    const told: { sessionId: string; event: ApiEvent; place: Place }[] = []
    const touched = new Set<string>()
    const answers: [string, string, Answer][] = []
    const [deleted, resumed]: [string[], string[]] = [[], []]
    this.store.transaction(() => {
      for (const one of all) {
        // Where this throws, the fold lacks the record, and nothing may be made of what follows on it.
        const shown = read(one)
        if (shown === null) continue
        try {
          if (shown.event.type === "session.deleted") deleted.push(shown.event.sessionId)
          else if (shown.event.type === "session.resumed") resumed.push(shown.event.sessionId)
          this.#put(shown, told, touched, answers)
        } catch (error) {
          // What cannot be shown is left out here; what becomes of the session is for its owner to say.
          this.#options.logger.error({ err: error, partition: part.number, next }, "A record could not be shown.")
        }
      }
      for (const sessionId of touched) this.#trySession(part, sessionId)
    })
    for (const sessionId of deleted) this.#unread.delete(sessionId)
    this.#spillSome()
    for (const [sessionId, commandId, answer] of answers) this.#audience.answer(sessionId, commandId, answer)
    for (const { sessionId, event, place } of told) this.#audience.tell(sessionId, { event, place })
    this.#reached(part, next)
    this.#reread(
      part,
      resumed.filter((sessionId) => this.#unread.has(sessionId)),
    )
  }

  #trySession(part: Part, sessionId: string): void {
    try {
      this.#putSession(part, sessionId)
    } catch (error) {
      this.#unshowable(part, sessionId, error)
    }
  }

  /** One session does not hold the others of its partition up. */
  #unshowable(part: Part, sessionId: string, error: unknown): void {
    this.#options.logger.error({ err: error, partition: part.number, sessionId }, "A session could not be shown.")
  }

  #reached(part: Part, next: number): void {
    part.next = Math.max(part.next, next)
    this.#place.reached(part.number, part.next)
  }

  #put(
    { partition, offset, timestamp, event, before, after }: Shown,
    told: { sessionId: string; event: ApiEvent; place: Place }[],
    touched: Set<string>,
    answers: [string, string, Answer][],
  ): void {
    const { sessionId } = event
    if ("commandId" in event) {
      const answer = answerOf(event)
      this.store.putAnswer(sessionId, event.commandId, timestamp, answer)
      answers.push([sessionId, event.commandId, answer])
    }
    if (!isStarted(after) && after.phase !== "deleted") return
    this.#partitionOf.set(sessionId, partition)
    const shown = apiEvents(before, event, { session: after, verdict: "accepted" }, timestamp, iso)
    for (const [index, one] of shown.entries()) {
      const place = { partition, offset, index }
      this.store.putEvent(sessionId, one, place, timestamp)
      told.push({ sessionId, event: one, place })
    }
    this.#times.keep(sessionId, before, after, timestamp)
    touched.add(sessionId)
  }

  /** Has these shown as they are told from the beginning of their partition, now that their blobs may be back. */
  #reread(part: Part, sessionIds: Iterable<string>): void {
    for (const sessionId of sessionIds) if (!part.rereading.has(sessionId)) part.toReread.add(sessionId)
    if (part.rereading.size === 0 && part.toReread.size > 0) void this.#rereadAll(part)
  }

  /** One reading at a time, each for as many as may be in memory. */
  async #rereadAll(part: Part): Promise<void> {
    while (part.toReread.size > 0 && !this.#stopped) {
      for (const sessionId of part.toReread) {
        if (part.rereading.size >= rereadTogetherMax) break
        part.rereading.add(sessionId)
        part.toReread.delete(sessionId)
      }
      await this.#rereadSome(part)
      part.rereading.clear()
    }
  }

  async #rereadSome(part: Part): Promise<void> {
    const { topics, logger } = this.#options
    const rereading: Rereading = {
      topic: topics.sessions,
      partition: part.number,
      next: () => {
        this.#showHeard(part)
        return part.next
      },
      current: () => !this.#stopped,
    }
    for (let isRead = false; !isRead && !this.#stopped; ) {
      const again = new Rereader(part.rereading, ownFold(this.#spill), (error, sessionId) => this.#unshowable(part, sessionId, error))
      try {
        await rereadPartition(
          this.#options,
          rereading,
          (record, event) => again.read(record, event),
          () => {
            for (const [sessionId, reread] of again.sessions) this.#showAgain(part, sessionId, again.fold, reread)
          },
        )
        isRead = true
      } catch (error) {
        logger.warn({ err: error, partition: part.number }, "Sessions could not be read again; it is tried again.")
        await new Promise<void>((resolve) => setTimeout(resolve, rereadAgainMs))
      } finally {
        if (!this.#stopped) again.fold.drop()
      }
    }
  }

  #showAgain(part: Part, sessionId: string, fold: KeptSessions, { shown, answers, changes, unread }: Reread): void {
    const known = this.store.eventIds(sessionId)
    this.#times.delete(sessionId)
    for (const { before, after, timestamp } of changes) this.#times.keep(sessionId, before, after, timestamp)
    this.store.transaction(() => {
      this.store.dropSession(sessionId)
      for (const { event, place, at } of shown) this.store.putEvent(sessionId, event, place, at)
      part.own?.replace(sessionId, fold.get(sessionId), [])
      if (shown.length > 0) this.#partitionOf.set(sessionId, part.number)
      this.#trySession(part, sessionId)
      for (const [commandId, at, answer] of answers) this.store.putAnswer(sessionId, commandId, at, answer)
    })
    for (const [commandId, , answer] of answers) this.#audience.answer(sessionId, commandId, answer)
    for (const { event, place } of shown) if (!known.has(event.id)) this.#audience.tell(sessionId, { event, place })
    if (unread === null) {
      this.#unread.delete(sessionId)
      return
    }
    this.#unread.set(sessionId, { partition: part.number, unread })
    this.#watch()
  }

  #spillSome(): void {
    for (const part of this.#parts.values()) part.spillDownTo(sessionBytesDefault / this.#parts.size)
  }

  #putSession(part: Part, sessionId: string): void {
    const session = part.sessions.get(sessionId)
    if (!isStarted(session)) {
      this.store.dropSession(sessionId)
      this.#times.delete(sessionId)
      return
    }
    const { id, version } = agentOf(session)
    this.store.putSession({
      sessionId,
      tenant: session.tenant,
      status: apiStatus(session) ?? "terminated",
      createdAt: session.startedAt,
      archived: session.phase === "ended" && session.archivedAt !== undefined,
      agentId: id,
      agentVersion: version,
      environmentId: environmentOf(session),
    })
  }

  // --- previews

  #preview(records: readonly LogRecord[]): void | Promise<void> {
    const { codec } = this.#options
    for (const [index, record] of records.entries()) {
      const sessionId = record.headers["session"]
      // Nobody looks: nothing is decoded.
      if (record.value === null || sessionId === undefined || !this.#audience.isHeard(sessionId)) continue
      const decoded = codec.decode(record.value)
      if (!decoded.ok && "unknownSchema" in decoded)
        return learn(codec, decoded.unknownSchema, () => this.#stopped).then(() => this.#preview(records.slice(index)))
      if (!decoded.ok || decoded.definition.family !== "deltas") continue
      const said = decoded.said as unknown as ModelPreviewed
      const partition = this.#partitionOf.get(said.sessionId)
      const session = partition === undefined ? undefined : this.#part(partition).sessions.get(said.sessionId)
      if (session === undefined || session.phase !== "awaiting-model") continue
      // Of an attempt that is no longer the one: its answer will never come.
      if (session.request.claim !== said.claim || session.request.state.is !== "open") continue
      for (const event of this.#previews.next(said)) this.#audience.tell(said.sessionId, { event, place: null })
    }
  }

  /** What the session would be after this fact, for judging several commands before the first is published. */
  static after(session: Session, event: SessionEvent): Session {
    return evolve(session, event, { offset: -1, timestamp: 0 }).session
  }
}
