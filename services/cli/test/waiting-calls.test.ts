import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { clientBackend } from "@reins/events"
import { callEventId, sha256Hex } from "@reins/session"
import { agent, fact, Story, tool, toolUse } from "@reins/session/testing"
import { CliError } from "../src/fail.ts"
import { restOf } from "../src/rest.ts"
import { callMeant, commandOf, nextCommands, shownCall, type WaitingCall, waitingCalls } from "../src/waiting-calls.ts"

function call(toolUseId: string, reason: WaitingCall["reason"], fields: Partial<WaitingCall> = {}): WaitingCall {
  return {
    sessionId: "sesn_1",
    agent: "support",
    toolUseId,
    eventId: `sevt_${toolUseId}`,
    heldBy: `evt_${toolUseId}`,
    tool: "refund",
    reason,
    arguments: '{"cents":500}',
    argumentsHash: sha256Hex('{"cents":500}'),
    message: null,
    ...fields,
  }
}

const fails = (exitCode: number, says: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CliError, String(error))
  assert.equal(error.exitCode, exitCode)
  assert.match(error.message, says)
  return true
}

describe("the calls that wait", () => {
  const tools = [tool("refund", { permission: "always_ask" }), tool("weather", { backend: clientBackend }), tool("add")]
  const story = new Story()
    .started(agent(tools))
    .requested()
    .responded([toolUse("toolu_1", "refund", { to: "Ada", cents: 500 }), toolUse("toolu_2", "weather"), toolUse("toolu_3", "add")])
  const hold = (toolUseId: string, reason: string): void => {
    const { tool: name, input } = story.call(toolUseId)
    const place = { eventId: `evt_hold_${toolUseId}`, sessionId: story.sessionId, causedBy: story.known.response }
    story.tell(
      fact("tool-call.held", { ...place, toolUseId, tool: name, attempt: 0, reason, argumentsHash: sha256Hex(input), message: null }),
    )
  }

  it("are those that are held, with their canonical arguments and the hash of these; the session rests once all others are done", () => {
    assert.deepEqual(waitingCalls(story.session), [])
    hold("toolu_1", "approval")
    hold("toolu_2", "client")
    const [first, second, ...others] = waitingCalls(story.session)
    assert.deepEqual(others, [])
    assert.equal(first?.arguments, '{"cents":500,"to":"Ada"}')
    assert.equal(first.argumentsHash, sha256Hex('{"cents":500,"to":"Ada"}'))
    assert.equal(first.heldBy, "evt_hold_toolu_1")
    assert.equal(first.eventId, callEventId(story.known, "toolu_1"))
    assert.equal(second?.reason, "client")
    assert.equal(restOf(story.session), null, "a call that runs is not waited for by a person")
    story.dispatched("toolu_3").completed("toolu_3").idled("requires_action")
    assert.deepEqual(restOf(story.session), { reason: "requires_action", exitCode: 4 })
  })

  it("are meant by either id, or by nothing where only one waits for such an answer", () => {
    const waiting = [call("toolu_1", "approval"), call("toolu_2", "client")]
    assert.equal(callMeant(waiting, "toolu_1", "allow", "sesn_1"), waiting[0])
    assert.equal(callMeant(waiting, "sevt_toolu_1", "deny", "sesn_1"), waiting[0])
    assert.equal(callMeant(waiting, undefined, "deny", "sesn_1"), waiting[0])
    assert.equal(callMeant(waiting, undefined, "result", "sesn_1"), waiting[1])
    const two = [call("toolu_1", "approval"), call("toolu_3", "outcome_unknown")]
    assert.throws(() => callMeant(two, undefined, "allow", "sesn_1"), fails(2, /2 calls wait.*toolu_1.*toolu_3/))
    assert.equal(callMeant(two, undefined, "result", "sesn_1"), two[1])
  })

  it("take no answer of another kind, and none that does not wait is found", () => {
    const waiting = [call("toolu_1", "approval"), call("toolu_2", "client")]
    assert.throws(() => callMeant(waiting, "toolu_2", "allow", "sesn_1"), fails(2, /run by the client.*`allow` is no answer/))
    assert.throws(() => callMeant(waiting, "toolu_1", "result", "sesn_1"), fails(2, /waits for an approval.*`result` is no answer/))
    assert.throws(() => callMeant(waiting, "toolu_9", "allow", "sesn_1"), fails(3, /No call toolu_9 waits.*toolu_1/))
    assert.throws(() => callMeant([], undefined, "allow", "sesn_1"), fails(3, /Nothing waits there/))
  })
})

describe("an answer", () => {
  it("is bound to the arguments that were shown", () => {
    const shown = call("toolu_1", "approval")
    const { argumentsHash } = shown
    const common = { type: "approval.give", sessionId: "sesn_1", toolUseId: "toolu_1", argumentsHash }
    assert.deepEqual(commandOf(shown, { is: "allow" }), { ...common, decision: "allow" })
    assert.deepEqual(commandOf(shown, { is: "deny", reason: "no" }), { ...common, decision: "deny", message: "no" })
    assert.deepEqual(commandOf(shown, { is: "deny", reason: null }), { ...common, decision: "deny" })
  })

  it("may be a result, or an empty one", () => {
    const common = { type: "result.give", sessionId: "sesn_1", toolUseId: "toolu_2" }
    const shown = call("toolu_2", "client")
    const content = [{ type: "text", text: "sunny" }]
    assert.deepEqual(commandOf(shown, { is: "result", text: "sunny", isError: true }), { ...common, isError: true, content })
    assert.deepEqual(commandOf(shown, { is: "result", text: "", isError: false }), { ...common, isError: false })
  })
})

describe("a call as a person sees it", () => {
  it("has its arguments whole, with everything escaped that would make them read differently", () => {
    const long = `{"text":"${"x".repeat(5000)}"}`
    assert.ok(shownCall(call("toolu_1", "approval", { arguments: long })).includes(long))
    const turned = shownCall(
      call("toolu_1", "approval", { arguments: '{"to":"a\u202ebc\u200b","esc":"\u001b[2J","é":"日本語 🙂\u{e0041}"}' }),
    )
    assert.equal(turned, String.raw`toolu_1  refund({"to":"a\u202ebc\u200b","esc":"\x1b[2J","é":"日本語 🙂\udb40\udc41"})`)
  })

  it("comes with commands that a shell takes as they are, whatever the model called it", () => {
    const text = nextCommands([call("toolu_1'; rm -rf ~ #", "approval"), call("-x", "client"), call("toolu_3", "outcome_unknown")])
    assert.ok(text.includes(String.raw`npx reins sessions allow sesn_1 'toolu_1'\''; rm -rf ~ #'`), text)
    assert.ok(text.includes("npx reins sessions result sesn_1 toolu_3"), text)
    assert.ok(text.includes("npx reins sessions allow sesn_1 toolu_3"), text)
    assert.equal(text.match(/sessions result/g)?.length, 2, "an approval takes no result")
  })
})
