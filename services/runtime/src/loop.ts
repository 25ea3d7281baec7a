import { randomBytes } from "node:crypto"
import { type SessionEvent, type ToolDeclared, type ToolEvent, type TopicNames, topicNames } from "@reins/events"
import {
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  type Certainty,
  type Commit,
  type Following,
  type Log,
  type LogRecord,
} from "@reins/log"
import { type Codec, type Decoded, decodeRecord, isJson } from "@reins/log/codec"
import { isStarted, type Position, type Session, type Verdict } from "@reins/session"
import type { Logger } from "pino"
import { Burial, type Ours } from "./burial.ts"
import { Chores } from "./chores.ts"
import { type Clock, LogTime, pause, systemClock } from "./clock.ts"
import { Declarations, declare } from "./declarations.ts"
import { type CommandDesk, hearCommands } from "./hear-commands.ts"
import { sessionBytesDefault } from "./kept-sessions.ts"
import { Liveness } from "./liveness.ts"
import type { Metrics } from "./metrics.ts"
import { buriedTo, Offsets } from "./offsets.ts"
import { OwnedPartition, type Pending } from "./owned-partition.ts"
import { Performers } from "./performers.ts"
import { recallConversation } from "./recall.ts"
import { type AnyService, callTag, type Draft, type Erasing, type Intent, type View } from "./service.ts"
import { SessionView, type ViewSource } from "./session-view.ts"
import type { Folded, FoldReader, SharedFold, SharedFolds } from "./shared-folds.ts"
import { restsMsDefault, Snapshots, uncoveredMaxDefault } from "./snapshots.ts"
import { type Origin, Speaker } from "./speaker.ts"
import { Spill } from "./spill.ts"
import { Timers } from "./timers.ts"
import { halfRead, sessionOfRecord, type UnreadRecord, unreadRecord } from "./unread.ts"
import { UnreadWatch } from "./unread-watch.ts"
import { WhatStood } from "./what-stood.ts"

export interface LoopOptions {
  readonly log: Log
  readonly codec: Codec
  readonly services: readonly AnyService[]
  /** Topic prefix. */
  readonly prefix: string
  readonly partitions: number
  readonly group: string
  /** Unique for every start of a process. */
  readonly instance: string
  /** Backends whose topics are followed from the start, beside those of the services' contracts. */
  readonly backends: readonly string[]
  readonly metrics: Metrics
  readonly logger: Logger
  readonly clock?: Clock
  /** Begins every id that this process makes; random unless given, and then to be unique. */
  readonly idPrefix?: string
  /** Called when the loop cannot go on; the process should end. */
  readonly failed: (error: Error) => void
  /** Sees every record as it is folded: for the terminal, tests and audits. */
  readonly observe?: (record: Observed) => void
  /** Told of a session that was read again, as its blobs are back: everything of it below this offset of `sessions`. */
  readonly reread?: (partition: number, sessionId: string, below: number) => void
  readonly commitIntervalMs?: number
  /** What sessions may take in memory before those that rest are spilled, in bytes; about. */
  readonly sessionBytes?: number
  /** Where sessions are spilled to; one of its own unless given. */
  readonly spill?: Spill
  /** Log time for which a session rests before its snapshot is written. */
  readonly snapshotRestsMs?: number
  /** Records of a session without a snapshot after which one is written though it runs. */
  readonly snapshotUncoveredMax?: number
  /** How often what could not be read is looked for again. */
  readonly unreadAgainMs?: number
  /** Whether answers are previewed while they are written. Default: yes. */
  readonly previews?: boolean
}

export interface Observed {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly event: SessionEvent | ToolEvent
  readonly verdict: Verdict
  /** False for what was there before this process owned the partition. */
  readonly live: boolean
  /** True where a blob of the session is missing here: what is made of the record is not what the log says. */
  readonly unread?: true
}

/** More chained rounds than a session can need in one go; beyond it, a decision contradicts the fold. */
const roundsMax = 32
/** Facts after which nothing of a session is to go on. */
const stopsSession: ReadonlySet<string> = new Set([
  "interrupt.received",
  "session.ended",
  "session.archived",
  "session.deleted",
  "session.parked",
])
/** Sessions folded or decided on between two looks at the memory that they take. */
const spillEvery = 1000
/** How long a process that ends waits for its last snapshots to be read back. */
const lastSnapshotsMs = 1000
/** Between two lots of snapshots, where there are many to write. */
const snapshotPauseMs = 20
const readAgainMs = 500
const unreadAgainMsDefault = 10_000
/** Sessions at rest that are decided on in one go: a million of them must not hold the loop up. */
const sweepMax = 100
/** How long an aborted effect may take to say that it was. */
const abortGraceMs = 1000
/**
 * The one loop: follow → fold → decide → perform → append, for any set of services in one process over one follower and one fold.
 *
 * L1 An effect begins only after the claim that covers it was read back as accepted, and only while nothing has come of it.
 * L2 A result is appended until it stands, also after its partition was lost.
 * L3 Nothing is decided before the partition is folded to its end as it was at assignment.
 * L4 Nothing is decided or begun while membership is not sure.
 * L5 The follower is never held up by an effect: effects run beside the loop.
 */
export class Loop {
  readonly #options: LoopOptions
  readonly #clock: Clock
  readonly #topics: TopicNames
  readonly #time: LogTime
  readonly #liveness: Liveness
  readonly #timers: Timers<{ partition: number; sessionId: string }>
  readonly #owned = new Map<number, OwnedPartition>()
  readonly #performers = new Map<string, Performers>()
  readonly #begunBy = new Map<string, (key: string) => boolean>()
  readonly #source: ViewSource
  readonly #declarations: Declarations | undefined
  readonly #followed = new Set<string>()
  /** Backends that were declared before there was a following to add their topics to. */
  readonly #declaredTooEarly = new Set<string>()
  readonly #assignedAt = new Map<number, number>()
  readonly #speaker: Speaker
  readonly #burial: Burial
  readonly #offsets: Offsets
  readonly #desk: CommandDesk
  readonly #snapshots: Snapshots
  readonly #spill: Spill
  #foldReader: FoldReader | undefined
  readonly #unreadWatch: UnreadWatch
  readonly #chores: Chores
  #following: Following | undefined
  #declarationsFollowing: Following | undefined
  #deciding: Set<OwnedPartition> = new Set()
  #draining = false
  #ending = false
  #stopped = false
  #cancelCommit: (() => void) | undefined

  constructor(options: LoopOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#topics = topicNames(options.prefix)
    this.#offsets = new Offsets(this.#topics)
    const { log, codec, metrics, logger, instance } = options
    const idPrefix = options.idPrefix ?? randomBytes(6).toString("hex")
    this.#speaker = new Speaker({ log, codec, metrics, clock: this.#clock, topics: this.#topics, instance, idPrefix })
    this.#burial = new Burial(log, this.#topics, this.#clock, logger)
    const whatStood = new WhatStood({
      log,
      topics: this.#topics,
      clock: this.#clock,
      logger,
      current: (owned) => !this.#stopped && this.#isOurs(owned),
      wake: (owned) => this.#scheduleDecide(owned),
    })
    this.#desk = {
      log,
      metrics,
      logger,
      hasReadWhatStood: (owned, command) => whatStood.isRead(owned, command),
      view: (owned, sessionId, service) => this.#view(owned, sessionId, service),
      append: (owned, sessionId, key, draft, origin, certainty) => this.#append(owned, sessionId, key, draft, origin, certainty),
      unfolded: (owned) => this.#passAnswers(owned),
      bury: (owned, record, service, reason, message) => this.#bury(owned, record, service, reason, message),
    }
    this.#spill = options.spill ?? new Spill()
    this.#chores = new Chores(options.services, this.#clock, logger)
    const common = { log, codec, logger, clock: this.#clock, topics: this.#topics }
    this.#time = new LogTime(this.#clock)
    this.#snapshots = new Snapshots({
      ...common,
      time: this.#time,
      restsMs: options.snapshotRestsMs ?? restsMsDefault,
      uncoveredMax: options.snapshotUncoveredMax ?? uncoveredMaxDefault,
    })
    this.#unreadWatch = new UnreadWatch({
      ...common,
      spill: this.#spill,
      sessionBytes: options.sessionBytes ?? sessionBytesDefault,
      againMs: options.unreadAgainMs ?? unreadAgainMsDefault,
      current: (owned) => !this.#stopped && this.#isOurs(owned),
      ready: (owned) => this.#isReady(owned),
      reread: (owned, sessionId, below) => {
        options.reread?.(owned.number, sessionId, below)
        this.#foldReader?.reread(owned.number, sessionId)
      },
      wake: (owned, sessionId) => this.#wake(owned.number, sessionId),
    })
    this.#liveness = new Liveness(options.log, this.#clock, options.group, options.instance)
    this.#timers = new Timers(
      this.#clock,
      () => this.#time.now(),
      ({ partition, sessionId }) => this.#wake(partition, sessionId),
    )
    for (const service of options.services) {
      const performers = new Performers(service.concurrency ?? 64)
      this.#performers.set(service.name, performers)
      this.#begunBy.set(service.name, (key) => performers.has(key))
    }
    this.#source = {
      topics: this.#topics,
      group: options.group,
      instance: options.instance,
      declaration: (backend, tool) => this.#declarations?.get(backend, tool),
      declarationsOf: (backend) => this.declared.filter((one) => one.backend === backend),
      gone: (group, instance, partition, sessionId) => this.#liveness.gone(group, instance, () => this.#wake(partition, sessionId)),
    }
    this.#declarations = options.services.some((service) => service.contract.needsDeclarations)
      ? new Declarations(options.codec, options.logger, (backend) => this.#followBackend(backend))
      : undefined
  }

  /** Joins the group. Resolves when membership stands; partitions come and are caught up afterwards (`ready`). */
  async start(): Promise<void> {
    const { log, group, instance, services } = this.#options
    // A process that hosts a gateway alone joins no group: it would own partitions and do nothing with them.
    if (services.length === 0) return
    if (this.#declarations !== undefined) {
      const declarations = this.#declarations
      this.#declarationsFollowing = await log.follow({
        instance,
        topics: [this.#topics.declarations],
        records: (_topic, _partition, records) => declarations.read(records),
        caughtUp: () => {
          declarations.caughtUp = true
          for (const owned of this.#owned.values()) this.#becameReady(owned)
        },
        failed: this.#options.failed,
      })
    }
    await Promise.all(
      services
        .flatMap((service) => service.declares ?? [])
        .map((declared) => declare(log, this.#options.codec, this.#topics.declarations, declared)),
    )
    for (const service of services) {
      for (const read of service.contract.reads) for (const topic of this.#topicsOf(read)) this.#followed.add(topic)
    }
    this.#following = await log.follow({
      group,
      instance,
      topics: [...this.#followed],
      from: (topic, partition, committed) => this.#from(topic, partition, committed),
      position: (topic, partition) => this.#owned.get(partition)?.next.get(topic),
      assigned: (partition) => this.#assigned(partition),
      records: (topic, partition, records) => this.#records(topic, partition, records),
      caughtUp: (topic, partition) => {
        const owned = this.#owned.get(partition)
        if (owned === undefined) return
        owned.caughtUp.add(topic)
        owned.freshFrom.set(topic, owned.next.get(topic) ?? 0)
        this.#becameReady(owned)
      },
      lost: (partition) => this.#lost(partition),
      failed: this.#options.failed,
    })
    for (const backend of this.#declaredTooEarly) this.#followBackend(backend)
    const beat = (): void => {
      if (this.#stopped) return
      this.#commit()
      this.#cancelCommit = this.#clock.after(this.#options.commitIntervalMs ?? 2000, beat)
    }
    beat()
  }

  /**
   * A member that was told its share, and caught up on every partition of it. A standby that owns nothing is ready: it could take over
   * at once, and a rollout that waits for it must not wait for ever.
   */
  ready(): boolean {
    return this.unready() === null
  }

  /** What keeps it from being ready, in a few words; null where nothing does. */
  unready(): string | null {
    if (this.#draining) return "draining"
    if (this.#options.services.length === 0) return null
    if (this.#following?.alive() !== true) return "not known to be a member of its group"
    const isBehind = this.#declarations?.caughtUp === false || [...this.#owned.values()].some((owned) => !this.#isReady(owned))
    return isBehind ? "catching up" : null
  }

  get partitions(): readonly number[] {
    return [...this.#owned.keys()].sort((a, b) => a - b)
  }

  /** Not once it was lost, also where the same partition has come back since. */
  #isOurs(owned: OwnedPartition): boolean {
    return this.#owned.get(owned.number) === owned
  }

  get #writesSnapshots(): boolean {
    return this.#options.services.some((service) => service.contract.keepsSnapshots === true)
  }

  /** The state of a session in a partition that this process owns and has caught up. */
  session(partition: number, sessionId: string): Session | undefined {
    const owned = this.#owned.get(partition)
    return owned !== undefined && this.#isReady(owned) ? owned.sessions.get(sessionId) : undefined
  }

  /** For one more reader in this process, so that nothing is folded twice. */
  get folds(): SharedFolds {
    return {
      spill: this.#spill,
      of: (partition) => {
        const owned = this.#owned.get(partition)
        if (owned === undefined || !this.#isReady(owned)) return undefined
        const fold = this.#sharedFold(owned)
        // Of what is in its state already, nothing is told.
        return fold.next() > owned.places.restoredTo ? fold : undefined
      },
      settled: () => this.unready() === null,
      tell: (reader) => {
        this.#foldReader = reader
      },
    }
  }

  #sharedFold(owned: OwnedPartition): SharedFold {
    return {
      sessions: owned.sessions,
      next: () => owned.next.get(this.#topics.sessions) ?? 0,
      unread: () => owned.unread.sessions().filter((id) => owned.unread.of(id).some(({ call }) => call === undefined)),
      spill: () => this.#spillSome(owned),
    }
  }

  /** Sessions of which something cannot be read, since its blob is missing. */
  get unread(): number {
    return [...this.#owned.values()].reduce((sum, { unread }) => sum + unread.size, 0)
  }

  get declared(): readonly ToolDeclared[] {
    return this.#declarations?.all() ?? []
  }

  /** Stops deciding, waits for what has begun, says what is given up, leaves the group. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true
    for (const owned of this.#owned.values()) this.#giveUp(owned)
    await this.#untilQuiet(graceMs)
    this.#ending = true
    for (const performers of this.#performers.values()) performers.stopAll()
    // What was aborted may still say that it was.
    await this.#untilQuiet(abortGraceMs)
    await this.#lastSnapshots()
    await this.stop()
  }

  /** What rests is written before the end, as far as that is quick: a process that runs for one session at a time would never come to it. */
  async #lastSnapshots(): Promise<void> {
    if (!this.#writesSnapshots) return
    const deadline = this.#clock.monotonic() + lastSnapshotsMs
    for (;;) {
      if (this.#following?.alive() !== true || this.#clock.monotonic() >= deadline) return
      const left = [...this.#owned.values()].filter(
        (owned) => this.#isReady(owned) && this.#snapshots.writeAll(owned, (id) => this.#isBusy(owned, id)),
      )
      if (left.length === 0) return
      await pause(this.#clock, 5)
    }
  }

  async #untilQuiet(forMs: number): Promise<void> {
    const deadline = this.#clock.monotonic() + forMs
    while ([...this.#performers.values()].some((performers) => performers.running > 0) && this.#clock.monotonic() < deadline) {
      await pause(this.#clock, 5)
    }
  }

  /** Ends at once; what is under way outside is left to the log. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#draining = true
    this.#cancelCommit?.()
    this.#chores.stop()
    await this.#commitNow().catch(() => undefined)
    this.#stopped = true
    this.#timers.stop()
    this.#liveness.stop()
    for (const owned of this.#owned.values()) {
      // What is read or acknowledged from now on is not folded here any more.
      this.#owned.delete(owned.number)
      this.#foldReader?.lost(owned.number)
    }
    await this.#declarationsFollowing?.stop()
    await this.#following?.stop()
    // What is left to a reader may be spilled there.
    if (this.#options.spill === undefined && this.#foldReader === undefined) this.#spill.close()
  }

  // --- reading

  #topicsOf(read: string): readonly string[] {
    if (read === "commands") return [this.#topics.commands]
    if (read === "sessions") return [this.#topics.sessions]
    if (read === "tools") return this.#options.backends.map((backend) => this.#topics.tools(backend))
    if (read === "declarations") return []
    return [this.#topics.prefix === "" ? read : `${this.#topics.prefix}.${read}`]
  }

  /** A declared backend. Before the group is joined it is only noted: a topic that cannot be followed must not keep us from joining. */
  #followBackend(backend: string): void {
    const topic = this.#topics.tools(backend)
    const wanted = this.#options.services.some((service) => service.contract.reads.includes("tools"))
    if (!wanted || this.#followed.has(topic)) return
    if (this.#following === undefined) {
      this.#declaredTooEarly.add(backend)
      return
    }
    this.#followed.add(topic)
    this.#following.add(topic).catch((error: unknown) => {
      this.#options.logger.warn(
        { err: error, topic },
        "A declared backend's topic cannot be followed yet; it is tried again when it is declared again.",
      )
      this.#followed.delete(topic)
      for (const owned of this.#owned.values()) this.#becameReady(owned)
    })
  }

  #from(topic: string, partition: number, committed: { offset: number; note: string } | null): number | Promise<number> {
    const owned = this.#owned.get(partition)
    const buried = buriedTo(committed?.note)
    owned?.buriedTo.set(topic, Math.max(buried, topic === this.#topics.commands ? (committed?.offset ?? 0) : 0))
    if (owned !== undefined && (topic === this.#topics.snapshots || topic === this.#topics.sessions))
      return this.#snapshots.from(owned, topic, committed, () => !this.#stopped && this.#isOurs(owned))
    const from = committed?.offset ?? 0
    owned?.next.set(topic, from)
    return from
  }

  #assigned(partition: number): void {
    this.#options.metrics.rebalances.inc({ group: this.#options.group })
    this.#owned.set(partition, new OwnedPartition(partition, this.#spill.partition(), (snapshot) => this.#snapshots.stateIn(snapshot)))
    this.#assignedAt.set(partition, this.#clock.monotonic())
  }

  #lost(partition: number): void {
    const owned = this.#owned.get(partition)
    if (owned === undefined) return
    this.#options.metrics.rebalances.inc({ group: this.#options.group })
    for (const topic of this.#followed) this.#options.log.withdraw(topic, partition)
    this.#giveUp(owned)
    for (const performers of this.#performers.values()) performers.dropWaiting(partition)
    this.#owned.delete(partition)
    if (this.#foldReader?.lost(partition) !== true) owned.sessions.drop()
  }

  #records(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void> {
    const owned = this.#owned.get(partition)
    if (owned === undefined) return
    for (let index = 0; index < records.length; index++) {
      const record = records[index] as LogRecord
      if (record.offset < (owned.next.get(topic) ?? 0)) continue
      this.#time.read(record.timestamp)
      if (topic === this.#topics.commands) {
        const unmet = this.#unmetSchema(record)
        if (unmet !== null) {
          return this.#learn(unmet).then(() => {
            if (this.#isOurs(owned)) return this.#records(topic, partition, records.slice(index))
          })
        }
        owned.next.set(topic, record.offset + 1)
        owned.commands.push(record)
        continue
      }
      if (topic === this.#topics.snapshots) {
        owned.next.set(topic, record.offset + 1)
        this.#snapshots.read(owned, record)
        continue
      }
      const backend = this.#topics.backendOf(topic)
      if (record.value === null) {
        // A tombstone: the record is erased. On a tool topic, where nothing is erased, it says nothing.
        if (backend === null) owned.places.readTombstone(record)
        this.#moveTo(owned, topic, record.offset + 1, null)
        this.#options.metrics.folded.inc(topic, "erased")
        continue
      }
      const decoded = decodeRecord(this.#options.codec, backend === null ? "sessions" : "tools", record)
      if (!decoded.ok && "unknownSchema" in decoded) {
        return this.#learn(decoded.unknownSchema).then(() => {
          if (this.#isOurs(owned)) return this.#records(topic, partition, records.slice(index))
        })
      }
      if (decoded.ok)
        this.#fold(owned, topic, backend, decoded.said as unknown as SessionEvent | ToolEvent, record.offset, record.timestamp)
      else {
        // Nobody can read it, but it may be part of a session that is to be erased.
        const session = sessionOfRecord(record)
        const unread = unreadRecord(record)
        const isKnown = backend === null && owned.places.isRestored(session, record.offset)
        this.#moveTo(owned, topic, record.offset + 1, unread === null ? null : record)
        if (backend === null && session !== "") {
          owned.places.read(session, record.offset, record.timestamp)
          owned.dirty.add(session)
        }
        if (unread === null || session === "") this.#unreadable(owned, record, backend === null ? "sessions" : "tools", decoded)
        else if (!isKnown) this.#leaveUnread(owned, session, record, unread)
      }
    }
    if (topic === this.#topics.sessions) this.#passAnswers(owned)
    this.#scheduleDecide(owned)
  }

  /** The schema of a command that this process has not met: its writer's build may be another than ours. */
  #unmetSchema({ value }: LogRecord): number | null {
    if (value === null || isJson(value)) return null
    const decoded = this.#options.codec.decode(value)
    return !decoded.ok && "unknownSchema" in decoded ? decoded.unknownSchema : null
  }

  async #learn(id: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#options.codec.learn(id)
      } catch (error) {
        if (attempt === 1)
          this.#options.logger.warn(
            { err: error, schema: id },
            "The schema registry cannot be asked for a schema that a record needs; asking again until it answers.",
          )
        if (this.#stopped) throw error
        await pause(this.#clock, Math.min(5000, 100 * 2 ** attempt))
      }
    }
  }

  #fold(
    owned: OwnedPartition,
    topic: string,
    backend: string | null,
    event: SessionEvent | ToolEvent,
    offset: number,
    timestamp: number,
  ): void {
    const at = { offset, timestamp }
    if (backend === null && owned.places.isRestored(event.sessionId, offset)) {
      this.#moveTo(owned, topic, offset + 1, null)
      this.#options.metrics.folded.inc(topic, "restored")
      return
    }
    const verdict =
      backend === null
        ? this.#foldSession(owned, topic, event as SessionEvent, at)
        : this.#foldToolCall(owned, topic, backend, event as ToolEvent, at)
    if (verdict !== "accepted" && "claim" in event && "kind" in event && event.kind === "given_up" && event.claim !== null)
      owned.givenUp.add(event.claim)
    if ("commandId" in event && owned.readAnswer(event, verdict)) this.#scheduleDecide(owned)
    owned.readBack(event.sessionId)
    if (backend !== null && this.#options.log.remove !== undefined) owned.places.readBeside(event.sessionId)
    // Before that, what runs is decided on once the partition is ready, and what rests need not be touched.
    if (owned.caughtUp.has(topic)) owned.dirty.add(event.sessionId)
    else if (++owned.folds % spillEvery === 0) this.#spillSome(owned)
    if (verdict === "accepted") {
      this.#stopEffects(event)
      if (event.type === "session.deleted") owned.unread.set(event.sessionId, [])
      else if (event.type === "session.resumed" && owned.unread.has(event.sessionId) && owned.caughtUp.has(topic))
        void this.#unreadWatch.reread(owned, event.sessionId)
    }
    const { metrics } = this.#options
    metrics.folded.inc(topic, verdict)
    if (verdict === "duplicate") metrics.duplicates.inc({ service: "fold", reason: event.type })
    else if (verdict === "superseded") metrics.superseded.inc({ service: "fold", reason: event.type })
    this.#options.observe?.({
      topic,
      partition: owned.number,
      offset,
      timestamp,
      event,
      verdict,
      live: owned.caughtUp.has(topic),
      ...(owned.unread.has(event.sessionId) ? { unread: true } : {}),
    })
  }

  #foldSession(owned: OwnedPartition, topic: string, event: SessionEvent, at: Position): Verdict {
    const before = owned.sessions.get(event.sessionId)
    const verdict = owned.foldSession(event, at)
    const after = owned.sessions.get(event.sessionId)
    this.#moveTo(owned, topic, at.offset + 1, { partition: owned.number, ...at, event, verdict, before, after })
    return verdict
  }

  #foldToolCall(owned: OwnedPartition, topic: string, backend: string, event: ToolEvent, at: Position): Verdict {
    const verdict = owned.toolsFold(backend).apply(event, at)
    this.#moveTo(owned, topic, at.offset + 1, null)
    return verdict
  }

  #moveTo(owned: OwnedPartition, topic: string, next: number, what: Folded | LogRecord | null): void {
    owned.next.set(topic, next)
    if (topic === this.#topics.sessions) this.#foldReader?.moved(owned.number, next, what)
  }

  #passAnswers(owned: OwnedPartition): void {
    if (owned.passAnswers(this.#topics.sessions) && this.#isOurs(owned)) this.#scheduleDecide(owned)
  }

  /** What a record stops: the model call of an interrupted session, the run of a cancelled attempt. */
  #stopEffects(event: SessionEvent | ToolEvent): void {
    let tag: string
    if (event.type === "tool-call.cancelled") tag = callTag(event.sessionId, event.toolUseId, event.attempt)
    else if (stopsSession.has(event.type)) tag = event.sessionId
    else return
    for (const performers of this.#performers.values()) performers.stop(tag)
  }

  /** The record is sound, and a blob of it is not: its session waits for a person, with the record still to be read. */
  #leaveUnread(owned: OwnedPartition, sessionId: string, record: LogRecord, unread: UnreadRecord): void {
    const backend = this.#topics.backendOf(record.topic)
    // Its blobs went with it.
    if (backend === null && owned.sessions.get(sessionId).phase === "deleted") return
    this.#options.metrics.deadLetters.inc({ service: "none", reason: unread.fault })
    this.#options.logger.error({ sessionId, ...unread }, "A record cannot be read whole; its session waits until its blob is back.")
    owned.dirty.add(sessionId)
    this.#unreadWatch.watch(owned)
    if (backend === null) {
      owned.unread.add(sessionId, unread)
      return
    }
    const half = halfRead(this.#options.codec, record)
    if (half === null || half.sessionId !== sessionId) return
    owned.unread.add(sessionId, { ...unread, call: { backend, toolUseId: half.toolUseId, eventId: half.eventId } })
    this.#fold(owned, record.topic, backend, half, record.offset, record.timestamp)
  }

  #unreadable(
    owned: OwnedPartition,
    record: LogRecord,
    family: "sessions" | "tools" | "commands",
    decoded: Extract<Decoded, { reason: string }>,
  ): void {
    const service = this.#options.services.find((one) => one.contract.buries.includes(family))
    this.#options.metrics.deadLetters.inc({ service: service?.name ?? "none", reason: decoded.reason })
    if (service === undefined || record.offset < (owned.buriedTo.get(record.topic) ?? 0)) return
    this.#bury(owned, record, service.name, decoded.reason, decoded.message)
  }

  /** Puts a record into the dead letters (design rule 16). */
  #bury(owned: OwnedPartition, record: LogRecord, service: string, reason: string, message: string): void {
    const { logger } = this.#options
    const { topic, partition, offset } = record
    logger.error({ topic, partition, offset, reason }, `A record is put into the dead letters: ${message}`)
    const burying = owned.burying.get(topic) ?? new Set()
    owned.burying.set(topic, burying.add(offset))
    const isFresh = offset >= (owned.freshFrom.get(topic) ?? Number.POSITIVE_INFINITY)
    const ours = (): Ours => {
      if (this.#stopped || !this.#owned.has(partition)) return "no"
      return this.#following?.alive() === true ? "yes" : "unsure"
    }
    this.#burial.bury(record, service, reason, message, isFresh, ours).then(
      (stands) => {
        if (stands) burying.delete(offset)
      },
      (error: unknown) => {
        logger.error({ err: error }, "A dead letter could not be written.")
        // What the log refuses it would refuse whoever comes next.
        if (error instanceof AppendRejectedError) burying.delete(offset)
      },
    )
  }

  // --- deciding

  #isReady(owned: OwnedPartition): boolean {
    if (this.#declarations !== undefined && !this.#declarations.caughtUp) return false
    for (const topic of this.#followed) if (!owned.caughtUp.has(topic)) return false
    return true
  }

  #becameReady(owned: OwnedPartition): void {
    if (!this.#isReady(owned)) return
    const since = this.#assignedAt.get(owned.number)
    if (since !== undefined) {
      this.#assignedAt.delete(owned.number)
      this.#options.metrics.replaySeconds.observe({ service: this.#options.group }, (this.#clock.monotonic() - since) / 1000)
    }
    for (const [sessionId] of owned.sessions.inMemory()) owned.dirty.add(sessionId)
    for (const sessionId of owned.sessions.spilled((status) => status === "running")) owned.dirty.add(sessionId)
    this.#sweep(owned, [
      ...owned.sessions.spilled((status) => this.#options.services.some((service) => service.concernedWith?.(status) === true)),
    ])
    for (const fold of owned.tools.values()) for (const sessionId of fold.openSessions()) owned.dirty.add(sessionId)
    this.#foldReader?.ready(owned.number)
    this.#scheduleDecide(owned)
  }

  /** Decides on sessions that rest, a few at a time, beside everything else. */
  #sweep(owned: OwnedPartition, sessionIds: readonly string[], from = 0): void {
    const to = from + sweepMax
    for (const sessionId of sessionIds.slice(from, to)) owned.dirty.add(sessionId)
    if (to >= sessionIds.length) return
    this.#clock.after(1, () => {
      if (this.#stopped || !this.#isOurs(owned)) return
      this.#spillSome(owned)
      this.#sweep(owned, sessionIds, to)
      this.#scheduleDecide(owned)
    })
  }

  #wake(partition: number, sessionId: string): void {
    const owned = this.#owned.get(partition)
    if (owned === undefined) return
    owned.dirty.add(sessionId)
    this.#scheduleDecide(owned)
  }

  /** After everything that the same turn of the event loop folds, once. */
  #scheduleDecide(owned: OwnedPartition): void {
    if (this.#deciding.has(owned)) return
    this.#deciding.add(owned)
    queueMicrotask(() => {
      this.#deciding.delete(owned)
      this.#decide(owned)
    })
  }

  #decide(owned: OwnedPartition): void {
    if (this.#draining || !this.#isOurs(owned) || !this.#isReady(owned)) return
    if (this.#following?.alive() !== true) {
      // L4: asked again when membership is sure.
      this.#clock.after(100, () => this.#scheduleDecide(owned))
      return
    }
    if (owned.commands.length > 0)
      hearCommands(
        this.#desk,
        owned,
        this.#options.services.find((service) => service.hear !== undefined),
      )
    for (const sessionId of owned.dirty) {
      owned.dirty.delete(sessionId)
      this.#decideSession(owned, sessionId)
      if (++owned.folds % spillEvery === 0) this.#spillSome(owned)
    }
  }

  #decideSession(owned: OwnedPartition, sessionId: string): void {
    const heldUp = owned.unread.has(sessionId) ? this.#heldUp(owned, sessionId) : "nobody"
    if (heldUp === "all") return
    for (let round = 0; ; round++) {
      let appended = false
      for (const service of this.#options.services) {
        if (service.decide === undefined || (heldUp === "workers" && isWorker(service))) continue
        for (const intent of this.#intents(owned, sessionId, service))
          appended = this.#follow(owned, sessionId, service, intent) || appended
      }
      if (!appended) return
      if (round >= roundsMax) throw new Error(`The decisions on session ${sessionId} do not come to rest: the last round still appended.`)
    }
  }

  /** What goes on in a session is not decided while some of it is unread; that it waits for a person is. */
  #heldUp(owned: OwnedPartition, sessionId: string): "all" | "workers" | "nobody" {
    const session = owned.ahead(sessionId, this.#topics.sessions, this.#time.now())
    const unread = owned.unreadOf(sessionId)
    const first = unread[0]
    if (first === undefined) return "nobody"
    if (!goesOn(session)) return "workers"
    const services = this.#options.services.filter(({ contract }) => contract.says.includes("session.parked"))
    const service = services.find(({ contract }) => contract.buries.includes("sessions")) ?? services[0]
    const key = `park/unread/${first.offset}`
    // One that is about to be resumed is read again first.
    const isToPark = goesOn(owned.sessions.get(sessionId)) && !owned.rereading.has(sessionId) && !owned.isPending(sessionId, key)
    if (service !== undefined && isToPark) this.#park(owned, sessionId, service, key, first.fault, first.message)
    return "all"
  }

  #park(owned: OwnedPartition, sessionId: string, service: AnyService, key: string, code: string, message: string): void {
    this.#say(owned, sessionId, service, key, { on: "sessions", event: { type: "session.parked", code, message } }, "once")
  }

  /** A decision that throws concerns one session: it is parked for a person, its partition goes on (P8). */
  #intents(owned: OwnedPartition, sessionId: string, service: AnyService): readonly Intent<unknown>[] {
    const view = this.#view(owned, sessionId, service)
    try {
      return service.decide?.(view) ?? []
    } catch (error) {
      this.#options.logger.error({ err: error, sessionId, service: service.name }, "A decision threw; the session is parked.")
      const { phase } = view.session
      if (phase === "absent" || phase === "deleted" || phase === "ended" || phase === "parked") return []
      const message = `${service.name} cannot decide on this session: ${(error as Error).message}`
      return [{ do: "append", key: "park/decide", on: "sessions", event: { type: "session.parked", code: "decision_failed", message } }]
    }
  }

  /** Acts on one intent; true where it appended something new. */
  #follow(owned: OwnedPartition, sessionId: string, service: AnyService, intent: Intent<unknown>): boolean {
    switch (intent.do) {
      case "append": {
        if (owned.isPending(sessionId, intent.key)) return false
        this.#say(owned, sessionId, service, intent.key, intent, "once")
        return true
      }
      case "perform": {
        const performers = this.#performers.get(service.name) as Performers
        performers.perform({
          key: intent.key,
          partition: owned.number,
          stoppedBy: intent.stoppedBy,
          begin: async (stop, waited) => {
            // What comes of it may stand by now. What was stopped meanwhile begins all the same, to say so.
            if (waited && !stop.signal.aborted && !this.#isWanted(owned, sessionId, service, intent.key)) {
              performers.forget(intent.key)
              this.#wake(owned.number, sessionId)
              return
            }
            // L4 again: it may have waited for a free place.
            if (this.#following?.alive() === true) {
              await this.#perform(owned.number, sessionId, service, intent.work, stop)
              if (intent.again !== true) return
              performers.forget(intent.key)
              this.#wake(owned.number, sessionId)
              return
            }
            performers.forget(intent.key)
            this.#clock.after(100, () => this.#wake(owned.number, sessionId))
          },
        })
        return false
      }
      case "recall": {
        void this.#recall(owned, sessionId, service)
        return false
      }
      case "wake": {
        this.#timers.set(intent.at, `${owned.number}/${sessionId}`, { partition: owned.number, sessionId })
        return false
      }
      default:
        return intent satisfies never
    }
  }

  #isWanted(owned: OwnedPartition, sessionId: string, service: AnyService, key: string): boolean {
    return this.#intents(owned, sessionId, service).some((intent) => intent.do === "perform" && intent.key === key)
  }

  #view(owned: OwnedPartition, sessionId: string, service: AnyService): View {
    return new SessionView(this.#source, owned, sessionId, this.#time.now(), this.#begunBy.get(service.name) as (key: string) => boolean)
  }

  // --- what is not in memory

  #isBusy(owned: OwnedPartition, sessionId: string): boolean {
    if (owned.dirty.has(sessionId) || owned.recalling.has(sessionId) || owned.unreadOf(sessionId).length > 0) return true
    return owned.pendingOf(sessionId).length > 0
  }

  #writeSnapshots(owned: OwnedPartition): void {
    if (!this.#writesSnapshots || this.#draining || !this.#isOurs(owned) || this.#following?.alive() !== true) return
    const isMore = this.#snapshots.write(owned, this.#time.now(), (sessionId) => this.#isBusy(owned, sessionId))
    if (isMore) this.#clock.after(snapshotPauseMs, () => this.#writeSnapshots(owned))
  }

  #spillSome(owned: OwnedPartition): void {
    const all = this.#options.sessionBytes ?? sessionBytesDefault
    owned.sessions.spillDownTo(
      all / this.#owned.size,
      (sessionId) => owned.caughtUp.has(this.#topics.sessions) && this.#isBusy(owned, sessionId),
    )
  }

  /** Brings the conversation back from the records that the session follows from. */
  async #recall(owned: OwnedPartition, sessionId: string, service: AnyService): Promise<void> {
    if (owned.recalling.has(sessionId)) return
    owned.recalling.add(sessionId)
    const { log, codec, logger } = this.#options
    const { sessions } = owned
    try {
      const recalled = await recallConversation(
        log,
        codec,
        this.#topics.sessions,
        owned.number,
        sessions.get(sessionId),
        sessions.recordsOf(sessionId),
      )
      if (this.#isOurs(owned)) {
        if (typeof recalled === "function") sessions.recall(sessionId, recalled)
        else this.#park(owned, sessionId, service, "park/recall", recalled.code, recalled.message)
      }
    } catch (error) {
      logger.warn({ err: error, sessionId }, "A conversation could not be read back; it is tried again.")
      await pause(this.#clock, readAgainMs)
    } finally {
      owned.recalling.delete(sessionId)
      this.#wake(owned.number, sessionId)
    }
  }

  // --- saying

  #say(owned: OwnedPartition, sessionId: string, service: AnyService, key: string, draft: Draft, certainty: Certainty): void {
    this.#append(owned, sessionId, key, draft, { ...this.#origin(owned, sessionId), by: service.name }, certainty).catch(
      (error: unknown) => {
        if (error instanceof AppendWithdrawnError) return
        if (error instanceof AppendUnknownError) {
          // Rule 10: the decision is taken anew from what is read.
          this.#wake(owned.number, sessionId)
          return
        }
        if (error instanceof AppendRejectedError) {
          this.#options.logger.error({ err: error, sessionId, type: draft.event.type }, "A record was refused by the log.")
          return
        }
        this.#options.failed(error as Error)
      },
    )
  }

  #origin(owned: OwnedPartition, sessionId: string): Omit<Origin, "by"> {
    const session = owned.ahead(sessionId, this.#topics.sessions, 0)
    if (isStarted(session)) return { tenant: session.tenant, traceparent: session.traceparent }
    if (session.phase === "deleted") return { tenant: session.tenant, traceparent: null }
    for (const fold of owned.tools.values()) {
      for (const call of fold.openOf(sessionId)) return { tenant: call.tenant, traceparent: call.traceparent }
    }
    return { tenant: "default", traceparent: null }
  }

  /** Appends a draft, resolves with its offset, and folds it at the acknowledgement where it stands exactly next (design rule 18). */
  async #append(
    owned: OwnedPartition,
    sessionId: string,
    key: string,
    draft: Draft,
    origin: Origin,
    certainty: Certainty,
  ): Promise<number> {
    const topic = this.#speaker.topicOf(draft)
    const event = this.#speaker.stamp(sessionId, draft, origin)
    const pending: Pending = { key, topic, event, offset: undefined }
    owned.addPending(sessionId, pending)
    try {
      const placed = await this.#speaker.send(owned.number, draft, event, certainty)
      pending.offset = placed.offset
      this.#time.read(placed.timestamp)
      if (!this.#isOurs(owned)) return placed.offset
      if (owned.next.get(topic) === placed.offset) {
        this.#fold(owned, topic, draft.on === "sessions" ? null : draft.backend, event, placed.offset, placed.timestamp)
        this.#scheduleDecide(owned)
      } else {
        owned.readBack(sessionId)
        // It may have been read before it was acknowledged, and lost: while it was pending nobody decided anew.
        this.#wake(owned.number, sessionId)
      }
      return placed.offset
    } catch (error) {
      owned.dropPending(sessionId, pending)
      throw error
    }
  }

  // --- performing

  async #perform(partition: number, sessionId: string, service: AnyService, work: unknown, stop: AbortController): Promise<void> {
    const { metrics, logger } = this.#options
    const owned = this.#owned.get(partition)
    const origin = owned === undefined ? { tenant: "default", traceparent: null } : this.#origin(owned, sessionId)
    const began = this.#clock.monotonic()
    let cancelTimer: (() => void) | undefined
    metrics.inFlight.inc({ service: service.name })
    try {
      const drafts = await (service.perform as NonNullable<AnyService["perform"]>)(work, {
        signal: stop.signal,
        abortAfter: (ms) => {
          cancelTimer ??= this.#clock.after(ms, () => stop.abort())
        },
        ending: () => this.#ending,
        clock: this.#clock,
        now: () => this.#time.now(),
        progress: (draft) => void this.#result(partition, sessionId, service, draft, origin, "once").catch(() => undefined),
        ...(this.#options.previews === false ? {} : { preview: (said) => this.#speaker.preview(partition, said) }),
        ...(service.contract.erases === true && owned !== undefined ? { erasing: this.#erasing(owned, sessionId) } : {}),
      })
      for (const draft of drafts) {
        this.#result(partition, sessionId, service, draft, origin, "always").catch((error: unknown) => {
          if (error instanceof AppendWithdrawnError) return
          const instead = error instanceof AppendRejectedError ? service.refused?.(draft, error.message) : undefined
          if (instead !== undefined) {
            this.#result(partition, sessionId, service, instead, origin, "always").catch(() => undefined)
            return
          }
          logger.error(
            { err: error, sessionId, type: draft.event.type },
            "A result was refused by the log; its deadline will close the attempt.",
          )
        })
      }
    } catch (error) {
      // A programmer's error in an effect: the claim stays open, its deadline closes it.
      logger.error({ err: error, sessionId, service: service.name }, "An effect threw; effects say failures as facts.")
    } finally {
      cancelTimer?.()
      metrics.inFlight.dec({ service: service.name })
      metrics.performSeconds.observe({ service: service.name }, (this.#clock.monotonic() - began) / 1000)
    }
  }

  /** For an effect on a partition as it is owned now: once it is lost, whoever owns it goes on, and nothing more is said here. */
  #erasing(owned: OwnedPartition, sessionId: string): Erasing {
    const { sessions, commands } = this.#topics
    const beside = owned.places.besideCount(sessionId)
    return {
      partition: owned.number,
      tombstone: async (record) => {
        if (this.#stopped || !this.#isOurs(owned)) throw new AppendWithdrawnError("The partition was lost.")
        const placed = await this.#speaker.erase(sessionId, record)
        this.#time.read(placed.timestamp)
        owned.places.tombstoned(sessionId, record.offset, placed.offset)
        // Design rule 18 holds for what is not folded too: what follows it in the log shall not have to wait until it is read.
        if (owned.next.get(sessions) === placed.offset) this.#moveTo(owned, sessions, placed.offset + 1, null)
      },
      replaceSnapshot: async () => {
        if (this.#stopped || !this.#isOurs(owned)) throw new AppendWithdrawnError("The partition was lost.")
        await this.#snapshots.replace(owned, sessionId)
      },
      erased: (below) => {
        owned.places.erased(sessionId, below - 1)
        owned.places.removedBeside(sessionId, beside)
      },
      commandsDealtWith: (partition) => this.#owned.get(partition)?.commandsDealtWith(commands) ?? 0,
    }
  }

  /** L2: into the partition while it is ours, past the fold when it is not. */
  async #result(
    partition: number,
    sessionId: string,
    service: AnyService,
    draft: Draft,
    origin: Omit<Origin, "by">,
    certainty: Certainty,
  ): Promise<void> {
    const owned = this.#owned.get(partition)
    const by = { ...origin, by: service.name }
    if (owned !== undefined) await this.#append(owned, sessionId, `result/${this.#speaker.id()}`, draft, by, certainty)
    else await this.#speaker.send(partition, draft, this.#speaker.stamp(sessionId, draft, by), certainty)
  }

  /** Design rule 7: claims that this process made and has not begun are given up by a record, and never begun. */
  #giveUp(owned: OwnedPartition): void {
    // What runs is in memory.
    const sessionIds = new Set<string>([...[...owned.sessions.inMemory()].map(([sessionId]) => sessionId), ...owned.pendingSessions()])
    for (const fold of owned.tools.values()) for (const sessionId of fold.openSessions()) sessionIds.add(sessionId)
    for (const sessionId of sessionIds) {
      for (const service of this.#options.services) {
        if (service.giveUp === undefined) continue
        const performers = this.#performers.get(service.name) as Performers
        const view = new SessionView(this.#source, owned, sessionId, this.#time.now(), (key) => !performers.giveUp(key))
        const origin = { ...this.#origin(owned, sessionId), by: service.name }
        for (const draft of service.giveUp(view)) {
          this.#speaker.send(owned.number, draft, this.#speaker.stamp(sessionId, draft, origin), "always").catch(() => undefined)
        }
      }
    }
  }

  // --- committing

  #commit(): void {
    this.#commitNow().catch((error: unknown) =>
      this.#options.logger.warn({ err: error }, "Offsets could not be committed; they are a hint, the next try will do."),
    )
  }

  async #commitNow(): Promise<void> {
    if (this.#following === undefined || !this.#following.alive()) return
    const first = this.#owned.get(0)
    if (first !== undefined && this.#isReady(first) && !this.#draining) this.#chores.look()
    const commits: Commit[] = []
    const counts = { running: 0, idle: 0, ended: 0, parked: 0 }
    for (const owned of this.#owned.values()) {
      if (!this.#isReady(owned)) continue
      this.#writeSnapshots(owned)
      commits.push(...this.#offsets.due(owned))
      this.#spillSome(owned)
      for (const [status, count] of owned.sessions.counts()) if (status in counts) counts[status as keyof typeof counts] += count
    }
    for (const [status, count] of Object.entries(counts)) this.#options.metrics.sessions.set({ status }, count)
    if (commits.length > 0) await this.#following.commit(commits)
  }
}

function goesOn(session: Session): boolean {
  return isStarted(session) && session.phase !== "ended" && session.phase !== "parked"
}

/** Of one backend, and of no session. */
function isWorker({ contract }: AnyService): boolean {
  return contract.reads.every((read) => read.startsWith("tools."))
}
