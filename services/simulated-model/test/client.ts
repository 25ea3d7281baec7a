import Anthropic from "@anthropic-ai/sdk"
import type { MessageCreateParamsBase } from "@anthropic-ai/sdk/resources/messages"
import type { SimulatedModel } from "../src/server.ts"

/** The real client, as the harness uses it: it repeats nothing by itself. What it would log is what these tests provoke. */
export function clientOf(model: SimulatedModel): Anthropic {
  return new Anthropic({ baseURL: model.url, apiKey: "none", maxRetries: 0, logLevel: "off" })
}

export function request(prompt: string, more: Partial<MessageCreateParamsBase> = {}): MessageCreateParamsBase {
  return { model: "claude-sonnet-5-5", max_tokens: 1024, messages: [{ role: "user", content: prompt }], ...more }
}
