import type { IncomingHttpHeaders } from "node:http"
import type { MessagesRequest, StopReason } from "./messages.ts"

/** One request that reached the model and passed its checks. */
export interface Call {
  /** Which valid call this is, from 1. */
  readonly n: number
  /** The exact bytes of the body, as text. */
  readonly body: string
  readonly request: MessagesRequest
  readonly headers: IncomingHttpHeaders
}

/** What the model does with a call. A script that throws answers 500 `api_error` with the sentence of what was thrown. */
export type Script = (call: Call) => Answer | Promise<Answer>

export type Answer = Said | Failure | Raw | Hang

/** How an answer travels; without any of these it is written at once. */
export interface Delivery {
  /** Stop after this many bytes of the answer's body; `how` says in which way. */
  readonly cutAfterBytes?: number
  /**
   * `reset`: the connection is reset (RST). `fin`: it is closed in the middle of the chunked body. `end`: the body is ended as if it
   * were complete, as a proxy may do. `hang`: nothing more comes, and the connection stays open. Default: `reset`.
   */
  readonly how?: "reset" | "fin" | "end" | "hang"
  /** Write in pieces of this many bytes, `delayMs` apart. */
  readonly chunkBytes?: number
  readonly delayMs?: number
  /** Write a stream delta by delta, this long apart. Not beside `chunkBytes`. */
  readonly deltaDelayMs?: number
  /** Headers beside the usual ones. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A block that the model says. Ids are given by the server, unless the script wants a certain one. */
export type SaidBlock =
  | {
      readonly type: "text"
      readonly text: string
      /** The text as its deltas divide it, in place of equal pieces. */
      readonly parts?: readonly string[]
    }
  | {
      readonly type: "tool_use"
      readonly name: string
      readonly input: Readonly<Record<string, unknown>>
      readonly id?: string
      /** What is streamed as `partial_json` in place of the input: for arguments that are not JSON, or not all of it. */
      readonly inputJson?: string
    }
  | { readonly type: "thinking"; readonly thinking: string; readonly signature: string }
  | { readonly type: "redacted_thinking"; readonly data: string }

export interface Said extends Delivery {
  readonly content: readonly SaidBlock[]
  /** Default: `tool_use` where the content has one, else `end_turn`. */
  readonly stopReason?: StopReason
  readonly usage?: Readonly<Record<string, unknown>>
}

export interface Failure {
  /** The HTTP status. */
  readonly error: number
  readonly type: string
  readonly message: string
  readonly headers?: Readonly<Record<string, string>>
}

/** A body as it is: malformed streams, an `event: error` after 200, an answer that is no JSON. */
export interface Raw extends Delivery {
  readonly raw: string | Uint8Array
  /** Default: 200. */
  readonly status?: number
  /** Default: `text/event-stream; charset=utf-8`. */
  readonly contentType?: string
}

/** The request is taken and never answered, not even with headers. */
export interface Hang {
  readonly hang: true
}

export function says(text: string): Said {
  return { content: [{ type: "text", text }] }
}

/** One turn that calls tools, in parallel where there are several. */
export function calls(
  ...wanted: readonly { readonly name: string; readonly input: Readonly<Record<string, unknown>>; readonly id?: string }[]
): Said {
  return { content: wanted.map((call) => ({ type: "tool_use", ...call })) }
}

const statuses: Readonly<Record<string, number>> = {
  invalid_request_error: 400,
  authentication_error: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  conflict_error: 409,
  request_too_large: 413,
  rate_limit_error: 429,
  api_error: 500,
  timeout_error: 504,
  overloaded_error: 529,
}

/** An error by its type; the status follows from it unless one is given. `retryAfter` goes out as it is: seconds or an HTTP date. */
export function fails(
  type: string,
  options: { status?: number; message?: string; retryAfter?: string; headers?: Readonly<Record<string, string>> } = {},
): Failure {
  return {
    error: options.status ?? statuses[type] ?? 500,
    type,
    message: options.message ?? `The simulated model was told to answer ${type}.`,
    headers: { ...(options.retryAfter === undefined ? {} : { "retry-after": options.retryAfter }), ...options.headers },
  }
}

export function hangs(): Hang {
  return { hang: true }
}

export function cut(answer: Said | Raw, cutAfterBytes: number, how: NonNullable<Delivery["how"]> = "reset"): Said | Raw {
  return { ...answer, cutAfterBytes, how }
}

export function trickles(answer: Said | Raw, chunkBytes: number, delayMs: number): Said | Raw {
  return { ...answer, chunkBytes, delayMs }
}

/** A raw event stream of these events, each `[name, data]`: a data that is not a string is said as JSON. */
export function events(...named: readonly (readonly [name: string, data: unknown])[]): Raw {
  return {
    raw: named.map(([name, data]) => `event: ${name}\ndata: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`).join(""),
  }
}

/** The answers one after the other; a function among them is asked as a script. Past the last, `rest` answers (default: the last again). */
export function inOrder(answers: readonly (Answer | Script)[], rest?: Script): Script {
  if (answers.length === 0 && rest === undefined) throw new Error("A script in order needs at least one answer.")
  let told = 0
  return (call) => {
    const answer = told < answers.length || rest === undefined ? answers[Math.min(told, answers.length - 1)] : rest
    told += 1
    if (answer === undefined) throw new Error("unreachable: the list was not empty")
    return typeof answer === "function" ? answer(call) : answer
  }
}
