import assert from "node:assert/strict"
import { after, before, suite, test } from "node:test"
import { type Anthropic, AnthropicError, APIUserAbortError } from "@anthropic-ai/sdk"
import type { Message } from "@anthropic-ai/sdk/resources/messages"
import { textOf } from "../src/messages.ts"
import { type Call, calls, cut, type Delivery, type Raw } from "../src/script.ts"
import { type SimulatedModel, startSimulatedModel } from "../src/server.ts"
import { clientOf, request } from "./client.ts"

/**
 * One recorded stream with a tool call in it, cut after every byte. What the harness relies on: a stream that is cut anywhere makes the
 * client reject; no cut ever yields a message, least of all one with a tool call that looks complete.
 */
suite("a stream cut after any byte", () => {
  let model: SimulatedModel
  let client: Anthropic
  let recorded: Buffer
  let whole: Message
  const cutsByPrompt = new Map<string, Raw>()

  before(async () => {
    const turn = calls({ name: "refund", input: { id: "17", cents: 500 } })
    const cutOf = ({ request: { messages } }: Call): Raw | undefined => cutsByPrompt.get(textOf(messages[0]?.content))
    model = await startSimulatedModel({ script: (call) => cutOf(call) ?? turn })
    client = clientOf(model)
    const answer = await fetch(`${model.url}/v1/messages`, {
      method: "POST",
      headers: { "anthropic-version": "2026-10-21" },
      body: JSON.stringify({ ...request("record"), stream: true }),
    })
    recorded = Buffer.from(await answer.arrayBuffer())
    whole = await client.messages.stream(request("record")).finalMessage()
    assert.deepEqual(
      whole.content.map((block) => (block.type === "tool_use" ? block.input : null)),
      [{ id: "17", cents: 500 }],
    )
  })
  after(() => model.stop())

  /** Asks for the recorded stream, cut; what comes of it is an error or a message. */
  async function outcomeOf(bytes: number, how: NonNullable<Delivery["how"]>): Promise<unknown> {
    const prompt = `${how} ${bytes}`
    cutsByPrompt.set(prompt, cut({ raw: recorded }, bytes, how) as Raw)
    try {
      return await client.messages.stream(request(prompt)).finalMessage()
    } catch (error) {
      return error
    } finally {
      cutsByPrompt.delete(prompt)
    }
  }

  // A closed connection is to the client what a reset one is, so a part of the cuts will do for it.
  for (const [how, step] of [
    ["end", 1],
    ["reset", 1],
    ["fin", 7],
  ] as const) {
    test(`by ${how}: every cut is an error`, async () => {
      const points = Array.from({ length: Math.ceil(recorded.length / step) }, (_, i) => i * step)
      const wrong: string[] = []
      const worker = async (): Promise<void> => {
        for (let bytes = points.pop(); bytes !== undefined; bytes = points.pop()) {
          const outcome = await outcomeOf(bytes, how)
          if (!(outcome instanceof AnthropicError)) wrong.push(`${bytes}: ${JSON.stringify(outcome)}`)
        }
      }
      await Promise.all(Array.from({ length: 8 }, worker))
      assert.deepEqual(wrong, [])
    })
  }

  test("by a clean end after the last byte: the message is whole", async () => {
    assert.deepEqual(await outcomeOf(recorded.length, "end"), whole)
  })

  test("what a plain client sees: an end is an end, the others are broken connections", async () => {
    const read = async (how: NonNullable<Delivery["how"]>): Promise<string> => {
      cutsByPrompt.set(how, cut({ raw: recorded }, 100, how) as Raw)
      const answer = await fetch(`${model.url}/v1/messages`, {
        method: "POST",
        headers: { "anthropic-version": "2026-10-21" },
        body: JSON.stringify({ ...request(how), stream: true }),
      })
      return answer.text()
    }
    assert.equal(await read("end"), recorded.toString("utf8", 0, 100))
    const brokenBy = (code: string) => (error: unknown) =>
      error instanceof Error && (error.cause as { code?: string } | undefined)?.code === code
    await assert.rejects(read("fin"), brokenBy("UND_ERR_SOCKET"))
    await assert.rejects(read("reset"), brokenBy("ECONNRESET"))
  })

  test("by silence: the client waits until it gives up", async () => {
    cutsByPrompt.set("silence", cut({ raw: recorded }, recorded.length - 1, "hang") as Raw)
    const from = model.callCount
    const stream = client.messages.stream(request("silence"))
    const call = await model.called(from + 1)
    let settled = false
    const settling = stream.finalMessage().finally(() => {
      settled = true
    })
    const rejected = assert.rejects(settling, APIUserAbortError)
    await new Promise<void>((resolve) => {
      stream.once("contentBlock", () => resolve())
    })
    assert.deepEqual([settled, call.outcome], [false, "open"])
    stream.abort()
    await rejected
  })
})
