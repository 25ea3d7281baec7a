import { createHash, randomBytes } from "node:crypto"
import type { Context } from "hono"
import type { Env, GatewayContext } from "./context.ts"
import { ApiError, invalid } from "./errors.ts"

/**
 * One request, one effect. Everything a request causes carries an id that follows from the request, so that what the log has heard
 * before has no second effect, whichever gateway hears it.
 *
 * With `Idempotency-Key` the id follows from tenant, path and key. The SDK sends none, but marks its own retries with
 * `x-stainless-retry-count`: such a retry takes the id of the newest request with the same credential, path and body of the last two
 * minutes. A deliberate repetition is no retry and gets an id of its own.
 */
export class InFlight {
  readonly #running = new Map<string, { readonly requestId: string; readonly result: Promise<unknown> }>()
  /** Requests whose effect is not known: what was sent for them may still land. */
  readonly #unsettled = new Map<string, { readonly requestId: string; readonly at: number }>()

  get(key: string): { readonly requestId: string; readonly result: Promise<unknown> } | undefined {
    return this.#running.get(key)
  }

  /** The id of a request of the last two minutes that ended without anyone knowing what came of it. */
  unsettled(key: string): string | null {
    const before = this.#unsettled.get(key)
    return before !== undefined && before.at > performance.now() - retriedWithinMs ? before.requestId : null
  }

  run<T>(key: string, requestId: string, work: () => Promise<T>): Promise<T> {
    const result = work().then(
      (value) => {
        this.#unsettled.delete(key)
        return value
      },
      (error: unknown) => {
        if (error instanceof ApiError && error.status < 500) this.#unsettled.delete(key)
        else this.#keep(key, requestId)
        throw error
      },
    )
    const ended = result.finally(() => {
      if (this.#running.get(key)?.result === ended) this.#running.delete(key)
    })
    this.#running.set(key, { requestId, result: ended })
    return ended
  }

  #keep(key: string, requestId: string): void {
    this.#unsettled.delete(key)
    this.#unsettled.set(key, { requestId, at: performance.now() })
    if (this.#unsettled.size <= unsettledMax) return
    for (const oldest of this.#unsettled.keys()) {
      this.#unsettled.delete(oldest)
      break
    }
  }
}

/**
 * How long after a request the SDK's retry of it may come: it waits seconds between its tries, and this gateway answers within ten. Longer,
 * and the same words said again, with their first try lost on the way, would pass for what was done before.
 */
export const retriedWithinMs = 120_000
const unsettledMax = 10_000

export interface Once<T> {
  readonly run: (requestId: string) => Promise<T>
  /** The id of the newest request whose id begins so, of the last two minutes; `unjudged`: also one that nobody has answered yet. */
  readonly findRecent: (prefix: string, unjudged: boolean) => Promise<string | null>
}

const keyMax = 255

export async function once<T>({ inFlight }: GatewayContext, c: Context<Env>, { run, findRecent }: Once<T>): Promise<T> {
  const { method, path } = c.req
  const body = c.get("rawBody")
  const tenant = c.get("tenant")
  const given = c.req.header("idempotency-key")
  if (given !== undefined) {
    if (given === "" || given.length > keyMax) throw invalid(`Idempotency-Key: must have 1 to ${keyMax} characters.`)
    const prefix = `api_${digest(tenant, method, path, given)}_`
    const requestId = `${prefix}${digest(body)}`
    const running = inFlight.get(prefix)
    if (running !== undefined)
      throw new ApiError(409, "invalid_request_error", "A request with this Idempotency-Key is still under way.", {
        headers: { "retry-after": "1" },
      })
    return await inFlight.run(prefix, requestId, async () => {
      // What follows from a key is the same id again, so that only another body is looked for.
      const before = await findRecent(prefix, false)
      if (before !== null && before !== requestId)
        throw new ApiError(
          422,
          "invalid_request_error",
          "This Idempotency-Key was used with another body. Use a new key for a new request.",
        )
      return await run(requestId)
    })
  }
  const prefix = `api_${digest(c.get("credential"), method, path, body)}_`
  const fresh = (): Promise<T> => {
    const requestId = `${prefix}${randomBytes(8).toString("hex")}`
    return inFlight.run(prefix, requestId, () => run(requestId))
  }
  if (!(Number(c.req.header("x-stainless-retry-count") ?? 0) > 0)) return await fresh()
  const running = inFlight.get(prefix)
  if (running !== undefined) return (await running.result) as T
  const before = inFlight.unsettled(prefix) ?? (await findRecent(prefix, true))
  // Another retry of it may have come while this one looked.
  const meanwhile = inFlight.get(prefix)
  if (meanwhile !== undefined) return (await meanwhile.result) as T
  return before === null ? await fresh() : await inFlight.run(prefix, before, () => run(before))
}

function digest(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(`${part.length}:`).update(part)
  return hash.digest("hex").slice(0, 24)
}
