import type { Save } from "@reins/session"
import { base58Of } from "../http/base58.ts"
import type { GatewayContext } from "../http/context.ts"
import { type Once, retriedWithinMs } from "../http/idempotency.ts"

/** Follows from the request, so that a retry makes nothing twice. */
export function newId(prefix: "agent" | "env", requestId: string): string {
  return `${prefix}_${base58Of(`${prefix}/${requestId}`)}`
}

/** Where a retry of a save finds what its first try came to. */
export function settled({ directory, now }: GatewayContext): Pick<Once<unknown>, "findRecent"> {
  return {
    findRecent: async (prefix) => {
      await directory.caughtUp()
      return directory.fold.savedUnder(prefix, now() - retriedWithinMs)?.replace(/\.\d+$/, "") ?? null
    },
  }
}

/**
 * Saves on the newest state until the fold accepts it: between two that save at once the log decides, and who came too late looks again.
 * `attempt` resolves with null where its save came too late. What an earlier try of the same request has saved is not saved again.
 */
export async function saveOnNewest<T>(
  { directory }: GatewayContext,
  requestId: string,
  done: (save: Save) => T,
  attempt: (eventId: string) => Promise<T | null>,
): Promise<T> {
  for (let count = 0; ; count++) {
    const accepted = directory.fold.acceptedOf(requestId)
    if (accepted !== null) return done(accepted)
    const result = await attempt(count === 0 ? requestId : `${requestId}.${count}`)
    if (result !== null) return result
  }
}
