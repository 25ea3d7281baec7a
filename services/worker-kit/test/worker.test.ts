// Workers on the real runtime over the memory log: claims, takeovers and results as records, effects counted where they happen.
import assert from "node:assert/strict"
import { test } from "node:test"
import type { EffectClass, ToolEvent } from "@reins/events"
import { z } from "zod"
import { defineTool, type ToolContext, type ToolDefinition } from "../src/index.ts"
import { cancelled, dispatched } from "./given.ts"
import { Stage } from "./stage.ts"

interface Effect {
  readonly by: string
  readonly toolUseId: string
  readonly key: string
  readonly signal: AbortSignal
}

/** A tool that counts what it does. The runs of a worker in `hangs` never end by themselves. */
function ledger(effect: EffectClass, over: { hangs?: readonly string[]; happened?: { readonly forbidden: boolean } } = {}) {
  const effects: Effect[] = []
  const begun = new Map<string, PromiseWithResolvers<void>>()
  const beginning = (by: string): PromiseWithResolvers<void> => {
    const one = begun.get(by) ?? Promise.withResolvers<void>()
    begun.set(by, one)
    return one
  }
  const tools = (by: string): readonly ToolDefinition[] => [
    defineTool({
      name: "refund",
      description: "d",
      input: z.object({ id: z.string() }),
      effect,
      run: async ({ id }, { toolUseId, idempotencyKey, signal }: ToolContext) => {
        effects.push({ by, toolUseId, key: idempotencyKey, signal })
        beginning(by).resolve()
        if (over.hangs?.includes(by) === true)
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)))
        return `refunded ${id} by ${by}`
      },
      ...(over.happened === undefined
        ? {}
        : {
            reconcile: async (): Promise<{ happened: false; forbidden: boolean }> => ({
              happened: false,
              forbidden: over.happened?.forbidden === true,
            }),
          }),
    }),
  ]
  return { effects, tools, begins: (by: string): Promise<void> => beginning(by).promise }
}

let calls = 0

/** A call with a minute to run, of a session of its own. */
function call(effect: EffectClass, over: { deadlineMs?: number } = {}): ToolEvent & { readonly toolUseId: string } {
  const number = ++calls
  const sessionId = `sesn_w${number}`
  const toolUseId = `toolu_w${number}`
  return dispatched(effect, {
    sessionId,
    toolUseId,
    idempotencyKey: `${sessionId}/${toolUseId}`,
    deadlineAt: Date.now() + (over.deadlineMs ?? 60_000),
  })
}

const classes: readonly EffectClass[] = ["pure", "idempotent", "keyed", "queryable", "unsafe"]

test("a call is run once and finished; the classes that must be are claimed before", async () => {
  for (const effect of classes) {
    await using stage = new Stage()
    const { effects, tools } = ledger(effect, { happened: { forbidden: false } })
    await stage.start("w1", tools("w1"))
    const dispatch = call(effect)
    await stage.send(dispatch)
    const { outcome, content, isError } = await stage.finished(dispatch.toolUseId)
    assert.deepEqual([outcome, content, isError], ["completed", '"refunded 17 by w1"', false], effect)
    assert.deepEqual(
      stage.seen(dispatch.toolUseId).map(({ event, verdict }) => `${event.type} ${verdict}`),
      effect === "pure" || effect === "idempotent"
        ? ["tool-call.dispatched accepted", "tool-call.finished accepted"]
        : ["tool-call.dispatched accepted", "tool-call.claimed accepted", "tool-call.finished accepted"],
    )
    assert.deepEqual(
      effects.map(({ key }) => key),
      [`${dispatch.sessionId}/${dispatch.toolUseId}`],
    )
  }
})

test("a dispatch that comes twice is run once", async () => {
  await using stage = new Stage()
  const { effects, tools } = ledger("unsafe")
  await stage.start("w1", tools("w1"))
  const dispatch = call("unsafe")
  await stage.send(dispatch)
  await stage.send(dispatch)
  await stage.finished(dispatch.toolUseId)
  await stage.send(dispatch)
  const after = call("unsafe")
  await stage.send(after)
  await stage.finished(after.toolUseId)
  assert.equal(effects.filter(({ toolUseId }) => toolUseId === dispatch.toolUseId).length, 1)
})

test("two workers of a backend share its calls, and each call is run by one of them", async () => {
  await using stage = new Stage()
  const { effects, tools } = ledger("unsafe")
  await stage.start("w1", tools("w1"))
  const dispatches = Array.from({ length: 40 }, () => call("unsafe"))
  for (const dispatch of dispatches.slice(0, 10)) await stage.send(dispatch)
  const second = await stage.start("w2", tools("w2"))
  await Promise.all(dispatches.slice(10).map((dispatch) => stage.send(dispatch)))
  for (const { toolUseId } of dispatches) await stage.finished(toolUseId)
  assert.equal(effects.length, dispatches.length)
  assert.equal(new Set(effects.map(({ toolUseId }) => toolUseId)).size, dispatches.length)
  assert.ok(second.running.loop.partitions.length > 0)
})

test("a worker dies in the middle of a call: what happens then is what the tool's class says", async () => {
  const expected: Readonly<Record<EffectClass, { outcome: string; by: readonly string[] }>> = {
    pure: { outcome: "completed", by: ["w1", "w2"] },
    idempotent: { outcome: "completed", by: ["w1", "w2"] },
    keyed: { outcome: "completed", by: ["w1", "w2"] },
    queryable: { outcome: "unknown", by: ["w1"] },
    unsafe: { outcome: "unknown", by: ["w1"] },
  }
  for (const effect of classes) {
    await using stage = new Stage()
    const { effects, tools, begins } = ledger(effect, { hangs: ["w1"], happened: { forbidden: false } })
    const first = await stage.start("w1", tools("w1"))
    const dispatch = call(effect)
    await stage.send(dispatch)
    await begins("w1")
    first.kill()
    await stage.start("w2", tools("w2"))
    const { outcome } = await stage.finished(dispatch.toolUseId)
    assert.equal(outcome, expected[effect].outcome, effect)
    assert.deepEqual(
      effects.map(({ by }) => by),
      expected[effect].by,
      effect,
    )
    assert.equal(new Set(effects.map(({ key }) => key)).size, 1, "every run carries the same key")
  }
})

test("queryable: a tool that forbids the old claim as it says no is run again under a new one", async () => {
  await using stage = new Stage()
  const { effects, tools, begins } = ledger("queryable", { hangs: ["w1"], happened: { forbidden: true } })
  const first = await stage.start("w1", tools("w1"))
  const dispatch = call("queryable")
  await stage.send(dispatch)
  await begins("w1")
  first.kill()
  await stage.start("w2", tools("w2"))
  assert.equal((await stage.finished(dispatch.toolUseId)).content, '"refunded 17 by w2"')
  assert.deepEqual(
    effects.map(({ by }) => by),
    ["w1", "w2"],
  )
  const claims = stage
    .seen(dispatch.toolUseId)
    .map(({ event }) => event)
    .filter((event) => event.type === "tool-call.claimed")
  assert.deepEqual(
    claims.map(({ instance }) => instance),
    ["w1", "w2"],
  )
  assert.equal(claims[1]?.replaces, claims[0]?.eventId)
})

test("a worker that must end is aborted, and leaves its call to its successor", async () => {
  await using stage = new Stage()
  const { effects, tools, begins } = ledger("keyed", { hangs: ["w1"] })
  const first = await stage.start("w1", tools("w1"))
  const dispatch = call("keyed")
  await stage.send(dispatch)
  await begins("w1")
  await stage.start("w2", tools("w2"))
  await first.running.stop()
  assert.equal(effects[0]?.signal.aborted, true)
  assert.equal((await stage.finished(dispatch.toolUseId)).content, '"refunded 17 by w2"')
})

test("a cancelled call is stopped, and one cancelled before its dispatch never runs", async () => {
  await using stage = new Stage()
  const { effects, tools, begins } = ledger("unsafe", { hangs: ["w1"] })
  await stage.start("w1", tools("w1"))
  const never = call("unsafe")
  const { sessionId, toolUseId } = never
  await stage.send(cancelled({ sessionId, toolUseId, deadlineAt: Date.now() + 60_000 }))
  await stage.send(never)
  const running = call("unsafe")
  await stage.send(running)
  await begins("w1")
  await stage.send(cancelled({ sessionId: running.sessionId, toolUseId: running.toolUseId, deadlineAt: Date.now() + 60_000 }))
  const [effect] = effects
  assert.ok(effect)
  if (!effect.signal.aborted) await new Promise((resolve) => effect.signal.addEventListener("abort", resolve))
  assert.deepEqual(
    effects.map((one) => one.toolUseId),
    [running.toolUseId],
  )
})

test("a call whose deadline has passed before a worker came is not run", async () => {
  await using stage = new Stage()
  const { effects, tools } = ledger("pure")
  const overdue = call("pure", { deadlineMs: -1000 })
  const inTime = call("pure")
  await stage.start("w1", tools("w1"))
  await stage.send(overdue)
  await stage.send(inTime)
  await stage.finished(inTime.toolUseId)
  await stage.until(() => (stage.seen(overdue.toolUseId).length > 0 ? true : undefined))
  assert.deepEqual(
    stage.seen(overdue.toolUseId).map(({ verdict }) => verdict),
    ["superseded"],
  )
  assert.deepEqual(
    effects.map(({ toolUseId }) => toolUseId),
    [inTime.toolUseId],
  )
})
