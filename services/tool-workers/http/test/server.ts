import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http"
import { type AddressInfo, createServer as createNetServer, type Socket } from "node:net"

export interface Received {
  readonly method: string
  /** Path and query as they came over the wire. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Server extends AsyncDisposable {
  readonly url: string
  readonly received: readonly Received[]
}

/** A real HTTP server that keeps what it received. */
export async function serve(answer: RequestListener): Promise<Server> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      received.push({
        method: request.method ?? "",
        target: request.url ?? "",
        headers: request.headers,
        body: Buffer.concat(chunks).toString("utf8"),
      })
      answer(request, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A server of bare sockets: `answer` gets each request's bytes and how many requests its connection has seen, this one included. */
export async function serveBytes(
  answer: (socket: Socket, seen: number, connection: number) => void,
): Promise<AsyncDisposable & { url: string }> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createNetServer((socket) => {
    const connection = ++connections
    let seen = 0
    sockets.add(socket)
    socket.on("close", () => sockets.delete(socket))
    socket.on("error", () => undefined)
    socket.on("data", () => answer(socket, ++seen, connection))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** The address of a server that is no longer there. */
export async function closedUrl(): Promise<string> {
  const server = await serve((_, response) => response.end())
  await server[Symbol.asyncDispose]()
  return server.url
}
