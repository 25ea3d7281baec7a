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

interface RefCall {
  readonly id: string
  readonly tool: string
  attempt: number
  failures: number
  is: "wanted" | "open" | "done"
  dispatch: string | null
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

type Phase = "absent" | "idle" | "asking" | "tools" | "settling" | "parked" | "ended"

export interface RefSession {
  phase: Phase
  /** While parked: what it was. */
  before: Phase
  heard: Set<string>
  agent: Fact
  wake: boolean
  reason: string | null
  queued: { id: string; content: string }[]
  blocks: Block[]
  digest: string
  request: RefRequest | null
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
    wake: false,
    reason: null,
    queued: [],
    blocks: [],
    digest: sha(""),
    request: null,
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
  for (const { content } of session.queued.slice(0, takes)) blocks.push({ role: "user", json: content.slice(1, -1) })
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
    if (fact.command != null && fact.command.offset <= (this.answered.get(fact.command.partition) ?? -1)) return "duplicate"
    const session = this.of(fact.sessionId)
    if (fact.commandId !== undefined && session.heard.has(fact.commandId)) return "duplicate"
    const verdict = judge(session, fact, timestamp)
    if (verdict === "accepted") {
      if (fact.commandId !== undefined) session.heard.add(fact.commandId)
      if (fact.command != null) this.answered.set(fact.command.partition, fact.command.offset)
    }
    return verdict
  }
}

function judge(session: RefSession, fact: Fact, timestamp: number): Verdict {
  const no: Verdict = results.has(fact.type) ? "late" : "superseded"
  if (fact.type === "command.rejected") return "accepted"
  if (session.phase === "absent") {
    if (fact.type !== "session.started") return no
    session.phase = "idle"
    session.agent = fact.agent
    if (fact.input !== null) {
      session.queued.push({ id: fact.eventId, content: fact.input })
      session.wake = true
    }
    return "accepted"
  }
  if (session.phase === "ended") return no
  const running = session.phase !== "parked"
  switch (fact.type) {
    case "message.received":
      session.queued.push({ id: fact.eventId, content: fact.content })
      if ((running ? session.phase : session.before) === "idle") session.wake = true
      return "accepted"
    case "interrupt.received": {
      const phase = running ? session.phase : session.before
      if (phase === "idle") return "accepted"
      closeAll(session)
      session.request = null
      session.reason = "interrupted"
      if (running) session.phase = "settling"
      else session.before = "settling"
      return "accepted"
    }
    case "session.ended":
      closeAll(session)
      session.queued = []
      session.phase = "ended"
      return "accepted"
    case "session.resumed":
      if (!running) {
        session.phase = session.before
        session.breach = false
      }
      return "accepted"
    case "session.parked":
      if (!running) return no
      if (session.heard.has(`parked/${fact.eventId}`)) return "duplicate"
      session.heard.add(`parked/${fact.eventId}`)
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
      if (session.phase !== "asking" || request === null || request.failed || request.claim !== fact.claim) return no
      request.failed = true
      if (fact.kind !== "given_up") request.failures++
      return "accepted"
    }
    case "session.idled":
      return idled(session, fact) ? "accepted" : no
  }
  return fact.type.startsWith("tool-call.") && onCall(session, fact, timestamp) ? "accepted" : no
}

function closeAll(session: RefSession): void {
  for (const call of session.calls) {
    if (call.is === "done") continue
    const ran = call.is === "open" || call.attempt > 0
    call.is = "done"
    call.isError = true
    call.content = JSON.stringify(
      ran
        ? "Interrupted. The call had been dispatched and may have run; its outcome is unknown."
        : "Interrupted before it was dispatched. It was not run.",
    )
  }
}

function requested(session: RefSession, fact: Fact): boolean {
  const again = session.phase === "asking"
  if (again) {
    const request = session.request as RefRequest
    if (fact.turn !== session.turns || fact.attempt !== request.attempt + 1 || fact.takes !== 0) return false
    if (fact.replaces !== (request.failed ? null : request.claim) || fact.conversationDigest !== session.digest) return false
    session.request = { claim: fact.eventId, attempt: fact.attempt, failures: request.failures, failed: false }
    return true
  }
  const due =
    session.phase === "idle"
      ? session.wake && session.queued.length > 0
      : session.phase === "tools" && session.calls.every((call) => call.is === "done")
  if (!due || fact.turn !== session.turns + 1 || fact.attempt !== 1 || fact.replaces !== null || fact.takes > session.queued.length)
    return false
  const blocks = added(session, fact.takes)
  const digest = chained(session.digest, blocks)
  if (fact.conversationDigest !== digest) return false
  session.blocks.push(...blocks)
  session.digest = digest
  session.queued.splice(0, fact.takes)
  session.calls = []
  session.turns = fact.turn
  session.limitHit = false
  session.phase = "asking"
  session.request = { claim: fact.eventId, attempt: 1, failures: 0, failed: false }
  return true
}

function responded(session: RefSession, fact: Fact): boolean {
  const { request } = session
  if (session.phase !== "asking" || request === null || request.failed || request.claim !== fact.claim) return false
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
    attempt: 0,
    failures: 0,
    is: runs ? "wanted" : "done",
    dispatch: null,
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
  if (session.phase !== "tools" || call === undefined) return false
  const done = (content: string, isError: boolean): boolean => {
    Object.assign(call, { is: "done", content, isError })
    return true
  }
  switch (fact.type) {
    case "tool-call.refused":
      if (call.is !== "wanted" || call.attempt !== 0 || fact.causedBy !== session.response) return false
      if (fact.code === "quota_exceeded") session.limitHit = true
      return done(JSON.stringify(fact.message), true)
    case "tool-call.dispatched":
      if (call.is !== "wanted" || fact.attempt !== call.attempt + 1 || fact.causedBy !== session.response) return false
      call.attempt = fact.attempt
      call.is = "open"
      call.dispatch = fact.eventId
      call.deadlineAt = timestamp + fact.deadlineMs
      if (fact.attempt === 1) session.toolCalls++
      return true
    default:
      if (call.is !== "open" || fact.attempt !== call.attempt || fact.causedBy !== call.dispatch) return false
      if (fact.type === "tool-call.completed") return done(fact.content, fact.isError)
      if (fact.type === "tool-call.outcome-unknown" || fact.retryAfterMs === null) return done(JSON.stringify(fact.message), true)
      if (!(fact.type === "tool-call.failed" && fact.kind === "given_up")) call.failures++
      call.is = "wanted"
      call.notBefore = timestamp + fact.retryAfterMs
      return true
  }
}

function idled(session: RefSession, fact: Fact): boolean {
  if (fact.turn !== session.turns) return false
  const { reason } = fact
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
  session.phase = "idle"
  session.reason = reason
  session.request = null
  session.wake = session.queued.length > 0 && reason !== "limit_reached"
  return true
}

/** Nothing more will happen in it until something new arrives. */
export function isSettled(session: RefSession): boolean {
  return (
    session.phase === "ended" || session.phase === "parked" || session.phase === "absent" || (session.phase === "idle" && !session.wake)
  )
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
  /** Offset of the accepted dispatch of the latest attempt. */
  dispatchedAt: number
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
