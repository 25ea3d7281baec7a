import { AppendUnknownError, AppendWithdrawnError, LogUnavailableError } from "@reins/log"
import { type Context, Hono, type MiddlewareHandler } from "hono"
import type { ContentfulStatusCode } from "hono/utils/http-status"
import type { Logger } from "pino"
import { type Access, authenticate } from "./auth.ts"
import { type BodyLimits, parseJson, readBody } from "./body.ts"
import type { Env, GatewayContext } from "./context.ts"
import { ApiError, invalid, unavailable } from "./errors.ts"
import { newRequestId } from "./server.ts"

export interface AppOptions {
  readonly context: GatewayContext
  readonly access: Access
  /** Requests a second that one credential may make, and how many it may save up. */
  readonly rate: { readonly perSecond: number; readonly burst: number }
  readonly body: BodyLimits
  readonly measured: (route: string, method: string, status: number, seconds: number) => void
}

/** The application: everything that holds for all routes, in the order in which it happens. */
export function createApp({ context, access, rate, body: limits, measured }: AppOptions): Hono<Env> {
  const app = new Hono<Env>()
  const buckets = new Buckets(rate.perSecond, rate.burst)

  app.use("*", async (c, next) => {
    const began = performance.now()
    c.set("requestId", newRequestId())
    await next()
    // A stream has written its own head.
    if (!c.env.outgoing.headersSent) c.header("request-id", c.get("requestId"))
    measured(
      routeOf(c),
      c.req.method,
      c.env.outgoing.headersSent ? c.env.outgoing.statusCode : c.res.status,
      (performance.now() - began) / 1000,
    )
  })

  const admit: MiddlewareHandler<Env> = async (c, next) => {
    const caller = await authenticate(c.env.incoming.headers, access, context.directory)
    const waitMs = buckets.take(caller.credential)
    if (waitMs > 0)
      throw new ApiError(429, "rate_limit_error", "Too many requests with this key. Wait as long as retry-after says.", {
        headers: { "retry-after": String(Math.ceil(waitMs / 1000)) },
      })
    c.set("tenant", caller.tenant)
    c.set("credential", caller.credential)
    c.set("rawBody", new Uint8Array())
    if (c.req.method === "POST" || c.req.method === "PUT" || c.req.method === "PATCH") {
      const bytes = await readBody(c.env.incoming, limits)
      c.set("rawBody", bytes)
      if (bytes.length > 0) {
        const type = c.req.header("content-type") ?? ""
        if (!/^application\/json *(;|$)/i.test(type))
          throw invalid(`content-type: must be application/json, not ${JSON.stringify(type.slice(0, 100))}.`)
        c.set("body", parseJson(bytes, limits))
      } else c.set("body", {})
    }
    await next()
  }
  // What Reins adds to the API is under the same rules.
  for (const path of ["/v1/*", "/reins/v1/*"]) app.use(path, admit)

  app.notFound((c) =>
    respond(c, new ApiError(404, "not_found_error", `There is no ${c.req.method} ${c.req.path.slice(0, 200)} here.`), context.logger),
  )
  app.onError((error, c) => respond(c, error, context.logger))
  return app
}

/** Any error as the envelope of the API. What is not ours to explain is logged and not shown. */
export function respond(c: Context<Env>, error: unknown, logger: Logger): Response {
  const requestId = c.get("requestId")
  let told: ApiError
  if (error instanceof ApiError) told = error
  else if (isOfTheLog(error)) {
    logger.warn({ err: error, requestId }, "The log did not answer a request.")
    told = unavailable("The log cannot be reached. The same request sent again has no second effect.")
  } else {
    logger.error({ err: error, requestId }, "A request failed.")
    told = new ApiError(500, "api_error", "Something went wrong here. The log of this gateway says more under the request id.")
  }
  for (const [name, value] of Object.entries(told.headers ?? {})) c.header(name, value)
  c.header("request-id", requestId)
  const { type, message, details } = told
  return c.json(
    { type: "error", error: { type, message, ...(details === undefined ? {} : { details }) }, request_id: requestId },
    told.status as ContentfulStatusCode,
  )
}

/** The log did not do what was asked of it: the client may try again, and is never told that all is well. */
function isOfTheLog(error: unknown): boolean {
  return error instanceof LogUnavailableError || error instanceof AppendUnknownError || error instanceof AppendWithdrawnError
}

/** The template of the route, never the path: ids would make a series each. */
function routeOf(c: Context<Env>): string {
  const own = c.req.matchedRoutes.findLast(({ path }) => !path.endsWith("*"))
  return own?.path ?? "unmatched"
}

/** A token bucket per credential. */
class Buckets {
  readonly #perSecond: number
  readonly #burst: number
  readonly #left = new Map<string, { tokens: number; at: number }>()

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
  }

  /** 0 where a request may go, else how long to wait, in milliseconds. */
  take(credential: string): number {
    const now = performance.now()
    const bucket = this.#left.get(credential) ?? { tokens: this.#burst, at: now }
    bucket.tokens = Math.min(this.#burst, bucket.tokens + ((now - bucket.at) / 1000) * this.#perSecond)
    bucket.at = now
    // Put last again, so that the first is the one that has been quiet the longest.
    this.#left.delete(credential)
    this.#left.set(credential, bucket)
    // Whoever sends a new credential with every request must not fill the memory.
    if (this.#left.size > 10_000)
      for (const oldest of this.#left.keys()) {
        this.#left.delete(oldest)
        break
      }
    if (bucket.tokens < 1) return ((1 - bucket.tokens) / this.#perSecond) * 1000
    bucket.tokens--
    return 0
  }
}
