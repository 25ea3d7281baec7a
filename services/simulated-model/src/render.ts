import { createHash } from "node:crypto"
import type { Said, SaidBlock } from "./script.ts"

/** A whole response, with its ids and its usage. */
export interface RenderedMessage {
  readonly id: string
  readonly model: string
  readonly content: readonly RenderedBlock[]
  readonly stopReason: string
  readonly usage: Readonly<Record<string, unknown>> & { readonly input_tokens: number; readonly output_tokens: number }
}

interface RenderedBlock {
  readonly block: Readonly<Record<string, unknown>>
  /** The block as it starts on the stream, and the deltas that complete it. */
  readonly start: Readonly<Record<string, unknown>>
  readonly deltas: readonly Readonly<Record<string, unknown>>[]
}

const bytesPerToken = 4

/**
 * There is no tokenizer here: four bytes are called a token, rounded up, and nothing is ever free. The counts grow and shrink with
 * the real ones, which is all that limits and metrics need from them; they are not a bill.
 */
export function estimatedTokens(text: string): number {
  return Math.max(1, Math.ceil(Buffer.byteLength(text) / bytesPerToken))
}

/** Nobody must mistake an answer of this model for one of the model that was asked for. */
export function simulatedName(model: string): string {
  return model.startsWith("simulated/") ? model : `simulated/${model}`
}

/** Ids come from the request's own bytes: who asks the same again gets the same ids, and no two turns of a conversation share one. */
function fingerprint(body: string): string {
  return createHash("sha256").update(body).digest("hex").slice(0, 24)
}

export function renderMessage(said: Said, model: string, body: string): RenderedMessage {
  const print = fingerprint(body)
  const content = said.content.map((block, i) => renderBlock(block, `toolu_sim_${print}_${i}`))
  const callsTools = said.content.some((block) => block.type === "tool_use")
  return {
    id: `msg_sim_${print}`,
    model: simulatedName(model),
    content,
    stopReason: said.stopReason ?? (callsTools ? "tool_use" : "end_turn"),
    usage: {
      input_tokens: estimatedTokens(body),
      output_tokens: estimatedTokens(JSON.stringify(said.content)),
      cache_creation: null,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens_details: null,
      server_tool_use: null,
      service_tier: "standard",
      inference_geo: null,
      speed: null,
      ...said.usage,
    },
  }
}

function renderBlock(block: SaidBlock, id: string): RenderedBlock {
  switch (block.type) {
    case "text":
      return {
        block: { type: "text", text: block.text, citations: null },
        start: { type: "text", text: "", citations: null },
        deltas: (block.parts ?? pieces(block.text, 48)).map((text) => ({ type: "text_delta", text })),
      }
    case "tool_use": {
      const outer = { type: "tool_use", id: block.id ?? id, name: block.name }
      const json = block.inputJson ?? JSON.stringify(block.input)
      // The API opens with an empty piece, and so do we: a client has to bear it.
      return {
        block: { ...outer, input: block.input },
        start: { ...outer, input: {} },
        deltas: ["", ...pieces(json, 40)].map((partial) => ({ type: "input_json_delta", partial_json: partial })),
      }
    }
    case "thinking":
      return {
        block: { ...block },
        start: { type: "thinking", thinking: "", signature: "" },
        deltas: [
          ...pieces(block.thinking, 48).map((thinking) => ({ type: "thinking_delta", thinking })),
          { type: "signature_delta", signature: block.signature },
        ],
      }
    case "redacted_thinking":
      return { block: { ...block }, start: { ...block }, deltas: [] }
    default:
      return block satisfies never
  }
}

/** Cuts a text into deltas. A cut inside a surrogate pair is harmless: JSON escapes the halves, and the client joins them again. */
function pieces(text: string, length: number): string[] {
  return Array.from({ length: Math.ceil(text.length / length) }, (_, i) => text.slice(i * length, (i + 1) * length))
}

export function asJson(message: RenderedMessage): string {
  return JSON.stringify({
    ...envelope(message),
    content: message.content.map(({ block }) => block),
    stop_reason: message.stopReason,
    usage: message.usage,
  })
}

export function asEvents(message: RenderedMessage): string {
  const lines: string[] = []
  const say = (data: { type: string; [field: string]: unknown }): void => {
    lines.push(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`)
  }
  // As on the real wire, the first event counts the input and one token of output; the last one has the true total.
  say({
    type: "message_start",
    message: { ...envelope(message), content: [], stop_reason: null, usage: { ...message.usage, output_tokens: 1 } },
  })
  say({ type: "ping" })
  for (const [index, { start, deltas }] of message.content.entries()) {
    say({ type: "content_block_start", index, content_block: start })
    for (const delta of deltas) say({ type: "content_block_delta", index, delta })
    say({ type: "content_block_stop", index })
  }
  say({
    type: "message_delta",
    delta: { stop_reason: message.stopReason, stop_sequence: null, stop_details: null, container: null },
    usage: message.usage,
  })
  say({ type: "message_stop" })
  return lines.join("")
}

function envelope(message: RenderedMessage): Record<string, unknown> {
  return {
    id: message.id,
    type: "message",
    role: "assistant",
    model: message.model,
    container: null,
    diagnostics: null,
    stop_sequence: null,
    stop_details: null,
  }
}
