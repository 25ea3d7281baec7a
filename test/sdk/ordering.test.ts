import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type HeardEvent, orderingProblems, previewProblems } from "./ordering.ts"

// Good stories are quiet; each rule, broken in one place, is named. What the rules are for is the gateway's e2e.

function event(id: string, type: string, fields: Readonly<Record<string, unknown>> = {}): HeardEvent {
  return { id, type, ...fields }
}

/** A second apart, as they stand. */
function timed(events: readonly HeardEvent[]): HeardEvent[] {
  return events.map((one, i) => ({ ...one, processed_at: new Date(Date.UTC(2026, 10, 22, 10, 0, i)).toISOString() }))
}

function idle(n: string, stop_reason: object): HeardEvent[] {
  return [
    event(`ti${n}`, "session.thread_status_idle", { stop_reason }),
    event(`us${n}`, "session.usage"),
    event(`id${n}`, "session.status_idle", { stop_reason }),
  ]
}

const ended = { type: "end_turn" }

function running(n: string): HeardEvent[] {
  return [event(`ru${n}`, "session.status_running"), event(`tr${n}`, "session.thread_status_running")]
}

function answered(n: string, ...said: readonly HeardEvent[]): HeardEvent[] {
  return [
    event(`sp${n}`, "span.model_request_start"),
    ...said,
    event(`se${n}`, "span.model_request_end", { model_request_start_id: `sp${n}` }),
  ]
}

/** Two calls at once, one custom and one to be confirmed, answered one by one; then a plain turn and an archive. */
function story(): HeardEvent[] {
  return timed([
    event("m1", "user.message"),
    ...running("1"),
    ...answered(
      "1",
      event("a1", "agent.message"),
      event("c1", "agent.custom_tool_use"),
      event("c2", "agent.mcp_tool_use", { evaluated_permission: "ask" }),
      event("c3", "agent.mcp_tool_use", { evaluated_permission: "allow" }),
    ),
    event("r3", "agent.mcp_tool_result", { mcp_tool_use_id: "c3" }),
    ...idle("1", { type: "requires_action", event_ids: ["c1", "c2"] }),
    event("r1", "user.custom_tool_result", { custom_tool_use_id: "c1" }),
    ...idle("2", { type: "requires_action", event_ids: ["c2"] }),
    event("k2", "user.tool_confirmation", { tool_use_id: "c2" }),
    ...running("2"),
    event("r2", "agent.mcp_tool_result", { mcp_tool_use_id: "c2" }),
    ...answered("2", event("a2", "agent.message")),
    ...idle("3", ended),
    event("up", "session.updated"),
    event("m2", "user.message"),
    ...running("3"),
    ...answered("3", event("a3", "agent.message")),
    ...idle("4", ended),
    event("tt", "session.thread_status_terminated"),
    event("st", "session.status_terminated"),
    event("de", "session.deleted"),
  ])
}

function without(events: readonly HeardEvent[], ...ids: readonly string[]): HeardEvent[] {
  assert.ok(ids.every((id) => events.some((one) => one["id"] === id)))
  return events.filter((one) => !ids.includes(one["id"] as string))
}

function moved(events: readonly HeardEvent[], id: string, behind: string): HeardEvent[] {
  const one = events.find((other) => other["id"] === id)
  const rest = without(events, id)
  const at = rest.findIndex((other) => other["id"] === behind)
  const time = rest[at]?.["processed_at"]
  assert.ok(one !== undefined && at >= 0)
  return rest.toSpliced(at + 1, 0, { ...one, processed_at: time })
}

describe("the ordering rules", () => {
  it("have nothing against a story that keeps them", () => {
    assert.deepEqual(orderingProblems(story()), [])
  })

  it("have nothing against a message that waits and is said again when it is taken", () => {
    const events = story()
    const at = events.findIndex((one) => one["id"] === "sp2")
    const queued = { id: "m9", type: "user.message", processed_at: null }
    const taken = { ...queued, processed_at: events[at]?.["processed_at"] ?? null }
    assert.deepEqual(orderingProblems(events.toSpliced(at, 0, queued, taken)), [])
    assert.match(orderingProblems(events.toSpliced(at, 0, taken, taken)).join("; "), /O7/)
  })

  it("have nothing against an interrupt of a request and of a custom call", () => {
    const events = timed([
      event("m1", "user.message"),
      ...running("1"),
      event("sp1", "span.model_request_start"),
      event("i1", "user.interrupt"),
      event("se1", "span.model_request_end", { model_request_start_id: "sp1", is_error: true }),
      ...idle("1", ended),
      event("m2", "user.message"),
      ...running("2"),
      ...answered("2", event("c1", "agent.custom_tool_use")),
      ...idle("2", { type: "requires_action", event_ids: ["c1"] }),
      event("i2", "user.interrupt"),
      ...idle("3", ended),
    ])
    assert.deepEqual(orderingProblems(events), [])
    assert.match(orderingProblems(without(events, "i2")).join("; "), /O5|O2/)
  })

  it("have nothing against an end that first answers the calls that it closes, and only then", () => {
    const waiting = [event("m1", "user.message"), ...running("1"), ...answered("1", event("c1", "agent.custom_tool_use"))]
    const result = event("r1", "user.custom_tool_result", { custom_tool_use_id: "c1" })
    const tool = event("c2", "agent.tool_use", { evaluated_permission: "ask" })
    const asked = [event("m1", "user.message"), ...running("1"), ...answered("1", tool)]
    const closed = event("r2", "agent.tool_result", { tool_use_id: "c2" })
    const end = [event("tt", "session.thread_status_terminated"), event("st", "session.status_terminated")]
    assert.deepEqual(
      orderingProblems(timed([...waiting, ...idle("1", { type: "requires_action", event_ids: ["c1"] }), result, ...end])),
      [],
    )
    const held = [...asked, ...idle("1", { type: "requires_action", event_ids: ["c2"] })]
    assert.deepEqual(orderingProblems(timed([...held, closed, ...end])), [])
    assert.match(orderingProblems(timed([...held, closed, ...running("2")])).join("; "), /O2/)
  })

  it("take a call that is asked about again, and its result from a person, only where that is expected", () => {
    const events = timed([
      event("m1", "user.message"),
      ...running("1"),
      ...answered("1", event("c1", "agent.tool_use", { evaluated_permission: "allow" }), event("c2", "agent.custom_tool_use")),
      ...idle("1", { type: "requires_action", event_ids: ["c1", "c2"] }),
      event("r1", "agent.tool_result", { tool_use_id: "c1" }),
      ...idle("2", { type: "requires_action", event_ids: ["c2"] }),
    ])
    assert.deepEqual(orderingProblems(events, { asksAgain: true }), [])
    assert.match(orderingProblems(events).join("; "), /O2.*O6|O6.*O2/)
    // Once it has its result it cannot be asked about.
    assert.match(
      orderingProblems(timed([...events, ...idle("3", { type: "requires_action", event_ids: ["c1", "c2"] })]), { asksAgain: true }).join(
        "; ",
      ),
      /O6/,
    )
  })

  const broken: readonly (readonly [rule: string, what: string, events: () => HeardEvent[], dropped?: readonly string[]])[] = [
    ["O1", "usage is left out", () => without(story(), "us3")],
    ["O1", "the thread's idle is left out", () => without(story(), "ti3")],
    [
      "O1",
      "the thread's idle is left out, where usage is dropped",
      () => without(story(), "us1", "us2", "us3", "us4", "ti3"),
      ["session.usage"],
    ],
    ["O1", "something stands between usage and idle", () => moved(story(), "up", "us3")],
    ["O2", "an agent's message follows idle", () => moved(story(), "a2", "id3")],
    ["O2", "usage follows idle", () => moved(story(), "us4", "id3")],
    ["O2", "a span ends after idle", () => moved(story(), "se2", "id3")],
    ["O3", "nobody says that the session runs", () => without(story(), "ru3", "tr3")],
    ["O3", "it is said twice", () => timed([...story().slice(0, 3), event("again", "session.status_running"), ...story().slice(3)])],
    ["O4", "a span does not end", () => without(story(), "se2")],
    ["O4", "a span ends that did not start", () => without(story(), "sp2")],
    ["O4", "what the model said stands behind its span", () => moved(story(), "a2", "se2")],
    ["O5", "a call has no result", () => without(story(), "r2")],
    ["O5", "a result has no call", () => without(story(), "c3")],
    [
      "O5",
      "a call is answered twice",
      () => [...story().slice(0, 9), event("rr", "agent.mcp_tool_result", { mcp_tool_use_id: "c3" }), ...story().slice(9)],
    ],
    [
      "O6",
      "a call that waits is not named",
      () =>
        story().map((one) =>
          one["id"] === "id1" || one["id"] === "ti1" ? { ...one, stop_reason: { type: "requires_action", event_ids: ["c1"] } } : one,
        ),
    ],
    [
      "O6",
      "a call that is answered is still named",
      () =>
        story().map((one) =>
          one["id"] === "id2" || one["id"] === "ti2" ? { ...one, stop_reason: { type: "requires_action", event_ids: ["c1", "c2"] } } : one,
        ),
    ],
    ["O7", "an id occurs twice", () => story().map((one) => (one["id"] === "a3" ? { ...one, id: "a2" } : one))],
    ["O7", "an id is missing", () => story().map((one) => (one["id"] === "a3" ? { ...one, id: "" } : one))],
    [
      "O7",
      "time runs backwards",
      () => story().map((one) => (one["id"] === "a3" ? { ...one, processed_at: "2026-11-22T09:00:00Z" } : one)),
    ],
    ["O8", "a message comes after the end", () => moved(story(), "m2", "st")],
    ["O8", "an update comes after the deletion", () => moved(story(), "up", "de")],
  ]
  for (const [rule, what, events, dropped] of broken) {
    it(`${rule}: ${what}`, () => {
      const problems = orderingProblems(events(), dropped === undefined ? {} : { dropped })
      assert.ok(
        problems.some((problem) => problem.startsWith(`${rule} `)),
        JSON.stringify(problems),
      )
    })
  }
})

describe("the rules of previews", () => {
  const start = (id: string, type = "agent.message"): HeardEvent => ({ type: "event_start", event: { id, type } })
  const delta = (id: string, text: string, index = 0): HeardEvent => ({
    type: "event_delta",
    event_id: id,
    delta: { type: "content_delta", index, content: { type: "text", text } },
  })
  const final = (id: string, ...texts: readonly string[]): HeardEvent => ({
    id,
    type: "agent.message",
    content: texts.map((text) => ({ type: "text", text })),
  })
  const end: HeardEvent = { id: "se", type: "span.model_request_end" }
  const both = ["agent.message", "agent.thinking"]

  it("have nothing against previews that keep them, to the end, part of the way, or cut off", () => {
    const thinking = { id: "t1", type: "agent.thinking" }
    assert.deepEqual(
      previewProblems(
        [
          start("t1", "agent.thinking"),
          start("a1"),
          delta("a1", "Hel"),
          delta("a1", "lo"),
          delta("a1", "B", 1),
          thinking,
          final("a1", "Hello", "Bye"),
          end,
        ],
        both,
      ),
      [],
    )
    assert.deepEqual(previewProblems([start("a1"), delta("a1", "Hel"), final("a1", "Hello"), end], both), [])
    assert.deepEqual(previewProblems([start("a1"), delta("a1", "Hel"), end], both), [])
  })

  const broken: readonly (readonly [what: string, frames: readonly HeardEvent[]])[] = [
    ["a second start", [start("a1"), start("a1"), final("a1"), end]],
    ["a start after the final event", [final("a1"), start("a1"), end]],
    ["a fragment before the start", [delta("a1", "x"), final("a1", "x"), end]],
    ["a fragment after the final event", [start("a1"), final("a1", "xy"), delta("a1", "x"), end]],
    ["a fragment after the request was cut off", [start("a1"), end, delta("a1", "x")]],
    ["a block left out", [start("a1"), delta("a1", "x", 1), final("a1", "", "x"), end]],
    ["a final text that says something else", [start("a1"), delta("a1", "x"), final("a1", "yx"), end]],
    ["no final event", [start("a1"), delta("a1", "x")]],
  ]
  for (const [what, frames] of broken)
    it(`O9: ${what}`, () => {
      assert.match(previewProblems(frames, both).join("; "), /O9/)
    })

  it("O9: a start that nobody asked for", () => {
    assert.match(previewProblems([start("a1"), final("a1"), end], ["agent.thinking"]).join("; "), /nobody asked/)
  })
})
