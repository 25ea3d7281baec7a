import type { EffectClass, ToolEventOf } from "@reins/events"
import { type Runnable, type ToolAnswer, type ToolContext, ToolError } from "@reins/worker-kit"
import { answerOf, bytesMax, errorResult, nameOf, statusLine } from "./answer.ts"
import { redirectsMax } from "./config.ts"
import { type Connections, ExchangeError, type Response } from "./exchange.ts"
import { urlFault } from "./may-call.ts"
import { type Request, requestOf } from "./request.ts"
import { spreadRetryMs } from "./retry-after.ts"

/** What runs this call. */
export function httpTool(dispatch: ToolEventOf<"tool-call.dispatched">, connections: Connections): Runnable {
  return { run: (input, context) => call(requestOf(dispatch.settings, input, context), dispatch.effect, context, connections) }
}

async function call(first: Request, effect: EffectClass, context: ToolContext, connections: Connections): Promise<ToolAnswer> {
  let request = first
  for (let redirects = 0; ; redirects++) {
    const response = await exchanged(request, effect, context, connections)
    const next = redirectOf(request, response, redirects)
    if (next === null) return answerOf(request, response, context.attempt)
    if ("stays" in next) return errorResult(response, next.stays)
    request = { ...request, url: next.url }
  }
}

/** Where the answer sends us; a reason where we do not go; null where it sends us nowhere. */
function redirectOf({ method, url }: Request, { status, headers }: Response, redirects: number): { url: URL } | { stays: string } | null {
  const { location } = headers
  if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return null
  const stays = (why: string): { stays: string } => ({ stays: ` to ${location}: ${why}` })
  if (method !== "GET" && method !== "HEAD") return stays(`a redirect of a ${method} is not followed.`)
  if (!URL.canParse(location, url.href)) return stays("that is no URL.")
  const next = new URL(location, url)
  if (next.origin !== url.origin) return stays("a redirect to another origin is not followed.")
  if (redirects >= redirectsMax) return stays(`more than ${redirectsMax} redirects are not followed.`)
  return { url: next }
}

/** Whether a second run does no harm, by the tool's declared effect. */
function repeatable(effect: EffectClass): boolean {
  return effect === "pure" || effect === "idempotent" || effect === "keyed"
}

async function exchanged(request: Request, effect: EffectClass, context: ToolContext, connections: Connections): Promise<Response> {
  const fault = urlFault(request.url)
  if (fault !== null)
    throw new ToolError(`The agent's URL for this tool may not be called: ${fault}.`, { kind: "denied_by_policy", effect: "none" })
  const keep = repeatable(effect)
  const { signal } = context
  try {
    return await connections.exchange(request, { keep, signal, bytesMax })
  } catch (error) {
    if (!(error instanceof ExchangeError)) throw error
    if (!error.reused || error.status !== null) throw failureOf(request, effect, context, error)
  }
  // The kept connection was closed under us, which says nothing about the server: once more, on a new one.
  try {
    return await connections.exchange(request, { keep: false, signal, bytesMax })
  } catch (error) {
    throw error instanceof ExchangeError ? failureOf(request, effect, context, error) : error
  }
}

/** No whole answer: what that means follows from whether the request can have been seen, and from what may happen twice. */
function failureOf(request: Request, effect: EffectClass, context: ToolContext, error: ExchangeError): ToolError {
  const { reason, sent, status, cause } = error
  const retryAfterMs = spreadRetryMs(context.attempt, Math.random())
  // A certificate that does not fit will not fit in a second either; the network's own errors are the ones of the system.
  const passing = /^E(?!RR_)[A-Z_]+$/.test(reason)
  if (!sent) {
    return new ToolError(`${nameOf(request)} cannot be reached: ${reason}. Nothing was sent.`, {
      kind: "unavailable",
      effect: "none",
      retryAfterMs: passing ? retryAfterMs : null,
      cause,
    })
  }
  const how =
    status === null
      ? `${nameOf(request)} was sent, but no answer came: ${reason}.`
      : `${nameOf(request)} answered ${statusLine(status)}, but its body broke off: ${reason}.`
  if (!repeatable(effect)) {
    return new ToolError(`${how} Nobody can say whether it took effect. It is not sent again.`, {
      kind: "unavailable",
      effect: "maybe",
      unknown: true,
      cause,
    })
  }
  return new ToolError(how, { kind: "unavailable", effect: "maybe", retryAfterMs, cause })
}
