import { randomBytes } from "node:crypto"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { getRequestListener } from "@hono/node-server"
import type { ErrorType } from "./errors.ts"

export interface ServerOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly fetch: Parameters<typeof getRequestListener>[0]
  /** Answers what is not the API's; true where it has. */
  readonly beside?: (request: IncomingMessage, response: ServerResponse) => boolean
}

export interface HttpServer {
  readonly url: string
  readonly port: number
  /** Takes no new connection, lets what runs end, then cuts what is left. */
  stop(): Promise<void>
}

const headersMaxBytes = 32 * 1024
/** A client sends its head within seconds; its body may take as long as its network needs. */
const headersTimeoutMs = 15_000
const requestTimeoutMs = 300_000
/** Longer than proxies and SDKs keep a connection for themselves: who closes first while the other sends loses a request. */
const keepAliveTimeoutMs = 75_000
/** How long requests that run may take to end. */
const closeMs = 2000

export async function listen({ host, port, fetch, beside }: ServerOptions): Promise<HttpServer> {
  const listener = getRequestListener(fetch, {
    overrideGlobalObjects: false,
    errorHandler: () => {
      const { id, body } = envelope("invalid_request_error", "The request's address or head cannot be read.")
      return new Response(body, { status: 400, headers: { "content-type": "application/json", "request-id": id } })
    },
  })
  const answering = new WeakSet<Socket>()
  let stopping = false
  const server = createServer({ maxHeaderSize: headersMaxBytes }, (request, response) => {
    answering.add(request.socket)
    response.once("close", () => {
      answering.delete(request.socket)
      if (stopping) server.closeIdleConnections()
    })
    if (stopping) response.shouldKeepAlive = false
    if (beside?.(request, response) === true) return
    void listener(request, response)
  })
  server.headersTimeout = headersTimeoutMs
  server.requestTimeout = requestTimeoutMs
  server.keepAliveTimeout = keepAliveTimeoutMs
  // What is no HTTP, or too much of it, never becomes a request: the answer is written by hand.
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    if (!socket.writable || answering.has(socket)) socket.destroy()
    else socket.end(refusal(error.code))
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(port, host, resolve)
  })
  const { port: taken } = server.address() as AddressInfo
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${taken}`,
    port: taken,
    stop: async () => {
      stopping = true
      const cut = setTimeout(() => server.closeAllConnections(), closeMs)
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeIdleConnections()
      })
      clearTimeout(cut)
    },
  }
}

function envelope(type: ErrorType, message: string): { readonly id: string; readonly body: string } {
  const id = newRequestId()
  return { id, body: JSON.stringify({ type: "error", error: { type, message }, request_id: id }) }
}

export function newRequestId(): string {
  return `req_${randomBytes(12).toString("hex")}`
}

function refusal(code: string | undefined): string {
  const [status, type, message] = refusalOf(code)
  const { id, body } = envelope(type, message)
  return `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json\r\nrequest-id: ${id}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

function refusalOf(code: string | undefined): readonly [status: string, type: ErrorType, message: string] {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return ["431 Request Header Fields Too Large", "request_too_large", `The head of a request may have ${headersMaxBytes} bytes.`]
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["408 Request Timeout", "timeout_error", "The request did not come in time."]
    default:
      return ["400 Bad Request", "invalid_request_error", "This is no HTTP request."]
  }
}
