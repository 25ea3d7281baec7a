import {
  type Agent,
  canonicalJson,
  clientBackend,
  depthMax,
  type HeldReason,
  type IdleReason,
  isDeeperThan,
  type SessionEvent,
  type SessionEventOf,
  tool as toolSchema,
  type Usage,
} from "@reins/events"
import { awaits, holdOf } from "./admission.ts"
import { hear, heard, noCommands } from "./command-ids.ts"
import { summaryIn } from "./compaction.ts"
import { digestOf, say, type Utterance } from "./conversation.ts"
import { sha256Hex } from "./digest.ts"
import {
  type Absent,
  type AwaitingModel,
  type AwaitingTools,
  type Call,
  type Compaction,
  type Deleted,
  type Ended,
  type Idle,
  type Known,
  type ModelAttempt,
  type Parked,
  type Position,
  type Profile,
  parkedKind,
  type Queued,
  type Running,
  type Session,
  type Step,
} from "./session.ts"

/**
 * The fold. Pure and total: the same records in the same order give the same session in every build and instance.
 *
 * E1 The first record that fits wins; later ones change nothing but the trail (their verdict).
 * E2 Attempt n+1 is acceptable only after attempt n failed, or as a takeover that names the open claim.
 * E3 A model request is accepted only on the fold's own conversation, compared by digest.
 * E4 A result counts only for the open attempt and, where it names a claim, only for the open claim.
 * E5 A decision names what it was made on (causedBy): a response, a message. A decision on one that lost falls with it.
 * E6 Every tool call of a response is answered exactly once in the next request, in the order in which the model asked.
 * E7 After an interrupt or an end no dispatch and no request is accepted.
 * E8 Only an accepted record changes the state. One that breaks an invariant is accepted as the breach that it is: the session parks.
 * E9 A call that has to be allowed is dispatched under an allow or not at all; one that the client runs, never.
 * E11 A summary stands for the conversation that its request covered, and for no other; messages that were taken with it follow it, and
 *     are part of the conversation where it comes to nothing.
 * E10 What a deleted session leaves follows from its `session.deleted` alone, since no other record of it is to stay: the log folds to the
 *     same before, while and after they are erased.
 */
export function evolve(session: Session, event: SessionEvent, at: Position): Step {
  if ("commandId" in event && heard(session.commands, event.commandId)) {
    return { session, verdict: "duplicate" }
  }
  switch (session.phase) {
    case "absent":
      return fromAbsent(session, event, at)
    case "ended":
      return fromEnded(session, event, at)
    case "deleted":
      // E10: the answer to a late command counts, and changes nothing: its record is about to be erased too.
      return event.type === "command.rejected" ? accept(session) : refuse(session, event)
    case "parked":
      return fromParked(session, event, at)
    case "idle":
    case "awaiting-model":
    case "awaiting-tools":
    case "settling":
      return fromRunning(session, event, at)
    default:
      return session satisfies never
  }
}

export const absent: Absent = { phase: "absent", commands: noCommands }

/** Facts that answer an attempt: of a closed one they are late, not superseded. */
const results = new Set<SessionEvent["type"]>([
  "model.responded",
  "model.failed",
  "tool-call.completed",
  "tool-call.failed",
  "tool-call.timed-out",
  "tool-call.outcome-unknown",
])

function refuse(session: Session, event: SessionEvent): Step {
  return { session, verdict: results.has(event.type) ? "late" : "superseded" }
}

function accept(session: Session): Step {
  return { session, verdict: "accepted" }
}

function fromAbsent(session: Absent, event: SessionEvent, at: Position): Step {
  if (event.type === "command.rejected") return accept({ ...session, commands: hear(session.commands, event.commandId) })
  // E10: everything before it is erased.
  if (event.type === "session.deleted") return accept(deleted(event))
  if (event.type !== "session.started") return refuse(session, event)
  const idle: Idle = {
    phase: "idle",
    reason: null,
    wake: event.input !== null,
    sessionId: event.sessionId,
    tenant: event.tenant,
    agent: event.agent,
    startedBy: event.eventId,
    startedAt: at.timestamp,
    changedAt: at.timestamp,
    commands: hear(session.commands, event.commandId),
    traceparent: event.traceparent,
    conversation: null,
    queued: event.input === null ? [] : [{ eventId: event.eventId, content: event.input, begins: true }],
    calls: [],
    response: null,
    turns: 0,
    toolCalls: 0,
    usage: { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 },
    contextTokens: 0,
    compacted: 0,
    limitReached: false,
    breach: breachOfStart(event.agent, event.input),
    profile: profileOf(event),
  }
  return accept(idle)
}

function profileOf(event: SessionEventOf<"session.started">): Profile | null {
  const { title = null, metadata = null, environmentId = null, profile = null } = event
  if (title === null && metadata === null && environmentId === null && profile === null) return null
  return { title, metadata: metadata ?? "{}", environmentId, agent: profile }
}

/** What makes a session that cannot be asked about anything, or null. Intake says no such thing; the log may hold what others wrote. */
function breachOfStart(agent: Agent, input: string | null): string | null {
  const parts: readonly (readonly [string, string | null, (value: unknown) => boolean])[] = [
    ["agent.system", agent.system, () => true],
    ["agent.params", agent.params, isObject],
    ...agent.tools.map((tool) => [`the schema of ${tool.name}`, tool.inputSchema, isObject] as const),
    ["input", input, Array.isArray],
  ]
  for (const [name, text, fits] of parts) {
    const value = text === null ? null : parsed(text)
    if (text !== null && (value === undefined || !fits(value) || isDeeperThan(value, depthMax)))
      return `session.started cannot be used: ${name} is not the JSON it has to be.`
  }
  return null
}

/** Undefined where it is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

function fromEnded(session: Ended, event: SessionEvent, at: Position): Step {
  switch (event.type) {
    case "session.updated":
      return updated(session, event, at)
    case "session.archived": {
      const commands = hear(session.commands, event.commandId)
      return accept(session.archivedAt === undefined ? { ...session, commands, archivedAt: at.timestamp } : { ...session, commands })
    }
    case "session.deleted":
      return accept(deleted(event))
    // What comes too late for a call is answered as everywhere: it is heard, and changes nothing.
    case "approval.given":
    case "result.received":
    case "command.rejected":
      return accept({ ...session, commands: hear(session.commands, event.commandId) })
    default:
      return refuse(session, event)
  }
}

function fromParked(session: Parked, event: SessionEvent, at: Position): Step {
  switch (event.type) {
    case "session.resumed": {
      const commands = hear(session.commands, event.commandId)
      // An agent that nobody can use is not mended by going on: such a session can only be ended.
      if (breachOfStart(session.agent, null) !== null) return accept({ ...stamped(session, at), commands })
      const { phase: _phase, code: _code, message: _message, before, ...known } = session
      const resumed = { ...before, ...stamped(known, at), breach: null, commands }
      if (resumed.phase !== "awaiting-tools") return accept(resumed)
      // Who looked was told that it had stopped: what it waits for is told anew.
      const { waiting: _waiting, ...running } = resumed
      return accept(running)
    }
    case "session.ended":
      return accept(ended(session, event.commandId, at))
    case "message.received":
      return accept({
        ...session,
        ...heardMessage(session, event, at),
        before: session.before.phase === "idle" ? { ...session.before, wake: true } : session.before,
      })
    case "interrupt.received": {
      // E7: what was stopped while it was parked does not go on when it is resumed.
      const before = interrupted({ ...session.before, ...knownOf(session) }, event.commandId, at)
      return accept({ ...knownOf(before), phase: "parked", code: session.code, message: session.message, before })
    }
    case "session.archived":
      return accept({ ...ended(session, event.commandId, at), archivedAt: at.timestamp })
    case "session.deleted":
      return accept(deleted(event))
    case "session.updated":
      return updated(session, event, at)
    case "approval.given":
    case "result.received":
    case "command.rejected":
      return accept({ ...stamped(session, at), commands: hear(session.commands, event.commandId) })
    default:
      // A result that was under way is recorded as late: what to make of it is for the person who resumes.
      return refuse(session, event)
  }
}

function fromRunning(session: Running, event: SessionEvent, at: Position): Step {
  switch (event.type) {
    case "session.started":
      return refuse(session, event)
    case "message.received": {
      const next = { ...session, ...heardMessage(session, event, at) }
      return accept(next.phase === "idle" ? { ...next, wake: true } : next)
    }
    case "interrupt.received":
      return accept(interrupted(session, event.commandId, at))
    case "session.ended":
      return accept(ended(session, event.commandId, at))
    case "session.archived":
      return accept({ ...ended(session, event.commandId, at), archivedAt: at.timestamp })
    case "session.deleted":
      return accept(deleted(event))
    case "session.updated":
      return updated(session, event, at)
    case "approval.given":
    case "result.received":
      return answered(session, event, at)
    case "session.resumed":
    case "command.rejected":
      return accept({ ...stamped(session, at), commands: hear(session.commands, event.commandId) })
    case "session.parked":
      return parked(session, event, at)
    case "model.requested":
      return requested(session, event, at)
    case "model.responded":
      return responded(session, event, at)
    case "model.failed":
      return modelFailed(session, event, at)
    case "context.compacted":
      return compacted(session, event, at)
    case "tool-call.refused":
    case "tool-call.held":
    case "tool-call.dispatched":
    case "tool-call.completed":
    case "tool-call.failed":
    case "tool-call.timed-out":
    case "tool-call.outcome-unknown":
      return onCall(session, event, at)
    case "session.idled":
      return idled(session, event, at)
    default:
      // An event type of a later version: it belongs to the log and changes nothing that this version knows.
      return { session, verdict: ((_: never) => "superseded" as const)(event) }
  }
}

function stamped<K extends Known>(known: K, at: Position): K {
  return { ...known, changedAt: at.timestamp }
}

/** The parts of a session that outlive its phase, written out: every state of one shape is what keeps the fold fast. */
function knownOf(session: Known): Known {
  return {
    sessionId: session.sessionId,
    tenant: session.tenant,
    agent: session.agent,
    startedBy: session.startedBy,
    startedAt: session.startedAt,
    changedAt: session.changedAt,
    commands: session.commands,
    traceparent: session.traceparent,
    conversation: session.conversation,
    queued: session.queued,
    calls: session.calls,
    response: session.response,
    turns: session.turns,
    toolCalls: session.toolCalls,
    usage: session.usage,
    contextTokens: session.contextTokens,
    compacted: session.compacted,
    limitReached: session.limitReached,
    breach: session.breach,
    profile: session.profile,
  }
}

function heardMessage(
  session: Running | Parked,
  event: SessionEventOf<"message.received">,
  at: Position,
): Pick<Known, "queued" | "commands" | "traceparent" | "changedAt"> {
  return {
    queued: [
      ...session.queued,
      { eventId: event.eventId, content: event.content, ...(session.phase === "idle" && !session.wake ? { begins: true } : {}) },
    ],
    commands: hear(session.commands, event.commandId),
    traceparent: event.traceparent ?? session.traceparent,
    changedAt: at.timestamp,
  }
}

/** What a call that an interrupt or an end closes is answered with: whether it may have run is known from whether it was dispatched. */
function closed(session: Known, call: Call): Call {
  if (call.state.is === "done") return call
  // Its client may have seen it, and run it, before it was held.
  const atClient = awaits(session, call) === "client"
  const ran = call.state.is === "dispatched" || call.attempt > 0
  const content = atClient
    ? "Interrupted while it waited for its client. It may have run; its outcome is unknown."
    : ran
      ? "Interrupted. The call had been dispatched and may have run; its outcome is unknown."
      : "Interrupted before it was dispatched. It was not run."
  return { ...call, state: { is: "done", content: JSON.stringify(content), isError: true } }
}

function interrupted(session: Running, commandId: string, at: Position): Running {
  const commands = hear(session.commands, commandId)
  if (session.phase === "idle") return { ...stamped(session, at), commands }
  return {
    ...knownOf(session),
    ...withTaken(session),
    phase: "settling",
    reason: "interrupted",
    calls: session.calls.map((call) => closed(session, call)),
    commands,
    changedAt: at.timestamp,
  }
}

function ended(session: Running | Parked, commandId: string, at: Position): Ended {
  return {
    ...knownOf(session),
    ...withTaken(session.phase === "parked" ? session.before : session),
    phase: "ended",
    calls: session.calls.map((call) => closed(session, call)),
    queued: [],
    commands: hear(session.commands, commandId),
    changedAt: at.timestamp,
  }
}

function deleted({ sessionId, tenant, commandId }: SessionEventOf<"session.deleted">): Deleted {
  return { phase: "deleted", sessionId, tenant, commands: hear(noCommands, commandId) }
}

/** The changes of `session.updated`; what is none of them says nothing. */
interface Changes {
  readonly title?: unknown
  readonly metadata?: unknown
  /** Keys to set, or with null to delete, in the metadata as it stands: two that change different keys at once both count. */
  readonly metadataPatch?: unknown
  readonly profile?: unknown
}

function metadataAfter(before: string, { metadata, metadataPatch }: Changes): string {
  const whole = isObject(metadata) ? canonicalJson(metadata) : before
  if (!isObject(metadataPatch)) return whole
  const merged = Object.entries({ ...(JSON.parse(whole) as object), ...(metadataPatch as object) })
  return canonicalJson(Object.fromEntries(merged.filter(([, value]) => value !== null)))
}

function updated(session: Running | Parked | Ended, event: SessionEventOf<"session.updated">, at: Position): Step {
  const given = parsed(event.changes)
  const changes: Changes = isObject(given) && !isDeeperThan(given, depthMax) ? (given as Changes) : {}
  const before = session.profile ?? { title: null, metadata: "{}", environmentId: null, agent: null }
  const profile: Profile = {
    title: typeof changes.title === "string" || changes.title === null ? changes.title : before.title,
    metadata: metadataAfter(before.metadata, changes),
    environmentId: before.environmentId,
    agent: isObject(changes.profile) ? canonicalJson(changes.profile) : before.agent,
  }
  const next = { ...stamped(session, at), commands: hear(session.commands, event.commandId), profile }
  // A turn goes on with the tools that it began with.
  if (event.tools === null || session.phase !== "idle" || session.wake) return accept(next)
  const tools = toolsOf(event.tools)
  return accept(tools === null ? next : { ...next, agent: { ...session.agent, tools } })
}

function toolsOf(json: string): Agent["tools"] | null {
  // Only what a session could have begun with: every decision after it stands on these fields.
  const tools = toolSchema.array().safeParse(parsed(json))
  if (!tools.success) return null
  const usable = tools.data.every(({ inputSchema }) => {
    const schema = parsed(inputSchema)
    return isObject(schema) && !isDeeperThan(schema, depthMax)
  })
  return usable ? tools.data : null
}

/** What someone said about a held call. Where it is no longer held as it was, it is heard and changes nothing (B13, B14). */
function answered(session: Running, event: SessionEventOf<"approval.given" | "result.received">, at: Position): Step {
  const heardIt = { ...stamped(session, at), commands: hear(session.commands, event.commandId) }
  if (session.phase !== "awaiting-tools") return accept(heardIt)
  const index = session.calls.findIndex((call) => call.toolUseId === event.toolUseId)
  const call = session.calls[index]
  const next = call === undefined ? null : answeredCall(session, call, event)
  if (call === undefined || next === null) return accept(heardIt)
  // What its client has run is charged, also where the result came before the hold.
  const early = call.state.is === "wanted" && event.type === "result.received"
  const calls = session.calls.with(index, next)
  return accept({
    ...knownOf(heardIt),
    phase: "awaiting-tools",
    calls,
    ...stillWaiting(session, calls),
    toolCalls: session.toolCalls + (early ? 1 : 0),
  })
}

/** The call after its answer, or null where that is no answer to it. */
function answeredCall(session: Known, call: Call, event: SessionEventOf<"approval.given" | "result.received">): Call | null {
  const waitsFor = awaits(session, call)
  // E5: of another hold of the same call it is no answer.
  const held = call.state.is === "held" ? call.state.eventId : null
  if (waitsFor === null || event.causedBy === null || (event.causedBy !== holdOf(session, call) && event.causedBy !== held)) return null
  if (event.type === "result.received") {
    return waitsFor === "approval" ? null : { ...call, state: { is: "done", content: event.content, isError: event.isError } }
  }
  // One allow permits what was shown, and nothing else.
  if (waitsFor === "client" || event.argumentsHash !== sha256Hex(call.input)) return null
  if (event.decision === "allow") return { ...call, approval: event.eventId, state: { is: "wanted", notBefore: 0 } }
  const said =
    waitsFor === "outcome_unknown" && call.state.is === "held" ? call.state.message : `Permission to use ${call.tool} has been denied.`
  return { ...call, state: { is: "done", content: JSON.stringify(event.message ?? said ?? ""), isError: true } }
}

function parked(session: Running, event: SessionEventOf<"session.parked">, at: Position): Step {
  // E5: who names a request has read what broke it. Once someone has gone on from there, or stopped it, that falls with it.
  const isBroken = session.breach !== null && session.phase === "awaiting-model" && session.request.claim === event.causedBy
  if (event.causedBy !== null && !isBroken) return refuse(session, event)
  // Remembered like a command: a late copy must not park again what was resumed.
  const id = `parked/${event.eventId}`
  if (heard(session.commands, id)) return { session, verdict: "duplicate" }
  const known = { ...knownOf(session), commands: hear(session.commands, id), changedAt: at.timestamp }
  return accept({ ...known, phase: "parked", code: event.code, message: event.message, before: leftOff(session, at) })
}

/** What a session goes on from once it is resumed: an open request is over, since an answer that comes while it is parked is late. */
function leftOff(session: Running, at: Position): Running {
  if (session.phase !== "awaiting-model" || session.request.state.is !== "open") return session
  const state = {
    is: "failed",
    kind: parkedKind,
    message: "The session was parked before the model had answered.",
    retryable: true,
    notBefore: at.timestamp,
  } as const
  return { ...session, request: { ...session.request, state } }
}

/** The conversation that a request stands on: the results of the latest calls, then `takes` queued messages. */
export function conversationWith(session: Known, takes: number): Utterance | null {
  let conversation = session.conversation
  if (session.calls.length > 0) conversation = say(conversation, "user", `[${session.calls.map(resultBlock).join(",")}]`)
  return sayAll(conversation, session.queued.slice(0, takes))
}

function resultBlock(call: Call): string {
  if (call.state.is !== "done") throw new Error(`The call ${call.toolUseId} has no result yet.`)
  return `{"content":${call.state.content},${call.state.isError ? '"is_error":true,' : ""}"tool_use_id":${JSON.stringify(call.toolUseId)},"type":"tool_result"}`
}

/** The conversation of a session that leaves a compaction without a summary: what was taken was said all the same (E11). */
function withTaken(session: Running): Pick<Known, "conversation"> {
  const taken = session.phase === "awaiting-model" ? (session.compaction?.taken ?? []) : []
  return { conversation: sayAll(session.conversation, taken) }
}

function sayAll(before: Utterance | null, queued: readonly Queued[]): Utterance | null {
  let conversation = before
  for (const { content } of queued) conversation = say(conversation, "user", content)
  return conversation
}

export function allDone(calls: readonly Call[]): boolean {
  return calls.every((call) => call.state.is === "done")
}

function attemptOf(event: SessionEventOf<"model.requested">, failures: number, at: Position): ModelAttempt {
  return {
    claim: event.eventId,
    attempt: event.attempt,
    failures,
    group: event.group,
    instance: event.instance,
    deadlineAt: at.timestamp + event.deadlineMs,
    bodyHash: event.bodyHash,
    state: { is: "open" },
  }
}

function requested(session: Running, event: SessionEventOf<"model.requested">, at: Position): Step {
  // E8: who asked had not read the breach. A session that is about to be parked begins nothing.
  if (session.breach !== null) return refuse(session, event)
  const compacts = event.compacts ?? null
  if (session.phase === "awaiting-model" && event.turn === session.turns) return requestedAgain(session, event, compacts, at)
  if (event.turn !== session.turns + 1 || event.attempt !== 1 || event.replaces !== null || event.takes > session.queued.length)
    return refuse(session, event)
  if (!(compacts === null ? isTurnDue(session) : mayCompact(session))) return refuse(session, event)
  // E5: of two starts with the same input only one stood, and the other may have had another agent.
  if (session.response === null && event.causedBy !== null && event.causedBy !== session.startedBy) return refuse(session, event)
  // A summary is asked for of what was said before the messages that the turn takes.
  const conversation = conversationWith(session, compacts === null ? event.takes : 0)
  // E3
  if (event.conversationDigest !== digestOf(conversation)) return refuse(session, event)
  const taken = session.queued.slice(0, event.takes)
  return accept({
    ...knownOf(session),
    phase: "awaiting-model",
    conversation,
    queued: session.queued.slice(event.takes),
    calls: [],
    turns: event.turn,
    limitReached: false,
    changedAt: at.timestamp,
    request: attemptOf(event, 0, at),
    ...(compacts === null ? {} : { compaction: { budget: compacts, taken, summary: null } }),
  })
}

/** E2: another attempt at the request of this turn, on the same conversation. A summary may be asked for of less of it. */
function requestedAgain(session: AwaitingModel, event: SessionEventOf<"model.requested">, compacts: number | null, at: Position): Step {
  const { request, compaction } = session
  if (event.attempt !== request.attempt + 1 || event.takes !== 0 || request.state.is === "answered") return refuse(session, event)
  if (event.replaces !== (request.state.is === "failed" ? null : request.claim)) return refuse(session, event)
  if (event.conversationDigest !== digestOf(session.conversation)) return refuse(session, event)
  const next = { ...stamped(session, at), request: attemptOf(event, request.failures, at) }
  if (compaction === undefined) return compacts === null ? accept(next) : refuse(session, event)
  return compacts === null ? refuse(session, event) : accept({ ...next, compaction: { ...compaction, budget: compacts } })
}

function isTurnDue(session: Running): boolean {
  if (session.phase === "idle") return session.wake && session.queued.length > 0
  return session.phase === "awaiting-tools" && allDone(session.calls)
}

/** Before a turn that is due, and after a request or an answer that did not fit. */
function mayCompact(session: Running): boolean {
  if (session.phase === "settling") return session.reason === "context_window_exceeded"
  if (session.phase === "awaiting-model") return session.request.state.is === "failed" && session.compaction === undefined
  return isTurnDue(session)
}

/** The summary of a conversation, or an answer that is none. */
function summarised(
  session: AwaitingModel,
  compaction: Compaction,
  event: SessionEventOf<"model.responded">,
  blocks: readonly unknown[],
  at: Position,
): Step {
  const summary = summaryIn(blocks, event.stopReason)
  const next = { ...stamped(session, at), usage: usageWith(session, event) }
  if (summary !== null) {
    return accept({
      ...next,
      response: event.eventId,
      request: { ...session.request, state: { is: "answered" } },
      compaction: { ...compaction, summary },
    })
  }
  // Too much was asked of the window, or the answer is not what was asked for: both are a failure of this attempt.
  const tooLarge = event.stopReason === "model_context_window_exceeded"
  return accept({
    ...next,
    request: {
      ...session.request,
      failures: session.request.failures + 1,
      state: {
        is: "failed",
        kind: tooLarge ? "request_too_large" : "no_summary",
        message: `The answer is no summary: it ended with ${event.stopReason ?? "no stop reason"}.`,
        retryable: !tooLarge,
        notBefore: at.timestamp,
      },
    },
  })
}

function compacted(session: Running, event: SessionEventOf<"context.compacted">, at: Position): Step {
  if (session.phase !== "awaiting-model" || session.compaction === undefined || session.compaction.summary === null)
    return refuse(session, event)
  // E11, E5
  if (
    event.claim !== session.request.claim ||
    event.causedBy !== session.response ||
    event.conversationDigest !== digestOf(session.conversation)
  )
    return refuse(session, event)
  return accept({
    ...knownOf(session),
    phase: "awaiting-tools",
    conversation: sayAll(say(null, "user", event.content), session.compaction.taken),
    contextTokens: 0,
    compacted: session.compacted + 1,
    changedAt: at.timestamp,
  })
}

interface ToolUse {
  readonly id: string
  readonly name: string
  readonly input: unknown
}

/** The blocks of a response and its tool calls, or what is wrong with it. */
function contentOf(content: string): { readonly blocks: readonly unknown[]; readonly uses: readonly ToolUse[] } | string {
  const blocks = parsed(content)
  // Not the parser's own words: they differ from build to build, and this text is part of the state.
  if (blocks === undefined) return "its content is not JSON"
  if (!Array.isArray(blocks)) return "its content is not a JSON array"
  const uses: ToolUse[] = []
  const seen = new Set<string>()
  for (const block of blocks as { type?: unknown; id?: unknown; name?: unknown; input?: unknown }[]) {
    if (block?.type !== "tool_use") continue
    if (typeof block.id !== "string" || typeof block.name !== "string") return "a tool_use block has no id or no name"
    if (seen.has(block.id)) return `two tool_use blocks have the id ${block.id}`
    if (isDeeperThan(block.input, depthMax)) return `the input of ${block.id} nests deeper than ${depthMax}`
    seen.add(block.id)
    uses.push({ id: block.id, name: block.name, input: block.input ?? {} })
  }
  return { blocks: blocks as readonly unknown[], uses }
}

function usageWith(session: Known, { usage }: SessionEventOf<"model.responded">): Usage {
  return {
    inputTokens: session.usage.inputTokens + usage.inputTokens,
    outputTokens: session.usage.outputTokens + usage.outputTokens,
    cacheReadTokens: session.usage.cacheReadTokens + usage.cacheReadTokens,
    cacheWriteTokens: session.usage.cacheWriteTokens + usage.cacheWriteTokens,
  }
}

function responded(session: Running, event: SessionEventOf<"model.responded">, at: Position): Step {
  // E4
  if (session.phase !== "awaiting-model" || session.request.state.is !== "open" || session.request.claim !== event.claim)
    return refuse(session, event)
  const read = contentOf(event.content)
  if (typeof read === "string") {
    // The attempt is over, so that a later copy of this record is late and who resumes the session has the model asked again.
    const message = `${event.eventId} (model.responded) cannot be used: ${read}.`
    return accept({
      ...stamped(session, at),
      request: {
        ...session.request,
        failures: session.request.failures + 1,
        state: { is: "failed", kind: "unreadable_response", message, retryable: true, notBefore: at.timestamp },
      },
      breach: message,
    })
  }
  if (session.compaction !== undefined) return summarised(session, session.compaction, event, read.blocks, at)
  const { uses } = read
  const run = event.stopReason === "tool_use"
  const { usage } = event
  const known: Known = {
    ...knownOf(session),
    conversation: say(session.conversation, "assistant", event.content),
    response: event.eventId,
    calls: uses.map((use) => ({
      toolUseId: use.id,
      tool: use.name,
      input: canonicalJson(use.input),
      attempt: 0,
      failures: 0,
      // A call in a response that was cut off may be cut off itself: it is answered, never run.
      state: run
        ? { is: "wanted", notBefore: 0 }
        : {
            is: "done",
            content: JSON.stringify(`Not run: the response ended with ${event.stopReason ?? "no stop reason"}.`),
            isError: true,
          },
    })),
    usage: usageWith(session, event),
    compacted: 0,
    contextTokens: usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens,
    changedAt: at.timestamp,
  }
  const goesOn = (run && uses.length > 0) || event.stopReason === "pause_turn"
  return accept(goesOn ? { ...known, phase: "awaiting-tools" } : { ...known, phase: "settling", reason: reasonOf(event.stopReason) })
}

function reasonOf(stopReason: string | null): IdleReason {
  switch (stopReason) {
    case "refusal":
    case "max_tokens":
      return stopReason
    case "model_context_window_exceeded":
      return "context_window_exceeded"
    default:
      return "end_turn"
  }
}

/** Failures that say nothing about the model or the request: they do not count against the retries. */
const uncounted = new Set(["given_up"])

function modelFailed(session: Running, event: SessionEventOf<"model.failed">, at: Position): Step {
  if (session.phase !== "awaiting-model" || session.request.state.is !== "open" || session.request.claim !== event.claim)
    return refuse(session, event)
  return accept({
    ...stamped(session, at),
    request: {
      ...session.request,
      failures: session.request.failures + (uncounted.has(event.kind) ? 0 : 1),
      state: {
        is: "failed",
        kind: event.kind,
        message: event.message,
        retryable: event.retryable,
        notBefore: at.timestamp + event.retryAfterMs,
      },
    },
  })
}

type CallEvent = SessionEventOf<
  | "tool-call.refused"
  | "tool-call.held"
  | "tool-call.dispatched"
  | "tool-call.completed"
  | "tool-call.failed"
  | "tool-call.timed-out"
  | "tool-call.outcome-unknown"
>

function onCall(session: Running, event: CallEvent, at: Position): Step {
  if (session.phase !== "awaiting-tools") return refuse(session, event)
  const index = session.calls.findIndex((call) => call.toolUseId === event.toolUseId)
  const call = session.calls[index]
  if (call === undefined) return refuse(session, event)
  const next = callAfter(session, call, event, at)
  if (next === null) return refuse(session, event)
  const calls = session.calls.with(index, next)
  // Charged once: when it first leaves, for a backend or for the client.
  const first =
    (event.type === "tool-call.dispatched" && event.attempt === 1) || (event.type === "tool-call.held" && event.reason === "client")
  return accept({
    ...knownOf(session),
    phase: "awaiting-tools",
    calls,
    ...stillWaiting(session, calls),
    changedAt: at.timestamp,
    toolCalls: session.toolCalls + (first ? 1 : 0),
    limitReached: session.limitReached || (event.type === "tool-call.refused" && event.code === "quota_exceeded"),
  })
}

/** The call after this event, or null where the event does not fit. */
function callAfter(session: Known, call: Call, event: CallEvent, at: Position): Call | null {
  const done = (content: string, isError: boolean): Call => ({ ...call, state: { is: "done", content, isError } })
  if (event.type === "tool-call.refused") {
    // E5
    if (call.state.is !== "wanted" || call.attempt !== 0 || event.causedBy !== session.response) return null
    return done(JSON.stringify(event.message), true)
  }
  if (event.type === "tool-call.held") {
    const unknown = event.reason === "outcome_unknown"
    const on = unknown ? call.state.is === "dispatched" && event.causedBy === call.state.eventId : event.causedBy === session.response
    if (!on || (!unknown && call.state.is !== "wanted") || event.attempt !== call.attempt || !isHeldReason(event.reason)) return null
    // E1: the answer may stand before its hold, and a copy of the hold behind it; neither is asked for again.
    if (call.approval !== undefined && !unknown) return null
    const { eventId, reason, argumentsHash, message } = event
    const { approval: _, ...rest } = call
    return { ...rest, state: { is: "held", eventId, reason, argumentsHash, message } }
  }
  if (event.type === "tool-call.dispatched") {
    if (call.state.is !== "wanted" || event.attempt !== call.attempt + 1 || event.causedBy !== session.response) return null
    // E9: a dispatch chained on an allow that the log did not take is none.
    if (mustWait(session, call)) return null
    return {
      ...call,
      attempt: event.attempt,
      state: {
        is: "dispatched",
        eventId: event.eventId,
        backend: event.backend,
        effect: event.effect,
        idempotencyKey: event.idempotencyKey,
        deadlineAt: at.timestamp + event.deadlineMs,
        offset: at.offset,
      },
    }
  }
  // E4
  if (call.state.is !== "dispatched" || event.attempt !== call.attempt || event.causedBy !== call.state.eventId) return null
  switch (event.type) {
    case "tool-call.completed":
      return done(event.content, event.isError)
    case "tool-call.outcome-unknown":
      return done(JSON.stringify(event.message), true)
    case "tool-call.failed":
    case "tool-call.timed-out": {
      if (event.retryAfterMs === null) return done(JSON.stringify(event.message), true)
      const givenUp = event.type === "tool-call.failed" && uncounted.has(event.kind)
      // An allow permits one run: it stands only where nothing ran under it.
      const { approval, ...rest } = call
      const kept = approval !== undefined && event.effect === "none" ? { approval } : {}
      return {
        ...rest,
        ...kept,
        failures: call.failures + (givenUp ? 0 : 1),
        state: { is: "wanted", notBefore: at.timestamp + event.retryAfterMs },
      }
    }
    default:
      return event satisfies never
  }
}

function mustWait(session: Known, call: Call): boolean {
  const tool = session.agent.tools.find((one) => one.name === call.tool)
  return tool?.backend === clientBackend || (tool?.permission === "always_ask" && call.approval === undefined)
}

function isHeldReason(reason: string): reason is HeldReason {
  return reason === "approval" || reason === "client" || reason === "outcome_unknown"
}

/** What is left of waiting when one call changed: nothing ran meanwhile where all that are open are held. */
function stillWaiting({ waiting }: AwaitingTools, calls: readonly Call[]): Pick<AwaitingTools, "waiting"> {
  return waiting !== undefined && allHeld(calls) ? { waiting: "still" } : {}
}

/** Every call that is not done is held, and there is one. */
export function allHeld(calls: readonly Call[]): boolean {
  return calls.every((call) => call.state.is === "done" || call.state.is === "held") && !allDone(calls)
}

function idled(session: Running, event: SessionEventOf<"session.idled">, at: Position): Step {
  // Remembered like a command: the session may wait several times in one turn, and a late copy must not say so for the next time.
  const id = `idled/${event.eventId}`
  if (event.reason === "requires_action" && heard(session.commands, id)) return { session, verdict: "duplicate" }
  if (event.turn !== session.turns || !mayIdle(session, event)) return refuse(session, event)
  const reason = event.reason as IdleReason
  if (session.phase === "awaiting-tools" && reason === "requires_action")
    return accept({ ...stamped(session, at), commands: hear(session.commands, id), waiting: "told" })
  const idle: Idle = {
    ...knownOf(session),
    ...withTaken(session),
    phase: "idle",
    reason,
    // What arrived meanwhile asks for the next turn, unless a limit stands in its way.
    wake: session.queued.length > 0 && reason !== "limit_reached",
    changedAt: at.timestamp,
  }
  return accept(idle)
}

function mayIdle(session: Running, { reason, causedBy }: SessionEventOf<"session.idled">): boolean {
  switch (session.phase) {
    case "settling":
      return reason === session.reason
    case "awaiting-model":
      return (
        session.request.state.is === "failed" &&
        ["retries_exhausted", "model_error", "context_window_exceeded", "limit_reached"].includes(reason)
      )
    case "awaiting-tools":
      if (reason === "requires_action") return session.waiting !== "told" && allHeld(session.calls)
      return reason === "limit_reached" && allDone(session.calls)
    case "idle":
      // E5: it names the newest of the messages that it leaves waiting, so that a late copy does not silence what came after.
      return reason === "limit_reached" && session.wake && causedBy === session.queued.at(-1)?.eventId
    default:
      return session satisfies never
  }
}
