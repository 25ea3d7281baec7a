import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEvent } from "@reins/events"
import { agent, fact, Story, type Told, text, tool, toolUse } from "@reins/session/testing"
import fc from "fast-check"
import { type ApiEvent, apiEvents, apiStatus, type Session, SessionsFold, sha256Hex } from "../src/index.ts"
import { hold } from "./answers.ts"
import { hostileLog, plausibleLog } from "./arbitrary-log.ts"

const iso = (ms: number): string => new Date(ms).toISOString()

/** The events of one session, record by record. */
function shown(records: readonly Told<SessionEvent>[], sessionId: string): { readonly events: ApiEvent[]; readonly sessions: Session[] } {
  const fold = new SessionsFold()
  const events: ApiEvent[] = []
  const sessions: Session[] = []
  for (const { event, at } of records) {
    const before = fold.get(event.sessionId)
    const verdict = fold.apply(event, at)
    const session = fold.get(event.sessionId)
    if (event.sessionId !== sessionId) continue
    for (const one of apiEvents(before, event, { session, verdict }, at.timestamp, iso)) {
      events.push(one)
      sessions.push(session)
    }
  }
  return { events, sessions }
}

function typesOf(story: Story): readonly string[] {
  return shown(story.records, story.sessionId).events.map(({ type }) => type)
}

const idle = ["session.thread_status_idle", "session.usage", "session.status_idle"]
const running = ["session.status_running", "session.thread_status_running"]

describe("the events of the API", () => {
  it("tell a turn without tools in the order of the wire", () => {
    const story = new Story().started().requested()
    story.responded([{ type: "thinking", thinking: "", signature: "s" }, text("Hello.")]).idled()
    assert.deepEqual(typesOf(story), [
      "user.message",
      ...running,
      "span.model_request_start",
      "agent.thinking",
      "agent.message",
      "span.model_request_end",
      ...idle,
    ])
  })

  it("tell of no event for a session that waits for its first message", () => {
    assert.deepEqual(typesOf(new Story().started(agent(), { input: null })), [])
  })

  it("say a message that has to wait twice under one id: queued, and where a request takes it", () => {
    const story = new Story().started().requested().message("More.")
    const queued = shown(story.records, story.sessionId).events.at(-1)
    assert.deepEqual([queued?.type, queued?.processed_at], ["user.message", null])
    story
      .responded([text("Hello.")])
      .idled()
      .requested()
    const again = shown(story.records, story.sessionId).events.filter(({ id }) => id === queued?.id)
    assert.deepEqual(
      again.map(({ processed_at: time }) => time === null),
      [true, false],
    )
    assert.deepEqual(typesOf(story).slice(-2), ["user.message", "span.model_request_start"])
  })

  it("never show a session that goes on at once as idle", () => {
    const story = new Story()
      .started()
      .requested()
      .message("More.")
      .responded([text("Hello.")])
      .idled()
    assert.equal(typesOf(story).includes("session.status_idle"), false)
  })

  it("show a call of a backend by its kind, with the policy that was applied, and its result", () => {
    const tools = [tool("look"), tool("refund", { server: "orders", permission: "always_ask" }), tool("ask", { backend: "client" })]
    const story = new Story().started(agent(tools)).requested()
    story.responded([toolUse("a", "look"), toolUse("b", "refund", { id: 1 }), toolUse("c", "ask"), toolUse("d", "nobody")])
    const { events } = shown(story.records, story.sessionId)
    const calls = events.filter(({ type }) => type.endsWith("tool_use"))
    assert.deepEqual(
      calls.map(({ type, name, evaluated_permission: permission, mcp_server_name: server }) => [type, name, permission, server]),
      [
        ["agent.tool_use", "look", "allow", undefined],
        ["agent.mcp_tool_use", "refund", "ask", "orders"],
        ["agent.custom_tool_use", "ask", undefined, undefined],
        ["agent.tool_use", "nobody", "deny", undefined],
      ],
    )
    story.dispatched("a").completed("a", "seen")
    const result = shown(story.records, story.sessionId).events.at(-1)
    assert.deepEqual([result?.type, result?.["tool_use_id"], result?.["is_error"]], ["agent.tool_result", calls[0]?.id, false])
    assert.deepEqual(result?.["content"], [{ type: "text", text: "seen" }])
  })

  it("end the span of a request that is cut off, and say end_turn after an interrupt", () => {
    const story = new Story().started().requested().interrupted().idled()
    const { events } = shown(story.records, story.sessionId)
    assert.deepEqual(
      events.slice(4).map(({ type }) => type),
      ["user.interrupt", "span.model_request_end", ...idle],
    )
    assert.deepEqual(events.at(-1)?.["stop_reason"], { type: "end_turn" })
    assert.equal(events[5]?.["is_error"], true)
  })

  it("show a failure that is tried again as rescheduled, and the next attempt as running", () => {
    const story = new Story().started().requested().modelFailed({ kind: "overloaded_error", retryable: true }).requested()
    assert.deepEqual(typesOf(story).slice(4), [
      "span.model_request_end",
      "session.error",
      "session.status_rescheduled",
      "session.thread_status_rescheduled",
      ...running,
      "span.model_request_start",
    ])
  })

  it("keep what waits when retries are exhausted, and goes on with it", () => {
    const story = new Story().started().requested().message("More.").modelFailed({ retryable: true }).idled("retries_exhausted")
    const { events } = shown(story.records, story.sessionId)
    assert.deepEqual(typesOf(story).slice(-6), ["session.error", ...idle, ...running])
    assert.deepEqual(events.at(-3)?.["stop_reason"], { type: "retries_exhausted" })
    story.requested()
    assert.deepEqual(typesOf(story).slice(-2), ["user.message", "span.model_request_start"])
  })

  it("show a parked session as idle with an error, and as running once it is resumed", () => {
    const story = new Story().started().requested().parked()
    assert.deepEqual(typesOf(story).slice(-5), ["span.model_request_end", "session.error", ...idle])
    assert.equal(apiStatus(story.session), "idle")
    story.resumed()
    assert.deepEqual(typesOf(story).slice(-2), running)
    assert.equal(apiStatus(story.session), "running")
    story.requested()
    assert.deepEqual(typesOf(story).slice(-3), [...running, "span.model_request_start"], "the model is asked anew")
  })

  it("end the span of a parked request once, whatever becomes of the session", () => {
    for (const end of [(s: Story) => s.interrupted().resumed().idled("interrupted"), (s: Story) => s.ended()]) {
      const story = new Story().started().requested().parked()
      end(story)
      assert.equal(typesOf(story).filter((type) => type === "span.model_request_end").length, 1)
    }
  })

  it("tell again what a session waits for once it is resumed", () => {
    const asked = agent([tool("ask", { backend: "client" })])
    const story = new Story()
      .started(asked)
      .requested()
      .responded([toolUse("a", "ask")])
    story
      .tell(hold(story, "a", "client"))
      .idled("requires_action")
      .parked()
      .resumed()
      .idled("requires_action")
    assert.deepEqual(typesOf(story).slice(-5), [...running, ...idle])
    const { events } = shown(story.records, story.sessionId)
    const call = events.find(({ type }) => type === "agent.custom_tool_use")
    assert.deepEqual(events.at(-1)?.["stop_reason"], { type: "requires_action", event_ids: [call?.id] })
  })

  it("count tokens over all turns, cache writes as those of five minutes", () => {
    const usage = { inputTokens: 10, outputTokens: 3, cacheReadTokens: 2, cacheWriteTokens: 5 }
    const story = new Story()
      .started()
      .requested()
      .responded([text("Hello.")], { usage })
      .idled()
    const told = shown(story.records, story.sessionId).events.find(({ type }) => type === "session.usage")
    assert.deepEqual(told?.["usage"], {
      input_tokens: 10,
      output_tokens: 3,
      cache_read_input_tokens: 2,
      cache_creation: { ephemeral_5m_input_tokens: 5, ephemeral_1h_input_tokens: 0 },
    })
  })

  it("say running once, however early the answer comes", () => {
    const asked = agent([tool("refund", { permission: "always_ask" })])
    const story = new Story()
      .started(asked)
      .requested()
      .responded([toolUse("a", "refund")])
    const held = story.known
    story.tell(
      fact("tool-call.held", {
        eventId: "evt_hold",
        sessionId: story.sessionId,
        causedBy: held.response,
        toolUseId: "a",
        tool: "refund",
        attempt: 0,
        reason: "approval",
        argumentsHash: sha256Hex(story.call("a").input),
      }),
    )
    assert.equal(apiStatus(story.session), "running", "nobody has been told that it waits")
    story.tell(
      fact("approval.given", {
        eventId: "evt_allow",
        sessionId: story.sessionId,
        causedBy: "evt_hold",
        commandId: "allow-1",
        command: { partition: 0, offset: 99 },
        toolUseId: "a",
        decision: "allow",
        message: null,
        argumentsHash: sha256Hex(story.call("a").input),
      }),
    )
    assert.deepEqual(
      typesOf(story).filter((type) => type === "session.status_running"),
      ["session.status_running"],
    )
  })

  it("answer a call of the client's that came to nothing, so that no client runs it", () => {
    const asked = agent([tool("ask", { backend: "client" })])
    const story = new Story()
      .started(asked)
      .requested()
      .responded([toolUse("a", "ask")])
      .refused("a", { message: "no" })
    const answer = shown(story.records, story.sessionId).events.at(-1)
    assert.deepEqual([answer?.type, answer?.["is_error"]], ["user.custom_tool_result", true])
  })

  const keepsTheRules = (records: readonly Told<SessionEvent>[], sessionId: string): void => {
    const { events, sessions } = shown(records, sessionId)
    const accepted = records.filter(({ verdict }) => verdict === "accepted").map(({ event }) => event.eventId)
    // What alters records may give two of them one logical id; of those nothing is promised.
    const distinct = new Set(accepted).size === accepted.length
    const places = new Map<string, number>()
    for (const [index, event] of events.entries()) {
      // V1, V4: an id comes again only for a message that waited.
      const before = places.get(event.id)
      if (before !== undefined && distinct) {
        assert.equal(event.type, "user.message")
        assert.equal(events[before]?.processed_at, null)
      }
      places.set(event.id, index)
      if (event.type !== "session.status_idle") continue
      // V3
      assert.equal(events[index - 1]?.type, "session.usage")
      assert.equal(events[index - 2]?.type, "session.thread_status_idle")
      const next = events[index + 1]?.type
      // A person may say what became of a call whose outcome nobody knew. What a session did when it was parked is closed when it ends.
      const closes = sessions[index]?.phase === "parked"
      assert.ok(
        closes ||
          next === undefined ||
          /^(user\.|agent\.(mcp_)?tool_result|session\.(status_running|updated|status_terminated|thread_status_|deleted|error))/.test(next),
        `${next} follows an idle`,
      )
    }
    // Who reads the events alone knows the status.
    let status = "idle"
    for (const [index, { type }] of events.entries()) {
      const said = /^session\.status_(running|idle|rescheduled|terminated)$/.exec(type)?.[1]
      if (said !== undefined) status = said === "rescheduled" ? "rescheduling" : said
      const isLast = events[index + 1] === undefined || sessions[index + 1] !== sessions[index]
      const real = apiStatus(sessions[index] as Session)
      // What settles is about to be idle, and is said to be nothing else on the way there.
      const settles = sessions[index]?.phase === "settling"
      if (isLast && !settles && real !== null && real !== "idle" && real !== "rescheduling") assert.equal(status, real)
    }
  }

  it("keep their rules over every log that comes about", () => {
    fc.assert(
      fc.property(plausibleLog, ({ records, sessionIds }) => {
        for (const sessionId of sessionIds) keepsTheRules(records, sessionId)
      }),
      { numRuns: 500 },
    )
  })

  it("can be told of any log at all", () => {
    fc.assert(
      fc.property(hostileLog, ({ records, sessionIds }) => {
        for (const sessionId of sessionIds) assert.ok(shown(records, sessionId).events.every(({ id, type }) => id !== "" && type !== ""))
      }),
      { numRuns: 500 },
    )
  })
})
