import { createHash } from "node:crypto"

// Acceptance as the design states it, written a second time and apart from the product's fold: mutable, plain, with node:crypto. Where
// the two differ about any record of any run, one of them is wrong.

// biome-ignore lint/suspicious/noExplicitAny: records as a stranger reads them.
export type Fact = any
export type Verdict = "accepted" | "duplicate" | "superseded" | "late"

const sha = (text: string): string => createHash("sha256").update(text).digest("hex")

/** A block of the conversation as it goes to the model. */
export interface Block {
  readonly role: "user" | "assistant"
  /** Content blocks as JSON text without the brackets around them. */
  readonly json: string
}

export interface RefCall {
  readonly id: string
  readonly tool: string
  /** Of the arguments as canonical JSON. */
  readonly hash: string
  attempt: number
  failures: number
  is: "wanted" | "open" | "held" | "done"
  dispatch: string | null
  /** While it is held: by which record, for what and with which words. */
  hold: { readonly id: string; readonly reason: string; readonly message: string | null } | null
  /** The allow under which it may run. */
  allow: string | null
  /** The newest approval or result that changed it. */
  answer: string | null
  deadlineAt: number
  notBefore: number
  content: string
  isError: boolean
}

interface RefRequest {
  readonly claim: string
  readonly attempt: number
  failures: number
  failed: boolean
}

type Phase = "absent" | "idle" | "asking" | "tools" | "settling" | "parked" | "ended" | "deleted"

export interface RefSession {
  phase: Phase
  /** While parked: what it was. */
  before: Phase
  heard: Set<string>
  agent: Fact
  startedBy: string | null
  wake: boolean
  reason: string | null
  /** Whether it is known to wait for someone: it was told so, or it was and some of it has been answered since. */
  waiting: "no" | "told" | "still"
  title: string | null
  metadata: string
  queued: { id: string; content: string }[]
  blocks: Block[]
  digest: string
  request: RefRequest | null
  /** While a summary is asked for: the messages that follow it, and whether it was given. */
  summary: { readonly taken: { id: string; content: string }[]; given: boolean } | null
  response: string | null
  calls: RefCall[]
  turns: number
  toolCalls: number
  outputTokens: number
  limitHit: boolean
  breach: boolean
}

const results = new Set([
  "model.responded",
  "model.failed",
  "tool-call.completed",
  "tool-call.failed",
  "tool-call.timed-out",
  "tool-call.outcome-unknown",
])

function fresh(): RefSession {
  return {
    phase: "absent",
    before: "absent",
    heard: new Set(),
    agent: null,
    startedBy: null,
    wake: false,
    reason: null,
    waiting: "no",
    title: null,
    metadata: "{}",
    queued: [],
    blocks: [],
    digest: sha(""),
    request: null,
    summary: null,
    response: null,
    calls: [],
    turns: 0,
    toolCalls: 0,
    outputTokens: 0,
    limitHit: false,
    breach: false,
  }
}

/** The blocks that the next request adds: results in the order of the calls, then the messages taken. */
function added(session: RefSession, takes: number): Block[] {
  const blocks: Block[] = []
  if (session.calls.length > 0) {
    const json = session.calls
      .map(
        ({ content, isError, id }) =>
          `{"content":${content},${isError ? '"is_error":true,' : ""}"tool_use_id":${JSON.stringify(id)},"type":"tool_result"}`,
      )
      .join(",")
    blocks.push({ role: "user", json })
  }
  blocks.push(...session.queued.slice(0, takes).map(messageBlock))
  return blocks.filter((block) => block.json.trim() !== "")
}

function chained(digest: string, blocks: readonly Block[]): string {
  let chain = digest
  for (const { role, json } of blocks) chain = sha(`${chain}\n${role}\n${json}`)
  return chain
}

/** One partition of `sessions`. */
export class RefSessions {
  readonly sessions: Map<string, RefSession> = new Map()
  readonly answered: Map<number, number> = new Map()

  of(sessionId: string): RefSession {
    let session = this.sessions.get(sessionId)
    if (session === undefined) {
      session = fresh()
      this.sessions.set(sessionId, session)
    }
    return session
  }

  apply(fact: Fact, timestamp: number): Verdict {
    const newest = this.answered.get(fact.command?.partition ?? -1) ?? -1
    // What is refused is refused whenever it is said: nothing comes of it.
    if (fact.command != null && fact.command.offset <= newest && fact.type !== "command.rejected") return "duplicate"
    const session = this.of(fact.sessionId)
    if (fact.commandId !== undefined && session.heard.has(fact.commandId)) return "duplicate"
    const wasDeleted = session.phase === "deleted"
    const verdict = judge(session, fact, timestamp)
    // What a deleted session answers is erased with everything else of it, so nothing may follow from it.
    if (verdict === "accepted" && !wasDeleted) {
      if (fact.commandId !== undefined) session.heard.add(fact.commandId)
      if (fact.command != null) this.answered.set(fact.command.partition, Math.max(newest, fact.command.offset))
    }
    return verdict
  }
}

function judge(session: RefSession, fact: Fact, timestamp: number): Verdict {
  const no: Verdict = results.has(fact.type) ? "late" : "superseded"
  if (fact.type === "command.rejected") return "accepted"
  if (session.phase === "deleted") return no
  if (fact.type === "session.deleted") {
    Object.assign(session, fresh(), { phase: "deleted" })
    return "accepted"
  }
  if (session.phase === "absent") {
    if (fact.type !== "session.started") return no
    session.phase = "idle"
    session.agent = fact.agent
    session.startedBy = fact.eventId
    session.title = fact.title ?? null
    session.metadata = fact.metadata ?? "{}"
    if (fact.input !== null) {
      session.queued.push({ id: fact.eventId, content: fact.input })
      session.wake = true
    }
    return "accepted"
  }
  if (fact.type === "session.updated") return update(session, fact)
  if (session.phase === "ended") return ["session.archived", "approval.given", "result.received"].includes(fact.type) ? "accepted" : no
  const running = session.phase !== "parked"
  switch (fact.type) {
    case "approval.given":
    case "result.received":
      // Too late or not to the point, it is heard all the same: its sender has an answer.
      if (session.phase === "tools") answer(session, fact)
      return "accepted"
    case "message.received":
      session.queued.push({ id: fact.eventId, content: fact.content })
      if ((running ? session.phase : session.before) === "idle") session.wake = true
      return "accepted"
    case "interrupt.received": {
      const phase = running ? session.phase : session.before
      if (phase === "idle") return "accepted"
      closeAll(session)
      sayTaken(session)
      session.request = null
      session.reason = "interrupted"
      if (running) session.phase = "settling"
      else session.before = "settling"
      return "accepted"
    }
    case "session.ended":
    case "session.archived":
      closeAll(session)
      sayTaken(session)
      session.queued = []
      session.phase = "ended"
      return "accepted"
    case "session.resumed":
      if (!running) {
        session.phase = session.before
        session.breach = false
        session.waiting = "no"
      }
      return "accepted"
    case "session.parked":
      if (!running) return no
      if (fact.causedBy !== null && !(session.phase === "asking" && session.breach && session.request?.claim === fact.causedBy)) return no
      if (session.heard.has(`parked/${fact.eventId}`)) return "duplicate"
      session.heard.add(`parked/${fact.eventId}`)
      // Whatever comes of an open request comes too late.
      if (session.phase === "asking" && session.request !== null && !isAnswered(session)) session.request.failed = true
      session.before = session.phase
      session.phase = "parked"
      return "accepted"
  }
  if (!running) return no
  switch (fact.type) {
    case "model.requested":
      return requested(session, fact) ? "accepted" : no
    case "model.responded":
      return responded(session, fact) ? "accepted" : no
    case "model.failed": {
      const { request } = session
      if (session.phase !== "asking" || request === null || isAnswered(session) || request.claim !== fact.claim) return no
      request.failed = true
      if (fact.kind !== "given_up") request.failures++
      return "accepted"
    }
    case "context.compacted":
      return compacted(session, fact) ? "accepted" : no
    case "session.idled":
      if (fact.reason === "requires_action" && session.heard.has(`idled/${fact.eventId}`)) return "duplicate"
      return idled(session, fact) ? "accepted" : no
  }
  return fact.type.startsWith("tool-call.") && onCall(session, fact, timestamp) ? "accepted" : no
}

/** A summary that comes to nothing leaves what was taken with it where it would have been said. */
function sayTaken(session: RefSession): void {
  append(session, (session.summary?.taken ?? []).map(messageBlock))
  session.summary = null
}

function messageBlock({ content }: { readonly content: string }): Block {
  return { role: "user", json: content.slice(1, -1) }
}

function append(session: RefSession, blocks: readonly Block[]): void {
  const said = blocks.filter((block) => block.json.trim() !== "")
  session.blocks.push(...said)
  session.digest = chained(session.digest, said)
}

function compacted(session: RefSession, fact: Fact): boolean {
  const { summary, request } = session
  if (session.phase !== "asking" || summary === null || !summary.given || request === null) return false
  if (fact.claim !== request.claim || fact.causedBy !== session.response || fact.conversationDigest !== session.digest) return false
  session.blocks = []
  session.digest = sha("")
  append(session, [messageBlock(fact)])
  sayTaken(session)
  session.phase = "tools"
  session.calls = []
  session.request = null
  return true
}

function closeAll(session: RefSession): void {
  for (const call of session.calls) {
    if (call.is === "done") continue
    const atClient = waitsFor(session, call) === "client"
    const ran = call.is === "open" || call.attempt > 0
    call.is = "done"
    call.isError = true
    call.content = JSON.stringify(
      atClient
        ? "Interrupted while it waited for its client. It may have run; its outcome is unknown."
        : ran
          ? "Interrupted. The call had been dispatched and may have run; its outcome is unknown."
          : "Interrupted before it was dispatched. It was not run.",
    )
  }
}

function update(session: RefSession, fact: Fact): Verdict {
  const changes = JSON.parse(fact.changes)
  if (changes.title !== undefined) session.title = changes.title
  if (changes.metadata !== undefined) session.metadata = canonical(changes.metadata)
  if (changes.metadataPatch !== undefined) {
    const standing = JSON.parse(session.metadata) as Record<string, unknown>
    for (const [key, value] of Object.entries(changes.metadataPatch)) {
      if (value === null) delete standing[key]
      else standing[key] = value
    }
    session.metadata = canonical(standing)
  }
  // A turn goes on with the tools that it began with.
  if (fact.tools !== null && session.phase === "idle" && !session.wake) session.agent = { ...session.agent, tools: JSON.parse(fact.tools) }
  return "accepted"
}

/** JSON with its keys in order, however it was written. */
export function canonical(value: Fact): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  const fields = Object.keys(value).sort()
  return `{${fields.map((field) => `${JSON.stringify(field)}:${canonical(value[field])}`).join(",")}}`
}

export function toolOf(session: RefSession, name: string): Fact {
  return session.agent.tools.find((tool: Fact) => tool.name === name)
}

/** For what a call waits, or would if someone had said so already. */
export function waitsFor(session: RefSession, call: RefCall): "approval" | "client" | "outcome_unknown" | null {
  if (call.is === "held") return call.hold?.reason as "approval" | "client" | "outcome_unknown"
  if (call.is !== "wanted" || call.attempt > 0 || call.allow !== null) return null
  const tool = toolOf(session, call.tool)
  if (tool?.backend === "client") return "client"
  return tool?.permission === "always_ask" ? "approval" : null
}

/** Something is open, and all that is open is held. */
export function isHeld(session: RefSession): boolean {
  const open = session.calls.filter((call) => call.is !== "done")
  return open.length > 0 && open.every((call) => call.is === "held")
}

/** A call has changed: whether nothing runs, and that was told before. */
function changed(session: RefSession): void {
  session.waiting = session.waiting !== "no" && isHeld(session) ? "still" : "no"
}

/** What someone says about a call counts for that call, for that hold, once, and an allow for those arguments alone. */
function answer(session: RefSession, fact: Fact): void {
  const call = session.calls.find((one) => one.id === fact.toolUseId)
  const reason = call === undefined ? null : waitsFor(session, call)
  if (call === undefined || reason === null) return
  // The response that asked for it is named by whoever answers what has not been sent anywhere yet; else the hold is.
  const named = [...(call.is === "held" ? [call.hold?.id] : []), ...(call.attempt === 0 ? [session.response] : [])]
  if (!named.includes(fact.causedBy)) return
  if (fact.type === "result.received") {
    if (reason === "approval") return
    if (call.is === "wanted") session.toolCalls++
    Object.assign(call, { is: "done", content: fact.content, isError: fact.isError })
  } else {
    if (reason === "client" || fact.argumentsHash !== call.hash) return
    if (fact.decision === "allow") Object.assign(call, { is: "wanted", allow: fact.eventId, notBefore: 0 })
    else {
      const known = reason === "outcome_unknown" ? (call.hold?.message ?? "") : `Permission to use ${call.tool} has been denied.`
      Object.assign(call, { is: "done", content: JSON.stringify(fact.message ?? known), isError: true })
    }
  }
  call.answer = fact.eventId
  call.hold = null
  changed(session)
}

function requested(session: RefSession, fact: Fact): boolean {
  // It is about to be parked.
  if (session.breach) return false
  const compacts = fact.compacts ?? null
  const again = session.phase === "asking" && fact.turn === session.turns
  if (again) {
    const request = session.request as RefRequest
    // A turn stays a turn, and a summary one; one that was given is not asked for again.
    if ((compacts === null) !== (session.summary === null) || session.summary?.given === true) return false
    if (fact.turn !== session.turns || fact.attempt !== request.attempt + 1 || fact.takes !== 0) return false
    if (fact.replaces !== (request.failed ? null : request.claim) || fact.conversationDigest !== session.digest) return false
    session.request = { claim: fact.eventId, attempt: fact.attempt, failures: request.failures, failed: false }
    return true
  }
  const due =
    session.phase === "idle"
      ? session.wake && session.queued.length > 0
      : session.phase === "tools" && session.calls.every((call) => call.is === "done")
  const tooMuch =
    (session.phase === "settling" && session.reason === "context_window_exceeded") ||
    (session.phase === "asking" && session.request?.failed === true && session.summary === null)
  const may = due ? session.phase !== "asking" : compacts !== null && tooMuch
  if (!may || fact.turn !== session.turns + 1 || fact.attempt !== 1 || fact.replaces !== null || fact.takes > session.queued.length)
    return false
  if (session.response === null && fact.causedBy !== null && fact.causedBy !== session.startedBy) return false
  const blocks = added(session, compacts === null ? fact.takes : 0)
  const digest = chained(session.digest, blocks)
  if (fact.conversationDigest !== digest) return false
  session.blocks.push(...blocks)
  session.digest = digest
  const taken = session.queued.splice(0, fact.takes)
  session.summary = compacts === null ? null : { taken, given: false }
  session.calls = []
  session.waiting = "no"
  session.turns = fact.turn
  session.limitHit = false
  session.phase = "asking"
  session.request = { claim: fact.eventId, attempt: 1, failures: 0, failed: false }
  return true
}

function isAnswered({ request, summary }: RefSession): boolean {
  return request?.failed === true || summary?.given === true
}

function responded(session: RefSession, fact: Fact): boolean {
  const { request } = session
  if (session.phase !== "asking" || request === null || isAnswered(session) || request.claim !== fact.claim) return false
  let blocks: Fact
  try {
    blocks = JSON.parse(fact.content)
  } catch {
    blocks = null
  }
  const uses = Array.isArray(blocks) ? blocks.filter((block: Fact) => block.type === "tool_use") : null
  if (uses === null || new Set(uses.map((use: Fact) => use.id)).size !== uses.length) {
    request.failed = true
    request.failures++
    session.breach = true
    return true
  }
  if (session.summary !== null) {
    session.outputTokens += fact.usage.outputTokens
    const text = blocks
      .map((block: Fact) => (block.type === "text" ? block.text : ""))
      .join("")
      .trim()
    if (text === "" || !["end_turn", "max_tokens", "stop_sequence"].includes(fact.stopReason)) {
      request.failed = true
      request.failures++
    } else {
      session.summary.given = true
      session.response = fact.eventId
    }
    return true
  }
  const said: Block = { role: "assistant", json: fact.content.slice(1, -1) }
  if (said.json.trim() !== "") {
    session.blocks.push(said)
    session.digest = chained(session.digest, [said])
  }
  const runs = fact.stopReason === "tool_use"
  session.response = fact.eventId
  session.calls = uses.map((use: Fact) => ({
    id: use.id,
    tool: use.name,
    hash: sha(canonical(use.input ?? {})),
    attempt: 0,
    failures: 0,
    is: runs ? "wanted" : "done",
    dispatch: null,
    hold: null,
    allow: null,
    answer: null,
    deadlineAt: 0,
    notBefore: 0,
    content: JSON.stringify(`Not run: the response ended with ${fact.stopReason ?? "no stop reason"}.`),
    isError: true,
  }))
  session.outputTokens += fact.usage.outputTokens
  session.request = null
  if ((runs && uses.length > 0) || fact.stopReason === "pause_turn") session.phase = "tools"
  else {
    session.phase = "settling"
    session.reason =
      fact.stopReason === "refusal" || fact.stopReason === "max_tokens"
        ? fact.stopReason
        : fact.stopReason === "model_context_window_exceeded"
          ? "context_window_exceeded"
          : "end_turn"
  }
  return true
}

function onCall(session: RefSession, fact: Fact, timestamp: number): boolean {
  const call = session.calls.find((one) => one.id === fact.toolUseId)
  if (session.phase !== "tools" || call === undefined || !callChanges(session, call, fact, timestamp)) return false
  if ((fact.type === "tool-call.dispatched" && fact.attempt === 1) || (fact.type === "tool-call.held" && fact.reason === "client"))
    session.toolCalls++
  changed(session)
  return true
}

function callChanges(session: RefSession, call: RefCall, fact: Fact, timestamp: number): boolean {
  const done = (content: string, isError: boolean): boolean => {
    Object.assign(call, { is: "done", content, isError })
    return true
  }
  const onResponse = call.is === "wanted" && fact.causedBy === session.response
  const onDispatch = call.is === "open" && fact.attempt === call.attempt && fact.causedBy === call.dispatch
  switch (fact.type) {
    case "tool-call.refused":
      if (!onResponse || call.attempt !== 0) return false
      if (fact.code === "quota_exceeded") session.limitHit = true
      return done(JSON.stringify(fact.message), true)
    case "tool-call.held": {
      const fits =
        fact.reason === "outcome_unknown"
          ? onDispatch
          : ["approval", "client"].includes(fact.reason) && onResponse && fact.attempt === call.attempt && call.allow === null
      if (!fits) return false
      Object.assign(call, { is: "held", allow: null, hold: { id: fact.eventId, reason: fact.reason, message: fact.message } })
      return true
    }
    case "tool-call.dispatched": {
      if (!onResponse || fact.attempt !== call.attempt + 1) return false
      const tool = toolOf(session, call.tool)
      if (tool?.backend === "client" || (tool?.permission === "always_ask" && call.allow === null)) return false
      call.attempt = fact.attempt
      call.is = "open"
      call.dispatch = fact.eventId
      call.deadlineAt = timestamp + fact.deadlineMs
      return true
    }
  }
  if (!onDispatch) return false
  if (fact.type === "tool-call.completed") return done(fact.content, fact.isError)
  if (fact.type === "tool-call.outcome-unknown" || fact.retryAfterMs === null) return done(JSON.stringify(fact.message), true)
  if (!(fact.type === "tool-call.failed" && fact.kind === "given_up")) call.failures++
  // One allow, one run that may have had an effect.
  if (fact.effect !== "none") call.allow = null
  call.is = "wanted"
  call.notBefore = timestamp + fact.retryAfterMs
  return true
}

function idled(session: RefSession, fact: Fact): boolean {
  if (fact.turn !== session.turns) return false
  const { reason } = fact
  if (reason === "requires_action") {
    if (session.phase !== "tools" || session.waiting === "told" || !isHeld(session)) return false
    session.waiting = "told"
    session.heard.add(`idled/${fact.eventId}`)
    return true
  }
  const may =
    session.phase === "settling"
      ? reason === session.reason
      : session.phase === "asking"
        ? session.request?.failed === true &&
          ["retries_exhausted", "model_error", "context_window_exceeded", "limit_reached"].includes(reason)
        : session.phase === "tools"
          ? reason === "limit_reached" && session.calls.every((call) => call.is === "done")
          : reason === "limit_reached" && session.wake && fact.causedBy === session.queued.at(-1)?.id
  if (!may) return false
  sayTaken(session)
  session.phase = "idle"
  session.reason = reason
  session.request = null
  session.wake = session.queued.length > 0 && reason !== "limit_reached"
  return true
}

/** Nothing more will happen in it until something new arrives. One that waits for an answer is not at rest: someone has to give it. */
export function isSettled(session: RefSession): boolean {
  return ["ended", "deleted", "parked", "absent"].includes(session.phase) || (session.phase === "idle" && !session.wake)
}

export interface RefToolCall {
  readonly sessionId: string
  attempt: number
  open: boolean
  effect: string
  claim: string | null
  finished: boolean
  cancelled: boolean
  ahead: Set<number>
  deadlineAt: number
  /** Offset and eventId of the accepted dispatch of the latest attempt. */
  dispatchedAt: number
  dispatch: string
}

const once = new Set(["queryable", "unsafe"])
const claiming = new Set(["keyed", "queryable", "unsafe"])

/** One partition of `tools.<backend>`. */
export class RefTools {
  readonly calls: Map<string, RefToolCall> = new Map()

  apply(fact: Fact, offset: number, timestamp: number): Verdict {
    const id = `${fact.sessionId}/${fact.toolUseId}`
    const call = this.calls.get(id)
    const make = (): RefToolCall => {
      const made: RefToolCall = {
        sessionId: fact.sessionId,
        attempt: 0,
        open: false,
        effect: "",
        claim: null,
        finished: false,
        cancelled: false,
        ahead: new Set(),
        deadlineAt: fact.deadlineAt,
        dispatchedAt: offset,
        dispatch: "",
      }
      this.calls.set(id, made)
      return made
    }
    switch (fact.type) {
      case "tool-call.dispatched": {
        if (timestamp > fact.deadlineAt) return "superseded"
        if (call !== undefined && fact.attempt <= call.attempt) return "duplicate"
        const one = call ?? make()
        Object.assign(one, {
          attempt: fact.attempt,
          effect: fact.effect,
          deadlineAt: fact.deadlineAt,
          claim: null,
          finished: false,
          cancelled: one.ahead.has(fact.attempt),
          open: !one.ahead.has(fact.attempt),
          dispatchedAt: offset,
          dispatch: fact.eventId,
        })
        return "accepted"
      }
      case "tool-call.cancelled": {
        const one = call ?? make()
        if (fact.attempt > one.attempt) {
          if (one.ahead.has(fact.attempt)) return "duplicate"
          one.ahead.add(fact.attempt)
          one.deadlineAt = Math.max(one.deadlineAt, fact.deadlineAt)
          return "accepted"
        }
        if (fact.attempt < one.attempt || one.finished || one.cancelled) return "superseded"
        one.cancelled = true
        one.open = false
        return "accepted"
      }
      case "tool-call.claimed":
        if (call === undefined || call.attempt === 0 || fact.attempt !== call.attempt || call.cancelled || call.finished)
          return "superseded"
        if (fact.replaces === null && fact.causedBy !== null && fact.causedBy !== call.dispatch) return "superseded"
        if (fact.replaces === null ? call.claim !== null || timestamp > call.deadlineAt : fact.replaces !== call.claim) return "superseded"
        call.claim = fact.eventId
        return "accepted"
      case "tool-call.finished":
        if (call === undefined || call.attempt === 0 || fact.attempt !== call.attempt || call.finished) return "late"
        // A worker that does not claim may serve `keyed` calls: its backend dedupes.
        if (claiming.has(call.effect) && call.claim !== fact.claim) return "late"
        if (once.has(call.effect) && call.claim === null) return "late"
        call.finished = true
        call.open = false
        return "accepted"
      case "tool-call.progressed":
        return call === undefined || fact.attempt !== call.attempt || call.finished ? "late" : "accepted"
    }
    throw new Error(`No reference for ${fact.type}.`)
  }
}
