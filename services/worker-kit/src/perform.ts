import type { Draft, Performing, ToolDraft } from "@reins/runtime"
import type { Backend } from "./backend.ts"
import { claimed, finished, type Run } from "./decide.ts"
import { type Runnable, ToolAnswer, type ToolContext, ToolError } from "./tool.ts"

/** How long a run may still answer after it was aborted, before its place is given to another. */
const afterAbortMs = 1000
/** An answer to "did it happen?" is worth some wait also when the deadline is near. */
const reconcileMsMin = 10_000

const messageMax = 8000

/** One run of a tool, or one question about a run that nobody finished. Whatever the tool does, what comes back is a fact. */
export async function perform(
  run: Run,
  performing: Performing,
  serves: Pick<Backend, "backend" | "find">,
  me: { readonly group: string; readonly instance: string },
): Promise<readonly Draft[]> {
  const { backend } = serves
  // It may have waited for a place since it was decided on.
  const remainingMs = run.call.deadlineAt - performing.now()
  const say = (event: ToolDraft): readonly Draft[] => [{ on: "tools", backend, event }]
  const base = finished(run.call, run.claim)
  const { dispatch } = run.call
  if (dispatch === null) return []
  const failed = ({ kind, message, effect, retryAfterMs, unknown }: ToolError): readonly Draft[] =>
    say({ ...base, outcome: unknown ? "unknown" : "failed", kind, message: message.slice(0, messageMax), effect, retryAfterMs })
  let tool: Runnable | undefined
  let input: unknown
  try {
    tool = serves.find(dispatch)
    input = JSON.parse(dispatch.arguments)
  } catch (error) {
    if (run.is === "reconcile") return say(outcomeUnknown(run, `it cannot be asked: ${messageOf(error)}`))
    return failed(error instanceof ToolError ? error : new ToolError(messageOf(error), { kind: "validation", effect: "none" }))
  }
  if (tool === undefined && run.is === "reconcile") return say(outcomeUnknown(run, `no worker of ${backend} serves it any more`))
  if (tool === undefined)
    return failed(new ToolError(`No worker of ${backend} serves a tool ${dispatch.tool}.`, { kind: "not_found", effect: "none" }))
  if (run.is === "reconcile") {
    const waitMs = Math.max(reconcileMsMin, remainingMs)
    const until = performing.clock.monotonic() + waitMs
    performing.abortAfter(waitMs)
    const said = await Promise.race([reconciled(run, tool, input, me), gaveUp(performing)])
    if (said !== null) return say(said)
    return performing.clock.monotonic() < until ? [] : say(outcomeUnknown(run, "asking whether it happened gave no answer"))
  }
  if (performing.signal.aborted) {
    // It waited for a place and is no longer wanted here.
    const kind = performing.ending() ? "given_up" : "cancelled"
    return failed(new ToolError(`${dispatch.tool} was stopped before it began.`, { kind, effect: "none", retryAfterMs: 0 }))
  }
  const { signal } = performing
  performing.abortAfter(Math.max(1, remainingMs))
  const context: ToolContext = {
    sessionId: run.call.sessionId,
    toolUseId: run.call.toolUseId,
    attempt: run.call.attempt,
    idempotencyKey: dispatch.idempotencyKey,
    traceparent: run.call.traceparent,
    signal,
    progress: (message) =>
      performing.progress({
        on: "tools",
        backend,
        event: {
          type: "tool-call.progressed",
          toolUseId: run.call.toolUseId,
          attempt: run.call.attempt,
          message: message.slice(0, 1000),
          causedBy: run.claim,
        },
      }),
  }
  const outcome = await Promise.race([attempt(tool, input, context), gaveUp(performing)])
  // An aborted run that says nothing is closed by whoever aborted it: the router at the deadline, a successor by class.
  if (outcome === null) return []
  if (outcome instanceof ToolError) return failed(outcome)
  return say({ ...base, content: outcome.content, isError: outcome.isError })
}

/** Null where the tool stopped because it was told to. */
async function attempt(tool: Runnable, input: unknown, context: ToolContext): Promise<ToolAnswer | ToolError | null> {
  let value: unknown
  try {
    value = await tool.run(input, context)
  } catch (error) {
    if (error instanceof ToolError) return error
    if (context.signal.aborted && isAbort(error, context.signal)) return null
    return new ToolError(messageOf(error), { cause: error })
  }
  return answerOf(value)
}

/** What a tool gave, as the model will read it; a failure where JSON cannot say it, or where it is too long. */
function answerOf(value: unknown): ToolAnswer | ToolError {
  try {
    return ToolAnswer.of(value)
  } catch (error) {
    if (error instanceof ToolError) return error
    return new ToolError(`It ran, but its result is no JSON: ${messageOf(error)}`, {
      kind: "malformed_output",
      effect: "done",
      cause: error,
    })
  }
}

/** Whether this was thrown because of the abort, by the names that the platform gives it. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError"))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Null some time after the abort. */
function gaveUp({ signal, clock }: Performing): Promise<null> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => void clock.after(afterAbortMs, () => resolve(null)), { once: true })
  })
}

async function reconciled(
  run: Run,
  tool: Runnable,
  input: unknown,
  me: { readonly group: string; readonly instance: string },
): Promise<ToolDraft> {
  const base = finished(run.call, run.claim)
  const unknown = (why: string): ToolDraft => outcomeUnknown(run, why)
  try {
    const answer = await tool.reconcile?.(run.call.dispatch?.idempotencyKey ?? "", input)
    if (answer === undefined) return unknown("the tool cannot be asked whether it happened")
    if (answer.happened) {
      const answered = answerOf(answer.result)
      if (answered instanceof ToolError)
        return { ...base, outcome: "failed", kind: answered.kind, message: answered.message, effect: answered.effect }
      return { ...base, content: answered.content, isError: answered.isError }
    }
    if (answer.forbidden) return claimed(me, run.call, run.claim)
    return unknown("the tool says that it has not happened, but it still may")
  } catch (error) {
    return unknown(`asking whether it happened failed: ${messageOf(error)}`)
  }
}

function outcomeUnknown(run: Run, why: string): ToolDraft {
  return {
    ...finished(run.call, run.claim),
    outcome: "unknown",
    message: `The worker died while ${run.call.dispatch?.tool} was running, and ${why}. It is not run again.`.slice(0, messageMax),
    effect: "maybe",
  }
}
