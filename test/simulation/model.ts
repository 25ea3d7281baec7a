import { createHash } from "node:crypto"
import type { Model, ModelAnswer, ModelFault } from "@reins/llm-invoker"
import type { Faults } from "./faults.ts"
import type { Life } from "./life.ts"
import type { Random } from "./random.ts"
import { clientTools, toolsOf } from "./tools.ts"
import type { VirtualTime } from "./virtual-time.ts"

/** One request as it reached the model, whoever sent it and whether or not anyone still waits for the answer. */
export interface ModelCall {
  readonly at: number
  readonly sessionId: string
  readonly instance: string
  readonly body: string
  readonly sha256: string
}

export interface ModelWorld {
  readonly time: VirtualTime
  readonly random: Random
  readonly faults: Faults
  /** How slow everything outside is in this world; 1: quick. */
  readonly pace: number
  asked(call: ModelCall): void
  answered(call: ModelCall, answer: ModelAnswer | ModelFault): void
}

/** Full turns that a conversation may have before the model comes to an end. */
const turnsMax = 5

export class SimulatedModel {
  readonly #world: ModelWorld
  #ids = 0

  constructor(world: ModelWorld) {
    this.#world = world
  }

  /** The model as one process reaches it. */
  port(life: Life): Model {
    return {
      provider: "simulation",
      ask: (request) =>
        new Promise((resolve) => {
          const { time, random, faults, pace } = this.#world
          const call: ModelCall = {
            at: time.now,
            sessionId: request.sessionId,
            instance: life.instance,
            body: request.body,
            sha256: createHash("sha256").update(request.body).digest("hex"),
          }
          this.#world.asked(call)
          const answer = (ms: number, said: ModelAnswer | ModelFault): void => {
            // It has answered, also where nobody hears it any more.
            time.after(ms, () => this.#world.answered(call, said))
            life.after(ms, () => resolve(said))
          }
          request.signal.addEventListener("abort", () => resolve(fault("aborted", null, true, null)), { once: true })
          const takesMs = faults.strikes("model-slow", 0.3) ? random.int(500, 8000) : random.int(5, 150 * pace)
          if (faults.strikes("model-hang", 0.1)) return
          if (faults.strikes("model-429", 0.3))
            return answer(random.int(1, 20), fault("rate_limit_error", 429, true, random.chance(0.8) ? random.int(100, 6000) : null))
          if (faults.strikes("model-500", 0.3)) return answer(takesMs, fault("api_error", random.pick([500, 529]), true, null))
          if (faults.strikes("model-connection", 0.3)) return answer(takesMs, fault("connection", null, true, null))
          if (faults.strikes("model-refused", 0.05)) return answer(takesMs, fault("invalid_request_error", 400, false, null))
          if (faults.strikes("model-window", 0.1)) return answer(takesMs, fault("request_too_large", 400, false, null))
          answer(takesMs, this.#say(request.body))
        }),
    }
  }

  #say(body: string): ModelAnswer {
    const { random, faults } = this.#world
    const { messages, tools: given } = JSON.parse(body) as {
      messages: { role: string; content: { type: string }[] }[]
      tools?: { name: string }[]
    }
    const ofClient = clientTools.filter((name) => given?.some((tool) => tool.name === name))
    if (body.includes("Write the summary")) return this.#summary(body)
    let turns = 0
    for (const message of messages) {
      if (message.role === "assistant") turns++
      else if (message.content.some((block) => block.type === "text")) turns = 0
    }
    const ends = turns >= turnsMax || random.chance(0.2)
    const uses = ends ? 0 : random.pick([1, 1, 2, 3])
    const blocks: Record<string, unknown>[] = [{ type: "text", text: `Thought ${++this.#ids}.` }]
    for (let use = 0; use < uses; use++) {
      const tools = toolsOf[random.pick(["ledger", "ledger", "second", "plain"])] as (typeof toolsOf)[string]
      const name = ofClient.length > 0 && random.chance(0.25) ? random.pick(ofClient) : random.pick(tools)[0]
      const known = random.chance(0.96)
      const fits = random.chance(0.96)
      blocks.push({ type: "tool_use", id: `toolu_${++this.#ids}`, name: known ? name : "nosuch", input: { n: fits ? this.#ids : "many" } })
    }
    if (uses > 0 && faults.strikes("model-malformed", 0.06)) blocks.push(blocks.at(-1) as Record<string, unknown>)
    let stopReason: string | null = uses > 0 ? "tool_use" : random.chance(0.9) ? "end_turn" : random.pick(["refusal", "pause_turn"])
    if (uses > 0 && faults.strikes("model-cut", 0.15)) stopReason = random.pick(["max_tokens", null])
    else if (faults.strikes("model-window", 0.1)) stopReason = "model_context_window_exceeded"
    return this.#answer(body, blocks, stopReason)
  }

  /** Now and then something else than a summary. */
  #summary(body: string): ModelAnswer {
    const { random, faults } = this.#world
    const text = { type: "text", text: `Summary ${++this.#ids}.` }
    if (faults.strikes("model-malformed", 0.2))
      return this.#answer(body, [{ type: "tool_use", id: `toolu_${this.#ids}`, name: "add", input: {} }], "tool_use")
    if (faults.strikes("model-window", 0.2)) return this.#answer(body, [text], "model_context_window_exceeded")
    if (faults.strikes("model-cut", 0.1)) return this.#answer(body, [], random.pick(["end_turn", "refusal"]))
    return this.#answer(body, [text], random.pick(["end_turn", "end_turn", "max_tokens"]))
  }

  #answer(body: string, blocks: readonly unknown[], stopReason: string | null): ModelAnswer {
    return {
      content: JSON.stringify(blocks),
      message: JSON.stringify({ id: `msg_${this.#ids}`, type: "message", role: "assistant" }),
      model: "simulated",
      stopReason,
      usage: { inputTokens: body.length >> 2, outputTokens: this.#world.random.int(5, 60), cacheReadTokens: 0, cacheWriteTokens: 0 },
      requestId: `req_${this.#ids}`,
    }
  }
}

function fault(kind: string, status: number | null, retryable: boolean, retryAfterMs: number | null): ModelFault {
  return { fault: { kind, status, message: `It failed: ${kind}.`, retryable, retryAfterMs, requestId: null } }
}
