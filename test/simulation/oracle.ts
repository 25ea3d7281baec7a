import { createHash } from "node:crypto"
import { isDeepStrictEqual } from "node:util"
import { type TopicNames, topicNames } from "@reins/events"
import type { ModelAnswer, ModelFault } from "@reins/llm-invoker"
import type { Commit, LogRecord } from "@reins/log"
import { type Codec, decodeRecord } from "@reins/log/codec"
import type { Observed } from "@reins/runtime"
import type { BlobStore } from "./blobs.ts"
import type { Acknowledged } from "./clients.ts"
import type { ModelCall } from "./model.ts"
import {
  type Block,
  canonical,
  type Fact,
  isHeld,
  isSettled,
  type RefCall,
  type RefSession,
  RefSessions,
  RefTools,
  toolOf,
  type Verdict,
  waitsFor,
} from "./reference.ts"
import type { Effect } from "./tools.ts"

/**
 * The invariants and bad inputs, in the numbers of the fault catalogue. P3 is the promise that what is recorded is never computed again.
 *
 * What they ask of calls that wait for someone:
 *
 * - I17 Under `always_ask` no attempt is dispatched, and none has an effect, without an allow that stands before it in the log: for this
 *   call, for these arguments, and for this attempt alone. The allow goes over to the next attempt only where the log says of the last
 *   that it had no effect. What P4 means here: the allow is for an attempt, not for a process. An attempt in flight when its process dies
 *   is handled by its class as ever, under the same allow: run again where the class lets it (`pure`, `idempotent`, `keyed` under its key,
 *   `queryable` once it is asked and the old run forbidden), never where it does not.
 * - I4 A person who allows a call of which nobody knows what became of it allows one more effect; nothing else does.
 * - I7 What was denied has no effect by any later attempt; what the client runs is never run by a worker.
 * - I19 A limit on tool calls is kept by everything that is sent or held; what a client has run before anyone could hold it is charged all
 *   the same, and may be the one too many.
 * - B14 The content that a client gives becomes the result of the call it was given for, exactly, if that call waited for a client, and at
 *   most once. No answer is refused as one that nothing waits for, to a call that was held for it before it was sent and still is.
 * - B15 After `session.ended`, `session.archived` or `session.deleted` nothing is accepted that begins or answers anything.
 * - B16 A session for which anything is under way outside is neither archived nor deleted. (It may be before `session.idled` stands, or
 *   what came of its last call: who asked was answered on one that was on its way and got lost. Nothing is under way then.) Nor is one
 *   deleted for its age in which anything has happened since it was looked at.
 *
 * What they ask of who may begin something, and of what is erased:
 *
 * - I11 No model call and no run begins in an instance that its group has expelled and that has not joined again, or that has lost the
 *   partition; what has begun before may end.
 * - I29 What a dead instance had claimed, and what one that lives had claimed and not begun when it lost the partition, waits no longer
 *   than a membership and the grace time last.
 * - I28 In `sessions` every record of a deleted session is erased, whoever wrote it and whenever it came, and whether or not anybody can read
 *   it; but a `session.deleted` never is, and nothing else ever is: a tombstone stands only behind the `session.deleted` that was accepted.
 *   Nobody erases what stood erased when it started.
 * What they ask of blobs:
 *
 * - P2 When a record lands, what it names stands in the blob store, and it stands there for as long as the record does: until its session
 *   is deleted. Then it goes too (I28), but for what a zombie puts for a record that never lands.
 */
export type Invariant = `I${number}` | "P2" | "P3" | "B14" | "B15" | "B16"

export interface Violation {
  readonly invariant: Invariant
  readonly detail: string
}

/** A record that nobody can read, and where it was put. */
export interface Poison {
  readonly mark: string
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: Uint8Array | null
}

export interface Counted {
  records: number
  takeovers: number
  snapshots: number
  summaries: number
  late: number
  superseded: number
  duplicates: number
  effects: number
  reruns: number
  unknownOutcomes: number
  modelCalls: number
  extraModelCalls: number
  /** Calls held, by reason; what was said about them and counted; what was said and came to nothing. */
  holds: number
  unknownHolds: number
  allows: number
  denials: number
  results: number
  early: number
  unheard: number
  /** Attempts that went on under the allow of one that had no effect. */
  keptAllows: number
  waits: number
  updates: number
  archived: number
  deleted: number
  /** Of the deleted, those that had been kept for long enough. */
  expired: number
  tombstones: number
  /** Of records that came after the deletion. */
  lateTombstones: number
  /** Records that name one, and how often an instance could not read one of them whole. */
  blobs: number
  unread: number
}

interface Request {
  readonly claim: string
  readonly sessionId: string
  readonly instance: string
  readonly bodyHash: string
  readonly body: unknown
  readonly compacts: number | null
  readonly deadlineAt: number
  calls: number
  /** What the provider asked for at least. */
  retryAfterMs: number
}

interface CallStory {
  readonly sessionId: string
  readonly toolUseId: string
  readonly input: string
  /** Of a response that was cut off: it must never run. */
  readonly cut: boolean
  readonly asks: boolean
  readonly ofClient: boolean
  /** Allows that count for it, in their order. */
  readonly allows: { readonly eventId: string; readonly afterUnknown: boolean }[]
  /** The allow under which an attempt was dispatched. */
  readonly under: Map<number, string>
  /** Attempts of which the log says that they had no effect. */
  readonly without: Set<number>
  /** How many attempts there had been when it was denied. */
  deniedAfter: number | null
  readonly effects: Effect[]
  /** Attempts dispatched on `sessions` as accepted. */
  readonly dispatched: Map<number, Fact>
  refused: boolean
  /** The record that closed it for good; null where none did. */
  closing: Fact
}

/** One record of a session in `sessions`. */
interface Written {
  readonly sessionId: string
  readonly offset: number
  readonly type: string
}

interface OpenClaim {
  readonly sessionId: string
  readonly instance: string
  readonly eventId: string
  /** Something was begun on it. */
  begun: boolean
  /** When its instance, which had read it back and begun nothing on it, lost its partition. */
  lostAt: number | null
}

const once = new Set(["queryable", "unsafe"])
const claiming = new Set(["keyed", "queryable", "unsafe"])

/**
 * Judges a run by what stands in the log, what happened in the world and what the model was asked. It knows the codec of the product and
 * nothing else of it: acceptance is the reference's.
 */
export class Oracle {
  readonly violations: Violation[] = []
  readonly counted: Counted = {
    records: 0,
    takeovers: 0,
    snapshots: 0,
    summaries: 0,
    late: 0,
    superseded: 0,
    duplicates: 0,
    effects: 0,
    reruns: 0,
    unknownOutcomes: 0,
    modelCalls: 0,
    extraModelCalls: 0,
    holds: 0,
    unknownHolds: 0,
    allows: 0,
    denials: 0,
    results: 0,
    early: 0,
    unheard: 0,
    keptAllows: 0,
    waits: 0,
    updates: 0,
    archived: 0,
    deleted: 0,
    expired: 0,
    tombstones: 0,
    lateTombstones: 0,
    blobs: 0,
    unread: 0,
  }
  /** Every record as it was written, by topic and partition; what compaction takes from the log stays here. */
  readonly history: Map<string, LogRecord[]> = new Map()
  /** Tells the story; set where someone wants to hear it. */
  tell: ((line: string) => void) | undefined
  readonly #codec: Codec
  readonly #blobs: BlobStore
  /** When a record of `sessions` last named a blob, by session and SHA-256. */
  readonly #named = new Map<string, { readonly sessionId: string; readonly sha256: string; readonly where: string; readonly at: number }>()
  readonly #topics: TopicNames
  readonly #sessions = new Map<number, RefSessions>()
  readonly #tools = new Map<string, RefTools>()
  readonly #verdicts = new Map<string, Verdict | "unreadable">()
  /** Who answered the newest of the commands, by partitions. */
  readonly #newestAnswerBy = new Map<string, string>()
  /** Sessions of which a record on the topic of a backend could not be read when it landed. */
  readonly #unreadCalls = new Set<string>()
  readonly #seen = new Map<string, Set<string>>()
  readonly #eventIds = new Set<string>()
  readonly #keys = new Set<string>()
  /** What was written to `sessions`, by partition and key. */
  /** By session: up to which offset its snapshots have folded it. */
  readonly #covered = new Map<string, number>()
  readonly #written = new Map<string, Written>()
  /** The keys that have no tombstone, by partition and session; those of `session.deleted` aside. */
  readonly #unerased = new Map<string, Set<string>>()
  /** Sessions of which something is erased, by partition. */
  readonly #touched = new Set<string>()
  /** When each key first had a tombstone. */
  readonly #erased = new Map<string, number>()
  readonly #answers = new Map<string, { accepted: number; offset: number; isRefusal: boolean }>()
  readonly #commands = new Map<string, { offset: number; commandId: string }[]>()
  /** Everything that was ever asked under a commandId. */
  /** By command, the hold that waited for it when it was sent. */
  readonly #heldWhenAsked = new Map<string, string>()
  readonly #asked = new Map<string, Fact[]>()
  /** Calls that clients ran before they were held, by session. */
  readonly #earlyRuns = new Map<string, number>()
  /** Where sessions were closed for good, and by what. */
  readonly #closedBy = new Map<string, { readonly partition: number; readonly offset: number; readonly type: string }>()
  /** When anything was last accepted in a session. */
  readonly #changedAt = new Map<string, number>()
  readonly #acknowledged: Acknowledged[] = []
  readonly #requests = new Map<string, Request>()
  readonly #notBefore = new Map<string, number>()
  readonly #stopped = new Set<string>()
  readonly #calls = new Map<string, CallStory>()
  /** Accepted claims on `tools.*`: call/attempt → instances. */
  readonly #claims = new Map<string, { readonly instance: string; readonly eventId: string }[]>()
  readonly #finished = new Map<string, { readonly eventId: string; readonly at: number }>()
  /** Attempts that are finished or cancelled on `tools.*`. */
  readonly #over = new Set<string>()
  readonly #toolDispatches = new Map<string, string>()
  readonly #poison: Poison[] = []

  readonly #isSteady: (instance: string) => boolean
  readonly #owns: (instance: string, sessionId: string) => boolean
  readonly #now: () => number
  readonly #startedAt = new Map<string, number>()
  readonly #diedAt = new Map<string, number>()
  /** Open claims on model calls and tool calls, and whose they are. */
  readonly #openClaims = new Map<string, OpenClaim>()
  readonly #everParked = new Set<string>()
  #peaceAt = Number.POSITIVE_INFINITY
  #recoveryMs = Number.POSITIVE_INFINITY

  /**
   * `isSteady`: whether an instance has lived, and been seen to live by its group, for longer than any grace time. `owns`: whether an
   * instance is a member of its group now, as the log has it, and owns the partition of a session.
   */
  constructor(
    codec: Codec,
    prefix: string,
    blobs: BlobStore,
    isSteady: (instance: string) => boolean,
    owns: (instance: string, sessionId: string) => boolean,
    now: () => number,
  ) {
    this.#now = now
    this.#blobs = blobs
    this.#owns = owns
    this.#codec = codec
    this.#isSteady = isSteady
    this.#topics = topicNames(prefix)
  }

  #violated(invariant: Invariant, detail: string): void {
    this.tell?.(`!!! ${invariant} ${detail}`)
    if (this.violations.length < 50) this.violations.push({ invariant, detail })
  }

  // --- what the log took

  /** `by`: the instance that sent it. */
  landed(bare: LogRecord, by: string): void {
    const record = this.whole(bare)
    this.#names(record)
    const id = `${record.topic}/${record.partition}`
    const history = this.history.get(id)
    if (history === undefined) this.history.set(id, [record])
    else history.push(record)
    this.counted.records++
    if (record.topic === this.#topics.commands) return this.#command(record)
    if (record.topic === this.#topics.snapshots) this.#snapshot(record)
    const backend = this.#topics.backendOf(record.topic)
    if (backend === null && record.topic !== this.#topics.sessions) return
    if (backend === null && record.value === null) return this.#tombstone(record, by)
    const decoded = record.value === null ? null : decodeRecord(this.#codec, backend === null ? "sessions" : "tools", record)
    if (decoded === null || !decoded.ok) {
      this.#verdicts.set(`${id}/${record.offset}`, "unreadable")
      const sessionId = record.headers["session"] ?? sessionIn(record.key)
      if (backend === null) this.#writes(record, sessionId, "unreadable")
      else this.#unreadCalls.add(sessionId)
      this.tell?.(`${id}/${record.offset} unreadable`)
      return
    }
    const fact: Fact = decoded.said
    if (this.#keys.has(`${record.topic}/${record.key}`)) this.#violated("I15", `two records of ${id} have the key ${record.key}`)
    this.#keys.add(`${record.topic}/${record.key}`)
    if (backend === null) this.#writes(record, fact.sessionId, fact.type)
    const verdict = backend === null ? this.#sessionFact(record, fact) : this.#toolFact(record, fact, backend)
    this.#verdicts.set(`${id}/${record.offset}`, verdict)
    if (verdict === "late") this.counted.late++
    else if (verdict === "superseded") this.counted.superseded++
    else if (verdict === "duplicate") this.counted.duplicates++
    else if (fact.causedBy !== null && !this.#eventIds.has(fact.causedBy) && !this.#isUnheard(fact))
      this.#violated("I12", `${fact.type} ${fact.eventId} stands before its cause ${fact.causedBy}`)
    this.#eventIds.add(fact.eventId)
    this.tell?.(`${id}/${record.offset} ${verdict} ${describe(fact)}`)
  }

  /** The record with what stands in the blob store for it now. */
  whole(record: LogRecord): LogRecord {
    const { session = "", blobs } = record.headers
    if (blobs === undefined) return record
    const texts: Record<string, string> = {}
    for (const { field, sha256 } of namedIn(blobs)) {
      const text = this.#blobs.text(session, sha256)
      if (text === undefined) return { ...record, aside: { fault: "blob_missing", message: "It does not stand." } }
      texts[field] = text
    }
    return { ...record, aside: { texts } }
  }

  #names({ topic, partition, offset, headers, aside }: LogRecord): void {
    const { session = "", blobs } = headers
    if (blobs === undefined) return
    this.counted.blobs++
    const where = `${topic}/${partition}/${offset}`
    const isDeleted = this.#closedBy.get(session)?.type === "session.deleted"
    if (!isDeleted && (aside === undefined || "fault" in aside))
      this.#violated("P2", `${where} of ${session} names a blob that does not stand`)
    if (topic !== this.#topics.sessions) return
    for (const { sha256 } of namedIn(blobs)) this.#named.set(`${session}/${sha256}`, { sessionId: session, sha256, where, at: this.#now() })
  }

  /** What records name stands until their session is deleted, and then no longer: nobody has to collect it. */
  concludeBlobs(): void {
    for (const { sessionId, sha256, where, at } of this.#named.values()) {
      const putAt = this.#blobs.putAt(sessionId, sha256)
      const isDeleted = this.#closedBy.get(sessionId)?.type === "session.deleted"
      if (isDeleted && putAt !== undefined && putAt <= at) this.#violated("I28", `the blob of ${where} stands, and ${sessionId} is deleted`)
      if (!isDeleted && putAt === undefined) this.#violated("P2", `the blob that ${where} of ${sessionId} names is gone`)
    }
  }

  #writes({ partition, key, offset }: LogRecord, sessionId: string, type: string): void {
    if (key === null) return
    this.#written.set(`${partition}/${key}`, { sessionId, offset, type })
    if (type === "session.deleted") return
    const id = `${partition}/${sessionId}`
    const keys = this.#unerased.get(id)
    if (keys === undefined) this.#unerased.set(id, new Set([key]))
    else keys.add(key)
  }

  #tombstone({ partition, offset, key, headers }: LogRecord, by: string): void {
    this.counted.tombstones++
    const at = `${partition}/${offset}`
    const written = this.#written.get(`${partition}/${key}`)
    this.tell?.(`${this.#topics.sessions}/${at} erases ${written?.offset} (${written?.type} ${written?.sessionId})`)
    if (written === undefined) return this.#violated("I28", `the tombstone ${at} stands under ${key}, which nobody wrote`)
    const { sessionId, type } = written
    if (headers["erases"] !== String(written.offset) || headers["session"] !== sessionId)
      this.#violated(
        "I28",
        `the tombstone ${at} is of ${sessionId} at ${written.offset}; it says ${headers["session"]} at ${headers["erases"]}`,
      )
    if (type === "session.deleted") this.#violated("I28", `the tombstone ${at} erases the session.deleted of ${sessionId}`)
    const deleted = this.#closedBy.get(sessionId)
    if (deleted?.type !== "session.deleted" || deleted.partition !== partition)
      this.#violated("I28", `the tombstone ${at} erases ${type} ${written.offset} of ${sessionId}, which is not deleted`)
    else if (written.offset > deleted.offset) this.counted.lateTombstones++
    this.#touched.add(`${partition}/${sessionId}`)
    const before = this.#erased.get(`${partition}/${key}`)
    if (before === undefined) this.#erased.set(`${partition}/${key}`, this.#now())
    else if (before < (this.#startedAt.get(by) ?? 0))
      this.#violated("I28", `the tombstone ${at} of ${by} erases ${key} again, which was erased before it started`)
    this.#unerased.get(`${partition}/${sessionId}`)?.delete(key ?? "")
  }

  /** Records of deleted sessions that stand without a tombstone. */
  unerased(): readonly string[] {
    const left: string[] = []
    for (const [sessionId, { partition, type }] of this.#closedBy) {
      if (type !== "session.deleted") continue
      const keys = this.#unerased.get(`${partition}/${sessionId}`)
      if (keys === undefined || keys.size === 0) continue
      const offsets = [...keys].map((key) => this.#written.get(`${partition}/${key}`)?.offset)
      left.push(`${sessionId} is deleted, and of it stands ${partition}/${offsets.join(" ")}`)
    }
    return left
  }

  /** An answer to a hold that was still under way and was never taken: it is heard, and changes nothing. */
  #isUnheard({ type, sessionId, toolUseId, eventId }: Fact): boolean {
    if (type !== "approval.given" && type !== "result.received") return false
    return this.look(sessionId)?.calls.find((call) => call.id === toolUseId)?.answer !== eventId
  }

  #command(record: LogRecord): void {
    let commandId = record.headers["reins-command-id"]
    try {
      const said: Fact = JSON.parse(Buffer.from(record.value as Uint8Array).toString("utf8"))
      if (record.aside !== undefined && "texts" in record.aside)
        for (const [field, text] of Object.entries(record.aside.texts)) said[field] = JSON.parse(text)
      commandId ??= said.commandId
      const id = commandId ?? `cmd_${record.topic}-${record.partition}-${record.offset}`
      const asked = this.#asked.get(id)
      if (asked === undefined) this.#asked.set(id, [said])
      else asked.push(said)
      const hold = this.#holdFor(record.partition, said)
      if (hold !== null) this.#heldWhenAsked.set(id, hold)
    } catch {
      // Poison: it goes to the dead letters, which is judged there.
    }
    this.tell?.(`${record.topic}/${record.partition}/${record.offset} command ${commandId ?? "without id"}`)
    if (commandId === undefined) return
    const id = `${record.topic}/${record.partition}`
    const list = this.#commands.get(id) ?? []
    list.push({ offset: record.offset, commandId })
    this.#commands.set(id, list)
  }

  /** The hold that waits for just this answer as the log stands; null where none does. */
  #holdFor(partition: number, { type, sessionId, toolUseId }: Fact): string | null {
    const { phase, calls } = this.#sessions.get(partition)?.of(sessionId) ?? { phase: "absent", calls: [] }
    const hold = phase === "tools" ? (calls.find(({ id, is }) => id === toolUseId && is === "held")?.hold ?? null) : null
    if (type === "approval.give") return hold === null || hold.reason === "client" ? null : hold.id
    if (type === "result.give") return hold === null || hold.reason === "approval" ? null : hold.id
    return null
  }

  #sessionFact(record: LogRecord, fact: Fact): Verdict {
    let partition = this.#sessions.get(record.partition)
    if (partition === undefined) {
      partition = new RefSessions()
      this.#sessions.set(record.partition, partition)
    }
    const session = partition.of(fact.sessionId)
    const callBefore = session.calls.find((call) => call.id === fact.toolUseId)
    const notBefore = callBefore?.notBefore ?? 0
    const heldBefore = callBefore?.is === "held" ? callBefore.hold : null
    const waitedFor =
      callBefore !== undefined && session.phase === "tools" && callBefore.attempt === 0 ? waitsFor(session, callBefore) : null
    const { outputTokens, phase } = session
    const underWay = this.#isUnderWay(fact.sessionId, session, record.timestamp)
    const verdict = partition.apply(fact, record.timestamp)
    if (fact.commandId !== undefined) {
      const answer = this.#answers.get(fact.commandId) ?? { accepted: 0, offset: record.offset, isRefusal: false }
      // What a deleted session was asked is forgotten with it: asked again, it is refused.
      if (verdict === "accepted" && !(phase === "deleted" && answer.accepted > 0)) {
        answer.accepted++
        answer.offset = record.offset
        answer.isRefusal = fact.type === "command.rejected"
        if (answer.accepted > 1) this.#violated("I1", `the command ${fact.commandId} was accepted ${answer.accepted} times`)
      }
      this.#answers.set(fact.commandId, answer)
      const lane = `${record.partition}/${fact.command?.partition}`
      if (verdict === "accepted") this.#newestAnswerBy.set(lane, fact.by)
      else if (verdict === "duplicate" && answer.accepted === 0 && this.#newestAnswerBy.get(lane) === fact.by)
        this.#violated("I1", `${fact.by} answers ${fact.commandId} behind a newer command of its own`)
    }
    if (verdict !== "accepted") return verdict
    if (fact.type === "command.rejected" && (fact.code === "call_unknown" || fact.code === "call_not_held")) {
      const [asked] = this.#asked.get(fact.commandId) ?? []
      const hold = this.#heldWhenAsked.get(fact.commandId)
      if (hold !== undefined && asked !== undefined && hold === this.#holdFor(record.partition, asked))
        this.#violated(
          "B14",
          `${fact.eventId} refuses ${asked.type} as ${fact.code}, and ${hold} has waited for it since before it was sent`,
        )
    }
    if (session.phase === "parked") this.#everParked.add(fact.sessionId)
    if (session.phase !== "asking" || fact.type === "model.requested" || fact.type === "model.failed")
      this.#claimCloses(`model/${fact.sessionId}`)
    if (fact.type === "model.requested") this.#claimOpens(`model/${fact.sessionId}`, fact)
    this.#closing(record, fact, underWay)
    // What is refused is no use of a session; nor is what comes too late for one that has ended.
    if (fact.type !== "command.rejected" && (phase !== "ended" || fact.type === "session.updated"))
      this.#changedAt.set(fact.sessionId, record.timestamp)
    switch (fact.type) {
      case "approval.given":
      case "result.received":
        this.#answer(fact, session, callBefore, heldBefore, waitedFor)
        break
      case "session.updated":
        this.counted.updates++
        break
      case "session.idled":
        if (fact.reason === "requires_action") this.counted.waits++
        break
      case "interrupt.received":
      case "session.ended":
      case "session.archived":
      case "session.deleted":
        if (phase !== "idle") this.#stopped.add(fact.sessionId)
        for (const call of this.#calls.values()) if (call.sessionId === fact.sessionId && call.closing === null) call.closing = fact
        break
      case "model.requested": {
        this.#stopped.delete(fact.sessionId)
        const early = fact.attempt > 1 && fact.replaces === null && record.timestamp < (this.#notBefore.get(fact.sessionId) ?? 0)
        if (early)
          this.#violated("I20", `${fact.eventId} asks ${(this.#notBefore.get(fact.sessionId) ?? 0) - record.timestamp} ms too early`)
        if (fact.replaces !== null) {
          this.counted.takeovers++
          const from = this.#requests.get(fact.replaces)?.instance
          if (from !== undefined && this.#isSteady(from))
            this.#violated("I9", `${fact.eventId} takes a model call over from ${from}, which lives`)
          if ((this.#requests.get(fact.replaces)?.calls ?? 0) > 0) this.counted.extraModelCalls++
        }
        const { limits } = session.agent
        if (fact.attempt === 1 && (fact.turn > limits.turns || outputTokens >= limits.outputTokens))
          this.#violated("I19", `${fact.eventId} asks for turn ${fact.turn} after ${outputTokens} tokens`)
        this.#notBefore.delete(fact.sessionId)
        this.#requests.set(fact.eventId, {
          claim: fact.eventId,
          sessionId: fact.sessionId,
          instance: fact.instance,
          bodyHash: fact.bodyHash,
          body: bodyOf(session.agent, session.blocks),
          compacts: fact.compacts ?? null,
          deadlineAt: record.timestamp + fact.deadlineMs,
          calls: 0,
          retryAfterMs: 0,
        })
        break
      }
      case "model.failed": {
        this.#notBefore.set(fact.sessionId, record.timestamp + fact.retryAfterMs)
        const asked = fact.status === 429 ? (this.#requests.get(fact.claim)?.retryAfterMs ?? 0) : 0
        if (fact.retryAfterMs < asked)
          this.#violated("I20", `${fact.eventId} waits ${fact.retryAfterMs} ms; the provider asked for ${asked}`)
        break
      }
      case "model.responded":
        for (const block of blocksOf(fact.content)) {
          if (block.type !== "tool_use") continue
          const tool = toolOf(session, block.name)
          this.#calls.set(`${fact.sessionId}/${block.id}`, {
            sessionId: fact.sessionId,
            toolUseId: block.id,
            input: JSON.stringify(block.input),
            cut: fact.stopReason !== "tool_use",
            asks: tool?.permission === "always_ask",
            ofClient: tool?.backend === "client",
            allows: [],
            under: new Map(),
            without: new Set(),
            deniedAfter: null,
            effects: [],
            dispatched: new Map(),
            refused: false,
            closing: null,
          })
        }
        break
      default:
        if (fact.type.startsWith("tool-call."))
          this.#callFact(record, fact, notBefore, callBefore?.deadlineAt ?? 0, session.agent.limits.toolCalls, session.toolCalls)
    }
    return verdict
  }

  #callFact(record: LogRecord, fact: Fact, notBefore: number, deadlineAt: number, callsMax: number, calls: number): void {
    const call = this.#calls.get(`${fact.sessionId}/${fact.toolUseId}`)
    if (call === undefined) return this.#violated("I3", `${fact.eventId} is about a call that nobody asked for`)
    if (fact.type === "tool-call.held") {
      if (fact.reason === "outcome_unknown") this.counted.unknownHolds++
      else this.counted.holds++
      return
    }
    if (fact.type === "tool-call.dispatched") {
      call.dispatched.set(fact.attempt, fact)
      this.#spend(call, fact)
      if (this.#stopped.has(fact.sessionId)) this.#violated("I18", `${fact.eventId} is dispatched after its session was stopped`)
      if (call.cut) this.#violated("I10", `${fact.eventId} is dispatched from a response that was cut off`)
      if (record.timestamp < notBefore) this.#violated("I20", `${fact.eventId} is dispatched ${notBefore - record.timestamp} ms too early`)
      if (fact.attempt === 1 && calls - (this.#earlyRuns.get(fact.sessionId) ?? 0) > callsMax)
        this.#violated("I19", `${fact.eventId} is call ${calls} of ${callsMax}`)
      return
    }
    if (fact.type === "tool-call.refused") call.refused = true
    if (fact.type === "tool-call.outcome-unknown") this.counted.unknownOutcomes++
    if (fact.type === "tool-call.timed-out" && record.timestamp < deadlineAt)
      this.#violated("I20", `${fact.eventId} is timed out ${deadlineAt - record.timestamp} ms before its deadline`)
    if (fact.effect === "none") call.without.add(fact.attempt)
    const again = (fact.type === "tool-call.failed" || fact.type === "tool-call.timed-out") && fact.retryAfterMs !== null
    if (!again) call.closing = fact
  }

  /** I17 as the log tells it: which allow an attempt stands on, and that it was not used up. */
  #spend(call: CallStory, { eventId, attempt }: Fact): void {
    const allow = call.allows.at(-1)
    if (allow === undefined) return call.asks ? this.#violated("I17", `${eventId} is dispatched and nobody has allowed it`) : undefined
    const before = [...call.under].filter(([, under]) => under === allow.eventId).map(([earlier]) => earlier)
    const spent = before.filter((earlier) => !call.without.has(earlier))
    if (call.asks && spent.length > 0)
      this.#violated(
        "I17",
        `${eventId} is dispatched under ${allow.eventId}, under which attempt ${spent.join(" and ")} may have had an effect`,
      )
    if (before.length > 0) this.counted.keptAllows++
    call.under.set(attempt, allow.eventId)
  }

  /** What someone said about a call, held against what they asked for and against what waited. */
  #answer(fact: Fact, session: RefSession, ref: RefCall | undefined, hold: RefCall["hold"], waitedFor: string | null): void {
    if (ref === undefined || ref.answer !== fact.eventId) {
      this.counted.unheard++
      if (waitedFor === (fact.type === "approval.given" ? "approval" : "client") && ref?.hash === (fact.argumentsHash ?? ref?.hash))
        this.#violated("I1", `${fact.commandId} answers ${fact.sessionId}/${fact.toolUseId}, which waits for it, and is lost`)
      return
    }
    const id = `${fact.sessionId}/${fact.toolUseId}`
    const call = this.#calls.get(id)
    if (call === undefined) return this.#violated("I17", `${fact.eventId} answers ${id}, which nobody asked for`)
    if (hold === null) this.counted.early++
    if (hold === null && fact.type === "result.received")
      this.#earlyRuns.set(fact.sessionId, (this.#earlyRuns.get(fact.sessionId) ?? 0) + 1)
    const hash = createHash("sha256")
      .update(canonical(JSON.parse(call.input)))
      .digest("hex")
    const asked = this.#asked.get(fact.commandId) ?? []
    if (fact.type === "result.received") {
      this.counted.results++
      call.closing ??= fact
      const isSaid = asked.some(
        (said) =>
          said.type === "result.give" &&
          said.toolUseId === fact.toolUseId &&
          isDeepStrictEqual(JSON.parse(fact.content), blocksGiven(said.content)),
      )
      if (!isSaid) this.#violated("B14", `${fact.eventId} gives ${fact.content} for ${id}, which ${fact.commandId} does not say`)
      if (!call.ofClient && hold?.reason !== "outcome_unknown")
        this.#violated("B14", `${fact.eventId} gives a result for ${id}, which no client runs`)
      return
    }
    const isSaid = asked.some(
      (said) =>
        said.type === "approval.give" &&
        said.toolUseId === fact.toolUseId &&
        said.decision === fact.decision &&
        (said.argumentsHash === undefined || said.argumentsHash === hash),
    )
    if (!isSaid)
      this.#violated("I17", `${fact.eventId} decides (${fact.decision}) on ${id} with these arguments, and ${fact.commandId} does not`)
    if (call.ofClient) this.#violated("I17", `${fact.eventId} decides on ${id}, which its client runs`)
    if (fact.decision === "allow") {
      this.counted.allows++
      call.allows.push({ eventId: fact.eventId, afterUnknown: hold?.reason === "outcome_unknown" })
    } else {
      this.counted.denials++
      call.deniedAfter = session.calls.find((one) => one.id === fact.toolUseId)?.attempt ?? 0
      call.closing ??= fact
    }
  }

  /** Whether an answer from outside may still come: nobody waits beyond a deadline, nor for what has been said where the worker says it. */
  #isUnderWay(sessionId: string, { phase, request, calls }: RefSession, now: number): boolean {
    if (phase === "asking") return request?.failed === false && now <= (this.#requests.get(request.claim)?.deadlineAt ?? 0)
    return (
      phase === "tools" &&
      calls.some(
        ({ id, is, attempt, deadlineAt }) => is === "open" && now <= deadlineAt && !this.#over.has(`${sessionId}/${id}/${attempt}`),
      )
    )
  }

  /** B15 and B16: where a session was closed for good, and that nothing was under way for it. */
  #closing({ partition, offset }: LogRecord, { type, sessionId, eventId, commandId }: Fact, underWay: boolean): void {
    if (type !== "session.ended" && type !== "session.archived" && type !== "session.deleted") return
    if (type === "session.archived") this.counted.archived++
    if (type === "session.deleted") this.counted.deleted++
    if (type === "session.deleted" && commandId.startsWith("retention/")) this.#expires(eventId, sessionId, commandId)
    if (type !== "session.ended" && underWay) this.#violated("B16", `${eventId} (${type}) closes a session that is running`)
    this.#closedBy.set(sessionId, { partition, offset, type })
  }

  #expires(eventId: string, sessionId: string, commandId: string): void {
    this.counted.expired++
    const since = Number(/\/(\d+)$/.exec(commandId)?.[1])
    const changedAt = this.#changedAt.get(sessionId) ?? 0
    if (changedAt > since) this.#violated("B16", `${eventId} deletes ${sessionId} as unused since ${since}; it was used at ${changedAt}`)
  }

  #toolFact(record: LogRecord, fact: Fact, backend: string): Verdict {
    const id = `${backend}/${record.partition}`
    let tools = this.#tools.get(id)
    if (tools === undefined) {
      tools = new RefTools()
      this.#tools.set(id, tools)
    }
    const verdict = tools.apply(fact, record.offset, record.timestamp)
    const attempt = `${fact.sessionId}/${fact.toolUseId}/${fact.attempt}`
    if (fact.type === "tool-call.dispatched") {
      const decided = this.#calls.get(`${fact.sessionId}/${fact.toolUseId}`)?.dispatched.get(fact.attempt)
      if (decided === undefined) this.#violated("I6", `${fact.eventId} left for ${backend} before it was decided`)
      if (verdict === "accepted") this.#toolDispatches.set(attempt, fact.eventId)
    }
    if (verdict !== "accepted") return verdict
    if (["tool-call.claimed", "tool-call.finished", "tool-call.cancelled"].includes(fact.type)) this.#claimCloses(`call/${attempt}`)
    if (fact.type === "tool-call.claimed") {
      this.#claimOpens(`call/${attempt}`, fact)
      const claims = this.#claims.get(attempt) ?? []
      const from = claims.find((claim) => claim.eventId === fact.replaces)?.instance
      if (from !== undefined && this.#isSteady(from)) this.#violated("I11", `${fact.eventId} takes a call over from ${from}, which lives`)
      claims.push({ instance: fact.instance, eventId: fact.eventId })
      this.#claims.set(attempt, claims)
      if (fact.replaces !== null) this.counted.takeovers++
    }
    if (fact.type === "tool-call.finished" || fact.type === "tool-call.cancelled") this.#over.add(attempt)
    if (fact.type === "tool-call.finished") this.#finished.set(attempt, { eventId: fact.eventId, at: this.#now() })
    return verdict
  }

  // --- what processes folded

  died(instance: string): void {
    this.#diedAt.set(instance, this.#now())
  }

  /** From now on nothing goes wrong, and whoever died must have been replaced within `recoveryMs`. */
  peace(recoveryMs: number): void {
    this.#peaceAt = this.#now()
    this.#recoveryMs = recoveryMs
  }

  /** It loses a partition: what it has claimed there, read back and not begun it has to give up. */
  lost(instance: string, isThere: (sessionId: string) => boolean): void {
    for (const claim of this.#openClaims.values())
      if (claim.instance === instance && !claim.begun && isThere(claim.sessionId) && this.#hasSeen(instance, claim.eventId))
        claim.lostAt = this.#now()
  }

  #claimOpens(claim: string, { sessionId, instance, eventId }: Fact): void {
    this.#openClaims.set(claim, { sessionId, instance, eventId, begun: false, lostAt: null })
  }

  /**
   * I29: what a dead process had claimed does not wait longer than its membership and the grace time; nor does what one that lives had
   * claimed and not begun when it lost the partition.
   */
  #claimCloses(id: string): void {
    const claim = this.#openClaims.get(id)
    if (claim === undefined) return
    this.#openClaims.delete(id)
    const { instance, sessionId, lostAt } = claim
    const diedAt = this.#diedAt.get(instance)
    if ((diedAt === undefined && lostAt === null) || this.#everParked.has(sessionId)) return
    const waitedMs = this.#now() - Math.max(diedAt ?? 0, lostAt ?? 0, this.#peaceAt)
    if (waitedMs <= this.#recoveryMs) return
    const whose = diedAt === undefined ? "which had lost it before it began" : "which is dead"
    this.#violated("I29", `${id} waited ${Math.round(waitedMs)} ms for ${instance}, ${whose}`)
  }

  /** I11 as design rule 7 has it: only a member of the group begins something, and only where it owns the partition. */
  #begins(instance: string, sessionId: string, what: string): void {
    if (!this.#owns(instance, sessionId))
      this.#violated("I11", `${instance} begins ${what} and is expelled from its group, or has lost the partition`)
  }

  started(instance: string): void {
    this.#startedAt.set(instance, this.#now())
  }

  observed(instance: string, { topic, partition, offset, event, verdict, live, unread }: Observed): void {
    if (verdict === "accepted" || unread === true) {
      const seen = this.#seen.get(instance)
      const ids =
        event.type === "model.responded" || event.type === "model.failed" ? [event.eventId, `answer to ${event.claim}`] : [event.eventId]
      if (seen === undefined) this.#seen.set(instance, new Set(ids))
      else for (const id of ids) seen.add(id)
    }
    // What it makes of the session counts for nothing before it has read it again; then this is read back too.
    if (unread === true) return void this.counted.unread++
    const reference = this.#verdicts.get(`${topic}/${partition}/${offset}`)
    // It landed after the blobs of its deleted session had gone; its writer has it in memory, and it changes nothing.
    const isDeleted = this.#closedBy.get(event.sessionId)?.type === "session.deleted"
    if (isDeleted && reference === "unreadable") return
    // What follows from such a dispatch does not for the reference, which knows nothing of the call.
    if (isDeleted && topic !== this.#topics.sessions && this.#unreadCalls.has(event.sessionId)) return
    const closed = topic === this.#topics.sessions && verdict === "accepted" ? this.#closedBy.get(event.sessionId) : undefined
    if (closed !== undefined && offset > closed.offset && !mayFollow(closed.type, event.type))
      this.#violated("B15", `${instance} accepts ${event.type} ${event.eventId} after ${closed.type} of ${event.sessionId}`)
    const onSessions = topic === this.#topics.sessions
    const matters = onSessions || ["tool-call.dispatched", "tool-call.claimed", "tool-call.finished"].includes(event.type)
    // Who begins at a low watermark replays what is left of calls that were closed and forgotten: it may take less for accepted.
    const isForgotten = !onSessions && !live && reference === "accepted"
    // Where the beginning of a deleted session is erased and gone, its rest is folded to something else on the way; where it ends is judged.
    const isOnTheWay = offset < (this.#closedBy.get(event.sessionId)?.offset ?? 0) || event.type === "command.rejected"
    if (onSessions && isOnTheWay && this.#touched.has(`${partition}/${event.sessionId}`)) return
    // Of a copy that changes nothing, who was restored from snapshots does not know how far its partition of commands was answered.
    const isCopy = "command" in event && reference === "duplicate" && verdict === "superseded"
    const differs = onSessions ? reference !== verdict && !isCopy : (reference === "accepted") !== (verdict === "accepted") && !isForgotten
    if (matters && differs)
      this.#violated("I13", `${instance} says ${verdict} of ${topic}/${partition}/${offset} (${event.type}), the reference ${reference}`)
  }

  /** What could not be read whole at first was read back now. */
  reread(instance: string, partition: number, sessionId: string, below: number): void {
    const seen = this.#seen.get(instance) ?? new Set()
    this.#seen.set(instance, seen)
    const id = `${this.#topics.sessions}/${partition}`
    for (const record of this.history.get(id) ?? []) {
      if (record.offset >= below || record.headers["session"] !== sessionId || this.#verdicts.get(`${id}/${record.offset}`) !== "accepted")
        continue
      const decoded = decodeRecord(this.#codec, "sessions", record)
      if (!decoded.ok) continue
      const { type, eventId, claim }: Fact = decoded.said
      seen.add(eventId)
      if (type === "model.responded" || type === "model.failed") seen.add(`answer to ${claim}`)
    }
  }

  #hasSeen(instance: string, eventId: string | undefined): boolean {
    return eventId !== undefined && this.#seen.get(instance)?.has(eventId) === true
  }

  // --- what happened in the world

  asked(call: ModelCall): void {
    this.counted.modelCalls++
    const claim = this.#openClaims.get(`model/${call.sessionId}`)
    if (claim?.instance === call.instance) claim.begun = true
    this.#begins(call.instance, call.sessionId, `a model call about ${call.sessionId}`)
    this.tell?.(`MODEL asked about ${call.sessionId} by ${call.instance}`)
    const body: unknown = JSON.parse(call.body)
    this.#resultsInOrder(call, body)
    let request: Request | undefined
    for (const one of this.#requests.values())
      if (one.sessionId === call.sessionId && one.instance === call.instance && one.bodyHash === call.sha256 && one.calls === 0)
        request = one
    if (request === undefined) {
      const any = [...this.#requests.values()].filter((one) => one.sessionId === call.sessionId && one.instance === call.instance)
      const invariant = any.some((one) => one.bodyHash === call.sha256) ? "I9" : any.some((one) => one.calls === 0) ? "I8" : "I6"
      return this.#violated(
        invariant,
        `${call.instance} asks about ${call.sessionId} without an accepted request of its own for these bytes`,
      )
    }
    request.calls++
    if (!this.#hasSeen(call.instance, request.claim)) this.#violated("I6", `${call.instance} asks before it has read back ${request.claim}`)
    if (request.compacts !== null) this.counted.summaries++
    if (!isDeepStrictEqual(request.compacts === null ? body : withoutAsking(body, request), request.body))
      this.#violated("I8", `the body sent for ${request.claim} is not the conversation in the log`)
    if (this.#hasSeen(call.instance, `answer to ${request.claim}`))
      this.#violated("P3", `${call.instance} asks again what it has read the answer to`)
  }

  /** I3 and I21: every tool_use is answered once, at once and in order. */
  #resultsInOrder(call: ModelCall, body: unknown): void {
    const { messages } = body as { messages: { role: string; content: Fact[] }[] }
    for (const block of messages.flatMap(({ content }) => content))
      if (block.type === "tool_result") this.#resultAsGiven(call.sessionId, block)
    messages.forEach((message, index) => {
      const uses = message.content.filter((block) => block.type === "tool_use").map((block) => block.id)
      const results = (messages[index + 1]?.content ?? []).filter((block) => block.type === "tool_result").map((block) => block.tool_use_id)
      if (message.role !== "assistant" || isDeepStrictEqual(uses, results)) return
      const invariant = uses.length === results.length && uses.every((id) => results.includes(id)) ? "I21" : "I3"
      this.#violated(invariant, `${call.sessionId}: the calls ${uses.join(" ")} are answered by ${results.join(" ")}`)
    })
  }

  /** B14: what a client gave is told to the model for its own call alone, and nothing else is told in its place. */
  #resultAsGiven(sessionId: string, { tool_use_id: toolUseId, content }: Fact): void {
    const id = `${sessionId}/${toolUseId}`
    const text = canonical(content)
    const given = /Given for (toolu_\d+), /.exec(text)?.[1]
    if (given === undefined) return
    const call = this.#calls.get(id)
    const closing = call?.closing
    if (given !== toolUseId) this.#violated("B14", `the model is told of ${id} what was given for ${given}`)
    else if (closing?.type !== "result.received")
      this.#violated("B14", `the model is told of ${id} what a client gave and nobody took (${text})`)
    else if (canonical(JSON.parse(closing.content)) !== text)
      this.#violated("B14", `the model is told ${text} of ${id}; the first result was ${closing.content}`)
  }

  answered(call: ModelCall, answer: ModelAnswer | ModelFault): void {
    this.tell?.(`MODEL answers ${call.instance} about ${call.sessionId}: ${"fault" in answer ? answer.fault.kind : answer.stopReason}`)
    if (!("fault" in answer)) return
    for (const request of this.#requests.values())
      if (request.sessionId === call.sessionId && request.instance === call.instance && request.bodyHash === call.sha256)
        request.retryAfterMs = answer.fault.retryAfterMs ?? 0
  }

  /** A worker calls a tool: the moment of rule 3. */
  began(run: Pick<Effect, "sessionId" | "toolUseId" | "attempt" | "class" | "instance" | "tool">, kit: boolean): void {
    const attempt = `${run.sessionId}/${run.toolUseId}/${run.attempt}`
    this.tell?.(`RUN ${run.tool} (${run.class}) ${attempt} by ${run.instance}`)
    if (!kit) return
    const claim = this.#openClaims.get(`call/${attempt}`)
    if (claim?.instance === run.instance) claim.begun = true
    this.#begins(run.instance, run.sessionId, attempt)
    const finished = this.#finished.get(attempt)
    // What stands when a process starts it reads before it decides anything (rule 2).
    const stood = finished !== undefined && finished.at < (this.#startedAt.get(run.instance) ?? 0)
    if (stood || this.#hasSeen(run.instance, finished?.eventId))
      this.#violated("P3", `${run.instance} runs ${attempt} though it has read its result`)
    if (claiming.has(run.class)) {
      const own = (this.#claims.get(attempt) ?? []).filter((claim) => claim.instance === run.instance)
      if (own.length === 0) this.#violated("I11", `${run.instance} runs ${attempt} without an accepted claim`)
      else if (!own.some((claim) => this.#hasSeen(run.instance, claim.eventId)))
        this.#violated("I6", `${run.instance} runs ${attempt} before it has read its claim back`)
    } else if (!this.#hasSeen(run.instance, this.#toolDispatches.get(attempt)))
      this.#violated("I6", `${run.instance} runs ${attempt} before it has read the dispatch`)
  }

  /** What is asked about a call that may have happened is begun too. */
  questioned(key: string, instance: string): void {
    for (const [id, claim] of this.#openClaims) if (claim.instance === instance && id.startsWith(`call/${key}/`)) claim.begun = true
  }

  happened(effect: Effect): void {
    const id = `${effect.sessionId}/${effect.toolUseId}`
    this.tell?.(
      `EFFECT ${effect.tool} (${effect.class}) ${id}/${effect.attempt} by ${effect.instance}${effect.applied ? "" : ", seen before"}`,
    )
    const call = this.#calls.get(id)
    if (call === undefined) return this.#violated("I6", `${effect.instance} ran ${id}, which no accepted response asks for`)
    this.counted.effects++
    if (call.effects.length > 0) this.counted.reruns++
    call.effects.push(effect)
    if (!call.dispatched.has(effect.attempt)) this.#violated("I6", `${id}/${effect.attempt} had an effect and was not decided on`)
    if (call.refused) this.#violated("I7", `${id} was refused and had an effect`)
    if (call.cut) this.#violated("I10", `${id} of a response that was cut off had an effect`)
    if (effect.input !== call.input) this.#violated("I8", `${id} ran with ${effect.input}; the model said ${call.input}`)
    if (!Number.isInteger((JSON.parse(effect.input) as { n?: unknown }).n))
      this.#violated("I7", `${id} ran with ${effect.input}, which its schema does not let through`)
    if (effect.key !== id) this.#violated("I4", `${id} ran under the key ${effect.key}`)
    const closing = call.closing?.type as string | undefined
    if (!call.dispatched.has(effect.attempt) && (closing === "interrupt.received" || closing?.startsWith("session.")))
      this.#violated("I18", `${id}/${effect.attempt} had an effect, and ${closing} had closed it before it was dispatched`)
    if (call.ofClient) this.#violated("I7", `${id} is its client's to run and was run by ${effect.instance}`)
    if (call.deniedAfter !== null && effect.attempt > call.deniedAfter)
      this.#violated("I7", `${id}/${effect.attempt} was denied and had an effect`)
    if (call.asks && !call.under.has(effect.attempt)) this.#violated("I17", `${id}/${effect.attempt} had an effect that nobody allowed`)
    // Who allows a call of which nobody knows what became of it allows it once more.
    const epoch = ({ attempt }: Effect): number =>
      call.allows.findLastIndex(
        ({ eventId, afterUnknown }) => afterUnknown && [...call.under].some(([at, under]) => under === eventId && at <= attempt),
      )
    const applied = call.effects.filter((one) => one.applied && (effect.class === "keyed" || epoch(one) === epoch(effect))).length
    if (applied > 1 && (once.has(effect.class) || effect.class === "keyed"))
      this.#violated("I4", `${effect.class} ${id} took effect ${applied} times`)
  }

  // --- what groups and clients were told

  acknowledged(command: Acknowledged): void {
    this.#acknowledged.push(command)
  }

  poisoned(poison: Poison): void {
    this.#poison.push(poison)
  }

  /** How far the snapshots of a session have come, at most. */
  #snapshot({ topic, partition, offset, key, headers }: LogRecord): void {
    this.tell?.(`${topic}/${partition}/${offset} snapshot of ${key} up to ${headers["offset"]}`)
    this.counted.snapshots++
    this.#covered.set(String(key), Math.max(Number(headers["offset"]), this.#covered.get(String(key)) ?? -1))
  }

  committed(group: string, commits: readonly Commit[]): void {
    for (const { topic, partition, offset } of commits) {
      const backend = this.#topics.backendOf(topic)
      if (topic === this.#topics.sessions) {
        for (const [id, written] of this.#written) {
          if (!id.startsWith(`${partition}/`) || written.offset >= offset || written.sessionId === "") continue
          // What is erased is needed by nobody.
          const stands = this.#unerased.get(`${partition}/${written.sessionId}`)?.has(id.slice(id.indexOf("/") + 1))
          if (written.type !== "session.deleted" && stands !== true) continue
          if (written.offset > (this.#covered.get(written.sessionId) ?? -1))
            this.#violated(
              "I27",
              `${group} committed ${topic}/${partition}/${offset}, and no snapshot has ${written.type} at ${written.offset}`,
            )
        }
      }
      if (topic === this.#topics.commands) {
        for (const command of this.#commands.get(`${topic}/${partition}`) ?? []) {
          if (command.offset >= offset || this.#isAnswered(command.commandId) || this.#forwarded(command.commandId, partition)) continue
          this.#violated("I27", `${group} committed ${topic}/${partition}/${offset} before ${command.commandId} was answered`)
        }
      } else if (backend !== null && backend !== "plain") {
        for (const [id, call] of this.#tools.get(`${backend}/${partition}`)?.calls ?? [])
          if (call.open && call.dispatchedAt < offset)
            this.#violated("I27", `${group} committed ${topic}/${partition}/${offset}, past the open call ${id}`)
      }
    }
  }

  /** What was superseded is no answer: its sender waits. */
  #isAnswered(commandId: string): boolean {
    return (this.#answers.get(commandId)?.accepted ?? 0) > 0
  }

  /** A copy of it stands on another partition. */
  #forwarded(commandId: string, partition: number): boolean {
    for (const [id, commands] of this.#commands)
      if (!id.endsWith(`/${partition}`) && commands.some((command) => command.commandId === commandId)) return true
    return false
  }

  // --- the end

  /** The sessions in which something more should happen. */
  unsettled(): readonly string[] {
    const open: string[] = []
    for (const { sessions } of this.#sessions.values()) {
      for (const [sessionId, session] of sessions)
        if (!isSettled(session))
          open.push(
            `${sessionId} is ${session.phase}${isHeld(session) ? `, held, told: ${session.waiting}` : ""}${session.request === null ? "" : `, request ${session.request.claim}`}`,
          )
    }
    for (const [id, { calls }] of this.#tools)
      for (const [call, { open: is }] of calls) if (is) open.push(`the call ${call} on ${id} is open`)
    for (const { commandId } of this.#acknowledged) if (!this.#isAnswered(commandId)) open.push(`the command ${commandId} is not answered`)
    return open
  }

  /** What nobody can read and does not stand among the dead letters, bytes untouched and with its coordinates. */
  unburied(): readonly Poison[] {
    if (this.#poison.length === 0) return []
    const letters = this.history.get(`${this.#topics.deadLetters}/0`) ?? []
    return this.#poison.filter(
      (poison) =>
        // What was of a deleted session may be gone before anyone buried it.
        !(poison.topic === this.#topics.sessions && this.#erased.has(`${poison.partition}/${poison.key}`)) &&
        !letters.some(
          ({ headers, value }) =>
            headers["poison"] === poison.mark &&
            headers["dlq.topic"] === poison.topic &&
            headers["dlq.partition"] === String(poison.partition) &&
            headers["dlq.offset"] === String(poison.offset) &&
            isDeepStrictEqual(value === null ? null : Buffer.from(value), poison.value === null ? null : Buffer.from(poison.value)),
        ),
    )
  }

  parked(): readonly string[] {
    return [...this.#sessions.values()].flatMap(({ sessions }) =>
      [...sessions].filter(([, { phase }]) => phase === "parked").map(([id]) => id),
    )
  }

  /** The session as it may be read in the log by anyone. */
  look(sessionId: string): RefSession | undefined {
    for (const { sessions } of this.#sessions.values()) {
      const session = sessions.get(sessionId)
      if (session !== undefined) return session
    }
    return undefined
  }

  /** Sessions of which it is said that they wait for someone. */
  waiting(): readonly (readonly [string, RefSession])[] {
    return [...this.#sessions.values()].flatMap(({ sessions }) =>
      [...sessions].filter(([, { phase, waiting }]) => phase === "tools" && waiting === "told"),
    )
  }

  conclude(): void {
    for (const open of this.unsettled()) this.#violated("I2", open)
    for (const left of this.unerased()) this.#violated("I28", left)
    this.#concludeCommands()
    for (const call of this.#calls.values()) this.#concludeCall(call)
    for (const { topic, partition, offset, mark } of this.unburied())
      this.#violated("I25", `${topic}/${partition}/${offset} (${mark}) is not among the dead letters`)
  }

  #concludeCommands(): void {
    const firsts = new Map<string, Acknowledged>()
    for (const command of this.#acknowledged) if (!firsts.has(command.commandId)) firsts.set(command.commandId, command)
    const last = new Map<string, { order: number; offset: number }>()
    for (const command of [...firsts.values()].sort((a, b) => (a.order ?? 0) - (b.order ?? 0))) {
      const answer = this.#answers.get(command.commandId)
      if (answer === undefined || answer.accepted === 0) {
        this.#violated("I1", `the acknowledged command ${command.commandId} was never accepted`)
        continue
      }
      // What is refused changes nothing, whenever that is said.
      if (command.order === null || answer.isRefusal) continue
      const before = last.get(command.sender)
      if (before !== undefined && before.offset > answer.offset)
        this.#violated("I1", `${command.commandId} was accepted before a command that was acknowledged earlier`)
      last.set(command.sender, { order: command.order, offset: answer.offset })
    }
  }

  #concludeCall({ sessionId, toolUseId, effects: all, closing, dispatched, under }: CallStory): void {
    const id = `${sessionId}/${toolUseId}`
    const is = [...dispatched.values()].at(-1)?.effect as string | undefined
    if (closing === null) return
    // Of attempts that a person let follow each other, the last is the one that was closed.
    const effects = all.filter(({ attempt }) => under.get(attempt) === under.get(closing.attempt) || closing.attempt === undefined)
    if (closing.type === "tool-call.completed" && effects.length === 0) this.#violated("I5", `${id} is completed and had no effect`)
    if (is === undefined || !once.has(is) || effects.length === 0) return
    const none = (closing.type === "tool-call.failed" || closing.type === "tool-call.timed-out") && closing.effect === "none"
    if (none) this.#violated("I5", `${id} had an effect and the model is told that it had none`)
    if (closing.type === "tool-call.timed-out" && closing.effect !== "none")
      this.#violated("I5", `${id} had an effect and is timed out instead of unknown`)
  }
}

/** The session that a record is of by its key. */
function sessionIn(key: string | null): string {
  return key?.slice(0, Math.max(0, key.lastIndexOf("/"))) ?? ""
}

/** What may still be said of a session that is closed for good, and changes nothing that runs. */
function mayFollow(closed: string, type: string): boolean {
  if (type === "command.rejected") return true
  return (
    closed !== "session.deleted" &&
    ["session.updated", "session.archived", "session.deleted", "approval.given", "result.received"].includes(type)
  )
}

/** The content of a command as the blocks that it stands for. */
function blocksGiven(content: Fact): Fact {
  if (content === undefined || content === null) return []
  return typeof content === "string" ? [{ type: "text", text: content }] : content
}

function blocksOf(content: string): Fact[] {
  try {
    const blocks: unknown = JSON.parse(content)
    return Array.isArray(blocks) ? blocks : []
  } catch {
    return []
  }
}

/** The request body as the Messages API wants it, built from the log alone. */
function bodyOf(agent: Fact, blocks: readonly Block[]): unknown {
  const messages: { role: string; content: unknown[] }[] = []
  for (const { role, json } of blocks) {
    const content = JSON.parse(`[${json}]`) as unknown[]
    const last = messages.at(-1)
    if (last?.role === role) last.content.push(...content)
    else messages.push({ role, content })
  }
  return {
    cache_control: { type: "ephemeral" },
    ...JSON.parse(agent.params),
    model: agent.model,
    max_tokens: agent.maxTokens,
    stream: true,
    system: JSON.parse(agent.system),
    tools: agent.tools.map((tool: Fact) => ({
      name: tool.name,
      ...(tool.description === null ? {} : { description: tool.description }),
      input_schema: JSON.parse(tool.inputSchema),
    })),
    messages,
  }
}

/**
 * A request for a summary, without what asks for it. Of a conversation as it stands that is the body of the turn; a transcript has to be
 * one message within its bounds, and what it leaves out is the product's to choose.
 */
function withoutAsking(body: Fact, request: { readonly compacts: number | null; readonly body: Fact }): unknown {
  const messages = structuredClone(body.messages)
  if (request.compacts === 0) {
    messages.at(-1).content.pop()
    if (messages.at(-1).content.length === 0) messages.pop()
    const { tool_choice: choice, ...rest } = body
    return choice?.type === "none" || request.body.tools.length === 0 ? { ...rest, tools: body.tools ?? [], messages } : body
  }
  const [{ content }] = messages
  const [first] = request.body.messages[0].content
  const fits =
    messages.length === 1 &&
    content.length === 1 &&
    body.tools === undefined &&
    content[0].text.length <= (request.compacts as number) + 1000 &&
    content[0].text.startsWith(`<conversation>\nuser: ${String(first.text).slice(0, 20)}`)
  return fits ? request.body : body
}

function describe(fact: Fact): string {
  const parts = [fact.type, fact.sessionId]
  if (fact.toolUseId !== undefined) parts.push(fact.toolUseId)
  for (const name of [
    "turn",
    "attempt",
    "takes",
    "compacts",
    "kind",
    "reason",
    "code",
    "outcome",
    "effect",
    "commandId",
    "instance",
    "replaces",
    "claim",
  ])
    if (fact[name] !== undefined && fact[name] !== null) parts.push(`${name}=${fact[name]}`)
  parts.push(`(${fact.eventId} by ${fact.by})`)
  return parts.join(" ")
}

function namedIn(header: string): readonly { readonly field: string; readonly sha256: string }[] {
  return header.split(",").map((one) => {
    const [field = "", rest = ""] = one.split("=")
    return { field, sha256: rest.slice(0, 64) }
  })
}
