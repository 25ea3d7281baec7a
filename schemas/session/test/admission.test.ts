import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { commands } from "@reins/events"
import { agent, Story, text, tool, toolUse } from "@reins/session/testing"
import { type Asked, refusalOf, sha256Hex } from "../src/index.ts"
import { allow, archive, deny, hold, remove, result } from "./answers.ts"

const pay = tool("pay", { backend: "http", effect: "unsafe", permission: "always_ask" })
const refund = tool("refund", { backend: "http", effect: "unsafe", onUnknown: "hold" })
const weather = tool("weather", { backend: "client", effect: "unsafe", claims: false })
const add = tool("add")

const begun = (): Story => new Story().started(agent([pay, refund, weather, add]))
const idle = (): Story =>
  begun()
    .requested()
    .responded([text("Done.")])
    .idled()
function called(...names: string[]): Story {
  return begun()
    .requested()
    .responded(names.map((name, n) => toolUse("abcdef".charAt(n), name, { n })))
}
function waiting(): Story {
  const story = called("pay", "weather")
  return story
    .tell(hold(story, "a", "approval"))
    .tell(hold(story, "b", "client"))
    .idled("requires_action")
}
function told(story: Story, event: (story: Story) => Parameters<Story["tell"]>[0]): Story {
  return story.tell(event(story))
}

/** The code of the refusal, or null. */
function code(story: Story, asked: Asked): string | null {
  const refusal = refusalOf(story.session, story.sessionId, asked)
  if (refusal !== null) {
    assert.match(refusal.message, /^[A-Z].*\.$/, "it is said in sentences")
    assert.ok(refusal.message.includes(story.sessionId) || "toolUseId" in asked, refusal.message)
  }
  return refusal?.code ?? null
}

const plain = commands
  .map(({ type }) => type)
  .filter((type) => type !== "session.update" && type !== "approval.give" && type !== "result.give")
const everything: readonly Asked[] = [
  ...plain.map((type) => ({ type })),
  { type: "session.update", agent: null },
  { type: "session.update", agent: "{}" },
  { type: "approval.give", toolUseId: "a" },
  { type: "result.give", toolUseId: "a" },
]

/** What is asked, and the code with which it is refused; what is not named is done. */
function answersOf(story: Story): Readonly<Record<string, string>> {
  const refused = everything.flatMap((asked) => {
    const refusal = code(story, asked)
    const name = asked.type === "session.update" && (asked.agent ?? null) !== null ? "session.update tools" : asked.type
    return refusal === null ? [] : [[name, refusal] as const]
  })
  return Object.fromEntries(refused)
}

const all = (refusal: string, ...but: readonly string[]): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...commands.map(({ type }) => type), "session.update tools"].filter((type) => !but.includes(type)).map((type) => [type, refusal]),
  )

describe("what can be asked of a session", () => {
  it("that is not there: to be started, and nothing else", () => {
    assert.deepEqual(answersOf(new Story()), all("session_unknown", "session.start"))
  })

  it("that is deleted: nothing", () => {
    assert.deepEqual(answersOf(told(idle(), remove)), { ...all("session_deleted"), "session.start": "session_exists" })
  })

  it("that has ended or is archived: to be renamed, archived and deleted", () => {
    const expected = {
      ...all("session_ended", "session.update", "session.archive", "session.delete"),
      "session.start": "session_exists",
      "session.update tools": "session_not_idle",
    }
    assert.deepEqual(answersOf(idle().ended()), expected)
    assert.deepEqual(answersOf(told(idle(), archive)), expected)
  })

  it("that is idle: everything but what answers a call", () => {
    assert.deepEqual(answersOf(idle()), {
      "session.start": "session_exists",
      "session.resume": "session_not_parked",
      "approval.give": "call_unknown",
      "result.give": "call_unknown",
    })
  })

  it("that was used since someone looked at it: to be kept, where they delete what nobody uses", () => {
    for (const story of [idle(), idle().ended(), idle().parked()]) {
      const { session, sessionId, now } = story
      const code = (unchangedSince: number | null): string | undefined =>
        refusalOf(session, sessionId, { type: "session.delete", unchangedSince })?.code
      assert.deepEqual([code(now - 1), code(now), code(null)], ["session_changed", undefined, undefined], session.phase)
    }
  })

  it("that runs: not to be closed for good, nor to have its tools changed", () => {
    const expected = {
      "session.start": "session_exists",
      "session.archive": "session_running",
      "session.delete": "session_running",
      "session.update tools": "session_not_idle",
      "session.resume": "session_not_parked",
      "approval.give": "call_unknown",
      "result.give": "call_unknown",
    }
    assert.deepEqual(answersOf(begun()), expected, "about to begin")
    assert.deepEqual(answersOf(begun().requested()), expected, "the model is asked")
    assert.deepEqual(
      answersOf(
        begun()
          .requested()
          .responded([text("Done.")]),
      ),
      expected,
      "about to be idle",
    )
    const open = { ...expected, "approval.give": "call_not_held", "result.give": "call_not_held" }
    assert.deepEqual(answersOf(called("add")), open)
    assert.deepEqual(answersOf(called("refund").dispatched("a")), open)
  })

  it("that waits for someone: to be closed, but nothing is said to it before it is answered or interrupted", () => {
    const story = waiting()
    assert.deepEqual(answersOf(story), {
      "session.start": "session_exists",
      "message.send": "action_required",
      "session.update tools": "session_not_idle",
      "session.resume": "session_not_parked",
      "result.give": "call_not_held",
    })
    assert.match(refusalOf(story.session, story.sessionId, { type: "message.send" })?.message ?? "", /an answer to a, b\. /)
    // What is held while something else runs keeps nobody from speaking.
    const busy = called("pay", "add")
    assert.equal(
      code(
        told(busy, (s) => hold(s, "a", "approval")),
        { type: "message.send" },
      ),
      null,
    )
  })

  it("that is parked: to be resumed or closed; a call is answered after that", () => {
    assert.deepEqual(answersOf(told(called("pay"), (s) => hold(s, "a", "approval")).parked()), {
      "session.start": "session_exists",
      "session.update tools": "session_not_idle",
      "approval.give": "session_parked",
      "result.give": "session_parked",
    })
  })
})

describe("an answer to a call", () => {
  const approval = (story: Story, fields: { toolUseId?: string; argumentsHash?: string | null } = {}): string | null =>
    code(story, { type: "approval.give", toolUseId: "a", ...fields })
  const given = (story: Story, toolUseId = "a"): string | null => code(story, { type: "result.give", toolUseId })

  it("is taken by what waits for it, also before the router has said that it waits", () => {
    const held = told(called("pay"), (s) => hold(s, "a", "approval"))
    const client = told(called("weather"), (s) => hold(s, "a", "client"))
    const unknown = told(called("refund").dispatched("a"), (s) => hold(s, "a", "outcome_unknown"))
    assert.deepEqual([approval(held), given(held)], [null, "call_not_held"])
    assert.deepEqual([approval(called("pay")), given(called("pay"))], [null, "call_not_held"])
    assert.deepEqual([approval(client), given(client)], ["call_not_held", null])
    assert.deepEqual([approval(called("weather")), given(called("weather"))], ["call_not_held", null])
    assert.deepEqual([approval(unknown), given(unknown)], [null, null])
  })

  it("is not taken by a call that nobody asked about, that there is not, or that was allowed", () => {
    assert.deepEqual([approval(called("add")), given(called("add"))], ["call_not_held", "call_not_held"])
    assert.deepEqual([approval(called("pay"), { toolUseId: "z" }), given(called("pay"), "z")], ["call_unknown", "call_unknown"])
    const allowed = told(called("pay"), (s) => allow(s, "a"))
    assert.deepEqual([approval(allowed), given(allowed)], ["call_not_held", "call_not_held"])
    const running = allowed.dispatched("a")
    assert.deepEqual([approval(running), given(running)], ["call_not_held", "call_not_held"])
  })

  it("comes twice: a second result is heard, a second decision is refused", () => {
    const answered = told(called("weather", "add"), (s) => result(s, "a", "sunny"))
    assert.deepEqual([given(answered), approval(answered)], [null, "call_not_held"])
    const denied = told(called("pay", "add"), (s) => deny(s, "a"))
    assert.equal(approval(denied), "call_not_held")
  })

  it("is bound to the arguments that were decided on, where it names them", () => {
    const story = told(called("pay"), (s) => hold(s, "a", "approval"))
    assert.equal(approval(story, { argumentsHash: sha256Hex('{"n":0}') }), null)
    assert.equal(approval(story, { argumentsHash: null }), null)
    assert.equal(approval(story, { argumentsHash: sha256Hex('{"n":1}') }), "approval_mismatch")
    assert.equal(approval(story, { argumentsHash: "" }), "approval_mismatch")
  })
})

describe("a message", () => {
  it("is not taken beyond those that may wait at a time, and is again once a request has taken them", () => {
    const story = begun().requested()
    const most = 10_000
    for (let n = 1; n < most; n++) story.message("More")
    assert.equal(code(story, { type: "message.send" }), null)
    assert.equal(code(story.message("More"), { type: "message.send" }), "queue_full")
    assert.equal(code(story, { type: "session.interrupt" }), null)
    story
      .responded([text("Yes?")])
      .idled()
      .requested()
    assert.equal(story.known.queued.length, 0)
    assert.equal(code(story, { type: "message.send" }), null)
  })
})
