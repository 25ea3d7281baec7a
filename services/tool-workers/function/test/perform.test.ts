import assert from "node:assert/strict"
import { test } from "node:test"
import { ToolAnswer, type ToolContext, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { contract, functionWorker } from "../src/index.ts"
import { tools } from "../src/perform.ts"
import { evaluate } from "../src/tools/calculate.ts"
import { timeIn } from "../src/tools/current-time.ts"

function contextOf(signal: AbortSignal = new AbortController().signal): ToolContext {
  return {
    sessionId: "sesn_1",
    toolUseId: "toolu_1",
    attempt: 1,
    idempotencyKey: "sesn_1/toolu_1",
    traceparent: null,
    signal,
    progress: () => assert.fail("The built-ins report no progress."),
  }
}

function tool(name: string): ToolDefinition {
  const found = tools.find((one) => one.name === name)
  assert.ok(found, name)
  return found
}

async function run(name: string, input: unknown, signal?: AbortSignal): Promise<unknown> {
  return JSON.parse(ToolAnswer.of(await tool(name).run(input, contextOf(signal))).content)
}

const refused =
  (message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof ToolError, String(error))
    assert.equal(error.kind, "validation")
    assert.equal(error.effect, "none")
    assert.equal(error.retryAfterMs, null)
    assert.match(error.message, message)
    return true
  }

test("every built-in is declared as pure, with a closed schema where it takes named arguments", () => {
  const service = functionWorker({ group: "g", instance: "i" })
  assert.equal(service.name, "tool-workers/function")
  assert.equal(service.contract.reads[0], "tools.function")
  assert.deepEqual(service.contract, contract)
  assert.deepEqual(
    service.declares?.map(({ backend, tool: name, effect, claims }) => ({ backend, name, effect, claims })),
    ["add", "calculate", "current_time", "random_number", "wait", "echo"].map((name) => ({
      backend: "function",
      name,
      effect: "pure",
      claims: true,
    })),
  )
  for (const { tool: name, inputSchema } of service.declares ?? []) {
    const schema = JSON.parse(inputSchema) as { type?: string; additionalProperties?: unknown }
    assert.equal(schema.type, "object", name)
    if (name !== "echo") assert.equal(schema.additionalProperties, false, name)
  }
})

test("add sums", async () => {
  assert.equal(await run("add", { numbers: [1, 2.5, -4] }), "-0.5")
  assert.equal(await run("add", { numbers: [] }), "0")
  await assert.rejects(run("add", { numbers: ["1"] }), refused(/expected number/))
})

test("calculate keeps the precedence of arithmetic", () => {
  const cases: readonly (readonly [string, number])[] = [
    ["1 + 2 * 3", 7],
    ["(1 + 2) * 3", 9],
    ["2 ^ 3 ^ 2", 512],
    ["-2 ^ 2", -4],
    ["(-2) ^ 2", 4],
    ["2 ^ -1", 0.5],
    ["2 * -3", -6],
    ["- -3", 3],
    ["+4 - +1", 3],
    ["10 - 4 - 3", 3],
    ["100 / 10 / 5", 2],
    ["17 % 5 * 2", 4],
    [".5 + 1.", 1.5],
    ["1e3 + 2.5E-1", 1000.25],
    [" \t7 \n", 7],
    ["((((1))))", 1],
  ]
  for (const [expression, value] of cases) assert.equal(evaluate(expression), value, expression)
})

test("calculate refuses what is no arithmetic, and says where", () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ["", /ends where a number is expected/],
    ["1 +", /ends where a number is expected/],
    ["1 + * 2", /A number is expected at character 5, not "\*"/],
    ["(1 + 2", /closing parenthesis is missing/],
    ["1 2", /An operator is expected at character 3/],
    ["1)", /An operator is expected at character 2/],
    ["process.exit(1)", /A number is expected at character 1, not "p"/],
    ["0x10", /An operator is expected/],
    ["1 / 0", /Division by zero/],
    ["1 % (2 - 2)", /Division by zero/],
    ["10 ^ 400", /no finite number/],
    ["(0 - 8) ^ 0.5", /no finite number/],
    ["(".repeat(5000), /nests deeper than 200/],
    ["-".repeat(5000), /nests deeper than 200/],
    [`2${"^2".repeat(4000)}`, /nests deeper than 200/],
  ]
  for (const [expression, message] of cases) assert.throws(() => evaluate(expression), refused(message), expression)
})

test("calculate runs as a tool", async () => {
  assert.equal(await run("calculate", { expression: "6 * 7" }), "42")
  await assert.rejects(run("calculate", { expression: "1".repeat(10_001) }), refused(/10000/))
})

test("current_time tells the time of a zone, summer time included", () => {
  assert.deepEqual(timeIn("Europe/Berlin", new Date("2026-07-01T12:34:56Z")), {
    iso: "2026-07-01T12:34:56.000Z",
    timezone: "Europe/Berlin",
    local: "2026-07-01T14:34:56",
    offset: "+02:00",
    weekday: "Wednesday",
  })
  assert.equal(timeIn("Europe/Berlin", new Date("2026-01-01T00:30:00Z")).offset, "+01:00")
  assert.deepEqual(timeIn("UTC", new Date("2026-01-01T00:00:00Z")).local, "2026-01-01T00:00:00")
  assert.equal(timeIn("UTC", new Date("2026-01-01T00:00:00Z")).offset, "+00:00")
  assert.equal(timeIn("America/St_Johns", new Date("2026-01-01T00:00:00Z")).offset, "-03:30")
})

test("current_time takes UTC unless told, and says that a zone does not exist", async () => {
  const before = Date.now()
  const { iso, timezone } = JSON.parse((await run("current_time", {})) as string) as { iso: string; timezone: string }
  assert.equal(timezone, "UTC")
  assert.ok(Date.parse(iso) >= before && Date.parse(iso) <= Date.now())
  await assert.rejects(run("current_time", { timezone: "Mars/Olympus" }), refused(/no time zone "Mars\/Olympus".*IANA/))
})

test("random_number draws every number of its range and no other", async () => {
  const seen = new Set<number>()
  for (let draw = 0; draw < 400; draw++) seen.add(Number(await run("random_number", { min: -2, max: 2 })))
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [-2, -1, 0, 1, 2],
  )
  assert.equal(await run("random_number", { min: 7, max: 7 }), "7")
  await assert.rejects(run("random_number", { min: 2, max: 1 }), refused(/min \(2\) is above max \(1\)/))
  await assert.rejects(run("random_number", { min: -(2 ** 50), max: 2 ** 50 }), refused(/more than/))
  await assert.rejects(run("random_number", { min: 0.5, max: 1 }), refused(/int/))
})

test("wait waits, and stops at once when it is told to", async () => {
  assert.equal(await run("wait", { ms: 5 }), "Waited 5 ms.")
  const stop = new AbortController()
  const waiting = run("wait", { ms: 60_000 }, stop.signal)
  stop.abort(new Error("no longer wanted"))
  await assert.rejects(waiting, { name: "AbortError" })
  await assert.rejects(run("wait", { ms: 60_001 }), refused(/60000/))
})

test("echo gives a text back as text and everything else as JSON", async () => {
  assert.equal(await run("echo", { text: "hällo\n" }), "hällo\n")
  assert.equal(await run("echo", { text: "a", more: [1, null] }), '{"text":"a","more":[1,null]}')
  assert.equal(await run("echo", {}), "{}")
})
