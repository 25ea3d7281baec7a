import assert from "node:assert/strict"
import { test } from "node:test"
import type { EffectClass, ToolEventOf } from "@reins/events"
import { type Draft, type Performing, systemClock, type ToolDraft } from "@reins/runtime"
import { z } from "zod"
import type { Run } from "../src/decide.ts"
import { defineTool, type Reconciled, type Runnable, ToolAnswer, type ToolContext, ToolError } from "../src/index.ts"
import { perform } from "../src/perform.ts"
import { beganAt, claimed, deadlineMs, dispatched, finished, given, group } from "./given.ts"

const me = { group, instance: "shop-1" }

/** A run of the call as the fold of a real log holds it. */
function runOf(
  effect: EffectClass,
  over: { is?: Run["is"]; remainingMs?: number; dispatch?: Partial<ToolEventOf<"tool-call.dispatched">> } = {},
): Run {
  const claim = effect === "pure" || effect === "idempotent" ? null : claimed(me.instance)
  const topic = given(dispatched(effect, over.dispatch), ...(claim === null ? [] : [claim]))
  const call = topic.fold.get("sesn_1", "toolu_1")
  assert.ok(call)
  return { is: over.is ?? "run", call: { ...call, deadlineAt: over.remainingMs ?? deadlineMs }, claim: claim?.eventId ?? null }
}

interface Watched extends Performing {
  readonly said: Draft[]
}

/** As the runtime performs: one signal, for the deadline and for everything else that stops an effect. */
function performing(stop: AbortController = new AbortController(), ending = false): Watched {
  const said: Draft[] = []
  return {
    signal: stop.signal,
    abortAfter: (ms) => void setTimeout(() => stop.abort(), ms).unref(),
    ending: () => ending,
    clock: systemClock,
    // The deadlines of these runs are what remains.
    now: () => 0,
    progress: (draft) => void said.push(draft),
    said,
  }
}

async function outcome(run: Run, tool: Runnable | undefined, how: Performing = performing()): Promise<ToolDraft | undefined> {
  const [draft, ...more] = await perform(run, how, { backend: "shop", find: () => tool }, me)
  assert.deepEqual(more, [])
  if (draft === undefined) return undefined
  assert.ok(draft.on === "tools")
  assert.equal(draft.backend, "shop")
  return draft.event
}

async function result(run: Run, tool: Runnable | undefined, how?: Performing): Promise<Extract<ToolDraft, { type: "tool-call.finished" }>> {
  const event = await outcome(run, tool, how)
  assert.ok(event?.type === "tool-call.finished")
  return event
}

const answering = (value: unknown): Runnable => ({ run: () => value })
const throwing = (error: unknown): Runnable => ({
  run: () => {
    throw error
  },
})

test("whatever a tool answers becomes content that a model can read", async () => {
  const block = { type: "text", text: "b" }
  const cases: readonly (readonly [unknown, string, boolean])[] = [
    ["plain", '"plain"', false],
    ["", '""', false],
    [{ a: [1, null] }, JSON.stringify('{"a":[1,null]}'), false],
    [42, '"42"', false],
    [false, '"false"', false],
    [null, '"null"', false],
    [undefined, '""', false],
    [["a"], JSON.stringify('["a"]'), false],
    [Promise.resolve("later"), '"later"', false],
    [ToolAnswer.of("no such order", true), '"no such order"', true],
    [ToolAnswer.of({ a: 1 }), JSON.stringify('{"a":1}'), false],
    [ToolAnswer.blocks([block]), JSON.stringify([block]), false],
    [ToolAnswer.blocks([block], true), JSON.stringify([block]), true],
    ["\ud800", '"\\ud800"', false],
  ]
  for (const [value, content, isError] of cases) {
    const run = runOf("unsafe")
    const said = await result(run, answering(value))
    assert.deepEqual(
      [said.outcome, said.content, said.isError, said.kind, said.effect, said.claim, said.causedBy],
      ["completed", content, isError, null, "done", run.claim, run.claim],
    )
  }
  const run = runOf("pure")
  assert.deepEqual(
    [(await result(run, answering(1))).claim, (await result(run, answering(1))).causedBy],
    [null, run.call.dispatch?.eventId],
  )
})

test("a tool knows whom it works for", async () => {
  const seen: unknown[] = []
  const context = Promise.withResolvers<ToolContext>()
  const how = performing()
  await result(
    runOf("keyed", { dispatch: { traceparent: "00-a-b-01" } }),
    {
      run: (input, given) => {
        seen.push(input)
        given.progress("x".repeat(5000))
        context.resolve(given)
      },
    },
    how,
  )
  const { sessionId, toolUseId, attempt, idempotencyKey, traceparent, signal } = await context.promise
  assert.deepEqual([sessionId, toolUseId, attempt, idempotencyKey, traceparent], ["sesn_1", "toolu_1", 1, "sesn_1/toolu_1", "00-a-b-01"])
  assert.equal(signal.aborted, false)
  assert.deepEqual(seen, [{ id: "17" }])
  const [progress] = how.said
  assert.ok(progress?.on === "tools" && progress.event.type === "tool-call.progressed")
  assert.equal(progress.event.message.length, 1000)
})

test("what a tool throws is a failure of which nobody knows what it left behind", async () => {
  const cases: readonly (readonly [unknown, string])[] = [
    [new Error("boom"), "boom"],
    [new TypeError("x is not a function"), "x is not a function"],
    ["a string", "a string"],
    [undefined, "undefined"],
  ]
  for (const [error, message] of cases) {
    const said = await result(runOf("unsafe"), throwing(error))
    assert.deepEqual(
      [said.outcome, said.kind, said.message, said.effect, said.retryAfterMs, said.content],
      ["failed", "backend_error", message, "maybe", null, null],
    )
  }
})

test("a rejected promise counts as thrown, and a long message is cut", async () => {
  const said = await result(runOf("pure"), { run: async () => Promise.reject(new Error("e".repeat(100_000))) })
  assert.deepEqual([said.outcome, said.message], ["failed", "e".repeat(8000)])
})

test("a ToolError says how it failed", async () => {
  const said = await result(runOf("unsafe"), throwing(new ToolError("busy", { kind: "rate_limited", effect: "none", retryAfterMs: 700 })))
  assert.deepEqual([said.outcome, said.kind, said.message, said.effect, said.retryAfterMs], ["failed", "rate_limited", "busy", "none", 700])
  const unknown = await result(runOf("unsafe"), throwing(new ToolError("cut off", { unknown: true })))
  assert.deepEqual([unknown.outcome, unknown.message, unknown.effect], ["unknown", "cut off", "maybe"])
})

test("a result that JSON cannot say, or that fits in no record, is a failure of a tool that ran", async () => {
  const circle: Record<string, unknown> = {}
  circle["circle"] = circle
  for (const value of [circle, { big: 1n }]) {
    const said = await result(runOf("unsafe"), answering(value))
    assert.deepEqual([said.outcome, said.kind, said.effect, said.retryAfterMs], ["failed", "malformed_output", "done", null])
  }
  const most = 8 * 1024 * 1024
  assert.equal((await result(runOf("pure"), answering("x".repeat(most - 2)))).outcome, "completed")
  for (const run of [
    () => "x".repeat(most - 1),
    () => "\u0001".repeat(Math.ceil(most / 6)),
    () => ({ escaped: '"'.repeat(most / 2) }),
    () => ToolAnswer.blocks([{ type: "x".repeat(most) }]),
    () => ({ bytes: Buffer.alloc(most) }),
    () => Buffer.alloc(most),
  ]) {
    const said = await result(runOf("unsafe"), { run })
    assert.deepEqual([said.outcome, said.kind, said.effect, said.content === null], ["failed", "output_too_large", "done", true])
    assert.match(said.message ?? "", /characters is larger than the 8388608 that fit/)
  }
})

test("a tool that nobody here serves, or arguments that are no JSON: nothing was done", async () => {
  const missing = await result(runOf("unsafe"), undefined)
  assert.deepEqual([missing.outcome, missing.kind, missing.effect], ["failed", "not_found", "none"])
  assert.match(missing.message ?? "", /No worker of shop serves a tool refund/)
  const broken = await result(runOf("unsafe", { dispatch: { arguments: "{" } }), answering(1))
  assert.deepEqual([broken.outcome, broken.kind, broken.effect], ["failed", "validation", "none"])
  const [draft] = await perform(
    runOf("unsafe"),
    performing(),
    {
      backend: "shop",
      find: () => {
        throw new ToolError("bad settings", { kind: "validation", effect: "none" })
      },
    },
    me,
  )
  assert.ok(draft?.on === "tools" && draft.event.type === "tool-call.finished")
  assert.equal(draft.event.message, "bad settings")
})

test("arguments that only zod finds wrong never reach the tool", async () => {
  let ran = false
  const tool = defineTool({
    name: "refund",
    description: "d",
    input: z.object({ id: z.string().refine((id) => id !== "17", "is not for sale") }),
    run: () => {
      ran = true
    },
  })
  const said = await result(runOf("unsafe"), tool)
  assert.deepEqual([said.outcome, said.kind, said.effect, ran], ["failed", "validation", "none", false])
  assert.match(said.message ?? "", /is not for sale/)
})

test("the deadline aborts the tool; one that stops for it says nothing, and the router closes the call", async () => {
  const obeying: Runnable = {
    run: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))),
  }
  assert.equal(await outcome(runOf("unsafe", { remainingMs: 20 }), obeying), undefined)
  const own: Runnable = {
    run: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new DOMException("x", "AbortError")))),
  }
  assert.equal(await outcome(runOf("unsafe", { remainingMs: 20 }), own), undefined)
})

test("a tool that answers in spite of the abort is heard, one that never answers gives its place away", async () => {
  const stubborn: Runnable = {
    run: (_, { signal }) => new Promise((resolve) => signal.addEventListener("abort", () => resolve("done all the same"))),
  }
  assert.equal((await result(runOf("unsafe", { remainingMs: 20 }), stubborn)).content, '"done all the same"')
  const failing: Runnable = {
    run: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("the database said no")))),
  }
  assert.equal((await result(runOf("unsafe", { remainingMs: 20 }), failing)).message, "the database said no")
  assert.equal(await outcome(runOf("unsafe", { remainingMs: 20 }), { run: () => new Promise(() => undefined) }), undefined)
})

test("a tool is aborted when its call is no longer wanted", async () => {
  const stop = new AbortController()
  const begun = Promise.withResolvers<void>()
  const waiting: Runnable = {
    run: (_, { signal }) => {
      begun.resolve()
      return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)))
    },
  }
  const said = outcome(runOf("unsafe", { remainingMs: 60_000 }), waiting, performing(stop))
  await begun.promise
  stop.abort()
  assert.equal(await said, undefined)
})

test("a tool error thrown by an abort of its own is no abort of ours", async () => {
  const said = await result(runOf("unsafe"), throwing(new DOMException("their own time limit", "AbortError")))
  assert.deepEqual([said.outcome, said.kind, said.message], ["failed", "backend_error", "their own time limit"])
})

test("what was stopped before it began is not begun", async () => {
  for (const [ending, kind] of [
    [true, "given_up"],
    [false, "cancelled"],
  ] as const) {
    const stop = new AbortController()
    stop.abort()
    const said = await result(runOf("unsafe"), { run: () => assert.fail("It ran.") }, performing(stop, ending))
    assert.deepEqual([said.outcome, said.kind, said.effect, said.retryAfterMs], ["failed", kind, "none", 0])
  }
})

test("asked whether it happened: yes is adopted, no lets it run only where the asking forbids the old claim", async () => {
  const asked: unknown[] = []
  const saying = (answer: Reconciled): Runnable => ({
    run: () => assert.fail("It ran."),
    reconcile: async (...question) => {
      asked.push(question)
      return answer
    },
  })
  const run = runOf("queryable", { is: "reconcile" })
  const yes = await result(run, saying({ happened: true, result: { refunded: 5 } }))
  assert.deepEqual([yes.outcome, yes.content, yes.claim], ["completed", JSON.stringify('{"refunded":5}'), run.claim])
  assert.deepEqual(asked, [["sesn_1/toolu_1", { id: "17" }]])

  const takeover = await outcome(run, saying({ happened: false, forbidden: true }))
  assert.ok(takeover?.type === "tool-call.claimed")
  assert.deepEqual([takeover.replaces, takeover.group, takeover.instance], [run.claim, group, me.instance])

  const maybe = await result(run, saying({ happened: false, forbidden: false }))
  assert.deepEqual([maybe.outcome, maybe.effect], ["unknown", "maybe"])
  const large = await result(run, saying({ happened: true, result: "x".repeat(9_000_000) }))
  assert.deepEqual([large.outcome, large.kind, large.effect], ["failed", "output_too_large", "done"])
})

test("who cannot be asked leaves the outcome unknown", async () => {
  const run = runOf("queryable", { is: "reconcile" })
  const down: Runnable = { run: () => 1, reconcile: () => Promise.reject(new Error("the ledger is down")) }
  for (const [tool, why] of [
    [answering(1), /cannot be asked whether it happened/],
    [down, /asking whether it happened failed: the ledger is down/],
    [undefined, /no worker of shop serves it any more/],
  ] as const) {
    const said = await result(run, tool)
    assert.deepEqual([said.outcome, said.effect, said.claim], ["unknown", "maybe", run.claim])
    assert.match(said.message ?? "", why)
  }
})

test("a call that is closed already is not performed", async () => {
  const topic = given(dispatched("pure"), finished(null))
  const call = topic.fold.get("sesn_1", "toolu_1")
  assert.ok(call?.dispatch === null && call.deadlineAt > beganAt)
  assert.equal(
    await outcome({ is: "run", call: { ...call, deadlineAt: 1000 }, claim: null }, { run: () => assert.fail("It ran.") }),
    undefined,
  )
})
