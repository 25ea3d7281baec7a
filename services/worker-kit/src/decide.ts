import { callTag, type Draft, type Intent, type ToolDraft, type View } from "@reins/runtime"
import { needsClaim, type ToolCall } from "@reins/session"

/** What a worker does outside: run a call, or ask whether one happened. */
export interface Run {
  readonly is: "run" | "reconcile"
  readonly call: ToolCall
  /** The eventId of the claim it stands on; null where the class needs none. */
  readonly claim: string | null
}

/** The calls of this backend: claimed, run, taken over by class (design section 5). Pure. */
export function decide(view: View, backend: string): readonly Intent<Run>[] {
  const intents: Intent<Run>[] = []
  for (const open of view.openToolCalls()) {
    if (open.backend !== backend) continue
    intents.push(...onCall(view, backend, open.call, open.ahead))
  }
  return intents
}

function say(backend: string, key: string, event: ToolDraft): Intent<Run> {
  return { do: "append", key, on: "tools", backend, event }
}

function onCall(view: View, backend: string, call: ToolCall | undefined, ahead: ToolCall): readonly Intent<Run>[] {
  const { dispatch } = ahead
  if (dispatch === null || ahead.finished !== null || ahead.cancelled !== null) return []
  const id = callTag(view.sessionId, ahead.toolUseId, ahead.attempt)
  const inTime = view.now <= ahead.deadlineAt
  if (!needsClaim(dispatch.effect)) {
    // The dispatch, read back, is the claim.
    const stands = call?.dispatch != null && call.attempt === ahead.attempt
    return stands && inTime ? [perform(call, "run", null, id)] : []
  }
  if (ahead.claim === null) return inTime ? [claim(view, backend, ahead, null)] : []
  const standing = call?.claim
  if (call === undefined || standing == null || ahead.claim.claim !== standing.claim) return []
  // It landed after its own giving up: said again, now that there is something to give up.
  if (view.givenUp(standing.claim)) return [say(backend, `given-up/${standing.claim}`, givenUp(call, standing.claim))]
  if (standing.instance === view.instance && standing.group === view.group) {
    // Nothing starts after its deadline; saying so is better than leaving the router to wonder.
    if (!inTime && !view.begun(standing.claim)) return [say(backend, `overdue/${standing.claim}`, notBegun(call, standing.claim))]
    return [perform(call, "run", standing.claim, id)]
  }
  if (!view.gone(standing.group, standing.instance)) return []
  switch (dispatch.effect) {
    case "keyed":
      return inTime ? [claim(view, backend, call, standing.claim)] : []
    case "queryable":
      return [perform(call, "reconcile", standing.claim, id)]
    case "pure":
    case "idempotent":
    case "unsafe":
      return [
        say(backend, `unknown/${standing.claim}`, {
          ...finished(call, standing.claim),
          outcome: "unknown",
          message: `The worker died while ${dispatch.tool} was running: nobody can say whether it took effect. It is not run again.`,
          effect: "maybe",
        }),
      ]
    default:
      return dispatch.effect satisfies never
  }
}

/** The claim of an attempt: the first, or a takeover that names the one it replaces. */
export function claim(view: Pick<View, "group" | "instance">, backend: string, call: ToolCall, replaces: string | null): Intent<Run> {
  return say(backend, `claim/${call.toolUseId}/${call.attempt}/${replaces ?? call.dispatch?.eventId}`, claimed(view, call, replaces))
}

export function claimed(view: Pick<View, "group" | "instance">, call: ToolCall, replaces: string | null): ToolDraft {
  const { toolUseId, attempt } = call
  return {
    type: "tool-call.claimed",
    toolUseId,
    attempt,
    group: view.group,
    instance: view.instance,
    replaces,
    causedBy: replaces ?? call.dispatch?.eventId ?? null,
  }
}

function perform(call: ToolCall, is: Run["is"], standing: string | null, tag: string): Intent<Run> {
  const key = is === "run" ? (standing ?? tag) : `ask/${standing}`
  return { do: "perform", key, stoppedBy: tag, work: { is, call, claim: standing } }
}

/** A result with nothing in it yet. */
export function finished(call: ToolCall, standing: string | null): Extract<ToolDraft, { type: "tool-call.finished" }> {
  return {
    type: "tool-call.finished",
    toolUseId: call.toolUseId,
    attempt: call.attempt,
    claim: standing,
    outcome: "completed",
    content: null,
    isError: false,
    kind: null,
    message: null,
    effect: "done",
    retryAfterMs: null,
    causedBy: standing ?? call.dispatch?.eventId ?? null,
  }
}

/** A claim whose call was not begun within its time. */
function notBegun(call: ToolCall, standing: string): ToolDraft {
  return {
    ...finished(call, standing),
    outcome: "failed",
    kind: "timeout",
    message: `${call.dispatch?.tool} was not begun within its time: it was not run.`,
    effect: "none",
    retryAfterMs: 0,
  }
}

/** Design rule 7: claims not begun are given up, also those that are sent and not yet read back. */
export function giveUp(view: View, backend: string): readonly Draft[] {
  const drafts: Draft[] = []
  for (const { backend: of, ahead } of view.openToolCalls()) {
    const standing = ahead.claim
    if (of !== backend || ahead.finished !== null || standing === null || standing.instance !== view.instance || view.begun(standing.claim))
      continue
    drafts.push({
      on: "tools",
      backend,
      event: givenUp(ahead, standing.claim),
    })
  }
  return drafts
}

function givenUp(call: ToolCall, standing: string): ToolDraft {
  return {
    ...finished(call, standing),
    outcome: "failed",
    kind: "given_up",
    message: "The worker lost its partition before it began.",
    effect: "none",
    retryAfterMs: 0,
  }
}
