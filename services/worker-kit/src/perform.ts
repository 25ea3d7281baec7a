import type { Draft, Performing, ToolDraft } from "@reins/runtime"
import { claimed, finished, type Run } from "./decide.ts"
import { type Runnable, ToolAnswer, type ToolContext, ToolError } from "./tool.ts"

/** How long a run may still answer after it was aborted, before its place is given to another. */
const afterAbortMs = 1000

/** One run of a tool, or one question about a run that nobody finished. Whatever the tool does, what comes back is a fact. */
export async function perform(
  run: Run,
  performing: Performing,
  backend: string,
  tool: Runnable | undefined,
  me: { readonly group: string; readonly instance: string },
): Promise<readonly Draft[]> {
  const say = (event: ToolDraft): readonly Draft[] => [{ on: "tools", backend, event }]
  const base = finished(run.call, run.claim)
  const { dispatch } = run.call
  if (dispatch === null) return []
  if (tool === undefined) {
    return say({
      ...base,
      outcome: "failed",
      kind: "not_found",
      message: `No worker of ${backend} serves a tool ${dispatch.tool}.`,
      effect: "none",
    })
  }
  const input: unknown = JSON.parse(dispatch.arguments)
  if (run.is === "reconcile") return say(await reconciled(run, tool, input, me))
  const signal = AbortSignal.any([performing.signal, AbortSignal.timeout(Math.max(1, run.remainingMs))])
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
  const outcome = await Promise.race([attempt(tool, input, context), gaveUp(signal)])
  // An aborted run that says nothing is closed by whoever aborted it: the router at the deadline, a successor by class.
  if (outcome === null) return []
  if (outcome instanceof ToolAnswer) return say({ ...base, content: outcome.content, isError: outcome.isError })
  const { kind, message, effect, retryAfterMs, unknown } = outcome
  return say({ ...base, outcome: unknown ? "unknown" : "failed", kind, message: message.slice(0, 8000), effect, retryAfterMs })
}

async function attempt(tool: Runnable, input: unknown, context: ToolContext): Promise<ToolAnswer | ToolError> {
  try {
    return ToolAnswer.of(await tool.run(input, context))
  } catch (error) {
    if (error instanceof ToolError) return error
    return new ToolError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}

/** Null some time after the abort. */
function gaveUp(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => void setTimeout(() => resolve(null), afterAbortMs).unref(), { once: true })
  })
}

async function reconciled(
  run: Run,
  tool: Runnable,
  input: unknown,
  me: { readonly group: string; readonly instance: string },
): Promise<ToolDraft> {
  const base = finished(run.call, run.claim)
  const unknown = (why: string): ToolDraft => ({
    ...base,
    outcome: "unknown",
    message: `The worker died while ${run.call.dispatch?.tool} was running, and ${why}. It is not run again.`,
    effect: "maybe",
  })
  try {
    const answer = await tool.reconcile?.(run.call.dispatch?.idempotencyKey ?? "", input)
    if (answer === undefined) return unknown("the tool cannot be asked whether it happened")
    if (answer.happened) {
      const { content, isError } = ToolAnswer.of(answer.result)
      return { ...base, content, isError }
    }
    if (answer.forbidden) return claimed(me, run.call, run.claim)
    return unknown("the tool says that it has not happened, but it still may")
  } catch (error) {
    return unknown(`asking whether it happened failed: ${error instanceof Error ? error.message : String(error)}`)
  }
}
