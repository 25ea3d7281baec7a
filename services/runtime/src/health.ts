import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Metrics } from "./metrics.ts"

export interface HealthOptions {
  /** Why nothing should be sent here at the moment, in a few words; null where something may. */
  readonly unready: () => string | null
  readonly alive: () => boolean
  readonly metrics: Metrics
}

/** Answers `/livez`, `/readyz` and `/metrics`; false where the request is for something else. */
export function answerHealth(options: HealthOptions, request: IncomingMessage, response: ServerResponse): boolean {
  const answer = (status: number, body: string): true => {
    response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(body)
    return true
  }
  switch (request.url) {
    case "/livez":
      return answer(options.alive() ? 200 : 503, options.alive() ? "alive\n" : "failed\n")
    case "/readyz": {
      const why = options.unready()
      return why === null ? answer(200, "ready\n") : answer(503, `${why}\n`)
    }
    case "/metrics":
      options.metrics.registry.metrics().then(
        (text) => response.writeHead(200, { "content-type": options.metrics.registry.contentType }).end(text),
        (error: unknown) => answer(500, String(error)),
      )
      return true
    default:
      return false
  }
}

export interface Health {
  readonly port: number
  stop(): Promise<void>
}

/** `/livez`, `/readyz` and `/metrics`. Ready means: a member that was told its share of the partitions, be it nothing, and caught up on all of it; with a front, that too. */
export async function serveHealth(options: HealthOptions & { readonly host: string; readonly port: number }): Promise<Health> {
  const server: Server = createServer((request, response) => {
    if (!answerHealth(options, request, response))
      response.writeHead(404, { "content-type": "text/plain; charset=utf-8" }).end("Here are /livez, /readyz and /metrics.\n")
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(options.port, options.host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
