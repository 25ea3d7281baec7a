import type { Service } from "@reins/runtime"
import { type Run, toolsBackend, worker } from "@reins/worker-kit"
import { backend } from "./contract.ts"
import { tools } from "./perform.ts"

/** Serves the built-in tools. */
export function functionWorker(me: { readonly group: string; readonly instance: string }): Service<Run> {
  return worker(toolsBackend("tool-workers/function", backend, tools), me)
}
