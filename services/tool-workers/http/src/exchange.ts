import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http"
import { Agent as HttpsAgent, request as httpsRequest } from "node:https"
import { idleMs } from "./config.ts"
import type { Request } from "./request.ts"

/** What came back. */
export interface Response {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** At most as many bytes as asked for. */
  readonly body: Buffer
  /** There was more. */
  readonly cut: boolean
}

/** No whole answer came back. */
export class ExchangeError extends Error {
  /** Whether the server can have seen any of the request. */
  readonly sent: boolean
  /** The status, where the answer had begun. */
  readonly status: number | null
  /** The connection had served an earlier request: the server may have closed it just before this one. */
  readonly reused: boolean
  /** The system's name for it, such as ECONNREFUSED. */
  readonly reason: string

  constructor(cause: Error, facts: { sent: boolean; status: number | null; reused: boolean }) {
    super(cause.message, { cause })
    const { code } = cause as { code?: unknown }
    this.reason = typeof code === "string" ? code : cause.message
    this.sent = facts.sent
    this.status = facts.status
    this.reused = facts.reused
  }
}

/**
 * The connections of one worker. What may be repeated goes over connections that are kept. What may not gets one of its own: a server
 * that closes an idle connection just then would leave nobody knowing whether the request was seen. These agents read no proxy from
 * the environment.
 */
export class Connections {
  readonly #kept = { http: new HttpAgent(keeping), https: new HttpsAgent(keeping) }
  readonly #own = { http: new HttpAgent({ keepAlive: false }), https: new HttpsAgent({ keepAlive: false }) }

  /** One request and its answer. Rejects with an ExchangeError, or with the signal's reason where that was aborted. */
  exchange(
    { method, url, headers, body }: Request,
    how: { readonly keep: boolean; readonly signal: AbortSignal; readonly bytesMax: (status: number) => number },
  ): Promise<Response> {
    const { signal } = how
    const secure = url.protocol === "https:"
    const agent = (how.keep ? this.#kept : this.#own)[secure ? "https" : "http"]
    return new Promise<Response>((resolve, reject) => {
      let sent = false
      let response: IncomingMessage | undefined
      const fail = (error: Error): void => {
        const facts = { sent, status: response?.statusCode ?? null, reused: outgoing.reusedSocket }
        reject(signal.aborted ? (signal.reason as Error) : new ExchangeError(error, facts))
      }
      const length = body === null ? {} : { "content-length": Buffer.byteLength(body) }
      const outgoing = (secure ? httpsRequest : httpRequest)(url, { method, headers: { ...headers, ...length }, agent, signal })
      outgoing.on("socket", (socket) => {
        if (!socket.connecting) sent = true
        else socket.once(secure ? "secureConnect" : "connect", () => (sent = true))
      })
      outgoing.on("error", fail)
      outgoing.on("response", (incoming) => {
        response = incoming
        read(incoming, how.bytesMax(incoming.statusCode ?? 0)).then(resolve, fail)
      })
      outgoing.end(body ?? undefined)
    })
  }
}

const keeping = { keepAlive: true, timeout: idleMs, maxFreeSockets: 64 }

/** Reads no further than it must: what is larger is never in memory. */
async function read(incoming: IncomingMessage, bytesMax: number): Promise<Response> {
  const { statusCode: status = 0, headers } = incoming
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.length
    // Leaving the loop closes the connection.
    if (bytes > bytesMax) break
  }
  return { status, headers, body: Buffer.concat(chunks).subarray(0, bytesMax), cut: bytes > bytesMax }
}
