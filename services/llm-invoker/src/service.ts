import type { Metrics, Service } from "@reins/runtime"
import { defaultInvokerLimits, type InvokerLimits } from "./config.ts"
import { contract } from "./contract.ts"
import { decide, giveUp, type ModelCall } from "./decide.ts"
import type { Model } from "./models/model.ts"
import { type Measured, perform, refused } from "./perform.ts"

/** Hears that it is the model's turn, asks the model, says what it said. Knows nothing of what a tool does. */
export function llmInvoker(options: {
  readonly model: Model
  readonly metrics: Metrics
  readonly limits?: Partial<InvokerLimits>
  readonly random?: () => number
}): Service<ModelCall> {
  const limits = { ...defaultInvokerLimits, ...options.limits }
  const measured: Measured = ({ model, provider, seconds, outcome }) => {
    const labels = { gen_ai_operation_name: "chat", gen_ai_provider_name: provider, gen_ai_request_model: model }
    options.metrics.modelSeconds.observe({ ...labels, error_type: "fault" in outcome ? outcome.fault.kind : "" }, seconds)
    if ("fault" in outcome) return
    options.metrics.tokens.observe({ ...labels, gen_ai_token_type: "input" }, outcome.usage.inputTokens)
    options.metrics.tokens.observe({ ...labels, gen_ai_token_type: "output" }, outcome.usage.outputTokens)
  }
  return {
    name: "llm-invoker",
    contract,
    concurrency: limits.concurrency,
    decide: (view) => decide(view, limits),
    giveUp,
    refused,
    perform: (call, performing) => perform(call, performing, options.model, measured, options.random ?? Math.random, limits),
  }
}
