import assert from "node:assert/strict"
import { test } from "node:test"
import { z } from "zod"
import { defineTool, type ToolContext, ToolError, toolsBackend } from "../src/index.ts"

const context: ToolContext = {
  sessionId: "sesn_1",
  toolUseId: "toolu_1",
  attempt: 1,
  idempotencyKey: "sesn_1/toolu_1",
  traceparent: null,
  signal: new AbortController().signal,
  progress: () => undefined,
}
const base = { name: "refund", description: "Refunds an order.", input: z.strictObject({ id: z.string() }), run: (): string => "ok" }

test("a tool is unsafe and has a minute unless it says otherwise", () => {
  const { effect, timeoutMs, sideEffects, reconcile } = defineTool(base)
  assert.deepEqual([effect, timeoutMs, sideEffects, reconcile], ["unsafe", 60_000, null, undefined])
  const said = defineTool({ ...base, effect: "keyed", timeoutMs: 5, sideEffects: "moves money" })
  assert.deepEqual([said.effect, said.timeoutMs, said.sideEffects], ["keyed", 5, "moves money"])
})

test("its arguments are declared as JSON Schema, as they come in and not as zod makes them", () => {
  const { inputSchema } = defineTool({
    ...base,
    input: z.strictObject({
      id: z.string().describe("The order"),
      cents: z.int().min(1).default(100),
      day: z.iso
        .date()
        .transform((day) => new Date(day))
        .optional(),
    }),
  })
  assert.deepEqual(inputSchema, {
    type: "object",
    properties: {
      id: { type: "string", description: "The order" },
      cents: { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER, default: 100 },
      day: inputSchema["properties"] === undefined ? undefined : (inputSchema["properties"] as Record<string, unknown>)["day"],
    },
    required: ["id"],
    additionalProperties: false,
  })
  assert.equal((inputSchema["properties"] as { day: { type: string } }).day.type, "string")
})

test("run gets the arguments as zod made them", async () => {
  const tool = defineTool({
    ...base,
    input: z.object({ cents: z.int().default(100), day: z.iso.date().transform((day) => new Date(day).getUTCFullYear()) }),
    run: ({ cents, day }) => [cents, day],
  })
  assert.deepEqual(await tool.run({ day: "2026-11-24", more: 1 }, context), [100, 2026])
  await assert.rejects(
    async () => tool.run({ day: "soon" }, context),
    (error) => {
      assert.ok(error instanceof ToolError)
      assert.deepEqual([error.kind, error.effect, error.retryAfterMs, error.unknown], ["validation", "none", null, false])
      assert.match(error.message, /day/)
      return true
    },
  )
})

test("reconcile gets the key and the arguments as zod made them", async () => {
  const tool = defineTool({
    ...base,
    effect: "queryable",
    input: z.object({ cents: z.int().default(100) }),
    reconcile: async (key, input) => ({ happened: true, result: [key, input.cents] }),
  })
  assert.deepEqual(await tool.reconcile?.("k", {}), { happened: true, result: ["k", 100] })
})

test("a tool that cannot be served is refused where it is defined", () => {
  for (const name of ["", "two words", "dot.ted", "é", "x".repeat(65)])
    assert.throws(() => defineTool({ ...base, name }), { name: "TypeError", message: /name matches/ })
  assert.throws(() => defineTool({ ...base, effect: "queryable" }), {
    name: "TypeError",
    message: /refund is queryable, so it needs reconcile/,
  })
  for (const timeoutMs of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 24 * 3_600_000 + 1])
    assert.throws(() => defineTool({ ...base, timeoutMs }), { name: "TypeError", message: /timeoutMs of refund is a whole number/ })
  for (const input of [z.string(), z.array(z.string()), z.union([z.object({ a: z.string() }), z.object({ b: z.string() })])])
    assert.throws(() => defineTool({ ...base, input }), { name: "TypeError", message: /input of refund is no object/ })
  for (const input of [z.object({ at: z.date() }), z.object({ big: z.bigint() }), { parse: () => 1 } as unknown as z.ZodType])
    assert.throws(() => defineTool({ ...base, input }), { name: "TypeError", message: /refund is no zod 4 schema that JSON can say/ })
})

test("a backend declares its tools and finds each by its name", () => {
  const refund = defineTool({ ...base, effect: "keyed", sideEffects: "moves money" })
  const look = defineTool({ ...base, name: "look", effect: "pure" })
  const { declares, find, service, backend } = toolsBackend("shop", "shop", [refund, look])
  assert.deepEqual([service, backend], ["shop", "shop"])
  assert.deepEqual(declares[0], {
    type: "tool.declared",
    backend: "shop",
    tool: "refund",
    description: "Refunds an order.",
    inputSchema: JSON.stringify(refund.inputSchema),
    effect: "keyed",
    timeoutMs: 60_000,
    sideEffects: "moves money",
    claims: true,
    encoding: "avro",
  })
  const dispatch = { tool: "look" } as Parameters<typeof find>[0]
  assert.equal(find(dispatch), look)
  assert.equal(find({ ...dispatch, tool: "constructor" }), undefined)
  assert.throws(() => toolsBackend("shop", "shop", [look, look]), { name: "TypeError", message: /two tools of the name look/ })
})
