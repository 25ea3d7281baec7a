import type { Draft, Performing } from "@reins/runtime"
import { openRequestBody } from "@reins/session"
import { defaultInvokerLimits, type InvokerLimits } from "./config.ts"
import type { ModelCall } from "./decide.ts"
import type { Model, ModelAnswer, ModelFault } from "./models/model.ts"
import { Previews } from "./previews.ts"

/** Longest wait of our own choosing between two attempts. */
const backoffMaxMs = 60_000
const backoffBaseMs = 500

/** What a call cost and brought, for the metrics. */
export type Measured = (call: {
  readonly model: string
  readonly provider: string
  readonly seconds: number
  readonly outcome: ModelAnswer | ModelFault
}) => void

/** One call to a model: the bytes whose hash the accepted claim recorded go out, one fact comes back. */
export async function perform(
  call: ModelCall,
  performing: Performing,
  model: Model,
  measured: Measured,
  random: () => number,
  limits: InvokerLimits = defaultInvokerLimits,
): Promise<readonly Draft[]> {
  const { session } = call
  const { claim, attempt, failures, deadlineAt } = session.request
  const { clock } = performing
  const began = clock.monotonic()
  const timeoutMs = deadlineAt - performing.now()
  const common = { claim, turn: session.turns, attempt, causedBy: claim }
  // It may have waited for a place since it was decided on: nobody waits for the answer any more, and asking costs.
  if (timeoutMs <= 0 || performing.signal.aborted) {
    const kind = performing.ending() ? "given_up" : timeoutMs <= 0 ? "deadline" : "cancelled"
    const message = "The model was not asked: the request waited for a place until nobody wanted its answer any more."
    return [
      {
        on: "sessions",
        event: { type: "model.failed", ...common, kind, status: null, message, retryable: true, retryAfterMs: 0, requestId: null },
      },
    ]
  }
  performing.abortAfter(timeoutMs)
  const body = openRequestBody(session)
  // A summary is no message to anyone.
  const previews =
    performing.preview === undefined || session.compaction !== undefined
      ? undefined
      : new Previews({ session, limits, performing, publish: performing.preview })
  const answered = await model.ask({
    body,
    sessionId: session.sessionId,
    signal: performing.signal,
    timeoutMs,
    ...(previews === undefined ? {} : { onDelta: previews.heard }),
  })
  previews?.end()
  const outcome = checked(answered, body)
  const durationMs = Math.round(clock.monotonic() - began)
  measured({ model: session.agent.model, provider: model.provider, seconds: durationMs / 1000, outcome })
  if (!("fault" in outcome)) return [{ on: "sessions", event: { type: "model.responded", ...common, ...outcome, durationMs } }]
  const { status, message, retryable, retryAfterMs, requestId } = outcome.fault
  // An aborted call met its deadline, unless this process is ending: then the next owner asks at once, and it counts as no failure.
  const kind =
    outcome.fault.kind !== "aborted"
      ? outcome.fault.kind
      : performing.ending()
        ? "given_up"
        : durationMs >= timeoutMs
          ? "deadline"
          : "cancelled"
  // Full jitter; never earlier than the provider asked.
  const backoff = kind === "given_up" ? 0 : Math.floor(random() * Math.min(backoffMaxMs, backoffBaseMs * 2 ** failures))
  const wait = retryAfterMs === null ? backoff : retryAfterMs + Math.floor(random() * 250)
  return [
    {
      on: "sessions",
      event: {
        type: "model.failed",
        ...common,
        kind,
        status,
        message: message.slice(0, 4000),
        retryable,
        // What no retry mends is not waited for: what follows it, if anything, is another request.
        retryAfterMs: kind === "given_up" || !retryable ? 0 : wait,
        requestId,
      },
    },
  ]
}

/** A tool_use id names one call in a whole session: the backend dedupes on it, and a result that is there is never computed again. */
function checked(answer: ModelAnswer | ModelFault, body: string): ModelAnswer | ModelFault {
  if ("fault" in answer || answer.stopReason !== "tool_use") return answer
  const blocks = JSON.parse(answer.content) as readonly { readonly type?: unknown; readonly id?: unknown }[]
  const reused = blocks.find(({ type, id }) => type === "tool_use" && body.includes(`"tool_use_id":${JSON.stringify(id)}`))
  if (reused === undefined) return answer
  const message = `The model used the tool_use id ${JSON.stringify(reused.id)} of an earlier turn again.`
  return { fault: { kind: "protocol", status: null, message, retryable: true, retryAfterMs: null, requestId: answer.requestId } }
}

/** An answer that does not fit into the log is a failure that no further attempt mends. */
export function refused(draft: Draft, why: string): Draft | undefined {
  if (draft.on !== "sessions" || draft.event.type !== "model.responded") return undefined
  const { claim, turn, attempt, causedBy, requestId } = draft.event
  return {
    on: "sessions",
    event: {
      type: "model.failed",
      claim,
      turn,
      attempt,
      causedBy: causedBy ?? null,
      kind: "response_too_large",
      status: null,
      message: `The model answered, and the log does not take its answer: ${why}`.slice(0, 4000),
      retryable: false,
      retryAfterMs: 0,
      requestId,
    },
  }
}
