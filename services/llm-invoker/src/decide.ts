import type { IdleReason } from "@reins/events"
import type { Draft, Intent, SessionDraft, View } from "@reins/runtime"
import {
  type AwaitingModel,
  type AwaitingTools,
  allDone,
  allHeld,
  asking,
  bodyVersion,
  continuation,
  conversationWith,
  digestOf,
  type Idle,
  isStarted,
  type Known,
  type Running,
  requestBodyHash,
  requestParameters,
  type Session,
} from "@reins/session"
import type { InvokerLimits } from "./config.ts"

/** One model call: the session as its accepted claim left it. */
export interface ModelCall {
  readonly session: AwaitingModel
}

/** Is it the model's turn, and with what conversation? Pure: the state and log time in, what ought to be true out. */
export function decide(view: View, limits: InvokerLimits): readonly Intent<ModelCall>[] {
  const { session } = view
  if (!isStarted(session) || session.phase === "ended" || session.phase === "parked" || session.breach !== null) return []
  if (session.conversation?.whole === false && mustSend(session)) return [{ do: "recall" }]
  switch (session.phase) {
    case "idle":
      return session.wake ? [nextTurn(view, session, limits)] : []
    case "awaiting-tools":
      if (allDone(session.calls)) return [nextTurn(view, session, limits)]
      return allHeld(session.calls) && session.waiting !== "told" ? [idle(session, "requires_action", null)] : []
    case "settling":
      // What the window cut off goes on in a smaller conversation.
      if (session.reason === "context_window_exceeded" && mayCompact(session) && limitReached(session, view.now) === null)
        return [request(view, session, transcriptBudget(session, limits), limits)]
      return [idle(session, session.reason, null)]
    case "awaiting-model":
      return [...whileAsking(view, session, limits), ...act(view)]
    default:
      return session satisfies never
  }
}

/** Whether the next decision is about a request, whose bytes are the conversation's. */
function mustSend(session: Running): boolean {
  switch (session.phase) {
    case "idle":
      return session.wake
    case "awaiting-tools":
      return allDone(session.calls)
    case "settling":
      return session.reason === "context_window_exceeded"
    case "awaiting-model":
      return true
    default:
      return session satisfies never
  }
}

function say(key: string, event: SessionDraft): Intent<ModelCall> {
  return { do: "append", key, on: "sessions", event }
}

function idle(session: Running, reason: IdleReason, message: string | null): Intent<ModelCall> {
  // Where no turn runs, what it leaves waiting is named: the fold takes no other.
  const causedBy = session.phase === "idle" ? (session.queued.at(-1)?.eventId ?? null) : session.response
  return say(`idle/${session.turns}/${reason}`, { type: "session.idled", turn: session.turns, reason, message, causedBy })
}

/** The next turn, or the limit that stands in its way. */
function nextTurn(view: View, session: Idle | AwaitingTools, limits: InvokerLimits): Intent<ModelCall> {
  const reached = limitReached(session, view.now)
  if (reached !== null) return idle(session, "limit_reached", reached)
  const window = session.agent.contextTokens ?? limits.contextTokens
  const full = session.contextTokens >= window * limits.compactAt && mayCompact(session)
  return request(view, session, full ? 0 : null, limits)
}

/** Summaries in a row that bring no answer are no progress. */
const compactionsMax = 2

function mayCompact(session: Known): boolean {
  return session.conversation !== null && session.compacted < compactionsMax
}

/** Characters of the first transcript: about half a window of tokens of English. */
function transcriptBudget({ agent }: Known, limits: InvokerLimits): number {
  return Math.max(budgetMin, 2 * (agent.contextTokens ?? limits.contextTokens))
}

/** A transcript shorter than this says nothing any more. */
const budgetMin = 2000

/** Asks for the next turn, or (`compacts`) for a summary first. */
function request(view: View, session: Running, compacts: number | null, limits: InvokerLimits): Intent<ModelCall> {
  const takes = session.queued.length
  const conversation = conversationWith(session, compacts === null ? takes : 0)
  const asked = asking(session.agent, conversation, compacts)
  return say(`request/${session.turns + 1}/1`, {
    type: "model.requested",
    turn: session.turns + 1,
    attempt: 1,
    takes,
    compacts,
    replaces: null,
    group: view.group,
    instance: view.instance,
    parameters: requestParameters(asked.agent),
    conversationDigest: digestOf(conversation),
    bodyHash: requestBodyHash(asked.agent, asked.conversation),
    bodyVersion,
    deadlineMs: limits.deadlineMs,
    causedBy: session.response ?? session.startedBy,
  })
}

function limitReached(session: Known, now: number): string | null {
  const { limits } = session.agent
  if (session.limitReached) return `The session has made its ${limits.toolCalls} tool calls.`
  if (session.turns >= limits.turns) return `The session has had its ${limits.turns} turns.`
  if (session.usage.outputTokens >= limits.outputTokens)
    return `The session has used ${session.usage.outputTokens} of its ${limits.outputTokens} output tokens.`
  if (now - session.startedAt >= limits.wallClockMs) return `The session began more than ${limits.wallClockMs} ms ago.`
  return null
}

function whileAsking(view: View, session: AwaitingModel, limits: InvokerLimits): readonly Intent<ModelCall>[] {
  const { request } = session
  if (session.compaction?.summary != null) return [compacted(session, session.compaction.summary)]
  if (!readBack(view, session)) return []
  if (request.state.is === "failed") {
    const { kind, message, retryable, notBefore } = request.state
    if (kind === "request_too_large") return [tooLarge(view, session, message, limits)]
    if (!retryable) return [idle(session, "model_error", message)]
    if (request.failures >= limits.failuresMax || request.attempt >= limits.attemptsMax)
      return [idle(session, "retries_exhausted", message)]
    if (view.now < notBefore) return [{ do: "wake", at: notBefore }]
    return [again(view, session, null, limits)]
  }
  if (view.givenUp(request.claim)) return [fail(session, "given_up", givenUpMessage, true)]
  const closesAt = request.deadlineAt + limits.deadlineMarginMs
  if (view.now > closesAt) return [fail(session, "deadline", "The model gave no answer before the deadline of its request.", true)]
  if (request.instance !== view.instance && view.gone(request.group, request.instance)) {
    if (request.attempt >= limits.attemptsMax)
      return [fail(session, "abandoned", `${request.attempt} attempts were begun and none came to an answer.`, false)]
    return [again(view, session, request.claim, limits)]
  }
  return [{ do: "wake", at: closesAt + 1 }]
}

/** What the provider did not take is asked for again as less; where there is no less, a person has to see to it. */
function tooLarge(view: View, session: AwaitingModel, message: string, limits: InvokerLimits): Intent<ModelCall> {
  const { compaction, request: failed } = session
  const reached = limitReached(session, view.now)
  if (reached !== null) return idle(session, "limit_reached", reached)
  if (compaction === undefined && mayCompact(session)) return request(view, session, transcriptBudget(session, limits), limits)
  let budget = compaction?.budget === 0 ? transcriptBudget(session, limits) : Math.floor((compaction?.budget ?? 0) / 2)
  // Of a conversation that was cut to nothing already there is no less to send.
  while (budget >= budgetMin && hashOf(session, budget) === failed.bodyHash) budget = Math.floor(budget / 2)
  if (budget < budgetMin || failed.attempt >= limits.attemptsMax) return idle(session, "context_window_exceeded", message)
  return again(view, session, null, limits, budget)
}

function hashOf({ agent, conversation }: Known, budget: number): string {
  const asked = asking(agent, conversation, budget)
  return requestBodyHash(asked.agent, asked.conversation)
}

function compacted(session: AwaitingModel, summary: string): Intent<ModelCall> {
  return say(`compacted/${session.request.claim}`, {
    type: "context.compacted",
    turn: session.turns,
    claim: session.request.claim,
    conversationDigest: digestOf(session.conversation),
    utterances: session.conversation?.length ?? 0,
    content: continuation(summary),
    causedBy: session.response,
  })
}

/** Durations count from the timestamp that the log gives a record, which nobody knows before the record is read back. */
function readBack({ settled }: View, { request }: AwaitingModel): boolean {
  return settled.phase === "awaiting-model" && settled.request.claim === request.claim && settled.request.state.is === request.state.is
}

/** The next attempt at the same request: after a failure, or as a takeover of the open claim that it names. */
function again(
  view: View,
  session: AwaitingModel,
  replaces: string | null,
  limits: InvokerLimits,
  budget: number | null = session.compaction?.budget ?? null,
): Intent<ModelCall> {
  const attempt = session.request.attempt + 1
  const asked = asking(session.agent, session.conversation, budget)
  return say(`request/${session.turns}/${attempt}`, {
    type: "model.requested",
    turn: session.turns,
    attempt,
    takes: 0,
    compacts: budget,
    replaces,
    group: view.group,
    instance: view.instance,
    parameters: requestParameters(asked.agent),
    conversationDigest: digestOf(session.conversation),
    bodyHash: requestBodyHash(asked.agent, asked.conversation),
    bodyVersion,
    deadlineMs: limits.deadlineMs,
    causedBy: session.request.claim,
  })
}

function failure(session: AwaitingModel, kind: string, message: string, retryable: boolean): SessionDraft {
  const { claim, attempt } = session.request
  return {
    type: "model.failed",
    claim,
    turn: session.turns,
    attempt,
    kind,
    status: null,
    message,
    retryable,
    retryAfterMs: 0,
    requestId: null,
    causedBy: claim,
  }
}

function fail(session: AwaitingModel, kind: string, message: string, retryable: boolean): Intent<ModelCall> {
  return say(`failed/${session.request.claim}/${kind}`, failure(session, kind, message, retryable))
}

/** Design rule 3: the call stands on the claim as read back, and on no other. */
function act(view: View): readonly Intent<ModelCall>[] {
  const { settled } = view
  if (settled.phase !== "awaiting-model" || !isOurs(settled, view) || settled.breach !== null) return []
  if (view.now > settled.request.deadlineAt) return []
  return [{ do: "perform", key: settled.request.claim, work: { session: settled }, stoppedBy: view.sessionId }]
}

function isOurs(session: Session, view: View): session is AwaitingModel {
  return (
    session.phase === "awaiting-model" &&
    session.request.state.is === "open" &&
    session.request.instance === view.instance &&
    session.request.group === view.group
  )
}

const givenUpMessage = "The instance lost its partition before it asked."

/** Design rule 7: claims not begun are given up, so that the next owner need not wait for our end. */
export function giveUp(view: View): readonly Draft[] {
  const { session } = view
  if (!isOurs(session, view) || view.begun(session.request.claim)) return []
  return [{ on: "sessions", event: failure(session, "given_up", givenUpMessage, true) }]
}
