import type { Contract, Draft, Service } from "@reins/runtime"
import type { Backend } from "./backend.ts"
import { decide, giveUp, type Run } from "./decide.ts"
import { perform } from "./perform.ts"
import type { ToolDefinition } from "./tool.ts"

/** What a worker of this backend hears and says; it never reads `sessions`. */
export function workerContract(backend: string): Contract {
  return {
    reads: [`tools.${backend}`],
    says: ["tool-call.claimed", "tool-call.progressed", "tool-call.finished", "tool.declared"],
    buries: [],
    needsDeclarations: false,
  }
}

/** A worker: claims calls, runs them, recovers those of workers that died by their class. */
export function worker(backend: Backend, me: { readonly group: string; readonly instance: string }): Service<Run> {
  return {
    name: backend.service,
    contract: workerContract(backend.backend),
    declares: backend.declares,
    concurrency: backend.concurrency ?? 256,
    decide: (view) => decide(view, backend.backend),
    giveUp: (view) => giveUp(view, backend.backend),
    refused,
    perform: (run, performing) => perform(run, performing, backend, me),
  }
}

/** A result that the log does not take is a failure that no further attempt mends. */
function refused(draft: Draft, why: string): Draft | undefined {
  if (draft.on !== "tools" || draft.event.type !== "tool-call.finished" || draft.event.content === null) return undefined
  const message = `It ran, and the log does not take its result: ${why}`.slice(0, 4000)
  return { ...draft, event: { ...draft.event, content: null, outcome: "failed", kind: "output_too_large", message, effect: "done" } }
}

/** A backend of tools made with `defineTool`. Throws a TypeError where two have one name. */
export function toolsBackend(service: string, backend: string, tools: readonly ToolDefinition[]): Backend {
  const byName = new Map<string, ToolDefinition>()
  for (const tool of tools) {
    if (byName.has(tool.name)) throw new TypeError(`There are two tools of the name ${tool.name}.`)
    byName.set(tool.name, tool)
  }
  return {
    service,
    backend,
    declares: tools.map((tool) => ({
      type: "tool.declared",
      backend,
      tool: tool.name,
      description: tool.description,
      inputSchema: JSON.stringify(tool.inputSchema),
      effect: tool.effect,
      timeoutMs: tool.timeoutMs,
      sideEffects: tool.sideEffects,
      claims: true,
      encoding: "avro",
    })),
    find: ({ tool }) => byName.get(tool),
  }
}
