import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { agent, Story, text, tool, toolUse } from "@reins/session/testing"
import {
  type AwaitingModel,
  conversationMessages,
  digestOf,
  type Known,
  openRequestBody,
  requestBody,
  sha256Hex,
  stateDigest,
} from "../src/index.ts"

const tools = [tool("add")]

function spoken(): Story {
  return new Story()
    .started(agent(tools))
    .requested()
    .responded([text("Hello.")])
    .idled()
}

function asking(story: Story): AwaitingModel {
  assert.ok(story.session.phase === "awaiting-model")
  return story.session
}

interface Body {
  readonly system?: unknown
  readonly tools?: unknown
  readonly tool_choice?: unknown
  readonly messages: readonly { readonly role: string; readonly content: readonly { readonly type: string; readonly text?: string }[] }[]
}

function bodyOf(story: Story): Body {
  return JSON.parse(openRequestBody(asking(story))) as Body
}

function texts({ messages }: Body): readonly string[] {
  return messages.flatMap(({ role, content }) => content.map((block) => `${role}: ${block.text ?? block.type}`))
}

/** What the next request would begin with. */
function conversation(story: Story): string {
  return JSON.stringify(conversationMessages((story.session as Known).conversation))
}

describe("a conversation that is summarised", () => {
  it("is put before the model as it stands, with the tools it has calls of and none to be called", () => {
    const story = spoken().message("And now?").requested({ compacts: 0 })
    assert.equal(story.verdict, "accepted")
    const body = bodyOf(story)
    assert.deepEqual(body.tool_choice, { type: "none" })
    assert.equal((body.tools as unknown[]).length, 1)
    const said = texts(body)
    assert.equal(said.length, 3)
    assert.match(said.at(-1) as string, /^user: The conversation is about to exceed/)
    assert.ok(!JSON.stringify(body).includes("And now?"), "the message waits for the turn itself")
  })

  it("begins anew with the summary, then the messages that the turn took, then what came meanwhile", () => {
    const story = spoken()
      .message("And now?")
      .requested({ compacts: 0 })
      .message("Quick!")
      .responded([text("They greeted.")])
    assert.equal(asking(story).request.state.is, "answered")
    story.compacted()
    assert.equal(story.verdict, "accepted")
    assert.equal(story.session.phase, "awaiting-tools")
    story.requested()
    assert.equal(story.verdict, "accepted")
    const said = texts(bodyOf(story))
    assert.equal(said.length, 3)
    assert.match(said[0] as string, /<summary>\nThey greeted\.\n<\/summary>/)
    assert.deepEqual(said.slice(1), ["user: And now?", "user: Quick!"])
    assert.equal((story.session as Known).turns, 3)
  })

  it("takes the results of the latest calls into the summary", () => {
    const story = new Story()
      .started(agent(tools))
      .requested()
      .responded([toolUse("a", "add")])
      .dispatched("a")
      .completed("a", "17")
      .requested({ compacts: 0 })
    assert.equal(story.verdict, "accepted")
    assert.match(JSON.stringify(bodyOf(story).messages.at(-1)), /"tool_use_id":"a".*about to exceed/)
    story.responded([text("It is 17.")]).compacted()
    assert.ok(!conversation(story).includes("tool_use"))
    story.requested()
    assert.equal(story.verdict, "accepted")
  })

  it("follows a request that did not fit, and an answer that the window cut off", () => {
    const refused = spoken().message("More.").requested().modelFailed({ kind: "request_too_large", retryable: false })
    refused.requested({ compacts: 2000 })
    assert.equal(refused.verdict, "accepted")
    refused
      .responded([text("S.")])
      .compacted()
      .requested()
    assert.equal(refused.verdict, "accepted")

    const cut = new Story().started(agent(tools)).requested()
    cut.responded([text("And so"), toolUse("a", "add")], { stopReason: "model_context_window_exceeded" }).requested({ compacts: 2000 })
    assert.equal(cut.verdict, "accepted")
    assert.match(openRequestBody(asking(cut)), /Not run: the response ended with model_context_window_exceeded/)
    cut
      .responded([text("S.")])
      .compacted()
      .requested()
    assert.equal(cut.verdict, "accepted")
  })

  it("is asked for of ever less, until it fits", () => {
    const story = spoken().message("More.").requested({ compacts: 0 }).modelFailed({ kind: "request_too_large", retryable: false })
    story.requested({ compacts: 4000 })
    assert.deepEqual([story.verdict, asking(story).request.attempt, asking(story).compaction?.budget], ["accepted", 2, 4000])
    story.responded([text("Too")], { stopReason: "model_context_window_exceeded" })
    assert.deepEqual(asking(story).request.state.is === "failed" && asking(story).request.state, {
      is: "failed",
      kind: "request_too_large",
      message: "The answer is no summary: it ended with model_context_window_exceeded.",
      retryable: false,
      notBefore: story.records.at(-1)?.at.timestamp,
    })
    story
      .requested({ compacts: 2000 })
      .responded([text("Short.")])
      .compacted()
    assert.equal(story.verdict, "accepted")
  })
})

describe("a summary that comes to nothing", () => {
  const stopped = (how: (story: Story) => Story): Story => how(spoken().message("And now?").requested({ compacts: 0 }))

  it("leaves the conversation as it was, with the messages that were taken said once", () => {
    for (const how of [
      (story: Story): Story => story.interrupted(),
      (story: Story): Story => story.ended(),
      (story: Story): Story => story.modelFailed({ retryable: false }).idled("model_error"),
      (story: Story): Story => story.parked().interrupted().resumed(),
      (story: Story): Story => story.parked().ended(),
      (story: Story): Story => story.responded([text("They greeted.")]).interrupted(),
    ]) {
      const story = stopped(how)
      assert.equal(conversation(story).split("And now?").length, 2, story.session.phase)
      assert.ok(!conversation(story).includes("summary"))
      assert.deepEqual((story.session as Known).queued, [])
    }
  })

  it("does not begin a turn again by itself", () => {
    const story = stopped((s) => s.modelFailed({ retryable: false }).idled("model_error"))
    assert.deepEqual(story.session.phase === "idle" && story.session.wake, false)
  })

  it("is a failed attempt where the model calls a tool, refuses or says nothing", () => {
    for (const [content, stopReason] of [
      [[toolUse("a", "add")], "tool_use"],
      [[text("No.")], "refusal"],
      [[], "end_turn"],
      [[text("  ")], "end_turn"],
    ] as const) {
      const { request } = asking(stopped((story) => story.responded(content, { stopReason })))
      assert.deepEqual([request.state.is, request.failures], ["failed", 1], stopReason)
    }
  })

  it("parks where nobody can read the answer", () => {
    const story = stopped((s) => s.responded([], { content: "no JSON" }))
    assert.match(asking(story).breach ?? "", /cannot be used/)
  })
})

describe("what does not fit", () => {
  it("a summary of another conversation, of another request, or before the model gave one", () => {
    const asked = spoken().message("And now?").requested({ compacts: 0 })
    assert.equal(asked.compacted().verdict, "superseded")
    asked.responded([text("They greeted.")])
    assert.equal(asked.compacted({ conversationDigest: "0".repeat(64) }).verdict, "superseded")
    assert.equal(asked.compacted({ claim: "evt_0" }).verdict, "superseded")
    assert.equal(asked.compacted({ causedBy: "evt_0" }).verdict, "superseded")
    const late = asked.draft((story) => story.compacted())
    assert.equal(asked.compacted().verdict, "accepted")
    assert.equal(asked.tell(late).verdict, "superseded")
  })

  it("a summary asked for while nothing is due, or while one is asked for already", () => {
    assert.equal(spoken().requested({ compacts: 0, takes: 0 }).verdict, "superseded")
    const open = spoken().message("And now?").requested({ compacts: 0 })
    assert.equal(open.requested({ compacts: null, replaces: asking(open).request.claim }).verdict, "superseded")
    const answered = open.responded([text("S.")])
    assert.equal(answered.requested({ compacts: 0, replaces: null }).verdict, "superseded")
    const ordinary = spoken().message("And now?").requested()
    assert.equal(ordinary.requested({ compacts: 0, turn: 2, attempt: 2 }).verdict, "superseded")
  })

  it("a takeover goes on with the same request, byte for byte", () => {
    const story = spoken().message("And now?").requested({ compacts: 0 })
    const before = openRequestBody(asking(story))
    story.requested({ compacts: 0, instance: "llm-invoker-2" })
    assert.equal(story.verdict, "accepted")
    assert.equal(openRequestBody(asking(story)), before)
  })
})

describe("its request", () => {
  it("has the hash that was recorded, whole and as a transcript", () => {
    for (const compacts of [0, 2000]) {
      const story = spoken().message("And now?").requested().modelFailed({ retryable: false }).requested({ compacts })
      assert.equal(asking(story).request.bodyHash, sha256Hex(openRequestBody(asking(story))))
    }
  })

  it("as a transcript needs no tools, stays within its budget and keeps the beginning and the end", () => {
    const story = new Story().started(agent(tools), { input: JSON.stringify([text("Count the geese. 🪿".repeat(400))]) }).requested()
    for (let n = 0; n < 30; n++)
      story
        .responded([text("🧵".repeat(300)), toolUse(`t${n}`, "add", { n })])
        .dispatched(`t${n}`)
        .completed(`t${n}`, "x".repeat(5000))
        .requested()
    story.modelFailed({ kind: "request_too_large", retryable: false }).requested({ compacts: 8000 })
    assert.equal(story.verdict, "accepted")
    const body = bodyOf(story)
    assert.deepEqual([body.tools, body.tool_choice, body.system, body.messages.length], [undefined, undefined, undefined, 1])
    const [said] = texts(body)
    assert.ok((said as string).length < 9000, String((said as string).length))
    assert.match(said as string, /user: Count the geese/)
    assert.match(said as string, /\[calls add \(t29\) with \{"n":29\}\]/)
    assert.match(said as string, /parts of the conversation are left out here/)
    assert.ok((said as string).isWellFormed())
  })

  it("as a transcript does not follow what nests without end", () => {
    const endless = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
    const content = `[{"type":"text","text":"Count."},{"type":"tool_use","id":"a","name":"add","input":${endless}}]`
    const story = spoken().message("", { content }).requested()
    story.modelFailed({ kind: "request_too_large", retryable: false }).requested({ compacts: 8000 })
    assert.equal(story.verdict, "accepted")
    assert.match(texts(bodyOf(story)).join(), /user: Count\.[^]*nests too deep to be shown/)
  })

  it("leaves out parameters that would make the answer no text", () => {
    const given = { ...agent(tools), params: '{"output_config":{"format":{"type":"json_schema"}},"stop_sequences":["x"],"temperature":0}' }
    const story = new Story()
      .started(given)
      .requested()
      .responded([text("{}")])
      .idled()
      .message("More.")
      .requested({ compacts: 0 })
    const body = bodyOf(story) as unknown as Record<string, unknown>
    assert.deepEqual([body["output_config"], body["stop_sequences"], body["temperature"]], [undefined, undefined, 0])
  })
})

it("the window's use follows from the latest answer and is no part of the digest", () => {
  const usage = { inputTokens: 100, outputTokens: 20, cacheReadTokens: 1000, cacheWriteTokens: 300 }
  const story = new Story()
    .started(agent(tools))
    .requested()
    .responded([text("Hello.")], { usage })
    .idled()
  const known = story.session as Known
  assert.equal(known.contextTokens, 1420)
  assert.equal(stateDigest(story.session), stateDigest({ ...story.session, contextTokens: 7 } as typeof story.session))
  story
    .message("More.")
    .requested({ compacts: 0 })
    .responded([text("S.")])
    .compacted()
  assert.equal((story.session as Known).contextTokens, 0)
  assert.equal((story.session as Known).compacted, 1)
  assert.notEqual(digestOf(known.conversation), digestOf((story.session as Known).conversation))
  assert.ok(requestBody(known.agent, (story.session as Known).conversation).includes("<summary>"))
})
