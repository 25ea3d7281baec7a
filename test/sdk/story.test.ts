import assert from "node:assert/strict"
import { readdirSync, readFileSync } from "node:fs"
import process from "node:process"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import Anthropic from "@anthropic-ai/sdk"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { loadTools } from "@reins/worker-kit"
import { createParser } from "./frames.ts"
import { loadOlderSdk } from "./older.ts"
import { cancelOrder, countStock, getOrder, refund } from "./orders.ts"
import { story } from "./story.ts"
import { storyScript } from "./story-model.ts"
import { calling } from "./teller.ts"

// What the story is made of. It is told itself in test/e2e, and here against any server that REINS_STORY_URL names:
//
//   node test/sdk/story-model.ts 9200 &
//   ANTHROPIC_BASE_URL=http://127.0.0.1:9200 ANTHROPIC_API_KEY=none npx reins dev --worker test/sdk/orders.ts &
//   REINS_STORY_URL=http://127.0.0.1:… node --test test/sdk/story.test.ts
//
// REINS_STORY_OLDER names a folder in whose node_modules the older SDK lies (see older.ts); then that one tells it.

const folder = fileURLToPath(new URL(".", import.meta.url))
const nowhere = new Anthropic({ apiKey: "none", baseURL: "http://127.0.0.1:9" })

describe("the story", () => {
  it("calls every method of tier 1", () => {
    const text = readdirSync(folder)
      .filter((name) => /^(story-|teller|watch).*\.ts$/.test(name))
      .map((name) => readFileSync(`${folder}${name}`, "utf8"))
      .join("\n")
    const methods: Readonly<Record<string, readonly string[]>> = {
      agents: ["create", "retrieve", "update", "list", "archive"],
      versions: ["list"],
      environments: ["create", "retrieve", "update", "list", "delete", "archive"],
      sessions: ["create", "retrieve", "update", "list", "delete", "archive"],
      events: ["list", "send", "stream", "toolRunner"],
    }
    const missing = Object.entries(methods).flatMap(([resource, names]) =>
      names.filter((name) => !new RegExp(`\\b${resource}\\.${name}\\(`).test(text)).map((name) => `${resource}.${name}`),
    )
    assert.deepEqual(missing, [])
  })

  it("has a name for every step, and tells more where there are keys and tenants", () => {
    const names = story(nowhere).map(({ name }) => name)
    assert.equal(new Set(names).size, names.length)
    const more = story(nowhere, { unknownKey: nowhere, stranger: nowhere })
    assert.equal(more.length, names.length + 2)
  })

  it("ends with an error where nobody answers", async () => {
    const [first] = story(new Anthropic({ apiKey: "none", baseURL: "http://127.0.0.1:9", maxRetries: 0 }))
    await assert.rejects(first?.run() ?? Promise.resolve(), /Connection error/)
  })
})

describe("the model of the story", () => {
  let model: SimulatedModel
  let client: Anthropic
  before(async () => {
    model = await startSimulatedModel({ script: storyScript })
    client = new Anthropic({ apiKey: "none", baseURL: model.url, maxRetries: 0 })
  })
  after(() => model.stop())

  const tools = ["mcp__orders__get_order", "get_weather"].map((name) => ({ name, input_schema: { type: "object" as const } }))
  const ask = (...texts: readonly string[]): ReturnType<typeof client.messages.create> =>
    client.messages.create({
      model: "claude-opus-5-5",
      max_tokens: 1000,
      tools,
      messages: [{ role: "user", content: texts.map((text) => ({ type: "text", text })) }],
    })
  const blocks = async (...texts: readonly string[]): Promise<readonly { readonly type: string; readonly name?: string }[]> => {
    const message = await ask(...texts)
    assert.ok("content" in message)
    return message.content
  }

  it("calls a tool by the name that it was offered", async () => {
    const called = await blocks(calling(["get_order", { id: "17" }], ["get_weather", { city: "Oslo" }]))
    assert.deepEqual(
      called.map(({ name }) => name),
      ["mcp__orders__get_order", "get_weather"],
    )
  })

  it("acts on the last prompt alone", async () => {
    const called = await blocks(calling(["get_order", { id: "17" }]), "<<fail>>", "Hello.")
    assert.deepEqual(
      called.map(({ type }) => type),
      ["text"],
    )
  })

  it("thinks, refuses and fails when it is told to", async () => {
    assert.deepEqual(
      (await blocks("<<think>> Hello.")).map(({ type }) => type),
      ["thinking", "text"],
    )
    const refusal = await ask("<<refuse>>")
    assert.ok("stop_reason" in refusal)
    assert.equal(refusal.stop_reason, "refusal")
    await assert.rejects(ask("<<fail>>"), Anthropic.BadRequestError)
  })

  it("is overloaded as often as it is told, for each key anew", async () => {
    for (const key of ["one", "two"]) {
      for (const _ of [1, 2]) await assert.rejects(ask(`<<overloaded 2 ${key}>>`), { status: 529 })
      assert.equal((await blocks(`<<overloaded 2 ${key}>>`)).length, 1)
    }
  })

  it("hangs, or begins and stalls, until it is given up", async () => {
    const controller = new AbortController()
    const asked = client.messages.create(
      { model: "claude-opus-5-5", max_tokens: 1000, messages: [{ role: "user", content: "<<hang>>" }] },
      { signal: controller.signal },
    )
    await model.called(model.callCount + 1)
    controller.abort()
    await assert.rejects(asked, Anthropic.APIUserAbortError)

    const stream = await client.messages.create({
      model: "claude-opus-5-5",
      max_tokens: 1000,
      stream: true,
      messages: [{ role: "user", content: "<<stall>>" }],
    })
    for await (const event of stream) {
      assert.notEqual(event.type, "content_block_stop")
      if (event.type === "content_block_delta") break
    }
  })
})

describe("the backend of the story", () => {
  it("is a worker file of four tools", async () => {
    const tools = await loadTools(`${folder}orders.ts`)
    const named = [cancelOrder, countStock, getOrder, refund].map(({ name }) => name)
    assert.deepEqual(tools.map(({ name }) => name).sort(), named)
    assert.deepEqual(named, ["cancel_order", "count_stock", "get_order", "refund"])
  })
})

describe("a parser of frames", () => {
  it("reads the same frames from any pieces", () => {
    const bytes = new TextEncoder().encode(': hi\n\nevent: a\nid: 0.1.2\ndata: {"x":"ü"}\n\nevent: b\ndata: 2\n\n: more\n\n')
    const whole = createParser()(bytes)
    assert.deepEqual(whole, [
      { id: "0.1.2", event: "a", data: '{"x":"ü"}' },
      { id: "", event: "b", data: "2" },
    ])
    const parse = createParser()
    assert.deepEqual(
      [...bytes].flatMap((byte) => parse(Uint8Array.of(byte))),
      whole,
    )
  })
})

const url = process.env["REINS_STORY_URL"]
const olderFolder = process.env["REINS_STORY_OLDER"]
if (url !== undefined) {
  const options = { apiKey: process.env["REINS_STORY_KEY"] ?? "any", baseURL: url }
  const older = olderFolder === undefined ? null : loadOlderSdk(olderFolder)
  describe(`the story at ${url}`, () => {
    if (olderFolder !== undefined) it("has an older SDK to be told with", () => assert.ok(older !== null, olderFolder))
    const steps = older === null ? story(new Anthropic(options)) : story(older.client(options), { sdk: older.sdk })
    for (const { name, run } of steps) it(name, { timeout: 180_000 }, run)
  })
}
