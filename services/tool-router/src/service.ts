import type { Service } from "@reins/runtime"
import { defaultRouterLimits, type RouterLimits } from "./config.ts"
import { contract } from "./contract.ts"
import { decide } from "./decide.ts"

/** Validates, charges, routes and times out what the model asks for. Never runs a tool. */
export function toolRouter(options: { readonly limits?: Partial<RouterLimits> } = {}): Service {
  const limits = { ...defaultRouterLimits, ...options.limits }
  return { name: "tool-router", contract, decide: (view) => decide(view, limits) }
}
