import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, beforeEach, describe, it, type TestContext } from "node:test"
import { type ModelPreviewed, topicNames } from "@reins/events"
import { type Host, type HostOptions, startHost } from "@reins/host"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { anthropicModel, llmInvoker } from "@reins/llm-invoker"
import { type LogRecord, partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { Metrics, newInstance, openLog, type Performing, readConfig, systemClock, topicSettings } from "@reins/runtime"
import type { AwaitingModel } from "@reins/session"
import { Story } from "@reins/session/testing"
import { inOrder, planned, type SimulatedModel, says, startSimulatedModel } from "@reins/simulated-model"
import { until } from "./harness.ts"

// Answers that are previewed while they are being written: the official SDK, a real socket, a real log.

const skipKafka = await skipWithoutKafka()

/** The texts of an answer by block, from its content as the session log has it. */
function textsOf(content: string): ReadonlyMap<number, string> {
  const blocks = JSON.parse(content) as readonly { readonly type: string; readonly text?: string }[]
  return new Map(blocks.flatMap(({ type, text }, index) => (type === "text" ? [[index, text ?? ""] as const] : [])))
}

/** What the fragments add up to, by block; throws where one does not begin where the one before it ended. */
function joined(said: readonly ModelPreviewed[]): ReadonlyMap<number, string> {
  const texts = new Map<number, string>()
  for (const { block, kind, from, text } of said) {
    if (kind === "thinking") {
      assert.deepEqual([from, text], [0, ""], "of thinking no text is shown")
      continue
    }
    const before = texts.get(block) ?? ""
    assert.equal(from, before.length, `a gap in block ${block}`)
    assert.ok(text !== "" && text.isWellFormed(), JSON.stringify(text))
    texts.set(block, before + text)
  }
  return texts
}

function assertPrefixes(said: readonly ModelPreviewed[], content: string): void {
  const whole = textsOf(content)
  for (const [block, text] of joined(said)) {
    const all = whole.get(block)
    assert.ok(all?.startsWith(text), `block ${block}: ${JSON.stringify(text)} does not begin ${JSON.stringify(all)}`)
  }
}

describe("a model call over the SDK and a socket", () => {
  let model: SimulatedModel

  before(async () => {
    model = await startSimulatedModel()
  })
  after(() => model.stop())
  beforeEach(() => {
    model.script = planned
  })

  interface Asked {
    readonly said: ModelPreviewed[]
    readonly abort: AbortController
    /** Resolves with what the call says in the end. */
    readonly outcome: Promise<Record<string, unknown>>
  }

  function ask(input: string, given: Partial<Performing> = {}): Asked {
    const { session } = new Story().started(undefined, { input: JSON.stringify([{ type: "text", text: input }]) }).requested()
    assert.ok(session.phase === "awaiting-model")
    return askIn(session, given)
  }

  function askIn(session: AwaitingModel, given: Partial<Performing>): Asked {
    const said: ModelPreviewed[] = []
    const abort = new AbortController()
    const service = llmInvoker({ model: anthropicModel({ apiKey: "none", baseURL: model.url }), metrics: new Metrics("test") })
    const performing: Performing = {
      signal: abort.signal,
      abortAfter: () => {},
      ending: () => false,
      clock: systemClock,
      now: () => 1_795_000_000_002,
      progress: () => {},
      preview: async (one) => {
        said.push(one)
        return true
      },
      ...given,
    }
    const drafts = service.perform?.({ session }, performing) ?? Promise.reject(new Error("It performs nothing."))
    return { said, abort, outcome: drafts.then((all) => ({ ...all[0]?.event })) }
  }

  it("shows a slow answer in fragments that form a prefix of it, after its thinking, and nothing after the end", async () => {
    const { said, outcome } = ask("[[think; say 25 parts 20 ms apart]]")
    const { type, content } = await outcome
    const count = said.length
    assert.equal(type, "model.responded")
    assertPrefixes(said, content as string)
    assert.deepEqual([said[0]?.kind, said[0]?.block], ["thinking", 0])
    assert.equal(said.filter(({ kind }) => kind === "thinking").length, 1)
    assert.ok((joined(said).get(1) ?? "").startsWith("[simulated] Part 1 of 25"), JSON.stringify(said))
    await new Promise((resolve) => setTimeout(resolve, 120))
    assert.equal(said.length, count)
  })

  it("shows several texts block by block, and no half of a character that came in two deltas", async () => {
    const parts = "🧵".repeat(20).split("")
    const text = parts.join("")
    model.script = () => ({ content: [{ type: "text", text, parts }, ...says("The end.").content], deltaDelayMs: 15 })
    const { said, outcome } = ask("Anything.")
    assertPrefixes(said, (await outcome)["content"] as string)
    assert.ok((joined(said).get(0) ?? "").length > 4, JSON.stringify(said))
  })

  it("shows nothing of an answer that is there before anyone could have looked", async () => {
    let scheduled = 0
    // 30 ms never pass: whatever waits for them is cancelled or stays.
    const clock = { ...systemClock, after: () => (scheduled++, () => void scheduled--) }
    const { said, outcome } = ask("[[say 200 parts]]", { clock })
    assert.equal((await outcome)["type"], "model.responded")
    assert.deepEqual([said, scheduled], [[], 0])
  })

  it("shows nothing more once it is aborted", async () => {
    const { said, abort, outcome } = ask("[[say 2000 parts 10 ms apart]]")
    await until(() => said.length >= 2, "it is shown")
    abort.abort()
    const count = said.length
    assert.partialDeepStrictEqual(await outcome, { type: "model.failed", kind: "cancelled" })
    await new Promise((resolve) => setTimeout(resolve, 120))
    assert.equal(said.length, count)
    assert.ok((joined(said).get(0) ?? "").startsWith("[simulated] "))
  })

  it("shows what there was of an answer that broke off, and it is none", async () => {
    model.script = inOrder([{ ...says("x".repeat(4800)), deltaDelayMs: 10, cutAfterBytes: 6000, how: "reset" }], planned)
    const { said, outcome } = ask("[[say 3 parts]]")
    assert.partialDeepStrictEqual(await outcome, { type: "model.failed", retryable: true })
    assert.match(joined(said).get(0) ?? "", /^x+$/)
  })

  it("answers all the same where the log takes no preview, or never says whether it does", async () => {
    for (const preview of [async () => false, () => new Promise<boolean>(() => {})]) {
      let asked = 0
      const counting = (): Promise<boolean> => (asked++, preview())
      const { outcome } = ask("[[say 10 parts 15 ms apart]]", { preview: counting })
      assert.equal((await outcome)["type"], "model.responded")
      assert.equal(asked, 1)
    }
  })
})

describe("the previews of a session", () => {
  const slow = "[[think; say 20 parts 20 ms apart]]"

  async function world(t: TestContext, given: Readonly<Record<string, string>>, options: Partial<HostOptions> = {}): Promise<Host> {
    const dir = mkdtempSync(join(tmpdir(), "reins-previews-"))
    const model = await startSimulatedModel()
    const config = readConfig({
      REINS_DATA: dir,
      REINS_PARTITIONS: "4",
      REINS_LOG_LEVEL: "silent",
      REINS_DRAIN_MS: "100",
      REINS_TOPIC_PREFIX: `previews-${randomBytes(4).toString("hex")}`,
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "none",
      ...given,
    })
    if (config.kafka !== null) {
      const { log } = await openLog(config, newInstance("test"))
      await log.applyTopics(topicSettings(config.prefix, config.partitions))
      await log.close()
    }
    const failures: Error[] = []
    const host = await startHost({ ...options, config, failed: (error) => void failures.push(error) })
    t.after(async () => {
      await host.stop()
      await model.stop()
      rmSync(dir, { recursive: true, force: true })
      assert.deepEqual(failures, [])
    })
    return host
  }

  /** Runs a session with this input to its end. */
  async function run(host: Host, input: string): Promise<{ readonly previews: readonly LogRecord[]; readonly responded: LogRecord }> {
    const prefix = host.group.slice(0, host.group.lastIndexOf("."))
    const names = topicNames(prefix)
    const sessionId = `sesn_${randomBytes(4).toString("hex")}`
    const partition = partitionOf(sessionId, 4)
    const agent = { name: "t", model: "claude-sonnet-5-5", tools: [] }
    const command = { type: "session.start", sessionId, agent, input: [{ type: "text", text: input }] }
    const value = Buffer.from(JSON.stringify(command))
    await host.log.append({ topic: names.commands, partition, key: () => sessionId, value, headers: {}, certainty: "always" })
    const all = async (topic: string): Promise<LogRecord[]> => {
      const records: LogRecord[] = []
      for await (const stretch of host.log.replay(topic, partition, 0)) records.push(...stretch)
      return records.filter(({ headers }) => headers["session"] === sessionId)
    }
    let responded: LogRecord | undefined
    await until(async () => {
      responded = (await all(names.sessions)).find(({ headers }) => headers["type"] === "model.responded")
      return responded !== undefined
    }, "the model has answered")
    return { previews: await all(names.deltas), responded: responded as LogRecord }
  }

  function assertPreviewed(host: Host, { previews, responded }: Awaited<ReturnType<typeof run>>): void {
    const decode = (value: Uint8Array | null): Record<string, unknown> => {
      const decoded = host.codec.decode(value ?? new Uint8Array())
      assert.ok(decoded.ok, JSON.stringify(decoded))
      return { ...decoded.said }
    }
    const answer = decode(responded.value)
    const said = previews.map(({ value }) => decode(value) as unknown as ModelPreviewed)
    assertPrefixes(said, answer["content"] as string)
    assert.ok((joined(said).get(1) ?? "").startsWith("[simulated] Part 1 of 20"))
    assert.equal(said.filter(({ kind }) => kind === "thinking").length, 1)
    for (const [index, one] of said.entries()) {
      const record = previews[index] as LogRecord
      assert.equal(one.claim, answer["claim"])
      assert.equal(record.key, one.sessionId)
      assert.equal(record.headers["type"], "model.previewed")
      assert.ok(record.timestamp <= responded.timestamp)
    }
  }

  it("stand on the topic deltas, in the partition of the session, embedded", async (t) => {
    const host = await world(t, {})
    assertPreviewed(host, await run(host, slow))
  })

  it("stand on the topic deltas on a broker", { skip: skipKafka }, async (t) => {
    const { bootstrap, registryUrl } = await sharedKafka()
    const host = await world(t, { KAFKA_BROKERS: bootstrap, SCHEMA_REGISTRY_URL: registryUrl as string })
    assertPreviewed(host, await run(host, slow))
  })

  it("are switched off by REINS_PREVIEWS=off", async (t) => {
    const host = await world(t, { REINS_PREVIEWS: "off" })
    assert.deepEqual((await run(host, slow)).previews, [])
  })

  it("may all be lost: the answer comes as if nobody had tried", async (t) => {
    const broker = new MemoryBroker()
    let lost = 0
    const log = broker.connect(async (batches, write) => {
      const outcomes = write(batches.filter(({ topic }) => !topic.endsWith(".deltas")))[Symbol.iterator]()
      return batches.map(({ topic }) => {
        if (!topic.endsWith(".deltas")) return outcomes.next().value ?? { unknown: new Error("It gave no answer.") }
        lost++
        return { unknown: new Error("The log cannot be reached.") }
      })
    })
    const host = await world(t, {}, { opened: { log, codec: await Codec.open(broker.registry) } })
    const { previews, responded } = await run(host, slow)
    assert.deepEqual(previews, [])
    assert.equal(responded.headers["type"], "model.responded")
    assert.equal(lost, 1, "and after the first loss nobody tries")
    await log.close()
  })
})
