import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { intake } from "@reins/intake"
import { anthropicModel, llmInvoker } from "@reins/llm-invoker"
import { partitionOf } from "@reins/log"
import { MemoryBroker } from "@reins/log/memory"
import { type ReadRecord, readConfig, SessionReader, startProcess } from "@reins/runtime"
import {
  type Answer,
  type Call,
  calls,
  cut,
  events,
  fails,
  hangs,
  inOrder,
  type SaidBlock,
  says,
  startSimulatedModel,
} from "@reins/simulated-model"
import { loadTools, toolsBackend } from "@reins/worker-kit"
import { until } from "./harness.ts"
import { HostedWorld } from "./hosted-world.ts"

// What tools and models do that they should not. The model reads of a tool's fault in its result; the operator reads of a model's fault in
// the session; and the sessions beside them, all on the same partition, go on.

const partition = 1
const badTools = fileURLToPath(new URL("../fixtures/bad-tools.ts", import.meta.url))

interface Result {
  readonly tool_use_id: string
  readonly content: string
  readonly is_error?: boolean
}

/** What a model call is for: every prompt here begins with `case NAME.` */
function caseOf({ request }: Call): string {
  return /case ([\w-]+)\./.exec(JSON.stringify(request.messages[0]))?.[1] ?? ""
}

function resultsOf({ request }: Call): readonly Result[] {
  const last = request.messages.at(-1)
  return Array.isArray(last?.content) ? (last.content as unknown as Result[]).filter((block) => "tool_use_id" in block) : []
}

describe("bad tools and bad models", { timeout: 240_000 }, () => {
  let world: HostedWorld
  /** By case: what its model calls are answered with, one after the other, and what the calls were. */
  const scripts = new Map<string, { readonly answers: readonly ((call: Call) => Answer)[]; readonly seen: Call[] }>()

  before(async () => {
    const worker = toolsBackend("tool-workers/bad", "bad", await loadTools(badTools))
    world = await HostedWorld.start({}, { workers: [worker] })
    const planned = world.model.script
    world.model.script = (call) => {
      const script = scripts.get(caseOf(call))
      if (script === undefined) return planned(call)
      script.seen.push(call)
      const answer = script.answers[Math.min(script.seen.length, script.answers.length) - 1]
      return answer === undefined ? says("done") : answer(call)
    }
  })
  after(() => world.stop())

  const tools = [
    ...["hang", "hang_unsafe", "stoppable", "throws", "throws_nothing", "circular", "bigint", "nothing", "huge", "controls", "picky"].map(
      (name) => ({ name, backend: "bad" }),
    ),
    {
      name: "slow_pattern",
      backend: "http",
      effect: "pure",
      inputSchema: { type: "object", properties: { text: { type: "string", pattern: "^(a+)+$" } } },
      http: { method: "GET", url: "http://127.0.0.1:1/" },
    },
  ]

  /** Starts a session whose model answers so; resolves with how it came to rest. */
  async function run(
    name: string,
    answers: readonly ((call: Call) => Answer)[],
  ): Promise<{
    readonly sessionId: string
    readonly reason: string
    readonly message: string | null
    readonly seen: readonly Call[]
  }> {
    const seen: Call[] = []
    scripts.set(name, { answers, seen })
    const sessionId = world.newSession(partition)
    await world.startSession(sessionId, `case ${name}.`, { tools })
    const [idled] = await world.said(sessionId, "session.idled")
    return { sessionId, reason: idled?.["reason"] as string, message: idled?.["message"] as string | null, seen }
  }

  /** One call of one tool, and what the model read of it. */
  async function result(
    name: string,
    tool: string,
    input: Readonly<Record<string, unknown>> = {},
  ): Promise<{ sessionId: string } & Result> {
    const { sessionId, reason, seen } = await run(name, [() => calls({ name: tool, input }), () => says("I see.")])
    assert.equal(reason, "end_turn", name)
    assert.equal(seen.length, 2)
    const [read] = resultsOf(seen[1] as Call)
    assert.ok(read !== undefined, `${name}: the model read a result`)
    return { sessionId, ...read }
  }

  async function types(sessionId: string): Promise<readonly string[]> {
    const { records } = await world.read(sessionId)
    return records.filter(({ verdict }) => verdict === "accepted").map(({ type }) => type)
  }

  describe("the model reads what a tool did wrong", { concurrency: true }, () => {
    const cases: readonly (readonly [
      tool: string,
      input: Readonly<Record<string, unknown>>,
      closed: string,
      says: RegExp,
      isError?: boolean,
    ])[] = [
      ["hang", {}, "tool-call.timed-out", /gave no result within 300 ms/],
      ["hang_unsafe", {}, "tool-call.outcome-unknown", /nobody can say whether it took effect/],
      ["stoppable", {}, "tool-call.outcome-unknown", /nobody can say whether it took effect/],
      ["throws", {}, "tool-call.failed", /the kettle is broken/],
      ["throws_nothing", {}, "tool-call.failed", /undefined/],
      ["circular", {}, "tool-call.failed", /result is no JSON: .*circular/],
      ["bigint", {}, "tool-call.failed", /result is no JSON/],
      ["nothing", {}, "tool-call.completed", /^$/, false],
      ["huge", {}, "tool-call.failed", /larger than the 8388608|result is no JSON: Invalid string length/],
      ["controls", {}, "tool-call.completed", /gone/, false],
      ["picky", { n: 2 }, "tool-call.failed", /must be odd/],
      ["picky", { n: "3" }, "tool-call.refused", /\/n must be integer/],
      ["picky", { n: 3, m: 4 }, "tool-call.refused", /must NOT have additional properties: m/],
      ["picky", {}, "tool-call.refused", /must have required property 'n'/],
      ["picky", { n: 3 }, "tool-call.completed", /^3$/, false],
      ["nobody", {}, "tool-call.refused", /There is no tool nobody\. There are: hang, /],
      ["slow_pattern", { text: `${"a".repeat(40)}!` }, "tool-call.refused", /could not be checked within 250 ms/],
    ]
    for (const [index, [tool, input, closed, says, isError = true]] of cases.entries()) {
      it(`${tool} ${JSON.stringify(input).slice(0, 40)}`, async () => {
        const read = await result(`tool-${index}`, tool, input)
        assert.match(read.content, says)
        assert.equal(read.is_error ?? false, isError, read.content)
        const said = await types(read.sessionId)
        assert.ok(said.includes(closed), `${closed} is among ${said.join(", ")}`)
        assert.equal(said.includes("tool-call.dispatched"), closed !== "tool-call.refused", "nothing is dispatched that is refused")
      })
    }
  })

  it("a tool that may run again is tried three times, one that may not once", async () => {
    const dispatched = async (sessionId: string): Promise<number> =>
      (await types(sessionId)).filter((type) => type === "tool-call.dispatched").length
    assert.equal(await dispatched((await result("three", "hang")).sessionId), 3)
    assert.equal(await dispatched((await result("once", "hang_unsafe")).sessionId), 1)
    assert.equal(await dispatched((await result("thrown", "throws")).sessionId), 1)
  })

  it("one bad call among good ones: each has its own result, in the order of the calls", async () => {
    const wanted = [
      { name: "throws", input: {} },
      { name: "picky", input: { n: 7 } },
      { name: "nobody", input: {} },
      { name: "stoppable", input: {} },
      { name: "picky", input: { n: 9 } },
    ]
    const { seen } = await run("mixed", [() => calls(...wanted), () => says("I see.")])
    const results = resultsOf(seen[1] as Call)
    const said = (seen[1] as Call).request.messages.at(-2) as unknown as { content: readonly { type: string; id: string }[] }
    assert.deepEqual(
      results.map(({ tool_use_id }) => tool_use_id),
      said.content.filter(({ type }) => type === "tool_use").map(({ id }) => id),
    )
    assert.deepEqual(
      results.map(({ is_error = false }) => is_error),
      [true, false, true, true, false],
    )
    assert.deepEqual([results[1]?.content, results[4]?.content], ["7", "9"])
  })

  describe("what a model's endpoint does wrong", { concurrency: true }, () => {
    const call = (): Answer => calls({ name: "picky", input: { n: 1 } })
    const toolUse: SaidBlock = { type: "tool_use", name: "picky", input: { n: 1 } }
    const broken =
      (answer: ReturnType<typeof calls>, after: number, how: "reset" | "fin" | "end"): (() => Answer) =>
      () =>
        cut(answer, after, how)

    for (const how of ["reset", "fin", "end"] as const) {
      for (const after of [0, 120, 700]) {
        it(`a stream that is cut after ${after} bytes (${how}): nothing of it is acted on, and the request is made again`, async () => {
          const { sessionId, reason, seen } = await run(`cut-${how}-${after}`, [
            broken(calls({ name: "throws", input: {} }), after, how),
            call,
            () => says("done"),
          ])
          assert.equal(reason, "end_turn")
          assert.equal(seen.length, 3)
          assert.equal(seen[0]?.body, seen[1]?.body, "the same request, byte for byte")
          const said = await types(sessionId)
          assert.deepEqual(
            said.filter((type) => type.startsWith("model.")),
            ["model.requested", "model.failed", "model.requested", "model.responded", "model.requested", "model.responded"],
          )
          const [failed] = await world.said(sessionId, "model.failed")
          assert.match(failed?.["kind"] as string, /connection|protocol/)
          assert.equal(said.filter((type) => type === "tool-call.dispatched").length, 1)
        })
      }
    }

    const retried: readonly (readonly [name: string, answer: () => Answer, kind: RegExp])[] = [
      ["529", () => fails("overloaded_error"), /overloaded_error/],
      ["500", () => fails("api_error"), /api_error/],
      ["504", () => fails("timeout_error"), /timeout_error/],
      ["408", () => fails("timeout_error", { status: 408 }), /timeout_error/],
      ["html", () => ({ raw: "<html>Bad gateway</html>", status: 502, contentType: "text/html" }), /http_502|api_error/],
      ["html-200", () => ({ raw: "<html>Please log in</html>", contentType: "text/html" }), /protocol/],
      ["empty-200", () => ({ raw: "" }), /protocol/],
      [
        "error-in-stream",
        () => events(["error", { type: "error", error: { type: "overloaded_error", message: "busy" } }]),
        /overloaded_error/,
      ],
      ["not-json", () => events(["message_start", "this is not JSON"]), /protocol/],
      [
        "two-of-one-id",
        () => ({
          content: [
            { ...toolUse, id: "toolu_same" },
            { ...toolUse, id: "toolu_same" },
          ],
        }),
        /protocol/,
      ],
      ["half-arguments", () => ({ content: [{ ...toolUse, inputJson: '{"n":' }] }), /protocol/],
    ]
    for (const [name, answer, kind] of retried) {
      it(`${name}: it is asked again`, async () => {
        const { sessionId, reason, seen } = await run(name, [answer, () => says("done")])
        assert.equal(reason, "end_turn")
        assert.equal(seen.length, 2)
        const [failed] = await world.said(sessionId, "model.failed")
        assert.match(failed?.["kind"] as string, kind, String(failed?.["message"]))
        assert.ok(!(await types(sessionId)).includes("tool-call.dispatched"))
      })
    }

    it("429 with retry-after: it is asked again, and not before", async () => {
      for (const [name, headers, least] of [
        ["429-seconds", { "retry-after": "1" }, 1000],
        ["429-ms", { "retry-after-ms": "700", "retry-after": "1" }, 700],
      ] as const) {
        const { sessionId, reason } = await run(name, [() => fails("rate_limit_error", { headers }), () => says("done")])
        assert.equal(reason, "end_turn")
        const { records } = await world.read(sessionId)
        const at = (type: string): readonly number[] => records.filter((record) => record.type === type).map(({ timestamp }) => timestamp)
        const [failed] = at("model.failed")
        const [, again] = at("model.requested")
        assert.ok((again as number) - (failed as number) >= least, `asked again after ${(again as number) - (failed as number)} ms`)
      }
    })

    const given: readonly (readonly [name: string, answer: () => Answer, reason: string, says: RegExp])[] = [
      ["401", () => fails("authentication_error", { message: "invalid x-api-key" }), "model_error", /invalid x-api-key/],
      ["403", () => fails("permission_error"), "model_error", /permission_error/],
      ["404", () => fails("not_found_error", { message: "model: claude-none" }), "model_error", /claude-none/],
      ["400", () => fails("invalid_request_error"), "model_error", /invalid_request_error/],
      ["429-spend", () => fails("rate_limit_error", { message: "You have reached your limit." }), "model_error", /reached your limit/],
      ["x-should-retry", () => fails("api_error", { headers: { "x-should-retry": "false" } }), "model_error", /api_error/],
    ]
    for (const [name, answer, reason, sentence] of given) {
      it(`${name}: it is not asked again, and the session says why`, async () => {
        const idled = await run(name, [answer])
        assert.equal(idled.reason, reason)
        assert.match(idled.message ?? "", sentence)
        assert.equal(idled.seen.length, 1)
      })
    }

    it("413, whatever is sent: no bytes are sent twice, and the session says why it stops", async () => {
      const { reason, message, seen } = await run("413", [() => fails("request_too_large")])
      assert.equal(reason, "context_window_exceeded")
      assert.match(message ?? "", /request_too_large/)
      assert.equal(new Set(seen.map(({ body }) => body)).size, seen.length)
      assert.ok(seen.length > 1, String(seen.length))
    })

    it("an endpoint that never recovers: the session says retries_exhausted, and a message tries again", async () => {
      let down = true
      const { sessionId, reason, message, seen } = await run("down", [() => (down ? fails("overloaded_error") : says("Here I am."))])
      assert.equal(reason, "retries_exhausted")
      assert.match(message ?? "", /overloaded_error/)
      assert.equal(seen.length, 6)
      down = false
      await world.command(sessionId, { type: "message.send", sessionId, content: "And now?" })
      await until(async () => (await world.said(sessionId, "session.idled")).length === 2, "it is idle again")
      assert.equal((await world.said(sessionId, "session.idled"))[1]?.["reason"], "end_turn")
    })

    it("a call that hangs ends with an interrupt", async () => {
      const sessionId = world.newSession(partition)
      const seen: Call[] = []
      scripts.set("hanging", { answers: [() => hangs(), () => says("Here I am.")], seen })
      await world.startSession(sessionId, "case hanging.", { tools })
      await until(() => seen.length === 1, "the model is asked")
      await world.command(sessionId, { type: "session.interrupt", sessionId })
      assert.equal((await world.said(sessionId, "session.idled"))[0]?.["reason"], "interrupted")
      await until(
        () => world.model.calls.some(({ body, outcome }) => body.includes("case hanging.") && outcome === "aborted"),
        "the connection is closed",
      )
      await world.command(sessionId, { type: "message.send", sessionId, content: "And now?" })
      await until(async () => (await world.said(sessionId, "session.idled")).length === 2, "it is idle again")
    })

    it("a call that hangs is given up at its deadline, and asked again", async () => {
      const model = await startSimulatedModel({ script: inOrder([hangs(), hangs(), says("done")]) })
      const log = new MemoryBroker().connect()
      const config = readConfig({ REINS_LOG_LEVEL: "silent", ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: "none" })
      const { codec } = world.host
      const running = await startProcess({
        config,
        services: ["intake", "llm-invoker"],
        opened: { log, codec },
        build: ({ metrics }) => [
          intake({ codec, partitions: config.partitions }),
          llmInvoker({ model: anthropicModel(config.anthropic), metrics, limits: { deadlineMs: 300, deadlineMarginMs: 2000 } }),
        ],
        failed: (error) => assert.fail(error),
      })
      try {
        const names = topicNames(config.prefix)
        await log.append({
          topic: names.commands,
          partition: partitionOf("sesn_slow", config.partitions),
          key: () => "sesn_slow",
          value: Buffer.from('{"type":"session.start","agent":{"model":"m"},"input":"Hello"}'),
          headers: {},
          certainty: "always",
        })
        const reader = await SessionReader.open(log, codec, config.prefix, "sesn_slow")
        const records: ReadRecord[] = []
        await until(async () => {
          records.push(...((await reader?.read({ tools: false })) ?? []))
          return records.some(({ type }) => type === "session.idled")
        }, "the session is idle")
        assert.deepEqual(
          records.map(({ type, value }) => (value?.["kind"] as string | undefined) ?? (value?.["reason"] as string | undefined) ?? type),
          [
            "session.started",
            "model.requested",
            "deadline",
            "model.requested",
            "deadline",
            "model.requested",
            "model.responded",
            "end_turn",
          ],
        )
        assert.equal(model.callCount, 3)
      } finally {
        await running.stop()
        await log.close()
        await model.stop()
      }
    })

    it("a tool_use that max_tokens cut is not run", async () => {
      const { sessionId, reason } = await run("max-tokens", [() => ({ content: [toolUse], stopReason: "max_tokens" })])
      assert.equal(reason, "max_tokens")
      assert.ok(!(await types(sessionId)).includes("tool-call.dispatched"))
    })

    it("an answer that is larger than a record stands beside it; without a blob store it is a failure that says so. It is asked for once", async () => {
      const { sessionId, reason } = await run("too-large", [() => ({ content: [{ type: "text", text: "x".repeat(1_200_000) }] })])
      assert.equal(reason, world.host.log.blobs === undefined ? "model_error" : "end_turn")
      assert.equal((await types(sessionId)).filter((type) => type === "model.requested").length, 1)
    })

    it("a refusal is no error", async () => {
      const { reason } = await run("refusal", [() => ({ content: [{ type: "text", text: "No." }], stopReason: "refusal" })])
      assert.equal(reason, "refusal")
    })
  })

  it("after all that the partition goes on", async () => {
    await world.checkHealthy(partition)
    assert.deepEqual(world.failures, [])
    assert.deepEqual(await world.deadLetters(), [])
  })
})
