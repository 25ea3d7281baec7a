// `npm run record [-- NAME…]`: runs the scenarios on the memory log with all services in one process each, and writes what the log then holds
// to `<version>-<name>.jsonl` in this folder. A recording that stands is never written again: it is what that build said.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { shippedBackends, topicNames } from "@reins/events"
import { build, hostable } from "@reins/host"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { Metrics, type RunningProcess, readConfig, startProcess, toolsTopicSettings, topicSettings, version } from "@reins/runtime"
import { type Call, planned, type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { type Backend, worker } from "@reins/worker-kit"
import { readWholeLog, type WholeLog } from "../chaos/read-log.ts"
import { furtherCall, goldenAgent, goldenPrompt } from "../crashpoints/golden-session.ts"
import { toolsWithLedger } from "../crashpoints/memory-world.ts"
import { until } from "../e2e/harness.ts"
import { startOrders } from "../fixtures/orders.ts"
import { outcomesOf, Recording, type RecordLine, type SchemaLine } from "./recording.ts"

const prefix = "recorded"
const partitions = 1
const names = topicNames(prefix)
/** Nobody asks for them here. */
const metrics = new Metrics(version)

/** One log being written. */
class Stage {
  readonly broker: MemoryBroker = new MemoryBroker()
  readonly #ordersUrl: string
  readonly #backend: Backend
  readonly #model: SimulatedModel
  readonly #running: RunningProcess[] = []

  constructor(ordersUrl: string, backend: Backend, model: SimulatedModel) {
    this.#ordersUrl = ordersUrl
    this.#backend = backend
    this.#model = model
  }

  /** A process with everything in it. */
  async start(): Promise<MemoryLog> {
    const log = this.broker.connect()
    await log.applyTopics([...topicSettings(prefix, partitions), toolsTopicSettings(prefix, partitions, this.#backend.backend)])
    const config = readConfig({
      ANTHROPIC_BASE_URL: this.#model.url,
      ANTHROPIC_API_KEY: "none",
      REINS_LOG_LEVEL: "silent",
      REINS_TOPIC_PREFIX: prefix,
      REINS_PARTITIONS: String(partitions),
    })
    const running = await startProcess({
      config,
      services: [...hostable, this.#backend.service],
      backends: [this.#backend.backend],
      build: (context) => [...build(hostable, context), worker(this.#backend, context.me)],
      opened: { log, codec: await Codec.open(this.broker.registry) },
      metrics,
      failed: (error) => process.stderr.write(`A process failed: ${error.message}\n`),
    })
    this.#running.push(running)
    return log
  }

  async command(sessionId: string, value: object): Promise<void> {
    await this.broker.connect().append({
      topic: names.commands,
      partition: 0,
      key: () => sessionId,
      value: Buffer.from(JSON.stringify(value)),
      headers: {},
      certainty: "always",
    })
  }

  begin(sessionId: string, text: string, fields: object = {}): Promise<void> {
    const input = [{ type: "text", text }]
    return this.command(sessionId, { type: "session.start", sessionId, agent: goldenAgent(this.#ordersUrl), input, ...fields })
  }

  /** The golden agent, where a person is asked before it notes or charges anything, and its client looks after the weather. */
  guardedAgent(): object {
    const agent = goldenAgent(this.#ordersUrl)
    const tools = (agent.tools ?? []).map((tool) => (["note", "charge"].includes(tool.name) ? { ...tool, permission: "always_ask" } : tool))
    const inputSchema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] }
    return { ...agent, tools: [...tools, { name: "weather", backend: "client", description: "Looks out of the window.", inputSchema }] }
  }

  /** The newest call of a tool that was held. */
  async held(sessionId: string, tool: string): Promise<{ readonly toolUseId: string; readonly argumentsHash: string }> {
    const records = (await this.read()).records.get(sessionId) ?? []
    const held = records.findLast(({ type, value }) => type === "tool-call.held" && value.tool === tool)
    if (held === undefined) throw new Error(`No call of ${tool} is held in ${sessionId}.`)
    return { toolUseId: String(held.value.toolUseId), argumentsHash: String(held.value.argumentsHash) }
  }

  /** Asks for something, and waits until the log has the answer. */
  async asks(sessionId: string, value: object, type: string, count = 1): Promise<void> {
    await this.command(sessionId, { sessionId, ...value })
    await this.said(sessionId, type, count)
  }

  async read(): Promise<WholeLog> {
    return readWholeLog(this.broker.connect(), await Codec.open(this.broker.registry), prefix)
  }

  /** Waits until so many records of a type are there, whatever became of them. */
  async said(sessionId: string, type: string, count = 1): Promise<void> {
    await until(
      async () => ((await this.read()).records.get(sessionId) ?? []).filter((record) => record.type === type).length >= count,
      `${sessionId} says ${type}`,
    )
  }

  async recording(name: string): Promise<Recording> {
    // What is on its way at the end is part of the story.
    await sleep(200)
    const records: RecordLine[] = []
    const schemas = new Map<number, SchemaLine>()
    const log = this.broker.connect()
    for (const topic of [names.sessions, ...[...shippedBackends, this.#backend.backend].map((backend) => names.tools(backend))]) {
      for await (const batch of log.replay(topic, 0, 0)) {
        for (const { value, ...record } of batch) {
          records.push({ ...record, value: value === null ? null : Buffer.from(value).toString("base64") })
          if (value?.[0] !== 0) continue
          const schema = Buffer.from(value).readInt32BE(1)
          schemas.set(schema, { schema, avro: String(await this.broker.registry.schema(schema)) })
        }
      }
    }
    const head = { recording: name, version, prefix, partitions }
    const tail = { outcomes: outcomesOf(await this.read(), prefix) }
    return new Recording(
      head,
      [...schemas.values()].toSorted((a, b) => a.schema - b.schema),
      records,
      tail,
    )
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.map(({ loop }) => Promise.race([loop.stop(), sleep(500)])))
  }
}

/** Calls that the model does not answer until it is told to. */
class Gate {
  #wanted: ((call: Call) => boolean) | null = null
  #arrived: (() => void) | null = null
  #open: (() => void) | null = null

  /** The next call of this kind is held; resolves when it has arrived. */
  hold(wanted: (call: Call) => boolean): Promise<void> {
    this.#wanted = wanted
    return new Promise((resolve) => {
      this.#arrived = resolve
    })
  }

  release(): void {
    this.#open?.()
  }

  async pass(call: Call): Promise<void> {
    if (this.#wanted?.(call) !== true) return
    this.#wanted = null
    const opened = new Promise<void>((resolve) => {
      this.#open = resolve
    })
    this.#arrived?.()
    await opened
  }
}

/** Of the model, in tokens: more than all scenarios need but the one that is about it. */
const windowTokens = 3000

const turnOf = ({ request }: Call): number => request.messages.filter(({ role }) => role === "assistant").length + 1

const scenarios: Readonly<Record<string, (stage: Stage, gate: Gate) => Promise<void>>> = {
  plain: async (stage) => {
    await stage.start()
    await stage.begin("sesn_plain", "Good morning.")
    await stage.said("sesn_plain", "session.idled")
    await stage.command("sesn_plain", { type: "message.send", sessionId: "sesn_plain", content: "And good night." })
    await stage.said("sesn_plain", "session.idled", 2)
    await stage.command("sesn_plain", { type: "session.end", sessionId: "sesn_plain" })
    await stage.said("sesn_plain", "session.ended")
  },
  parallel: async (stage) => {
    await stage.start()
    await stage.begin("sesn_parallel", `${goldenPrompt("sesn_parallel")} ${furtherCall}`)
    await stage.said("sesn_parallel", "session.idled")
  },
  interrupted: async (stage, gate) => {
    await stage.start()
    const second = gate.hold((call) => turnOf(call) === 2)
    await stage.begin("sesn_interrupted", '[[turns 3: call note {"n":"$i"}; call ring {"n":"$i"}]]')
    await second
    await stage.command("sesn_interrupted", { type: "session.interrupt", sessionId: "sesn_interrupted" })
    await stage.said("sesn_interrupted", "session.idled")
    gate.release()
    await stage.command("sesn_interrupted", { type: "message.send", sessionId: "sesn_interrupted", content: '[[call look {"n":9}]]' })
    await stage.said("sesn_interrupted", "session.idled", 2)
  },
  takeover: async (stage, gate) => {
    const sessionId = "sesn_takeover"
    const first = await stage.start()
    const asked = gate.hold((call) => turnOf(call) === 2)
    await stage.begin(sessionId, `${goldenPrompt(sessionId)} ${furtherCall}`)
    await asked
    // It stands still with a call in flight; the other takes over; then it goes on and its answer is late.
    first.pause()
    first.expire()
    const second = await stage.start()
    await stage.said(sessionId, "model.requested", 3)
    await stage.said(sessionId, "session.idled")
    gate.release()
    await sleep(200)
    first.resume()
    await stage.said(sessionId, "model.responded", 4)
    // What its writer holds for lost lands behind what it decided anew: a command's fact is then a duplicate, a decision superseded.
    for (const log of [first, second]) log.loseNextAck("late")
    await stage.command(sessionId, { type: "message.send", commandId: "again", sessionId, content: '[[call look {"n":8}]]' })
    await stage.said(sessionId, "message.received", 2)
    await stage.said(sessionId, "session.idled", 2)
    const third = gate.hold(() => true)
    await stage.command(sessionId, { type: "message.send", commandId: "once-more", sessionId, content: '[[call look {"n":7}]]' })
    await third
    for (const log of [first, second]) log.loseNextAck("landed")
    gate.release()
    await stage.said(sessionId, "session.idled", 3)
  },
  held: async (stage) => {
    const sessionId = "sesn_held"
    await stage.start()
    const first = 'call note {"n":1}; call charge {"n":2}; call weather {"city":"Delft"}; call look {"n":3}'
    await stage.begin(sessionId, `[[${first}]] [[call weather {"city":"Gouda"}]]`, { agent: stage.guardedAgent(), tenant: "acme" })
    await stage.said(sessionId, "session.idled")
    // What comes at the wrong time, of another decision, or twice: refused, or heard and without consequence.
    await stage.asks(sessionId, { type: "message.send", content: "Well?" }, "command.rejected")
    const note = await stage.held(sessionId, "note")
    await stage.asks(
      sessionId,
      { type: "approval.give", ...note, decision: "allow", argumentsHash: "0".repeat(64) },
      "command.rejected",
      2,
    )
    const { toolUseId: delft } = await stage.held(sessionId, "weather")
    await stage.asks(sessionId, { type: "result.give", toolUseId: delft, content: "rain" }, "result.received")
    await stage.asks(sessionId, { type: "result.give", toolUseId: delft, content: "sun" }, "result.received", 2)
    await stage.said(sessionId, "session.idled", 2)
    await stage.asks(sessionId, { type: "approval.give", ...note, decision: "allow" }, "tool-call.completed", 2)
    const { toolUseId: charge } = await stage.held(sessionId, "charge")
    await stage.asks(sessionId, { type: "approval.give", toolUseId: charge, decision: "deny", message: "Not today." }, "approval.given", 2)
    await stage.said(sessionId, "model.responded", 2)
    await stage.said(sessionId, "tool-call.held", 4)
    const { toolUseId: gouda } = await stage.held(sessionId, "weather")
    await stage.asks(sessionId, { type: "result.give", toolUseId: gouda, content: [], isError: true }, "command.rejected", 3)
    await stage.asks(sessionId, { type: "result.give", toolUseId: gouda, isError: true }, "model.responded", 3)
    await stage.said(sessionId, "session.idled", 5)
    // Held, and interrupted before anybody answered.
    await stage.asks(sessionId, { type: "message.send", content: '[[call charge {"n":4}; call weather {"city":"Edam"}]]' }, "tool-call.held", 6)
    await stage.said(sessionId, "session.idled", 6)
    await stage.asks(sessionId, { type: "session.interrupt" }, "session.idled", 7)
  },
  compacted: async (stage) => {
    const sessionId = "sesn_compacted"
    await stage.start()
    // Near the window, then beyond it.
    const agent = { name: "t", model: "claude-sonnet-5-5", contextTokens: windowTokens, tools: [{ name: "look", backend: "classes" }] }
    await stage.begin(sessionId, `Remember this: ${"so much is to be said, ".repeat(420)}`, { agent })
    await stage.said(sessionId, "session.idled")
    await stage.asks(sessionId, { type: "message.send", content: '[[call look {"n":1}]]' }, "session.idled", 2)
    await stage.asks(sessionId, { type: "message.send", content: "And more: ".repeat(1500) }, "session.idled", 3)
  },
  closed: async (stage) => {
    await stage.start()
    const updated = "sesn_archived"
    await stage.begin(updated, "Good morning.", { title: "Morning", metadata: { customer: "7" }, profile: { name: "House" } })
    await stage.said(updated, "session.idled")
    const tools = [{ name: "look", backend: "classes" }]
    const changes = { title: "Evening", metadata: { customer: "8" } }
    await stage.asks(updated, { type: "session.update", changes, agent: { tools } }, "session.updated")
    await stage.asks(updated, { type: "message.send", content: '[[call look {"n":1}]]' }, "session.idled", 2)
    await stage.asks(updated, { type: "session.archive" }, "session.archived")
    await stage.asks(updated, { type: "session.update", changes: { title: "Night" } }, "session.updated", 2)
    await stage.asks(updated, { type: "message.send", content: "Still there?" }, "command.rejected")
    const deleted = "sesn_deleted"
    await stage.begin(deleted, '[[call look {"n":2}]]')
    await stage.said(deleted, "session.idled")
    await stage.asks(deleted, { type: "session.delete" }, "session.deleted")
    await stage.asks(deleted, { type: "message.send", content: "Still there?" }, "command.rejected")
  },
}

const wanted = process.argv.slice(2)
const dir = mkdtempSync(join(tmpdir(), "reins-record-"))
const orders = await startOrders(join(dir, "effects.jsonl"))
const tools = fileURLToPath(new URL("../chaos/classes.ts", import.meta.url))
const backend = await toolsWithLedger(tools, join(dir, "effects.jsonl"))
for (const [name, scenario] of Object.entries(scenarios)) {
  const file = fileURLToPath(new URL(`${version}-${name}.jsonl`, import.meta.url))
  if (wanted.length > 0 && !wanted.includes(name)) continue
  if (existsSync(file)) {
    process.stdout.write(`${version}-${name}.jsonl stands and is left as it is\n`)
    continue
  }
  const gate = new Gate()
  const model = await startSimulatedModel({
    callsMax: 1,
    contextTokens: windowTokens,
    script: async (call) => {
      await gate.pass(call)
      return planned(call)
    },
  })
  const stage = new Stage(orders.url, backend, model)
  await scenario(stage, gate)
  const recording = await stage.recording(name)
  writeFileSync(file, recording.text())
  process.stdout.write(`${version}-${name}.jsonl: ${recording.records.length} records\n${JSON.stringify(recording.tail, null, 1)}\n`)
  await stage.stop()
  await model.stop()
}
await orders.close()
rmSync(dir, { recursive: true, force: true })
process.exit(0)
