import { clientBackend, type EffectClass, type HeldReason, toolsTopic } from "@reins/events"
import type { Intent, SessionDraft, ToolDraft, View } from "@reins/runtime"
import {
  type AwaitingTools,
  awaits,
  type Call,
  isStarted,
  type Known,
  type Session,
  sha256Hex,
  type ToolCall,
  type ToolResult,
} from "@reins/session"
import type { RouterLimits } from "./config.ts"
import { resultFault } from "./result.ts"
import { argumentsFault } from "./validate-arguments.ts"

type Say = Intent

/**
 * How long after its deadline a tool topic still vouches for an attempt. A deadline takes less than half of the topic's retention (design
 * rule 13), so what the attempt left there stands at least for the other half of it; less a minute, since brokers' clocks differ.
 */
const vouchedMs = Number(toolsTopic.config["retention.ms"]) / 2 - 60_000

/** What the model asked for: validated, charged, routed, timed out, closed. Pure; runs no tool. */
export function decide(view: View, limits: RouterLimits): readonly Say[] {
  const { session } = view
  if (!isStarted(session)) return cancelClosed(view)
  if (session.breach !== null && session.phase !== "parked" && session.phase !== "ended") {
    const code = session.phase === "idle" ? "unusable_start" : "unreadable_response"
    const causedBy = session.phase === "awaiting-model" ? session.request.claim : null
    return [onSession("park", { type: "session.parked", code, message: session.breach, causedBy })]
  }
  if (session.phase === "parked") return []
  const intents: Say[] = []
  if (session.phase === "awaiting-tools") {
    let charged = session.toolCalls
    for (const call of session.calls) {
      if (call.state.is === "wanted") {
        // A wait counts from the timestamp that the log gives the failure, which nobody knows before it is read back.
        if (call.attempt > 0 && !failureReadBack(view, call)) continue
        const routed = route(view, session, call, charged)
        if (routed.do === "append" && call.attempt === 0 && isCharged(routed.event)) charged++
        intents.push(routed)
      } else if (call.state.is === "dispatched") {
        intents.push(...follow(view, session, call, limits))
      }
    }
  }
  return [...intents, ...cancelClosed(view)]
}

/** As the fold charges it: when it first leaves, for a backend or for the client. */
function isCharged(event: SessionDraft | ToolDraft): boolean {
  return event.type === "tool-call.dispatched" || (event.type === "tool-call.held" && event.reason === "client")
}

function onSession(key: string, event: SessionDraft): Say {
  return { do: "append", key, on: "sessions", event }
}

function onTools(backend: string, key: string, event: ToolDraft, encoding: "avro" | "json"): Say {
  return { do: "append", key, on: "tools", backend, event, encoding }
}

/** A call that waits to be sent: refused in words that the model can mend, or dispatched. */
function route(view: View, session: Known, call: Call, charged: number): Say {
  const id = `${session.response}/${call.toolUseId}`
  const refuse = (code: string, message: string): Say =>
    onSession(`refuse/${id}`, {
      type: "tool-call.refused",
      toolUseId: call.toolUseId,
      tool: call.tool,
      code,
      message,
      causedBy: session.response,
    })
  const tool = session.agent.tools.find((one) => one.name === call.tool)
  if (tool === undefined) {
    const names = session.agent.tools.map((one) => one.name).join(", ")
    return refuse("unknown_tool", `There is no tool ${call.tool}. ${names === "" ? "This agent has no tools." : `There are: ${names}.`}`)
  }
  if (call.attempt === 0) {
    const fault = argumentsFault(tool.inputSchema, call.input)
    if (fault !== null) return refuse("invalid_arguments", `The arguments of ${tool.name} do not fit its schema: ${fault}.`)
    if (once(tool.effect) && !tool.claims && tool.backend !== clientBackend) {
      return refuse(
        "unauthorized",
        `${tool.name} is ${tool.effect}, and the workers of ${tool.backend} do not claim calls before they run them, so it might run twice. It was not run.`,
      )
    }
    if (charged >= session.agent.limits.toolCalls)
      return refuse("quota_exceeded", `The session has made its ${session.agent.limits.toolCalls} tool calls. ${tool.name} was not run.`)
  }
  const waitsFor = awaits(session, call)
  if (waitsFor === "client" || waitsFor === "approval") return hold(call, waitsFor, session.response)
  // An allow permits one run: where that may have had an effect, the next attempt is asked about again.
  if (tool.permission === "always_ask" && call.approval === undefined) return hold(call, "approval", session.response)
  if (call.state.is === "wanted" && view.now < call.state.notBefore) return { do: "wake", at: call.state.notBefore }
  const attempt = call.attempt + 1
  return onSession(`dispatch/${id}/${attempt}`, {
    type: "tool-call.dispatched",
    toolUseId: call.toolUseId,
    tool: tool.name,
    attempt,
    backend: tool.backend,
    effect: tool.effect,
    deadlineMs: tool.timeoutMs,
    idempotencyKey: `${session.sessionId}/${call.toolUseId}`,
    argumentsHash: sha256Hex(call.input),
    sideEffects: tool.sideEffects,
    causedBy: session.response,
  })
}

/** The call waits for someone: nothing of it is sent until they have spoken. */
function hold(call: Call, reason: "approval" | "client", causedBy: string | null): Say {
  return onSession(`hold/${causedBy}/${call.toolUseId}/${call.attempt}`, held(call, reason, null, causedBy))
}

function held(call: Call, reason: HeldReason, message: string | null, causedBy: string | null): SessionDraft {
  const { toolUseId, tool, attempt, input } = call
  return { type: "tool-call.held", toolUseId, tool, attempt, reason, argumentsHash: sha256Hex(input), message, causedBy }
}

/** The classes that must not run twice by themselves. */
function once(effect: EffectClass): boolean {
  return effect === "unsafe" || effect === "queryable"
}

/** A call that is decided: sent to its backend once the decision is read back, closed by what comes back or by its deadline. */
function follow(view: View, session: AwaitingTools, call: Call, limits: RouterLimits): readonly Say[] {
  const { state } = call
  if (state.is !== "dispatched") return []
  const id = `${session.response}/${call.toolUseId}/${call.attempt}`
  const seen = view.toolCall(state.backend, call.toolUseId)
  const attempt = seen !== undefined && seen.attempt === call.attempt ? seen : undefined
  const cancelled = attempt?.cancelled ?? (seen?.cancelledAhead.includes(call.attempt) === true ? { claimed: false } : null)
  const overdue = view.now > state.deadlineAt
  if (!readBack(view, call)) return []
  if (attempt !== undefined && attempt.finished !== null) return [close(session, call, `close/${id}`, attempt.finished.result, limits)]
  if (cancelled !== null && once(state.effect)) {
    const unknown = (why: string): readonly Say[] => [
      onSession(`close/${id}`, outcomeUnknown(session, call, `${why} It is not run again.`)),
    ]
    if (cancelled.claimed)
      return unknown(`${call.tool} did not finish within its time, and it had begun: nobody can say whether it took effect.`)
    // A session that was parked that long: its claim may have gone with the topic's retention, and the cancel found only what is left.
    // The cancel has been read back, so log time is at least that of its append.
    if (view.now > state.deadlineAt + vouchedMs)
      return unknown(
        `${call.tool} gave no result within its time, and that is so long ago that nobody can say any more whether it had begun.`,
      )
    return [timedOut(session, call, `close/${id}`, "none", limits)]
  }
  if (overdue) {
    if (once(state.effect))
      return [
        onTools(
          state.backend,
          `cancel/${id}`,
          cancel(call.toolUseId, call.attempt, "deadline", state.deadlineAt),
          encodingOf(session, call.tool),
        ),
      ]
    return [timedOut(session, call, `close/${id}`, "maybe", limits)]
  }
  const wake: Say = { do: "wake", at: state.deadlineAt + 1 }
  if (seen === undefined || (seen.attempt < call.attempt && cancelled === null)) return [send(view, session, call, id), wake]
  return [wake]
}

/** Whether the decision on this attempt stands in the log as accepted (design rule 3); the send to the backend waits for it. */
function readBack(view: View, call: Call): boolean {
  const { settled } = view
  if (settled.phase !== "awaiting-tools" || call.state.is !== "dispatched") return false
  const stands = settled.calls.find((one) => one.toolUseId === call.toolUseId)
  return stands?.state.is === "dispatched" && stands.state.eventId === call.state.eventId
}

function failureReadBack({ settled }: View, { toolUseId, attempt }: Call): boolean {
  if (settled.phase !== "awaiting-tools") return false
  const stands = settled.calls.find((one) => one.toolUseId === toolUseId)
  return stands?.state.is === "wanted" && stands.attempt === attempt
}

/** Built from the accepted record; one key over all sends, so that the backend's fold keeps the first. */
function send(view: View, session: AwaitingTools, call: Call, id: string): Say {
  const settled = view.settled as Known
  const stands = settled.calls.find((one) => one.toolUseId === call.toolUseId)
  if (stands?.state.is !== "dispatched") throw new Error(`The dispatch of ${call.toolUseId} is not read back.`)
  const { backend, effect, idempotencyKey, deadlineAt, offset, eventId } = stands.state
  const tool = session.agent.tools.find((one) => one.name === call.tool)
  return onTools(
    backend,
    `send/${id}`,
    {
      type: "tool-call.dispatched",
      toolUseId: call.toolUseId,
      tool: call.tool,
      attempt: call.attempt,
      effect,
      idempotencyKey,
      arguments: call.input,
      deadlineAt,
      sessionOffset: offset,
      settings: tool?.settings ?? null,
      causedBy: eventId,
    },
    encodingOf(session, call.tool),
  )
}

/** How the workers of this tool's backend read. */
function encodingOf(session: Session, tool: string): "avro" | "json" {
  return isStarted(session) ? (session.agent.tools.find((one) => one.name === tool)?.encoding ?? "avro") : "avro"
}

function cancel(toolUseId: string, attempt: number, reason: string, deadlineAt: number): ToolDraft {
  return { type: "tool-call.cancelled", toolUseId, attempt, reason, deadlineAt }
}

function dispatchId(call: Call): string | null {
  return call.state.is === "dispatched" ? call.state.eventId : null
}

/** Told to the model in plain words, or held for a person where the tool says so. */
function outcomeUnknown(session: Known, call: Call, message: string): SessionDraft {
  if (session.agent.tools.find((one) => one.name === call.tool)?.onUnknown === "hold")
    return held(call, "outcome_unknown", message, dispatchId(call))
  return { type: "tool-call.outcome-unknown", toolUseId: call.toolUseId, attempt: call.attempt, message, causedBy: dispatchId(call) }
}

/** Half a second, doubling: the wait before an attempt that follows a failure of the harness's own finding. */
function backoffMs(failures: number): number {
  return Math.min(30_000, 500 * 2 ** failures)
}

function timedOut(session: Known, call: Call, key: string, effect: "none" | "maybe", limits: RouterLimits): Say {
  const again = call.failures + 1 < limits.failuresMax
  const timeoutMs = session.agent.tools.find((one) => one.name === call.tool)?.timeoutMs
  return onSession(key, {
    type: "tool-call.timed-out",
    toolUseId: call.toolUseId,
    attempt: call.attempt,
    message: `${call.tool} gave no result within ${timeoutMs} ms${effect === "none" ? ", and no worker had begun it: it was not run" : ""}.`,
    effect,
    retryAfterMs: again ? backoffMs(call.failures) : null,
    causedBy: dispatchId(call),
  })
}

/** What a worker said, checked and put into the session log. */
function close(session: Known, call: Call, key: string, result: ToolResult, limits: RouterLimits): Say {
  const common = { toolUseId: call.toolUseId, attempt: call.attempt, causedBy: dispatchId(call) }
  switch (result.outcome) {
    case "completed": {
      const fault = resultFault(result.content, limits.resultMax)
      if (fault === null)
        return onSession(key, { type: "tool-call.completed", ...common, content: result.content as string, isError: result.isError })
      return onSession(key, {
        type: "tool-call.failed",
        ...common,
        kind: fault.kind,
        message: `${call.tool} ran, but ${fault.message}`,
        effect: "done",
        retryAfterMs: null,
      })
    }
    case "unknown":
      return onSession(
        key,
        outcomeUnknown(session, call, result.message ?? `Nobody can say whether ${call.tool} took effect. It is not run again.`),
      )
    case "failed": {
      const { effect } = call.state.is === "dispatched" ? call.state : { effect: "unsafe" as const }
      // What must not run twice is tried again only where the worker vouches that nothing happened.
      const allowed = result.retryAfterMs !== null && (result.effect === "none" || !once(effect))
      const again = allowed && (result.kind === "given_up" || call.failures + 1 < limits.failuresMax)
      return onSession(key, {
        type: "tool-call.failed",
        ...common,
        kind: result.kind ?? "backend_error",
        message: result.message ?? `${call.tool} failed.`,
        effect: result.effect,
        retryAfterMs: again ? result.retryAfterMs : null,
      })
    }
    default:
      return result.outcome satisfies never
  }
}

/** Design rule 12: whatever has closed a call on the session log, its open dispatch on the backend's topic is cancelled. */
function cancelClosed(view: View): readonly Say[] {
  const intents: Say[] = []
  for (const { backend, call } of view.openToolCalls()) {
    if (call === undefined || call.dispatch === null || call.dispatch.sessionOffset >= view.sessionsNext || wantedBy(view, call)) continue
    intents.push(
      onTools(
        backend,
        `cancel-closed/${call.toolUseId}/${call.attempt}`,
        cancel(call.toolUseId, call.attempt, "closed", call.deadlineAt),
        encodingOf(view.settled, call.dispatch.tool),
      ),
    )
  }
  return intents
}

function wantedBy(view: View, call: ToolCall): boolean {
  const { settled } = view
  if (settled.phase !== "awaiting-tools") return false
  const wanted = settled.calls.find((one) => one.toolUseId === call.toolUseId)
  return wanted !== undefined && wanted.state.is !== "done" && wanted.attempt <= call.attempt
}
