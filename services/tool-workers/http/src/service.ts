import type { Service } from "@reins/runtime"
import { type Run, worker } from "@reins/worker-kit"
import { concurrency } from "./config.ts"
import { backend, declared } from "./contract.ts"
import { Connections } from "./exchange.ts"
import { httpTool } from "./perform.ts"

/** Calls HTTP endpoints that agents describe. */
export function httpWorker(me: { readonly group: string; readonly instance: string }): Service<Run> {
  const connections = new Connections()
  return worker(
    {
      service: "tool-workers/http",
      backend,
      declares: [declared],
      find: (dispatch) => httpTool(dispatch, connections),
      concurrency,
    },
    me,
  )
}
