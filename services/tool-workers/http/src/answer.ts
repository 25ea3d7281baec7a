import { STATUS_CODES } from "node:http"
import { TextDecoder } from "node:util"
import { canonicalJson } from "@reins/events"
import { ToolAnswer, ToolError } from "@reins/worker-kit"
import { bodyBytesMax, errorBodyBytesMax, retryAfterMsMax } from "./config.ts"
import type { Response } from "./exchange.ts"
import type { Request } from "./request.ts"
import { retryAfterOf, spreadRetryMs } from "./retry-after.ts"

/** Statuses that speak of the moment, not of the request. */
const passing = new Set([408, 425, 429, 502, 503, 504])
/** Characters of a body that go into the message of a failure. */
const messageBodyMax = 7000
/** Of a HEAD, what the model may want to know. */
const headHeaders = ["content-type", "content-length", "etag", "last-modified"]

/** How much of an answer is read. */
export function bytesMax(status: number): number {
  return status >= 200 && status < 300 ? bodyBytesMax : errorBodyBytesMax
}

/** `GET http://host:port`: path and query stay out, they may hold secrets of the agent. */
export function nameOf({ method, url }: Request): string {
  return `${method} ${url.origin}`
}

/** `HTTP 404 Not Found`. */
export function statusLine(status: number): string {
  return `HTTP ${status} ${STATUS_CODES[status] ?? ""}`.trimEnd()
}

/** What the answer means for the call: a result, an error result, or a ToolError where another attempt may help. */
export function answerOf(request: Request, response: Response, attempt: number): ToolAnswer {
  const { status } = response
  if (passing.has(status)) throw failureOf(request, response, attempt)
  if (status < 200 || status >= 300) return errorResult(response)
  if (request.method === "HEAD") return ToolAnswer.of(headResult(response))
  if (response.cut) {
    throw new ToolError(
      `${nameOf(request)} answered ${statusLine(status)} with more than the ${bodyBytesMax} bytes that fit. Ask for less.`,
      {
        kind: "output_too_large",
        effect: "done",
      },
    )
  }
  if (response.body.length === 0) return ToolAnswer.of(`${statusLine(status)}, with an empty body.`)
  return resultOf(request, response)
}

export function errorResult(response: Response, note = ""): ToolAnswer {
  const body = legible(response)
  return ToolAnswer.of(`${statusLine(response.status)}${note}${body === "" ? "" : `\n${body}`}`, true)
}

function failureOf(request: Request, response: Response, attempt: number): ToolError {
  const { status, headers } = response
  const asked = retryAfterOf(headers["retry-after"], headers.date, Date.now())
  const tooLong = asked !== null && asked > retryAfterMsMax
  const patience = tooLong ? ` It asks to be left alone for ${Math.ceil(asked / 1000)} s.` : ""
  const body = legible(response).slice(0, messageBodyMax)
  return new ToolError(`${nameOf(request)} answered ${statusLine(status)}.${patience}${body === "" ? "" : `\n${body}`}`, {
    kind: status === 429 ? "rate_limited" : "unavailable",
    // Many a gateway answers so after the request has reached what stands behind it.
    effect: "maybe",
    retryAfterMs: tooLong ? null : (asked ?? spreadRetryMs(attempt, Math.random())),
  })
}

function headResult({ status, headers }: Response): string {
  const told = headHeaders.flatMap((name) => (typeof headers[name] === "string" ? [[name, headers[name]]] : []))
  return canonicalJson({ status, headers: Object.fromEntries(told) as Record<string, string> })
}

function resultOf(request: Request, { status, headers, body }: Response): ToolAnswer {
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity"
  const malformed = (why: string): ToolError =>
    new ToolError(`${nameOf(request)} answered ${statusLine(status)}, but ${why}`, { kind: "malformed_output", effect: "done" })
  if (encoding !== "identity" && encoding !== "") throw malformed(`its body is encoded as ${encoding}, which was not asked for.`)
  const { mime, charset } = contentType(headers["content-type"])
  if (mime === "application/json" || mime.endsWith("+json")) {
    const text = decoded(body, "utf-8")
    if (text === null) throw malformed("its JSON is not UTF-8.")
    try {
      return ToolAnswer.of(faithfulJson(text))
    } catch (error) {
      throw malformed(`its JSON cannot be read: ${(error as Error).message}\n${text.slice(0, 2000)}`)
    }
  }
  const text = decoded(body, charset)
  if (text !== null && !text.includes("\0")) return ToolAnswer.of(text)
  // As blocks of the model's own kind, a broken picture would make every later request of the session invalid.
  return ToolAnswer.of({ note: "The answer is binary.", contentType: mime, bytes: body.length, base64: body.toString("base64") })
}

/** An answer that says what is wrong, as text whatever it is. */
function legible({ body, cut, headers }: Response): string {
  const text = decoded(body, contentType(headers["content-type"]).charset) ?? new TextDecoder().decode(body)
  return cut ? `${text}\n(cut after ${body.length} bytes)` : text
}

function contentType(header: string | undefined): { readonly mime: string; readonly charset: string } {
  const [mime = "", ...parameters] = (header ?? "").split(";")
  const charset = parameters
    .map((parameter) => /^\s*charset\s*=\s*"?([^"\s]+)"?\s*$/i.exec(parameter)?.[1])
    .find((one) => one !== undefined)
  return { mime: mime.trim().toLowerCase() || "application/octet-stream", charset: charset ?? "utf-8" }
}

/** The text, or null where these bytes are none in this encoding. An encoding that nobody knows is read as UTF-8. */
function decoded(bytes: Uint8Array, charset: string): string | null {
  let decoder: TextDecoder
  try {
    decoder = new TextDecoder(charset, { fatal: true })
  } catch {
    decoder = new TextDecoder("utf-8", { fatal: true })
  }
  try {
    return decoder.decode(bytes)
  } catch {
    return null
  }
}

/** Canonical JSON, unless that would change a number: identifiers are often longer than a double can hold. */
function faithfulJson(text: string): string {
  let changed = false
  const reviver = (_key: string, value: unknown, { source }: { source?: string }): unknown => {
    if (typeof value === "number" && source !== undefined && !Number.isSafeInteger(value) && String(value) !== source) {
      const digits = source
        .replace(/[eE].*$/, "")
        .replace(/[^0-9]/g, "")
        .replace(/^0+/, "").length
      if (digits > 15 || !Number.isFinite(value)) changed = true
    }
    return value
  }
  const value: unknown = JSON.parse(text, reviver as (key: string, value: unknown) => unknown)
  return changed ? text.trim() : canonicalJson(value)
}
