import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, it } from "node:test"
import type { Clock, Performing } from "@reins/runtime"
import type { AwaitingModel } from "@reins/session"
import { Story, text, toolUse } from "@reins/session/testing"
import { anthropicModel } from "../src/index.ts"
import { retryAfter } from "../src/models/anthropic.ts"
import type { Model, ModelAnswer, ModelFault, ModelRequest } from "../src/models/model.ts"
import { perform } from "../src/perform.ts"

/** A session whose request has this many failures behind it. */
function asking(failures = 0): AwaitingModel {
  const story = new Story().started().requested()
  for (let n = 0; n < failures; n++) story.modelFailed({ retryAfterMs: 0 }).requested()
  const { session } = story
  assert.ok(session.phase === "awaiting-model")
  return session
}

const answer: ModelAnswer = {
  content: JSON.stringify([text("Done.")]),
  message: '{"id":"msg_1"}',
  model: "claude-sonnet-5-5",
  stopReason: "end_turn",
  usage: { inputTokens: 3, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 },
  requestId: "req_1",
}

function fault(fields: Partial<ModelFault["fault"]> = {}): ModelFault {
  return {
    fault: {
      kind: "overloaded_error",
      status: 529,
      message: "Overloaded",
      retryable: true,
      retryAfterMs: null,
      requestId: "req_1",
      ...fields,
    },
  }
}

/** A model that answers as it is told and keeps what it was asked. */
function scripted(outcome: ModelAnswer | ModelFault): Model & { readonly asked: ModelRequest[] } {
  const asked: ModelRequest[] = []
  return {
    provider: "scripted",
    asked,
    ask: async (request) => {
      asked.push(request)
      return outcome
    },
  }
}

/** Time that passes only when it is told to. */
function stoppedClock(): Clock & { ms: number } {
  const clock = { ms: 0, wall: (): number => clock.ms, monotonic: (): number => clock.ms, after: () => () => {} }
  return clock
}

function performing(fields: Partial<Performing> = {}): Performing & { readonly aborts: number[] } {
  const aborts: number[] = []
  return {
    aborts,
    clock: stoppedClock(),
    now: () => 1_795_000_000_002,
    signal: new AbortController().signal,
    abortAfter: (ms) => void aborts.push(ms),
    ending: () => false,
    progress: () => {},
    ...fields,
  }
}

async function performed(
  session: AwaitingModel,
  outcome: ModelAnswer | ModelFault,
  random = 0,
  at = performing(),
): Promise<Record<string, unknown>> {
  const drafts = await perform(
    { session },
    at,
    scripted(outcome),
    () => {},
    () => random,
  )
  assert.equal(drafts.length, 1)
  assert.equal(drafts[0]?.on, "sessions")
  return { ...drafts[0]?.event }
}

describe("a model call", () => {
  it("sends the bytes whose hash the claim recorded, and says what came back", async () => {
    const session = asking()
    const model = scripted(answer)
    const at = performing()
    const measured: unknown[] = []
    const drafts = await perform(
      { session },
      at,
      model,
      (call) => measured.push(call.provider),
      () => 0,
    )
    const { body, sessionId, timeoutMs } = model.asked[0] as ModelRequest
    assert.equal(createHash("sha256").update(body).digest("hex"), session.request.bodyHash)
    assert.deepEqual([model.asked.length, sessionId, timeoutMs, at.aborts], [1, session.sessionId, 600_000, [600_000]])
    assert.deepEqual(measured, ["scripted"])
    const [draft] = drafts
    assert.partialDeepStrictEqual(draft, {
      on: "sessions",
      event: {
        type: "model.responded",
        claim: session.request.claim,
        turn: 1,
        attempt: 1,
        content: answer.content,
        stopReason: "end_turn",
      },
    })
    // The fold takes it.
    const story = new Story().started().requested()
    story.tell({ ...story.draft((s) => s.responded([])), ...draft?.event } as never)
    assert.equal(story.verdict, "accepted")
  })

  it("for a summary sends the bytes that were recorded for it, and is shown to nobody while it is written", async () => {
    const story = new Story()
      .started()
      .requested()
      .responded([text("Hello.")])
      .idled()
      .message("More.")
      .requested({ compacts: 0 })
    assert.ok(story.session.phase === "awaiting-model")
    const model = scripted(answer)
    await perform(
      { session: story.session },
      performing({ preview: () => assert.fail("previewed") }),
      model,
      () => {},
      () => 0,
    )
    const { body, onDelta } = model.asked[0] as ModelRequest
    assert.equal(createHash("sha256").update(body).digest("hex"), story.session.request.bodyHash)
    assert.equal(onDelta, undefined)
  })

  it("that fails says of what kind, and waits with full jitter: from nothing to twice as long after each failure, capped", async () => {
    for (const failures of [0, 1, 3]) {
      const longest = 500 * 2 ** failures
      assert.equal((await performed(asking(failures), fault(), 0))["retryAfterMs"], 0)
      assert.equal((await performed(asking(failures), fault(), 0.5))["retryAfterMs"], longest / 2)
      assert.equal((await performed(asking(failures), fault(), 1 - 2 ** -53))["retryAfterMs"], longest - 1)
    }
    const session = asking()
    const worn = { ...session, request: { ...session.request, failures: 2000 } }
    assert.equal((await performed(worn, fault(), 1 - 2 ** -53))["retryAfterMs"], 59_999)
    assert.partialDeepStrictEqual(await performed(session, fault()), {
      type: "model.failed",
      claim: session.request.claim,
      kind: "overloaded_error",
      status: 529,
      retryable: true,
      requestId: "req_1",
    })
  })

  it("never comes back earlier than the provider asked", async () => {
    for (const random of [0, 0.3, 1 - 2 ** -53]) {
      const waited = (await performed(asking(), fault({ retryAfterMs: 7000 }), random))["retryAfterMs"] as number
      assert.ok(waited >= 7000 && waited < 7250, String(waited))
    }
    assert.equal((await performed(asking(), fault({ retryAfterMs: 0 }), 0))["retryAfterMs"], 0)
  })

  it("that is aborted is given up where the process ends, cancelled where it is no longer wanted, else met its deadline", async () => {
    const aborted = fault({ kind: "aborted", status: null })
    const ending = performing({ ending: () => true })
    assert.partialDeepStrictEqual(await performed(asking(), aborted, 0.9, ending), { kind: "given_up", retryAfterMs: 0, retryable: true })
    assert.partialDeepStrictEqual(await performed(asking(), aborted), { kind: "cancelled" })
    const clock = stoppedClock()
    const slow: Model = {
      provider: "scripted",
      ask: async ({ timeoutMs }) => {
        clock.ms += timeoutMs
        return aborted
      },
    }
    const [draft] = await perform(
      { session: asking() },
      performing({ clock }),
      slow,
      () => {},
      () => 0,
    )
    assert.partialDeepStrictEqual(draft?.event, { kind: "deadline", retryable: true })
  })

  it("that waited for a place until its deadline, or until nobody wants it, is not made", async () => {
    const session = asking()
    const { deadlineAt } = session.request
    for (const [kind, fields] of [
      ["deadline", { now: () => deadlineAt }],
      ["cancelled", { signal: AbortSignal.abort() }],
      ["given_up", { signal: AbortSignal.abort(), ending: () => true }],
    ] as const) {
      const model = scripted(answer)
      const at = performing(fields)
      const [draft] = await perform(
        { session },
        at,
        model,
        () => assert.fail("what is not made is not measured"),
        () => 0.9,
      )
      assert.partialDeepStrictEqual(draft?.event, {
        type: "model.failed",
        claim: session.request.claim,
        kind,
        retryable: true,
        retryAfterMs: 0,
      })
      assert.equal(model.asked.length, 0)
    }
  })

  it("that uses the tool_use id of an earlier turn again is asked again: its result would be taken for the old one", async () => {
    const use = toolUse("toolu_again", "add", { n: 1 })
    const story = new Story().started().requested().responded([use]).refused("toolu_again").requested()
    const { session } = story
    assert.ok(session.phase === "awaiting-model")
    const again = { ...answer, content: JSON.stringify([use]), stopReason: "tool_use" }
    assert.partialDeepStrictEqual(await performed(session, again), { type: "model.failed", kind: "protocol", retryable: true })
    const fresh = { ...again, content: JSON.stringify([toolUse("toolu_new", "add", { n: 1 })]) }
    assert.partialDeepStrictEqual(await performed(session, fresh), { type: "model.responded" })
  })

  it("says no more of a failure than fits", async () => {
    assert.equal(((await performed(asking(), fault({ message: "x".repeat(100_000) })))["message"] as string).length, 4000)
  })
})

describe("what a provider asks to wait", () => {
  const now = Date.UTC(2026, 10, 24, 12, 0, 0)
  const of = (headers: Record<string, string>): number | null => retryAfter(new Headers(headers), now)

  it("is read in milliseconds, seconds, or as an HTTP date of any form", () => {
    assert.equal(of({ "retry-after-ms": "1500" }), 1500)
    assert.equal(of({ "retry-after-ms": "0.2" }), 1)
    assert.equal(of({ "retry-after": "7" }), 7000)
    assert.equal(of({ "retry-after": "0" }), 0)
    assert.equal(of({ "retry-after": "1.5" }), 1500)
    assert.equal(of({ "retry-after": "Tue, 24 Nov 2026 12:00:30 GMT" }), 30_000)
    assert.equal(of({ "retry-after": "Tuesday, 24-Nov-26 12:00:30 GMT" }), 30_000)
    assert.equal(of({ "retry-after": "Tue, 24 Nov 2026 11:00:00 GMT" }), 0)
    assert.equal(of({ "retry-after-ms": "200", "retry-after": "7" }), 200)
    assert.equal(of({ "retry-after-ms": "soon", "retry-after": "7" }), 7000)
  })

  it("is nothing where nothing sensible was asked", () => {
    for (const value of ["", "soon", "-5", "1e300", "Infinity", "0x10", "99999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
      assert.equal(of({ "retry-after": value }), null, value)
    assert.equal(of({}), null)
    assert.equal(retryAfter(undefined, now), null)
  })
})

describe("the Anthropic model", () => {
  it("knows a request that is too long for the window by its words, since the API has no type for it", async () => {
    const bodies = [
      [400, "invalid_request_error", "prompt is too long: 215300 tokens > 200000 maximum", "request_too_large"],
      [400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", "request_too_large"],
      [413, "request_too_large", "Request exceeds the maximum size", "request_too_large"],
      [400, "invalid_request_error", "messages: at least one message is required", "invalid_request_error"],
    ] as const
    for (const [status, type, message, kind] of bodies) {
      const server = createServer((_, response) => {
        response.writeHead(status, { "content-type": "application/json" })
        response.end(JSON.stringify({ type: "error", error: { type, message } }))
      })
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
      const { port } = server.address() as AddressInfo
      const model = anthropicModel({ apiKey: "test", baseURL: `http://127.0.0.1:${port}` })
      const body = '{"model":"m","messages":[],"max_tokens":1}'
      const outcome = await model.ask({ body, sessionId: "s", signal: new AbortController().signal, timeoutMs: 5000 })
      server.close()
      assert.ok("fault" in outcome)
      assert.deepEqual([outcome.fault.kind, outcome.fault.retryable], [kind, false], message)
    }
  })

  it("turns a connection that is refused into a fact that a retry may mend", async () => {
    const model = anthropicModel({ apiKey: "test", baseURL: "http://127.0.0.1:1" })
    const outcome = await model.ask({
      body: '{"model":"m","messages":[],"max_tokens":1}',
      sessionId: "s",
      signal: new AbortController().signal,
      timeoutMs: 5000,
    })
    assert.ok("fault" in outcome)
    assert.partialDeepStrictEqual(outcome.fault, { kind: "connection", status: null, retryable: true, retryAfterMs: null })
  })

  it("asks nothing once it is aborted", async () => {
    const model = anthropicModel({ apiKey: "test", baseURL: "http://127.0.0.1:1" })
    const outcome = await model.ask({
      body: '{"model":"m","messages":[],"max_tokens":1}',
      sessionId: "s",
      signal: AbortSignal.abort(),
      timeoutMs: 5000,
    })
    assert.ok("fault" in outcome)
    assert.equal(outcome.fault.kind, "aborted")
  })
})
