import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Placed } from "../app/api.ts"
import { type Entry, textOf, transcript, usageOf } from "../app/transcript.ts"

let offset = 0
function said(type: string, fields: Readonly<Record<string, unknown>> = {}): Placed {
  offset++
  return {
    event: { id: `sevt_${offset}`, type, processed_at: new Date(offset * 1000).toISOString(), ...fields },
    place: { partition: 0, offset, index: 0 },
  }
}

/** The shape of a transcript in few words. */
function shapeOf(entries: readonly Entry[]): readonly unknown[] {
  return entries.map((entry) =>
    entry.is === "request"
      ? [
          entry.number,
          entry.items.map((item) =>
            item.is === "call"
              ? `call${item.confirmations.map(({ event }) => ` ${String(event["result"])}`).join("")}${item.result === null ? "" : " result"}`
              : item.is,
          ),
        ]
      : `${entry.is} ${entry.placed.event.type}`,
  )
}

function request(...items: readonly Placed[]): readonly Placed[] {
  const start = said("span.model_request_start")
  return [start, ...items, said("span.model_request_end", { model_request_start_id: start.event.id })]
}

describe("a transcript", () => {
  it("groups by model request; results and answers stand with their calls, wherever they were said", () => {
    const first = said("agent.mcp_tool_use", { name: "refund" })
    const second = said("agent.custom_tool_use", { name: "weather" })
    const events = [
      said("user.message"),
      said("session.status_running"),
      ...request(said("agent.thinking"), said("agent.message"), first, second),
      said("session.usage"),
      said("session.status_idle", { stop_reason: { type: "requires_action" } }),
      said("user.tool_confirmation", { tool_use_id: first.event.id, result: "allow" }),
      said("user.custom_tool_result", { custom_tool_use_id: second.event.id }),
      said("agent.mcp_tool_result", { mcp_tool_use_id: first.event.id }),
      ...request(said("agent.message")),
      said("session.status_idle", { stop_reason: { type: "end_turn" } }),
    ]
    assert.deepEqual(shapeOf(transcript(events, { all: false })), [
      "said user.message",
      [1, ["thinking", "message", "call allow result", "call result"]],
      "note session.status_idle",
      [2, ["message"]],
      "note session.status_idle",
    ])
    const all = shapeOf(transcript(events, { all: true }))
    assert.deepEqual(all.slice(0, 3), [
      "said user.message",
      "plumbing session.status_running",
      [1, ["thinking", "message", "call allow result", "call result", "plumbing"]],
    ])
  })

  it("shows every event exactly once, with everything shown", () => {
    const use = said("agent.tool_use")
    const events = [
      said("user.message"),
      said("session.thread_status_running"),
      ...request(use),
      said("agent.tool_result", { tool_use_id: use.event.id }),
      said("session.error", { error: {} }),
      said("user.interrupt"),
      said("an.event_of_tomorrow"),
      said("session.updated"),
    ]
    const shown = transcript(events, { all: true }).flatMap((entry) =>
      entry.is === "request"
        ? [
            entry.start,
            entry.end,
            ...entry.items.flatMap((item) => (item.is === "call" ? [item.use, ...item.confirmations, item.result] : [item.placed])),
          ]
        : [entry.placed],
    )
    assert.deepEqual(new Set(shown.filter((placed) => placed !== null)), new Set(events))
    assert.equal(shown.filter((placed) => placed !== null).length, events.length)
  })

  it("ends a request that was interrupted, although the interrupt stands before its end", () => {
    const start = said("span.model_request_start")
    const end = said("span.model_request_end", { model_request_start_id: start.event.id, is_error: true })
    const entries = transcript([said("user.message"), start, said("user.interrupt"), end], { all: false })
    assert.deepEqual(shapeOf(entries), ["said user.message", [1, []], "note user.interrupt"])
    const [, request] = entries
    assert.ok(request?.is === "request")
    assert.equal(request.end, end)
  })

  it("stands on a page that begins in the middle", () => {
    const result = said("agent.tool_result", { tool_use_id: "on an earlier page" })
    assert.deepEqual(shapeOf(transcript([said("agent.message"), said("span.model_request_end"), result], { all: false })), [
      [1, ["message"]],
      "note agent.tool_result",
    ])
  })
})

describe("what an event holds", () => {
  it("is text, and a word for what is none", () => {
    assert.equal(
      textOf([
        { type: "text", text: "a" },
        { type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } },
      ]),
      "a\n\n[image · image/png · 1 kB]",
    )
    assert.equal(textOf([{ type: "search_result", title: "x" }]), '{"type":"search_result","title":"x"}')
    assert.equal(textOf("plain"), "plain")
  })

  it("counts what the model read, cached or not", () => {
    const end = said("span.model_request_end", {
      model_usage: { input_tokens: 10, output_tokens: 5, cache_read_input_tokens: 4, cache_creation_input_tokens: 2 },
    })
    assert.deepEqual(usageOf(end), { input: 16, output: 5, cached: 4 })
    assert.equal(usageOf(null), null)
  })
})
