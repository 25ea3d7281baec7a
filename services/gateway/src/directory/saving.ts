import { base58Of } from "../http/base58.ts"
import type { GatewayContext } from "../http/context.ts"
import type { Once } from "../http/idempotency.ts"

/** Follows from the request, so that a retry makes nothing twice. */
export function newId(prefix: "agent" | "env", requestId: string): string {
  return `${prefix}_${base58Of(`${prefix}/${requestId}`)}`
}

/** Where a retry of a save finds what its first try came to. */
export function settled({ directory, now }: GatewayContext): Pick<Once<unknown>, "findRecent"> {
  return {
    findRecent: async (prefix) => {
      await directory.caughtUp()
      return directory.fold.savedUnder(prefix, now() - 600_000)?.replace(/\.\d+$/, "") ?? null
    },
  }
}
