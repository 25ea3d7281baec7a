import type { EffectClass, EffectDone, ToolEvent, ToolEventOf } from "@reins/events"
import type { Position, Verdict } from "./session.ts"

/** The classes whose workers claim before they act. For the others the dispatch, read back, is the claim (design rule 3). */
export function needsClaim(effect: EffectClass): boolean {
  return effect === "keyed" || effect === "queryable" || effect === "unsafe"
}

export interface Claim {
  /** The eventId of the accepted `tool-call.claimed`. */
  readonly claim: string
  readonly group: string
  readonly instance: string
}

/** One call on the topic of its backend. */
export interface ToolCall {
  readonly sessionId: string
  readonly toolUseId: string
  readonly tenant: string
  readonly traceparent: string | null
  /** The latest attempt dispatched; 0 where only a cancel has come. */
  readonly attempt: number
  readonly dispatch: ToolEventOf<"tool-call.dispatched"> | null
  /** Attempts cancelled before their dispatch came. */
  readonly cancelledAhead: readonly number[]
  /** Set once the attempt is cancelled: whether a claim stood before it. */
  readonly cancelled: { readonly claimed: boolean } | null
  readonly claim: Claim | null
  readonly finished: { readonly eventId: string; readonly result: ToolResult } | null
  /** Log time until which the attempt may begin. */
  readonly deadlineAt: number
  /** Lowest and highest offset of its records: the low watermark never lies between two copies of a dispatch. */
  readonly firstOffset: number
  readonly lastOffset: number
}

/** Dispatched, not finished and not cancelled: someone may still have to act on it. */
export function isOpen(call: ToolCall): boolean {
  return call.dispatch !== null && call.finished === null && call.cancelled === null
}

export interface ToolResult {
  readonly outcome: "completed" | "failed" | "unknown"
  readonly content: string | null
  readonly isError: boolean
  readonly kind: string | null
  readonly message: string | null
  readonly effect: EffectDone
  readonly retryAfterMs: number | null
}

export interface ToolStep {
  readonly call: ToolCall | undefined
  readonly verdict: Verdict
}

/**
 * The fold of one call on `tools.<backend>`: pure, in offset order, the first that fits wins.
 *
 * T1 A higher attempt replaces a lower one; which attempts are allowed is for `sessions` to say.
 * T2 The first claim of an attempt wins; a takeover names the open claim. A claim that names its dispatch (causedBy) stands and falls with it.
 * T3 A dispatch or first claim that the log received after the deadline counts for nothing.
 * T4 A cancel before any claim means that the attempt never runs, also when it comes before its dispatch.
 * T5 For classes with a claim only the result of the open claim counts. A worker that does not claim may answer a `keyed` call that nobody
 *    has claimed: its backend keeps the effect to one.
 */
export function evolveToolCall(call: ToolCall | undefined, event: ToolEvent, at: Position): ToolStep {
  switch (event.type) {
    case "tool-call.dispatched":
      return dispatched(call, event, at)
    case "tool-call.cancelled":
      return cancelled(call, event, at)
    case "tool-call.claimed": {
      if (
        call === undefined ||
        call.dispatch === null ||
        event.attempt !== call.attempt ||
        call.cancelled !== null ||
        call.finished !== null
      )
        return { call, verdict: "superseded" }
      const fits =
        event.replaces === null
          ? call.claim === null && at.timestamp <= call.deadlineAt && (event.causedBy === null || event.causedBy === call.dispatch.eventId)
          : call.claim !== null && call.claim.claim === event.replaces
      if (!fits) return { call, verdict: "superseded" }
      return { call: { ...call, claim: { claim: event.eventId, group: event.group, instance: event.instance } }, verdict: "accepted" }
    }
    case "tool-call.finished": {
      if (call === undefined || call.dispatch === null || event.attempt !== call.attempt || call.finished !== null)
        return { call, verdict: "late" }
      if (!standsOn(call, call.dispatch.effect, event.claim)) return { call, verdict: "late" }
      const { outcome, content, isError, kind, message, effect, retryAfterMs } = event
      // The dispatch has served: what is remembered of a finished call is small.
      return {
        call: {
          ...call,
          dispatch: null,
          finished: { eventId: event.eventId, result: { outcome, content, isError, kind, message, effect, retryAfterMs } },
        },
        verdict: "accepted",
      }
    }
    case "tool-call.progressed":
      return { call, verdict: call === undefined || event.attempt !== call.attempt || call.finished !== null ? "late" : "accepted" }
    default:
      return { call, verdict: ((_: never) => "superseded" as const)(event) }
  }
}

function standsOn(call: ToolCall, effect: EffectClass, claim: string | null): boolean {
  if (!needsClaim(effect)) return true
  return call.claim === null ? effect === "keyed" && claim === null : call.claim.claim === claim
}

function dispatched(call: ToolCall | undefined, event: ToolEventOf<"tool-call.dispatched">, at: Position): ToolStep {
  if (at.timestamp > event.deadlineAt) return { call, verdict: "superseded" }
  if (call !== undefined && event.attempt <= call.attempt) return { call: { ...call, lastOffset: at.offset }, verdict: "duplicate" }
  return {
    verdict: "accepted",
    call: {
      sessionId: event.sessionId,
      toolUseId: event.toolUseId,
      tenant: event.tenant,
      traceparent: event.traceparent,
      attempt: event.attempt,
      dispatch: event,
      cancelledAhead: call?.cancelledAhead ?? [],
      cancelled: call?.cancelledAhead.includes(event.attempt) === true ? { claimed: false } : null,
      claim: null,
      finished: null,
      deadlineAt: event.deadlineAt,
      firstOffset: call?.firstOffset ?? at.offset,
      lastOffset: at.offset,
    },
  }
}

function cancelled(call: ToolCall | undefined, event: ToolEventOf<"tool-call.cancelled">, at: Position): ToolStep {
  if (call === undefined || event.attempt > call.attempt) {
    if (call?.cancelledAhead.includes(event.attempt) === true) return { call, verdict: "duplicate" }
    const base: ToolCall = call ?? {
      sessionId: event.sessionId,
      toolUseId: event.toolUseId,
      tenant: event.tenant,
      traceparent: event.traceparent,
      attempt: 0,
      dispatch: null,
      cancelledAhead: [],
      cancelled: null,
      claim: null,
      finished: null,
      deadlineAt: event.deadlineAt,
      firstOffset: at.offset,
      lastOffset: at.offset,
    }
    return {
      verdict: "accepted",
      call: {
        ...base,
        cancelledAhead: [...base.cancelledAhead, event.attempt],
        deadlineAt: Math.max(base.deadlineAt, event.deadlineAt),
        lastOffset: at.offset,
      },
    }
  }
  if (event.attempt < call.attempt || call.finished !== null || call.cancelled !== null) return { call, verdict: "superseded" }
  return { call: { ...call, cancelled: { claimed: call.claim !== null }, lastOffset: at.offset }, verdict: "accepted" }
}
