import type { ToolDeclared, ToolEventOf } from "@reins/events"
import type { Runnable } from "./tool.ts"

/** What serves the calls of one backend. */
export interface Backend {
  /** The folder under `services/`, or the name of the worker's file. */
  readonly service: string
  /** The suffix of its topic `tools.<backend>`. */
  readonly backend: string
  readonly declares: readonly ToolDeclared[]
  /** What runs this call; the dispatch names the tool and carries what the agent gave for it. */
  find(dispatch: ToolEventOf<"tool-call.dispatched">): Runnable | undefined
  /** Runs at the same time in one process. */
  readonly concurrency?: number
}
