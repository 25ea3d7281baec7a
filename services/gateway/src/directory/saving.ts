import type { Save } from "@reins/session"
import type { Context } from "hono"
import { base58Of } from "../http/base58.ts"
import type { Env, GatewayContext } from "../http/context.ts"
import { once, retriedWithinMs } from "../http/idempotency.ts"

/** Follows from the request, so that a retry makes nothing twice. */
export function newId(prefix: "agent" | "env", requestId: string): string {
  return `${prefix}_${base58Of(`${prefix}/${requestId}`)}`
}

/** Runs a request whose effect is a save: a retry finds what its first try came to. */
export function savedOnce<T>(context: GatewayContext, c: Context<Env>, run: (requestId: string) => Promise<T>): Promise<T> {
  const { directory, now } = context
  return once(context, c, {
    run,
    findRecent: async (prefix) => {
      await directory.caughtUp()
      return directory.fold.savedUnder(prefix, now() - retriedWithinMs)?.replace(/\.\d+$/, "") ?? null
    },
  })
}

/**
 * Saves on the newest state until the fold accepts it: between two that save at once the log decides, and who came too late looks again.
 * `attempt` resolves with null where its save came too late. What an earlier try of the same request has saved is not saved again, and comes
 * to `done`.
 */
export function savedOnNewest<T>(
  context: GatewayContext,
  c: Context<Env>,
  done: (save: Save) => T,
  attempt: (eventId: string) => Promise<T | null>,
): Promise<T> {
  return savedOnce(context, c, async (requestId) => {
    for (let count = 0; ; count++) {
      const accepted = context.directory.fold.acceptedOf(requestId)
      if (accepted !== null) return done(accepted)
      const result = await attempt(count === 0 ? requestId : `${requestId}.${count}`)
      if (result !== null) return result
    }
  })
}
