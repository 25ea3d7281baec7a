import Anthropic, { APIConnectionError, APIError, APIUserAbortError } from "@anthropic-ai/sdk"
import type { Message, MessageStreamEvent } from "@anthropic-ai/sdk/resources/messages/messages"
import type { Model, ModelAnswer, ModelFault, OnDelta } from "./model.ts"

export interface AnthropicOptions {
  readonly apiKey?: string
  readonly authToken?: string
  readonly baseURL?: string
}

/** The kinds of error that a later attempt at the same request may not meet. */
const retryableStatus = new Set([408, 409, 429, 500, 502, 503, 504, 529])

/** Any endpoint of the Messages wire, through the official SDK: streaming, one physical attempt per call. */
export function anthropicModel(options: AnthropicOptions): Model {
  return {
    provider: "anthropic",
    ask: async (request) => {
      let requestId: string | null = null
      const client = new Anthropic({
        apiKey: options.apiKey ?? null,
        authToken: options.authToken ?? null,
        ...(options.baseURL === undefined ? {} : { baseURL: options.baseURL }),
        maxRetries: 0,
        // The SDK would serialise the body again; what goes out must be the bytes whose hash is in the log.
        fetch: (url, init) => fetch(url, { ...init, body: request.body }),
      })
      try {
        const stream = client.messages.stream(JSON.parse(request.body) as Parameters<typeof client.messages.stream>[0], {
          signal: request.signal,
          timeout: request.timeoutMs,
          openTelemetry: { conversationId: request.sessionId },
        })
        const inputs = new Map<number, string>()
        const { onDelta } = request
        stream.on("streamEvent", (event) => {
          if (event.type === "content_block_delta" && event.delta.type === "input_json_delta")
            inputs.set(event.index, (inputs.get(event.index) ?? "") + event.delta.partial_json)
          if (onDelta !== undefined) tellDelta(event, onDelta)
        })
        const message = await stream.finalMessage()
        requestId = stream.request_id ?? null
        return answer(message, inputs, requestId)
      } catch (error) {
        return fault(error, requestId)
      }
    },
  }
}

function tellDelta(event: MessageStreamEvent, onDelta: OnDelta): void {
  if (event.type === "content_block_delta") {
    if (event.delta.type === "text_delta" && event.delta.text !== "") onDelta(event.index, "text", event.delta.text)
  } else if (event.type === "content_block_start") {
    const block = event.content_block
    if (block.type === "text" && block.text !== "") onDelta(event.index, "text", block.text)
    else if (block.type === "thinking" || block.type === "redacted_thinking") onDelta(event.index, "thinking", "")
  }
}

/** `inputs`: by block, the text of the arguments as it was streamed. The SDK completes what breaks off, and half an order is another order. */
function answer(message: Message, inputs: ReadonlyMap<number, string>, requestId: string | null): ModelAnswer | ModelFault {
  if (message.stop_reason === null) return protocolFault("The message came to its end without a stop reason.", requestId)
  const { content, ...rest } = message as Message & { parsed_output?: unknown; _request_id?: unknown }
  delete rest.parsed_output
  delete rest._request_id
  const seen = new Set<string>()
  for (const [index, block] of content.entries()) {
    if (block.type !== "tool_use") continue
    // Of any other end (max_tokens, say) no call is run.
    if (message.stop_reason === "tool_use" && !isJson(inputs.get(index) ?? ""))
      return protocolFault(`The arguments of ${block.id} (${block.name}) are not JSON.`, requestId)
    if (seen.has(block.id)) return protocolFault(`Two tool_use blocks have the id ${block.id}.`, requestId)
    seen.add(block.id)
  }
  return {
    content: JSON.stringify(content),
    message: JSON.stringify(rest),
    model: message.model,
    stopReason: message.stop_reason,
    usage: {
      inputTokens: message.usage.input_tokens,
      outputTokens: message.usage.output_tokens,
      cacheReadTokens: message.usage.cache_read_input_tokens ?? 0,
      cacheWriteTokens: message.usage.cache_creation_input_tokens ?? 0,
    },
    requestId,
  }
}

/** Nothing at all stands for no arguments. */
function isJson(text: string): boolean {
  if (text === "") return true
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function protocolFault(message: string, requestId: string | null): ModelFault {
  return { fault: { kind: "protocol", status: null, message, retryable: true, retryAfterMs: null, requestId } }
}

function fault(error: unknown, requestId: string | null): ModelFault {
  if (error instanceof APIUserAbortError) {
    return {
      fault: {
        kind: "aborted",
        status: null,
        message: "The call was aborted before the answer came.",
        retryable: true,
        retryAfterMs: null,
        requestId,
      },
    }
  }
  if (error instanceof APIConnectionError) {
    return { fault: { kind: "connection", status: null, message: describe(error), retryable: true, retryAfterMs: null, requestId } }
  }
  if (error instanceof APIError) return apiFault(error, requestId)
  // The stream broke a rule of the wire, or ended early: nothing of it is used.
  return protocolFault(describe(error), requestId)
}

/** The error envelope of the Messages API. */
interface ErrorBody {
  readonly error?: { readonly type?: string; readonly message?: string }
}

function apiFault(error: APIError, requestId: string | null): ModelFault {
  const status = error.status ?? null
  const body: ErrorBody | undefined = error.error
  const kind = body?.error?.type ?? (status === null ? "api_error" : `http_${status}`)
  const headers = error.headers
  const asked = retryAfter(headers)
  const said = headers?.get("x-should-retry")
  let retryable =
    status === null ? kind === "overloaded_error" || kind === "api_error" || kind === "rate_limit_error" : retryableStatus.has(status)
  // A 429 without a time to wait is a spend limit: it fails until the month ends.
  if (status === 429 && asked === null) retryable = false
  if (said === "true") retryable = true
  if (said === "false") retryable = false
  return {
    fault: {
      kind: status === 413 || isTooLong(status, body?.error?.message) ? "request_too_large" : kind,
      status,
      message: body?.error?.message ?? error.message,
      retryable,
      retryAfterMs: asked,
      requestId: error.requestID ?? requestId,
    },
  }
}

/** "prompt is too long: 215300 tokens > 200000 maximum", "input length and `max_tokens` exceed context limit: …": the API has no type for it. */
function isTooLong(status: number | null, message: string | undefined): boolean {
  return status === 400 && /prompt is too long|exceeds? (the )?context (limit|window)/i.test(message ?? "")
}

/**
 * `retry-after-ms`, or `retry-after` in seconds or as an HTTP date (RFC 9110 section 10.2.3), in milliseconds. Null where nothing was
 * asked for that makes sense, such as a wait of years.
 */
export function retryAfter(headers: Headers | undefined, now: number = Date.now()): number | null {
  const ms = quantity(headers?.get("retry-after-ms"))
  if (ms !== null) return sensible(Math.ceil(ms))
  const given = headers?.get("retry-after")
  const seconds = quantity(given)
  if (seconds !== null) return sensible(Math.ceil(seconds * 1000))
  // Every form of an HTTP date begins with the day of the week; Date.parse would also make a date of "-5".
  const date = /^[A-Za-z]/.test(given ?? "") ? Date.parse(given ?? "") : Number.NaN
  return Number.isNaN(date) ? null : sensible(Math.max(0, date - now))
}

function quantity(text: string | null | undefined): number | null {
  return text !== null && text !== undefined && /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : null
}

const retryAfterMaxMs = 365 * 86_400_000

function sensible(ms: number): number | null {
  return ms <= retryAfterMaxMs ? ms : null
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : ""
  return `${error.message}${cause}`
}
