import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEvent, SessionEventOf } from "@reins/events"
import { agent, fact, Story, text, tool, toolUse } from "@reins/session/testing"
import { allHeld, awaits, type Call, conversationMessages, holdOf, isAtRest, type Session, summarize } from "../src/index.ts"
import { allow, deny, hold, result } from "./answers.ts"

const pay = tool("pay", { backend: "http", effect: "unsafe", permission: "always_ask" })
const look = tool("look", { permission: "always_ask" })
const refund = tool("refund", { backend: "http", effect: "unsafe", onUnknown: "hold" })
const weather = tool("weather", { backend: "client", effect: "unsafe", claims: false })
const add = tool("add")

/** A session whose model asked for these tools, as a, b, c … */
function called(...names: string[]): Story {
  return new Story()
    .started(agent([pay, look, refund, weather, add]))
    .requested()
    .responded(names.map((name, n) => toolUse("abcdef".charAt(n), name, { n })))
}

/** The same, with the first call held for that. */
function held(name: string, reason: string, ...others: string[]): Story {
  const story = called(name, ...others)
  if (reason === "outcome_unknown") story.dispatched("a")
  return story.tell(hold(story, "a", reason))
}

function is(story: Story, toolUseId = "a"): Call["state"]["is"] {
  return story.call(toolUseId).state.is
}

function contentOf(story: Story, toolUseId = "a"): { readonly said: unknown; readonly isError: boolean } {
  const { state } = story.call(toolUseId)
  assert.ok(state.is === "done", `${toolUseId} is ${state.is}`)
  return { said: JSON.parse(state.content), isError: state.isError }
}

/** Accepted, since its command is heard; and that is all. */
function changesNoCall(story: Story, event: SessionEvent): void {
  const { calls, toolCalls } = story.known
  const { phase } = story.session
  const waits = isWaiting(story.session)
  story.tell(event)
  assert.equal(story.verdict, "accepted", event.type)
  assert.deepEqual(
    [story.known.calls, story.known.toolCalls, story.session.phase, isWaiting(story.session)],
    [calls, toolCalls, phase, waits],
  )
  assert.ok("commandId" in event && story.known.commands.recent.includes(event.commandId))
}

/** Not accepted, and the very same state. */
function isSetAside(story: Story, event: SessionEvent, verdict: "superseded" | "late" | "duplicate"): void {
  const before = story.session
  story.tell(event)
  assert.deepEqual([story.verdict, story.session === before], [verdict, true], event.type)
}

function status(story: Story): string | undefined {
  return summarize(story.session, String)?.status
}

function isWaiting(session: Session): boolean {
  return session.phase === "awaiting-tools" && session.waiting === "told"
}

describe("a call held for an approval", () => {
  it("is neither open for a worker nor done, and shows what is to be decided on", () => {
    const story = held("pay", "approval")
    const { state } = story.call("a")
    assert.ok(state.is === "held")
    assert.deepEqual([story.verdict, state.reason, state.eventId, state.message], ["accepted", "approval", story.last.eventId, null])
    assert.equal(state.argumentsHash, (story.last as SessionEventOf<"tool-call.held">).argumentsHash)
    assert.equal(story.known.toolCalls, 0, "what has not run is not charged")
    isSetAside(
      story,
      story.draft((s) => s.dispatched("a")),
      "superseded",
    )
    isSetAside(
      story,
      story.draft((s) => s.refused("a")),
      "superseded",
    )
    isSetAside(story, hold(story, "a", "approval", { causedBy: story.known.response }), "superseded")
  })

  it("is held for a reason that this version knows, and on the response that asked for it, or not at all", () => {
    const story = called("pay")
    isSetAside(story, hold(story, "a", "of a later version"), "superseded")
    isSetAside(story, hold(story, "a", "approval", { causedBy: "evt_0" }), "superseded")
    isSetAside(story, hold(story, "a", "approval", { attempt: 1 }), "superseded")
    isSetAside(story, hold(story, "a", "approval", { toolUseId: "z" }), "superseded")
    assert.equal(story.tell(hold(story, "a", "approval")).verdict, "accepted")
  })

  it("runs once it is allowed, under that allow", () => {
    const story = held("pay", "approval")
    const given = allow(story, "a")
    story.tell(given)
    assert.deepEqual([story.verdict, is(story), story.call("a").approval], ["accepted", "wanted", given.eventId])
    assert.equal(story.dispatched("a").verdict, "accepted")
    assert.deepEqual([story.call("a").attempt, story.known.toolCalls], [1, 1])
    story.completed("a", "paid").requested()
    assert.equal(story.verdict, "accepted")
  })

  it("is answered by a denial, in the words of who denied, or in ours", () => {
    const story = held("pay", "approval", "pay")
    story.tell(hold(story, "b", "approval"))
    story.tell(deny(story, "a", "Too much.")).tell(deny(story, "b"))
    assert.deepEqual(contentOf(story, "a"), { said: "Too much.", isError: true })
    assert.deepEqual(contentOf(story, "b"), { said: "Permission to use pay has been denied.", isError: true })
    isSetAside(
      story,
      story.draft((s) => s.dispatched("a")),
      "superseded",
    )
    story.requested()
    assert.equal(story.verdict, "accepted")
    assert.deepEqual(conversationMessages(story.known.conversation).at(-1)?.content, [
      { content: "Too much.", is_error: true, tool_use_id: "a", type: "tool_result" },
      { content: "Permission to use pay has been denied.", is_error: true, tool_use_id: "b", type: "tool_result" },
    ])
  })

  it("is no call of a client: a result says nothing about it", () => {
    const story = held("pay", "approval")
    changesNoCall(story, result(story, "a", "paid, trust me"))
  })

  it("is answered once: what comes second is heard, and changes nothing", () => {
    for (const first of ["allow", "deny"] as const) {
      const story = held("pay", "approval")
      const second = [allow(story, "a"), deny(story, "a", "On second thought."), result(story, "a", "x")]
      story.tell(first === "allow" ? allow(story, "a") : deny(story, "a"))
      const once = story.last
      // In the order of their commands, as intake writes them.
      for (const event of second) changesNoCall(story, { ...event, command: { ...event.command, partition: 1 } })
      isSetAside(story, once, "duplicate")
    }
  })

  it("is not answered by what was said of another hold, of other arguments, or of another call", () => {
    const story = held("pay", "approval")
    changesNoCall(story, allow(story, "a", { causedBy: "evt_0" }))
    changesNoCall(story, allow(story, "a", { causedBy: null }))
    changesNoCall(story, allow(story, "a", { argumentsHash: "0".repeat(64) }))
    changesNoCall(story, { ...deny(story, "a"), argumentsHash: "0".repeat(64) })
    changesNoCall(story, allow(story, "a", { toolUseId: "z" }))
    assert.equal(is(story), "held")
    assert.equal(story.tell(allow(story, "a")).call("a").state.is, "wanted")
  })

  it("never leaves without an allow, whoever says so (E9)", () => {
    const story = called("pay", "add")
    isSetAside(
      story,
      story.draft((s) => s.dispatched("a")),
      "superseded",
    )
    assert.equal(story.dispatched("b").verdict, "accepted")
    // Chained on an allow that the log then set aside, as one that names other arguments.
    const zombie = story.draft((s) => s.dispatched("a"))
    changesNoCall(story, allow(story, "a", { argumentsHash: "0".repeat(64) }))
    isSetAside(story, zombie, "superseded")
    story.tell(allow(story, "a")).tell(zombie)
    assert.equal(story.verdict, "accepted")
  })
})

describe("an answer before its hold stands", () => {
  // Found by the simulation, seed 147: whoever judged the answer saw a hold that was still under way, the log never took that one, and the
  // answer named it. The person was told that it was heard, and asked again.
  it("counts whatever becomes of a hold that is under way: until a call has left it names the response", () => {
    for (const stands of ["no hold", "another hold"] as const) {
      const story = called("pay", "weather")
      const answers = [allow(story, "a"), result(story, "b", "sunny")]
      assert.deepEqual(
        answers.map(({ causedBy }) => causedBy),
        [story.known.response, story.known.response],
      )
      if (stands === "another hold") story.tell(hold(story, "a", "approval")).tell(hold(story, "b", "client"))
      for (const [index, event] of answers.entries()) story.tell({ ...event, command: { ...event.command, partition: index + 1 } })
      assert.deepEqual([story.call("a").state.is, story.call("b").state.is], ["wanted", "done"], stands)
    }
  })

  it("is an answer also where it names the hold, as older builds wrote it", () => {
    const story = held("pay", "approval")
    const { eventId } = story.last
    assert.equal(story.tell(allow(story, "a", { causedBy: eventId })).call("a").state.is, "wanted")
  })

  it("counts: the call is wanted, and who asked is known by the response", () => {
    const story = called("pay", "look", "weather")
    assert.deepEqual(
      story.known.calls.map((call) => [awaits(story.known, call), holdOf(story.known, call) === story.known.response]),
      [
        ["approval", true],
        ["approval", true],
        ["client", true],
      ],
    )
    story
      .tell(allow(story, "a"))
      .tell(deny(story, "b", "No."))
      .tell(result(story, "c", [text("sunny")]))
    assert.deepEqual([is(story, "a"), is(story, "b"), is(story, "c")], ["wanted", "done", "done"])
    assert.deepEqual(contentOf(story, "c"), { said: [text("sunny")], isError: false })
    assert.equal(story.known.toolCalls, 1, "what the client ran is charged all the same")
    assert.equal(awaits(story.known, story.call("a")), null)
  })

  it("is not undone by the hold that was under way", () => {
    const story = called("pay", "pay", "weather")
    const holds = [hold(story, "a", "approval"), hold(story, "b", "approval"), hold(story, "c", "client")]
    story
      .tell(allow(story, "a"))
      .tell(deny(story, "b"))
      .tell(result(story, "c", []))
    for (const event of holds) isSetAside(story, event, "superseded")
    assert.equal(story.dispatched("a").verdict, "accepted")
  })

  it("holds no further: a late copy of a hold that was answered asks for nothing again", () => {
    const story = held("pay", "approval")
    const first = story.last
    isSetAside(story, first, "superseded")
    story.tell(allow(story, "a"))
    isSetAside(story, first, "superseded")
    story.dispatched("a")
    isSetAside(story, first, "superseded")
    story.failed("a", { effect: "none", retryAfterMs: 0 })
    isSetAside(story, first, "superseded")
    assert.equal(story.dispatched("a").verdict, "accepted")
  })

  it("is none for a call that nobody is asked about", () => {
    const story = called("add", "refund")
    assert.deepEqual([awaits(story.known, story.call("a")), awaits(story.known, story.call("b"))], [null, null])
    for (const id of ["a", "b"]) {
      changesNoCall(story, deny(story, id))
      changesNoCall(story, allow(story, id))
      changesNoCall(story, result(story, id, "x"))
    }
  })
})

describe("an allow", () => {
  it("is used up by a run that may have had an effect: the next attempt is asked about again", () => {
    for (const effect of ["maybe", "done"] as const) {
      const story = held("look", "approval")
      const first = story.last
      story.tell(allow(story, "a")).dispatched("a").failed("a", { effect, retryAfterMs: 0 })
      assert.deepEqual([is(story), story.call("a").approval], ["wanted", undefined])
      isSetAside(
        story,
        story.draft((s) => s.dispatched("a")),
        "superseded",
      )
      isSetAside(story, first, "superseded")
      story.tell(hold(story, "a", "approval"))
      assert.deepEqual([story.verdict, is(story), story.call("a").attempt], ["accepted", "held", 1])
      story.tell(allow(story, "a")).dispatched("a")
      assert.deepEqual([story.verdict, story.call("a").attempt], ["accepted", 2])
    }
    const timedOut = held("look", "approval")
    timedOut.tell(allow(timedOut, "a")).dispatched("a").timedOut("a", { effect: "maybe", retryAfterMs: 0 })
    assert.equal(timedOut.call("a").approval, undefined)
  })

  it("stands where nothing ran under it", () => {
    for (const kind of ["unavailable", "given_up"]) {
      const story = held("pay", "approval")
      const given = allow(story, "a")
      story.tell(given).dispatched("a").failed("a", { kind, effect: "none", retryAfterMs: 0 })
      assert.equal(story.call("a").approval, given.eventId)
      assert.equal(story.dispatched("a").verdict, "accepted")
      story.timedOut("a", { effect: "none", retryAfterMs: 0 })
      assert.equal(story.call("a").approval, given.eventId)
    }
  })

  it("given after a run that used one up, before that is asked about, is no answer: nobody has shown what it is for", () => {
    const story = held("look", "approval")
    story.tell(allow(story, "a")).dispatched("a").failed("a", { effect: "maybe", retryAfterMs: 0 })
    assert.equal(awaits(story.known, story.call("a")), null)
    changesNoCall(story, allow(story, "a"))
    changesNoCall(story, deny(story, "a"))
  })
})

describe("a call held for its client", () => {
  it("is answered by the client's result, which the model reads as it is; it is charged once and never dispatched", () => {
    const story = called("weather")
    isSetAside(
      story,
      story.draft((s) => s.dispatched("a")),
      "superseded",
    )
    story.tell(hold(story, "a", "client"))
    assert.equal(story.known.toolCalls, 1)
    isSetAside(
      story,
      story.draft((s) => s.dispatched("a")),
      "superseded",
    )
    story.tell(result(story, "a", [text("rain")], { isError: true }))
    assert.deepEqual([story.verdict, story.known.toolCalls], ["accepted", 1])
    assert.deepEqual(contentOf(story), { said: [text("rain")], isError: true })
    story.requested()
    assert.equal(story.verdict, "accepted")
    assert.deepEqual(conversationMessages(story.known.conversation).at(-1)?.content, [
      { content: [text("rain")], is_error: true, tool_use_id: "a", type: "tool_result" },
    ])
  })

  it("is not answered by an approval, of another hold, or twice", () => {
    const story = held("weather", "client")
    changesNoCall(story, allow(story, "a"))
    changesNoCall(story, deny(story, "a"))
    changesNoCall(story, result(story, "a", "x", { causedBy: "evt_0" }))
    const second = result(story, "a", "two")
    story.tell(result(story, "a", "one"))
    changesNoCall(story, { ...second, command: { ...second.command, partition: 1 } })
    assert.equal(contentOf(story).said, "one")
  })
})

describe("a call whose outcome nobody knows", () => {
  it("is held for a person, only while that attempt is the open one", () => {
    const story = called("refund")
    isSetAside(story, hold(story, "a", "outcome_unknown"), "superseded")
    story.dispatched("a")
    isSetAside(story, hold(story, "a", "outcome_unknown", { attempt: 2 }), "superseded")
    isSetAside(story, hold(story, "a", "outcome_unknown", { causedBy: story.known.response }), "superseded")
    isSetAside(story, hold(story, "a", "approval", { causedBy: story.known.response }), "superseded")
    isSetAside(story, hold(story, "a", "of a later version"), "superseded")
    const late = story.draft((s) => s.completed("a", "17"))
    story.tell(hold(story, "a", "outcome_unknown"))
    assert.deepEqual([story.verdict, is(story), awaits(story.known, story.call("a"))], ["accepted", "held", "outcome_unknown"])
    isSetAside(story, late, "late")
  })

  it("is answered by what names its hold: the response that asked for it was answered by an earlier allow", () => {
    const story = held("refund", "outcome_unknown")
    changesNoCall(story, allow(story, "a", { causedBy: story.known.response }))
    changesNoCall(story, result(story, "a", "x", { causedBy: story.known.response }))
    assert.equal(is(story), "held")
  })

  it("runs again where a person allows it: as the next attempt, and may be unknown again", () => {
    const story = held("refund", "outcome_unknown")
    const first = story.last
    story.tell(allow(story, "a")).dispatched("a")
    assert.deepEqual([story.verdict, story.call("a").attempt, story.known.toolCalls], ["accepted", 2, 1])
    isSetAside(story, first, "superseded")
    story.tell(hold(story, "a", "outcome_unknown"))
    assert.deepEqual([story.verdict, story.call("a").approval], ["accepted", undefined])
    // What was said of the first hold is no answer to the second.
    changesNoCall(story, allow(story, "a", { causedBy: first.eventId }))
  })

  it("is told to the model where a person denies it: in their words, or as what is not known", () => {
    const story = held("refund", "outcome_unknown", "refund")
    story.dispatched("b")
    story.tell(hold(story, "b", "outcome_unknown"))
    story.tell(deny(story, "a")).tell(deny(story, "b", "It did not happen."))
    assert.deepEqual(contentOf(story, "a"), { said: "Nobody can say.", isError: true })
    assert.deepEqual(contentOf(story, "b"), { said: "It did not happen.", isError: true })
  })

  it("is done where a person knows the result", () => {
    const story = held("refund", "outcome_unknown")
    story.tell(result(story, "a", [text("refunded")]))
    assert.deepEqual(contentOf(story), { said: [text("refunded")], isError: false })
    assert.equal(story.known.toolCalls, 1)
  })
})

describe("a session that waits for someone", () => {
  it("is idle, for the reason that action is required, once that is said: when all that is open is held", () => {
    const story = called("pay", "add", "weather")
    assert.equal(story.idled("requires_action").verdict, "superseded", "nothing is held")
    story.tell(hold(story, "a", "approval"))
    assert.equal(story.idled("requires_action").verdict, "superseded", "b and c are wanted")
    story.tell(hold(story, "c", "client")).dispatched("b")
    assert.equal(story.idled("requires_action").verdict, "superseded", "b runs")
    story.completed("b", "3")
    assert.equal(allHeld(story.known.calls), true)
    assert.equal(status(story), "running", "nobody has said so yet")
    const again = story.draft((s) => s.idled("requires_action"))
    story.idled("requires_action")
    assert.deepEqual([story.verdict, isWaiting(story.session), status(story)], ["accepted", true, "idle"])
    assert.equal(summarize(story.session, String)?.stopReason, "requires_action")
    isSetAside(story, again, "superseded")
    isSetAside(story, fact("model.requested", { sessionId: story.sessionId, turn: 2, takes: 0 }), "superseded")
  })

  it("is not where no call is open", () => {
    const story = called("add").dispatched("a").completed("a", "1")
    assert.equal(allHeld(story.known.calls), false)
    assert.equal(story.idled("requires_action").verdict, "superseded")
    assert.equal(story.idled("requires_action", { turn: 2 }).verdict, "superseded")
  })

  const waiting = (): Story => {
    const story = held("pay", "approval", "weather")
    return story.tell(hold(story, "b", "client")).idled("requires_action")
  }

  it("goes on with any change of a call, and with nothing else", () => {
    // Where one was allowed something runs again; where one was answered nothing does, and what is left is to be told anew.
    for (const [change, then] of [
      [(s: Story) => s.tell(allow(s, "a")), "running"],
      [(s: Story) => s.tell(deny(s, "a")), "idle"],
      [(s: Story) => s.tell(result(s, "b", "x")), "idle"],
    ] as const) {
      const story = waiting()
      change(story)
      assert.deepEqual([story.verdict, isWaiting(story.session), status(story)], ["accepted", false, then])
      assert.equal(isAtRest(story.session), false)
    }
    const story = waiting()
    assert.equal(isAtRest(story.session), true)
    story.message("Well?").rejected()
    changesNoCall(story, allow(story, "b"))
    assert.ok(isWaiting(story.session))
    story.parked()
    assert.equal(status(story), "parked")
    // Whoever looked has been told since that the session had stopped.
    story.resumed()
    assert.deepEqual([isWaiting(story.session), status(story)], [false, "running"])
    story.idled("requires_action")
    assert.deepEqual([story.verdict, isWaiting(story.session)], ["accepted", true])
  })

  it("waits again once what is left is all held; a late copy of what said so first says nothing", () => {
    const story = waiting()
    const first = story.last
    isSetAside(story, first, "duplicate")
    story.tell(result(story, "b", "x"))
    // The call that is left is held as it was: only its id tells the copy from a new decision.
    isSetAside(story, first, "duplicate")
    story.idled("requires_action")
    assert.deepEqual([story.verdict, isWaiting(story.session)], ["accepted", true])
    story.tell(allow(story, "a")).dispatched("a").completed("a", "paid").requested()
    isSetAside(story, first, "duplicate")
  })

  it("is closed by an interrupt: what was held was not run, or its outcome is unknown, and late answers change nothing", () => {
    for (const stop of ["interrupt", "end"] as const) {
      const story = called("pay", "refund", "weather", "weather", "pay").dispatched("b")
      story
        .tell(hold(story, "a", "approval"))
        .tell(hold(story, "b", "outcome_unknown"))
        .tell(hold(story, "c", "client"))
      const late = [allow(story, "a"), deny(story, "b"), result(story, "c", "sunny")]
      if (stop === "interrupt") story.interrupted()
      else story.ended()
      assert.equal(story.session.phase, stop === "interrupt" ? "settling" : "ended")
      assert.match(String(contentOf(story, "a").said), /not dispatched|It was not run/)
      assert.match(String(contentOf(story, "b").said), /may have run; its outcome is unknown/)
      assert.match(String(contentOf(story, "c").said), /waited for its client\. It may have run/)
      // A client may have seen its call, and run it, before it was held.
      assert.match(String(contentOf(story, "d").said), /waited for its client\. It may have run/)
      assert.match(String(contentOf(story, "e").said), /It was not run/)
      for (const event of late) changesNoCall(story, { ...event, command: { ...event.command, partition: 1 } })
    }
  })

  it("keeps what is held while it is parked; an answer meanwhile is heard, and has to be given again", () => {
    const story = held("pay", "approval").parked()
    const { phase } = story.session
    assert.equal(phase, "parked")
    const call = story.call("a")
    story.tell(allow(story, "a"))
    assert.deepEqual([story.verdict, story.call("a")], ["accepted", call])
    isSetAside(story, hold(story, "a", "approval"), "superseded")
    story.resumed()
    assert.equal(is(story), "held")
    assert.equal(story.tell(allow(story, "a")).call("a").state.is, "wanted")
  })
})
