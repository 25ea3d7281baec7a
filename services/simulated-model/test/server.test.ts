import assert from "node:assert/strict"
import { connect } from "node:net"
import { after, before, beforeEach, suite, test } from "node:test"
import Anthropic, {
  AnthropicError,
  APIConnectionError,
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from "@anthropic-ai/sdk"
import type { Message, MessageParam, Tool } from "@anthropic-ai/sdk/resources/messages"
import { textOf as contentText } from "../src/messages.ts"
import { calls, events, fails, hangs, inOrder, says, trickles } from "../src/script.ts"
import { planned, type SimulatedModel, startSimulatedModel } from "../src/server.ts"
import { clientOf, request } from "./client.ts"

const tools: Tool[] = [
  {
    name: "add",
    description: "Add numbers up",
    input_schema: { type: "object", properties: { numbers: { type: "array", items: { type: "number" } } }, required: ["numbers"] },
  },
  {
    name: "get_order",
    description: "Look an order up",
    input_schema: { type: "object", properties: { id: { type: "string" } }, required: ["id"] },
  },
]

const toolUses = (message: Message): Anthropic.ToolUseBlock[] => message.content.filter((block) => block.type === "tool_use")
const textOf = (message: Message): string => message.content.map((block) => (block.type === "text" ? block.text : "")).join("")

suite("the simulated model over its socket", () => {
  let model: SimulatedModel
  let client: Anthropic

  test("an answer ordered slow comes part by part, each part a delta of its own, after its thinking", async () => {
    const stream = client.messages.stream(request("[[think; say 5 parts 3 ms apart]]"))
    const texts: string[] = []
    let begins = ""
    stream.on("streamEvent", (event) => {
      if (event.type === "content_block_start") begins += `${event.index} ${event.content_block.type} `
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") texts.push(event.delta.text)
    })
    const message = await stream.finalMessage()
    assert.equal(begins, "0 thinking 1 text ")
    assert.deepEqual(texts, ["[simulated] ", ...[1, 2, 3, 4, 5].map((part) => `Part ${part} of 5, größer, 部分, 🧵. `)])
    assert.equal(textOf(message), texts.join(""))
    const whole = await client.messages.create(request("[[think; say 5 parts 3 ms apart]]", { stream: false }) as never)
    assert.equal(textOf(whole), texts.join(""))
    const cut = await client.messages.stream(request("[[say 50 parts]]", { max_tokens: 20 })).finalMessage()
    assert.equal(cut.stop_reason, "max_tokens")
    assert.ok(textOf(cut).startsWith("[simulated] Part 1 of 50") && Buffer.byteLength(textOf(cut)) <= 80, textOf(cut))
  })

  before(async () => {
    model = await startSimulatedModel()
    client = clientOf(model)
  })
  after(() => model.stop())
  beforeEach(() => {
    model.script = planned
  })

  test("a whole loop through the real client: parallel calls, results, an answer, all labelled", async () => {
    const messages: MessageParam[] = [
      { role: "user", content: "What is the sum of 2 and 3, and where is order 17? Then add 10 to the sum." },
    ]
    const ids = new Set<string>()
    const turns: string[][] = []
    let final: Message
    for (;;) {
      final = await client.messages.stream(request("", { messages, tools })).finalMessage()
      assert.equal(final.model, "simulated/claude-sonnet-5-5")
      assert.match(final.id, /^msg_sim_/)
      assert.ok(final.usage.input_tokens > 0 && final.usage.output_tokens > 0)
      assert.match(textOf(final), /^\[simulated\] /)
      const uses = toolUses(final)
      if (uses.length === 0) break
      assert.equal(final.stop_reason, "tool_use")
      for (const { id } of uses) {
        assert.match(id, /^toolu_sim_/)
        assert.ok(!ids.has(id), "an id is used once")
        ids.add(id)
      }
      turns.push(uses.map((use) => `${use.name} ${JSON.stringify(use.input)}`))
      messages.push({ role: "assistant", content: final.content })
      messages.push({
        role: "user",
        content: uses.map((use) => ({ type: "tool_result", tool_use_id: use.id, content: use.name === "add" ? "5" : "on a ship" })),
      })
    }
    assert.deepEqual(turns, [['add {"numbers":[2,3]}', 'get_order {"id":"17"}'], ['add {"numbers":[10,5]}']])
    assert.equal(final.stop_reason, "end_turn")
    assert.match(textOf(final), /get_order \{"id":"17"\} answered: on a ship/)
  })

  test("the same request gets the same answer, ids included; another gets others", async () => {
    const first = await client.messages.stream(request("Where is order 17?", { tools })).finalMessage()
    const again = await client.messages.stream(request("Where is order 17?", { tools })).finalMessage()
    const other = await client.messages.stream(request("Where is order 18?", { tools })).finalMessage()
    assert.deepEqual(again, first)
    assert.notEqual(toolUses(other)[0]?.id, toolUses(first)[0]?.id)
  })

  test("a streamed answer and a plain one say the same", async () => {
    const prompt =
      '[[call add {"numbers":[1,2]}; call get_order {"id":"✓ über 🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚"}; call get_order {"id":"✓ über  🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚🜚"}]]'
    const streamed = await client.messages.stream(request(prompt, { tools })).finalMessage()
    const plain = await client.messages.create({ ...request(prompt, { tools }), stream: false })
    assert.deepEqual(
      streamed.content.map((block) => (block.type === "tool_use" ? block.input : block)),
      plain.content.map((block) => (block.type === "tool_use" ? block.input : block)),
    )
    assert.equal(streamed.stop_reason, plain.stop_reason)
    assert.equal(streamed.model, plain.model)
  })

  test("the events come in the order of the wire, each named by its type", async () => {
    const answer = await fetch(`${model.url}/v1/messages`, {
      method: "POST",
      headers: { "anthropic-version": "2026-10-21" },
      body: JSON.stringify({ ...request("Where is order 17?", { tools }), stream: true }),
    })
    assert.equal(answer.headers.get("content-type"), "text/event-stream; charset=utf-8")
    assert.match(answer.headers.get("request-id") ?? "", /^req_sim_/)
    const seen: string[] = []
    for (const event of (await answer.text()).split("\n\n").slice(0, -1)) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? assert.fail(event)
      assert.equal((JSON.parse(data ?? "") as { type: string }).type, name)
      if (seen.at(-1) !== name) seen.push(name ?? "")
    }
    const block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert.deepEqual(seen, ["message_start", "ping", ...block, ...block, "message_delta", "message_stop"])
  })

  test("calls are recorded with their exact bytes, headers and outcome", async () => {
    const from = model.callCount
    await client.messages.stream(request("Hello ✓")).finalMessage()
    const call = await model.called(from + 1)
    assert.deepEqual(JSON.parse(call.body), { ...request("Hello ✓"), stream: true })
    assert.equal(call.headers["anthropic-version"], "2026-10-21")
    assert.equal(call.outcome, "answered")
    assert.equal(model.callCount, from + 1)
  })

  test("a broken conversation is refused, and its record says why", async () => {
    const broken = client.messages.stream(
      request("", {
        messages: [
          { role: "user", content: "a" },
          { role: "assistant", content: [{ type: "tool_use", id: "t1", name: "add", input: {} }] },
          { role: "user", content: "b" },
        ],
      }),
    )
    await assert.rejects(broken.finalMessage(), (error: unknown) => {
      assert.ok(error instanceof BadRequestError)
      assert.match(error.message, /`tool_use` ids were found without `tool_result` blocks immediately after: t1/)
      return true
    })
    const call = model.calls.at(-1)
    assert.equal(call?.outcome, "refused")
    assert.match(call?.reason ?? "", /t1/)
  })

  test("a request that names no version of the API is refused", async () => {
    const answer = await fetch(`${model.url}/v1/messages`, { method: "POST", body: JSON.stringify(request("Hello")) })
    assert.equal(answer.status, 400)
    assert.match(await answer.text(), /anthropic-version: header is required/)
  })

  test("the list of models says what it is; everything else is not there", async () => {
    const [listed] = (await client.models.list()).data
    assert.match(listed?.id ?? "", /^simulated\//)
    for (const [method, path] of [
      ["GET", "/v1/messages"],
      ["POST", "/v1/models"],
      ["GET", "/"],
      ["POST", "/v1/messages/batches"],
    ] as const) {
      const answer = await fetch(model.url + path, { method })
      const body = (await answer.json()) as { type: string; error: { type: string }; request_id: string }
      assert.deepEqual([answer.status, body.type, body.error.type], [404, "error", "not_found_error"])
      assert.equal(body.request_id, answer.headers.get("request-id"))
    }
  })

  const errors = [
    [400, "invalid_request_error", BadRequestError],
    [401, "authentication_error", AuthenticationError],
    [402, "billing_error", APIError],
    [403, "permission_error", PermissionDeniedError],
    [404, "not_found_error", NotFoundError],
    [409, "conflict_error", ConflictError],
    [413, "request_too_large", APIError],
    [429, "rate_limit_error", RateLimitError],
    [500, "api_error", InternalServerError],
    [504, "timeout_error", InternalServerError],
    [529, "overloaded_error", InternalServerError],
  ] as const
  for (const [status, type, kind] of errors) {
    test(`an error ${status} ${type} reaches the client with its headers`, async () => {
      model.script = () => fails(type, { message: "no", retryAfter: "7", headers: { "x-should-retry": "false" } })
      await assert.rejects(client.messages.stream(request("Hello")).finalMessage(), (error: unknown) => {
        assert.ok(error instanceof kind)
        assert.equal(error.status, status)
        assert.equal(error.type, type)
        assert.equal(error.headers?.get("retry-after"), "7")
        assert.equal(error.headers?.get("x-should-retry"), "false")
        assert.equal(error.requestID, model.calls.at(-1)?.requestId)
        return true
      })
      assert.equal(model.calls.at(-1)?.outcome, "failed")
    })
  }

  test("a request that is longer than its window is refused in the API's words", async () => {
    const small = await startSimulatedModel({ contextTokens: 200 })
    try {
      const own = new Anthropic({ apiKey: "none", baseURL: small.url, maxRetries: 0 })
      await own.messages.stream(request("Hello")).finalMessage()
      await assert.rejects(own.messages.stream(request("Hello. ".repeat(200))).finalMessage(), (error: unknown) => {
        assert.ok(error instanceof BadRequestError)
        assert.match(error.message, /prompt is too long: \d+ tokens > 200 maximum/)
        return true
      })
    } finally {
      await small.stop()
    }
  })

  test("a script answers in order, and may leave the rest to the planner", async () => {
    model.script = inOrder(
      [fails("overloaded_error"), calls({ name: "add", input: { numbers: [1] }, id: "toolu_mine" }), ({ n }) => says(`call ${n}`)],
      planned,
    )
    const from = model.callCount
    await assert.rejects(client.messages.stream(request("Hello")).finalMessage())
    assert.equal(toolUses(await client.messages.stream(request("Hello")).finalMessage())[0]?.id, "toolu_mine")
    assert.equal(textOf(await client.messages.stream(request("Hello")).finalMessage()), `call ${from + 3}`)
    assert.match(textOf(await client.messages.stream(request("Hello")).finalMessage()), /^\[simulated\] /)
  })

  test("a script that throws is an api_error with its sentence", async () => {
    model.script = () => {
      throw new Error("out of ideas")
    }
    await assert.rejects(client.messages.stream(request("Hello")).finalMessage(), /out of ideas/)
  })

  test("a hanging answer holds until the client gives up, and the model knows", async () => {
    model.script = hangs
    const from = model.callCount
    const stream = client.messages.stream(request("Hello"))
    const call = await model.called(from + 1)
    assert.equal(call.outcome, "open")
    stream.abort()
    await assert.rejects(stream.finalMessage(), APIUserAbortError)
    while (call.outcome === "open") await new Promise((resolve) => setImmediate(resolve))
    assert.equal(call.outcome, "aborted")
  })

  test("one call may hang while another is answered", async () => {
    model.script = (call) => (call.body.includes("first") ? hangs() : planned(call))
    const from = model.callCount
    const first = client.messages.stream(request("first"))
    await model.called(from + 1)
    assert.match(textOf(await client.messages.stream(request("second")).finalMessage()), /^\[simulated\] /)
    first.abort()
    await assert.rejects(first.finalMessage(), APIUserAbortError)
  })

  test("two calls at once get each its own answer", async () => {
    let release: () => void = assert.fail
    const both = new Promise<void>((resolve) => {
      release = resolve
    })
    let inside = 0
    model.script = async ({ request: { messages } }) => {
      inside += 1
      if (inside === 2) release()
      await both
      return says(contentText(messages[0]?.content))
    }
    const answers = await Promise.all(["one", "two"].map((prompt) => client.messages.stream(request(prompt)).finalMessage()))
    assert.deepEqual(answers.map(textOf), ["one", "two"])
  })

  test("an answer that trickles byte by byte arrives whole", async () => {
    model.script = () => trickles(calls({ name: "add", input: { note: "✓ 🜚" } }), 1, 0)
    const message = await client.messages.stream(request("Hello")).finalMessage()
    assert.deepEqual(toolUses(message)[0]?.input, { note: "✓ 🜚" })
  })

  test("every stop reason, thinking, and usage of one's own", async () => {
    model.script = () => ({
      content: [
        { type: "thinking", thinking: "Hm.", signature: "c2ln" },
        { type: "text", text: "No." },
      ],
      stopReason: "refusal",
      usage: { output_tokens: 7 },
    })
    const message = await client.messages.stream(request("Hello")).finalMessage()
    assert.deepEqual(message.content[0], { type: "thinking", thinking: "Hm.", signature: "c2ln" })
    assert.equal(message.stop_reason, "refusal")
    assert.equal(message.usage.output_tokens, 7)
  })

  const start = [
    "message_start",
    {
      type: "message_start",
      message: {
        id: "msg_1",
        type: "message",
        role: "assistant",
        model: "m",
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: { input_tokens: 1, output_tokens: 1 },
      },
    },
  ] as const
  const stop = ["message_stop", { type: "message_stop" }] as const
  const delta = [
    "message_delta",
    { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 2 } },
  ] as const

  test("a stream may hold pings and events of the future", async () => {
    model.script = () => events(start, ["ping", { type: "ping" }], ["moon_phase", { type: "moon_phase" }], delta, stop)
    assert.equal((await client.messages.stream(request("Hello")).finalMessage()).stop_reason, "end_turn")
  })

  for (const [what, script] of [
    ["an error after 200", events(start, ["error", { type: "error", error: { type: "overloaded_error", message: "Overloaded" } }])],
    ["a second message_start", events(start, start, delta, stop)],
    ["no message_stop", events(start, delta)],
    ["nothing at all", events()],
    ["data that is not JSON", events(start, ["message_delta", "{oops"], stop)],
    ["an answer that is no event stream", { raw: "<html>", contentType: "text/html" }],
  ] as const) {
    test(`a malformed stream is rejected by the client: ${what}`, async () => {
      model.script = () => script
      await assert.rejects(client.messages.stream(request("Hello")).finalMessage(), AnthropicError)
    })
  }

  test("arguments that are no JSON can be said", async () => {
    model.script = () => ({
      content: [{ type: "tool_use", name: "add", input: {}, inputJson: '{"numbers":[1,' }],
      stopReason: "max_tokens",
    })
    const message = await client.messages.stream(request("Hello")).finalMessage()
    assert.equal(message.stop_reason, "max_tokens")
    assert.equal(toolUses(message)[0]?.name, "add")
  })

  test("a client that goes away in the middle of its body harms nobody", async () => {
    const socket = connect(Number(new URL(model.url).port), "127.0.0.1")
    await new Promise<void>((resolve) => {
      socket.once("connect", resolve)
    })
    socket.write("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    socket.resetAndDestroy()
    assert.match(textOf(await client.messages.stream(request("Hello")).finalMessage()), /^\[simulated\] /)
  })
})

test("a key, where one is asked for, must be right", async () => {
  const model = await startSimulatedModel({ apiKey: "right" })
  try {
    await assert.rejects(clientOf(model).messages.stream(request("Hello")).finalMessage(), AuthenticationError)
    const client = new Anthropic({ baseURL: model.url, apiKey: "right", maxRetries: 0 })
    assert.equal((await client.messages.stream(request("Hello")).finalMessage()).stop_reason, "end_turn")
    assert.deepEqual(
      model.calls.map((call) => call.outcome),
      ["refused", "answered"],
    )
  } finally {
    await model.stop()
  }
})

test("stopping ends what hangs and what waits, and frees the port", async () => {
  const model = await startSimulatedModel({ script: hangs })
  const stream = clientOf(model).messages.stream(request("Hello"))
  await model.called(1)
  const waiting = assert.rejects(model.called(2), /stopped before call 2/)
  await model.stop()
  await model.stop()
  await waiting
  await assert.rejects(stream.finalMessage(), APIConnectionError)
  const port = Number(new URL(model.url).port)
  const next = await startSimulatedModel({ port })
  try {
    await assert.rejects(startSimulatedModel({ port }), /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/)
  } finally {
    await next.stop()
  }
})

test("a model that remembers nothing still counts, and still tells who waits", async () => {
  const model = await startSimulatedModel({ callsMax: 0 })
  try {
    const first = model.called(1)
    await clientOf(model).messages.stream(request("Hello")).finalMessage()
    assert.equal((await first).outcome, "answered")
    assert.deepEqual([model.calls, model.callCount], [[], 1])
  } finally {
    await model.stop()
  }
})

test("only the newest calls are remembered; all are counted", async () => {
  const model = await startSimulatedModel({ callsMax: 3 })
  try {
    for (let i = 1; i <= 8; i += 1)
      await clientOf(model)
        .messages.stream(request(`Hello ${i}`))
        .finalMessage()
    assert.deepEqual(
      model.calls.map((call) => call.n),
      [6, 7, 8],
    )
    assert.equal(model.callCount, 8)
    await assert.rejects(model.called(1), /no longer remembered/)
  } finally {
    await model.stop()
  }
})
