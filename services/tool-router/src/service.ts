import type { Log } from "@reins/log"
import type { Service } from "@reins/runtime"
import { defaultRouterLimits, type RouterLimits, resultMaxWithBlobs } from "./config.ts"
import { contract } from "./contract.ts"
import { decide } from "./decide.ts"

/** Validates, charges, routes and times out what the model asks for. Never runs a tool. */
export function toolRouter(options: { readonly limits?: Partial<RouterLimits>; readonly log?: Pick<Log, "blobs"> } = {}): Service {
  const large = options.log?.blobs === undefined ? {} : { resultMax: resultMaxWithBlobs }
  const limits = { ...defaultRouterLimits, ...large, ...options.limits }
  return { name: "tool-router", contract, decide: (view) => decide(view, limits) }
}
