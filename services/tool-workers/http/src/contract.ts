import type { ToolDeclared } from "@reins/events"
import type { Contract } from "@reins/runtime"
import { workerContract } from "@reins/worker-kit"

export const backend = "http"
export const contract: Contract = workerContract(backend)

/** Takes every tool that an agent describes with a method and a URL; what it does not say is taken for the unsafe side. */
export const declared: ToolDeclared = {
  type: "tool.declared",
  backend,
  tool: "*",
  description: null,
  inputSchema: "{}",
  effect: "unsafe",
  timeoutMs: 60_000,
  sideEffects: null,
  claims: true,
  encoding: "avro",
}
