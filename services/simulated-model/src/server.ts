import { randomBytes } from "node:crypto"
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { BadRequest, checkRequest } from "./check-request.ts"
import type { MessagesRequest } from "./messages.ts"
import { plan } from "./planner.ts"
import { asEvents, asJson, renderMessage, simulatedName } from "./render.ts"
import type { Answer, Delivery, Failure, Script } from "./script.ts"

export interface SimulatedModelOptions {
  /** Default: 0, a free port. */
  readonly port?: number
  /** Default: 127.0.0.1. */
  readonly host?: string
  /** Default: `planned`. */
  readonly script?: Script
  /** How long the model thinks before it answers. Default: 0. */
  readonly latencyMs?: number
  /** How many calls are remembered, the newest; a long-lived model must not keep every body for ever, and may well keep none. Default: 1000. */
  readonly callsMax?: number
  /** The window in tokens (four bytes each, as usage counts them): a longer request is refused as the API would, 400. Default: endless. */
  readonly contextTokens?: number
  /** Where given, a request without this key is refused as the API would: 401. */
  readonly apiKey?: string
}

/** `open`: not answered yet. `refused`: broke a rule of the API. `failed`: the script said an error. `aborted`: the client went away. */
export type Outcome = "open" | "answered" | "refused" | "failed" | "cut" | "aborted"

/** One `POST /v1/messages`, valid or not. */
export interface RecordedCall {
  /** Which call this is, from 1. */
  readonly n: number
  /** The exact bytes of the body, as text. */
  readonly body: string
  readonly headers: IncomingHttpHeaders
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly requestId: string
  readonly outcome: Outcome
  /** Why it was refused or failed. */
  readonly reason?: string
}

export interface SimulatedModel {
  /** What goes into `ANTHROPIC_BASE_URL`. */
  readonly url: string
  /** The newest `callsMax` calls, oldest first. An outcome changes in place as the call goes on. */
  readonly calls: readonly RecordedCall[]
  /** All calls since the start, remembered or not. */
  readonly callCount: number
  /** What the next calls are answered by; may be replaced at any time. */
  script: Script
  /** Resolves when the n-th call has arrived (from 1); rejects when the model stops first. */
  called(n: number): Promise<RecordedCall>
  /** Ends every connection, also those that hang. */
  stop(): Promise<void>
}

/** The planner as a script: the default, and the last word of many test scripts. */
export const planned: Script = ({ request }) => plan(request)

/** The API's own limit for the Messages endpoint. */
const bodyBytesMax = 32 * 1024 * 1024

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

export async function startSimulatedModel(options: SimulatedModelOptions = {}): Promise<SimulatedModel> {
  const host = options.host ?? "127.0.0.1"
  const callsMax = options.callsMax ?? 1000
  const window = options.contextTokens ?? Number.POSITIVE_INFINITY
  const stopping = new AbortController()
  const calls: Mutable<RecordedCall>[] = []
  const waiting = new Set<{ n: number; resolve: (call: RecordedCall) => void; reject: (error: Error) => void }>()
  /** Two models, or one started again, never give the same request id. */
  const instance = randomBytes(6).toString("hex")
  let callCount = 0
  let requestCount = 0
  let script = options.script ?? planned

  const server = createServer((request, response) => {
    answerHttp(request, response).catch((error: unknown) => {
      // A client that goes away in the middle of its own body ends here; there is nobody left to tell.
      response.destroy(error instanceof Error ? error : new Error(String(error)))
    })
  })
  // Longer than clients keep an idle connection, so that it is always the client who closes: otherwise a request can meet a closing socket.
  server.keepAliveTimeout = 60_000

  async function answerHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    requestCount += 1
    const path = new URL(request.url ?? "/", "http://model").pathname
    const body = await bodyOf(request)
    const requestId = `req_sim_${instance}_${requestCount}`
    response.setHeader("request-id", requestId)
    response.setHeader("server", "reins-simulated-model")
    if (body === null)
      return sendFailure(response, requestId, {
        error: 413,
        type: "request_too_large",
        message: "Request exceeds the maximum allowed number of bytes.",
      })
    if (request.method === "POST" && path === "/v1/messages") return answerMessages(request, response, body, requestId)
    const denied = deniedBecause(request.headers)
    if (denied !== null) return sendFailure(response, requestId, denied)
    if (request.method === "GET" && path === "/v1/models") return sendJson(response, 200, modelList())
    return sendFailure(response, requestId, { error: 404, type: "not_found_error", message: `Not found: ${request.method ?? ""} ${path}` })
  }

  function deniedBecause(headers: IncomingHttpHeaders): Failure | null {
    if (options.apiKey !== undefined && headers["x-api-key"] !== options.apiKey && headers.authorization !== `Bearer ${options.apiKey}`) {
      return { error: 401, type: "authentication_error", message: "invalid x-api-key" }
    }
    return null
  }

  async function answerMessages(request: IncomingMessage, response: ServerResponse, body: string, requestId: string): Promise<void> {
    callCount += 1
    const call: Mutable<RecordedCall> = { n: callCount, body, headers: request.headers, at: Date.now(), requestId, outcome: "open" }
    calls.push(call)
    // Trimmed by halves, so that a long run does not shift the whole list at every call.
    if (calls.length >= 2 * callsMax) calls.splice(0, calls.length - callsMax)
    for (const wait of waiting) {
      if (wait.n > callCount) continue
      waiting.delete(wait)
      wait.resolve(call)
    }
    const gone = new AbortController()
    response.once("close", () => {
      if (response.writableFinished) return
      gone.abort()
      if (call.outcome === "open") call.outcome = "aborted"
    })
    const refuse = (outcome: "refused" | "failed", failure: Failure): void => {
      call.outcome = outcome
      call.reason = failure.message
      sendFailure(response, requestId, failure)
    }

    const denied = deniedBecause(request.headers)
    if (denied !== null) return refuse("refused", denied)
    let checked: MessagesRequest
    try {
      if (request.headers["anthropic-version"] === undefined) throw new BadRequest("anthropic-version: header is required")
      checked = checkRequest(body)
      const tokens = Math.ceil(Buffer.byteLength(body) / 4)
      if (tokens > window) throw new BadRequest(`prompt is too long: ${tokens} tokens > ${window} maximum`)
    } catch (error) {
      if (!(error instanceof BadRequest)) throw error
      return refuse("refused", { error: 400, type: "invalid_request_error", message: error.message })
    }

    const over = AbortSignal.any([gone.signal, stopping.signal])
    if (options.latencyMs !== undefined && options.latencyMs > 0)
      await sleep(options.latencyMs, undefined, { signal: over }).catch(() => undefined)
    let answer: Answer
    try {
      answer = await script({ n: call.n, body, request: checked, headers: request.headers })
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      answer = { error: 500, type: "api_error", message: `The script of the simulated model failed: ${reason}` }
    }
    if (over.aborted || "hang" in answer) return
    if ("error" in answer) return refuse("failed", answer)
    await deliver(response, answer, checked, body, call, over)
  }

  async function deliver(
    response: ServerResponse,
    answer: Exclude<Answer, Failure | { hang: true }>,
    request: MessagesRequest,
    body: string,
    call: Mutable<RecordedCall>,
    over: AbortSignal,
  ): Promise<void> {
    let bytes: Uint8Array
    let contentType = "text/event-stream; charset=utf-8"
    let status = 200
    if ("raw" in answer) {
      bytes = typeof answer.raw === "string" ? Buffer.from(answer.raw) : answer.raw
      contentType = answer.contentType ?? contentType
      status = answer.status ?? 200
    } else {
      const message = renderMessage(answer, request.model, body)
      bytes = Buffer.from(request.stream === true ? asEvents(message) : asJson(message))
      if (request.stream !== true) contentType = "application/json"
    }
    response.writeHead(status, { "content-type": contentType, "cache-control": "no-cache", ...answer.headers })
    const until = Math.min(answer.cutAfterBytes ?? bytes.length, bytes.length)
    if (answer.cutAfterBytes === undefined && answer.chunkBytes === undefined && answer.deltaDelayMs === undefined) {
      call.outcome = "answered"
      response.end(bytes)
      return
    }
    response.flushHeaders()
    const delayMs = answer.delayMs ?? answer.deltaDelayMs ?? 0
    let at = 0
    for (const end of pieceEnds(bytes, answer)) {
      if (over.aborted || at >= until) break
      if (at > 0 && delayMs > 0) await sleep(delayMs, undefined, { signal: over }).catch(() => undefined)
      await write(response, bytes.subarray(at, Math.min(end, until)))
      at = end
    }
    if (over.aborted) return
    if (answer.cutAfterBytes === undefined) {
      call.outcome = "answered"
      response.end()
      return
    }
    cutOff(response, answer, call)
  }

  await listen(server, options.port ?? 0, host)
  const { port } = server.address() as AddressInfo
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}`
  let stopped: Promise<void> | null = null

  return {
    url,
    get calls(): readonly RecordedCall[] {
      return calls.length > callsMax ? calls.slice(calls.length - callsMax) : calls
    },
    get callCount(): number {
      return callCount
    },
    get script(): Script {
      return script
    },
    set script(next: Script) {
      script = next
    },
    called(n: number): Promise<RecordedCall> {
      const known = calls.find((call) => call.n >= n)
      if (callCount >= n)
        return known?.n === n ? Promise.resolve(known) : Promise.reject(new Error(`Call ${n} is no longer remembered; raise callsMax.`))
      if (stopping.signal.aborted) return Promise.reject(new Error("The simulated model has stopped."))
      return new Promise((resolve, reject) => waiting.add({ n, resolve, reject }))
    },
    stop(): Promise<void> {
      stopped ??= new Promise((resolve) => {
        stopping.abort()
        for (const wait of waiting) wait.reject(new Error(`The simulated model stopped before call ${wait.n}.`))
        waiting.clear()
        server.close(() => resolve())
        server.closeAllConnections()
      })
      return stopped
    },
  }
}

/** The body as text, or null when it is longer than the API takes. */
async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    // What is too long is still read to its end, else the client sees a broken connection and not the error.
    if (length <= bodyBytesMax) chunks.push(chunk)
  }
  return length > bodyBytesMax ? null : Buffer.concat(chunks).toString("utf8")
}

/** Where the pieces end in which an answer is written; the last end is that of the answer. */
function* pieceEnds(bytes: Uint8Array, { chunkBytes, deltaDelayMs }: Delivery): Generator<number> {
  if (chunkBytes !== undefined) {
    for (let end = chunkBytes; end < bytes.length; end += chunkBytes) yield end
  } else if (deltaDelayMs !== undefined) {
    const stream = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    // The line that opens a delta; a line break inside of one is escaped.
    const opening = "event: content_block_delta\n"
    for (let at = stream.indexOf(opening); at >= 0; at = stream.indexOf(opening, at + 1)) if (at > 0) yield at
  }
  yield bytes.length
}

/** Ends an answer early. What was written has reached the kernel, but after a reset the client may have lost some of it. */
function cutOff(response: ServerResponse, { how = "reset" }: Delivery, call: Mutable<RecordedCall>): void {
  if (how === "hang") return
  call.outcome = "cut"
  switch (how) {
    case "end":
      response.end()
      return
    case "fin":
      response.socket?.end()
      return
    case "reset":
      response.socket?.resetAndDestroy()
      return
    default:
      how satisfies never
  }
}

function write(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    // An error here is a client that has gone; its `close` event says so.
    response.write(bytes, () => resolve())
  })
}

function sendJson(response: ServerResponse, status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  const bytes = Buffer.from(JSON.stringify(value))
  response.writeHead(status, { "content-type": "application/json", "content-length": bytes.length, ...headers })
  response.end(bytes)
}

function sendFailure(response: ServerResponse, requestId: string, failure: Failure): void {
  sendJson(
    response,
    failure.error,
    { type: "error", error: { type: failure.type, message: failure.message }, request_id: requestId },
    failure.headers,
  )
}

function modelList(): unknown {
  const model = {
    type: "model",
    id: simulatedName("claude-sonnet-5-5"),
    display_name: "Simulated model (no language model: a deterministic planner)",
    created_at: "2026-11-24T00:00:00Z",
    capabilities: null,
    deprecated_at: null,
    lifecycle: "active",
    line: null,
    max_input_tokens: null,
    max_tokens: null,
    retires_at: null,
  }
  return { data: [model], has_more: false, first_id: model.id, last_id: model.id }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        new Error(
          `The simulated model cannot listen on ${host}:${port} (${error.code ?? error.message}). Take another port, or 0 for any free one.`,
          { cause: error },
        ),
      )
    })
    server.listen(port, host, resolve)
  })
}
