import { randomBytes } from "node:crypto"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { topicNames } from "@reins/events"
import { build } from "@reins/host"
import { partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { type Config, Metrics, type RunningProcess, startProcess, toolsTopicSettings, topicSettings, version } from "@reins/runtime"
import { type Backend, loadTools, toolsBackend, worker } from "@reins/worker-kit"
import { readWholeLog, type WholeLog } from "../chaos/read-log.ts"
import { type CrashAt, Mortal } from "./mortal.ts"

/** Sets of services that share a process. */
export type Shape = Readonly<Record<string, readonly string[]>>

/** All in one process, and each apart. */
export const shapes: Readonly<Record<string, Shape>> = {
  hosted: { host: ["intake", "llm-invoker", "tool-router", "tool-workers/http", "classes"] },
  apart: {
    intake: ["intake"],
    "llm-invoker": ["llm-invoker"],
    "tool-router": ["tool-router"],
    "tool-workers/http": ["tool-workers/http"],
    "tool-workers/classes": ["classes"],
  },
}

const partitions = 1

interface Alive {
  readonly log: MemoryLog
  readonly mortal: Mortal
  running: RunningProcess | null
}

/** Processes over one broker in memory, one of which is to die; its successor is started at once. */
export class MemoryWorld {
  /** The process that died; null until then. */
  died: string | null = null
  readonly #broker = new MemoryBroker()
  readonly #config: Config
  readonly #backend: Backend
  readonly #shape: Shape
  readonly #alive = new Map<string, Alive>()
  readonly #failures: Error[] = []
  readonly #started: Promise<void>[] = []
  #over = false

  constructor(config: Config, backend: Backend, shape: Shape) {
    this.#config = { ...config, partitions }
    this.#backend = backend
    this.#shape = shape
  }

  /** Starts every process; the one that is named dies where it is told to. */
  async start(doomed: string | null, crashAt: CrashAt | null): Promise<void> {
    const log = this.#broker.connect()
    const { prefix } = this.#config
    await log.applyTopics([...topicSettings(prefix, partitions), toolsTopicSettings(prefix, partitions, this.#backend.backend)])
    for (const name of Object.keys(this.#shape)) this.#begin(name, name === doomed ? crashAt : null)
    // One that dies while it starts is followed by another, whose start counts in its place.
    for (const started of this.#started) await started
  }

  #begin(name: string, crashAt: CrashAt | null): void {
    const log = this.#broker.connect()
    const mortal = new Mortal(crashAt, () => {
      this.died = name
      log.kill()
      // After the turn in which it died: the group learns of it when the session timeout is over.
      setImmediate(() => {
        log.expire()
        void one.running?.loop.stop().catch(() => undefined)
        if (!this.#over) this.#begin(name, null)
      })
    })
    const one: Alive = { log, mortal, running: null }
    this.#alive.set(name, one)
    const died = new Promise<void>((resolve) => {
      const look = (): void => {
        if (mortal.dead) resolve()
        else if (one.running === null && !this.#over) setTimeout(look, 1)
      }
      look()
    })
    this.#started.push(Promise.race([this.#run(name, one), died]))
  }

  async #run(name: string, one: Alive): Promise<void> {
    const services = this.#shape[name] ?? []
    const hosted = services.filter((service) => service !== this.#backend.backend)
    const codec = await Codec.open(this.#broker.registry)
    one.running = await startProcess({
      config: this.#config,
      services: services.map((service) => (service === this.#backend.backend ? this.#backend.service : service)),
      backends: services.includes(this.#backend.backend) ? [this.#backend.backend] : [],
      build: (context) =>
        one.mortal.services([
          ...build(hosted, context),
          ...(services.includes(this.#backend.backend) ? [worker(this.#backend, context.me)] : []),
        ]),
      opened: { log: one.mortal.log(one.log), codec },
      observe: (record) => one.mortal.folded(record),
      commitIntervalMs: 5,
      metrics: new Metrics(version),
      failed: (error) => void this.#failures.push(error),
    })
  }

  /** The points that a process came to, and how often. */
  passed(name: string): ReadonlyMap<string, number> {
    return this.#alive.get(name)?.mortal.passed ?? new Map()
  }

  /** As any client would: appended, and acknowledged once this resolves. */
  async command(sessionId: string, value: object): Promise<void> {
    await this.#broker.connect().append({
      topic: topicNames(this.#config.prefix).commands,
      partition: partitionOf(sessionId, partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify(value)),
      headers: {},
      certainty: "always",
    })
  }

  /** Reads the log until the session says what is waited for; everything in it then. */
  async until(sessionId: string, type: string, limitMs: number): Promise<WholeLog> {
    const codec = await Codec.open(this.#broker.registry)
    const end = performance.now() + limitMs
    const log = this.#broker.connect()
    const { sessions } = topicNames(this.#config.prefix)
    for (;;) {
      if (this.#failures[0] !== undefined) throw this.#failures[0]
      for await (const records of log.replay(sessions, 0, 0)) {
        if (!records.some(({ headers }) => headers["session"] === sessionId && headers["type"] === type)) continue
        const whole = await readWholeLog(log, codec, this.#config.prefix)
        if (whole.records.get(sessionId)?.some((record) => record.type === type && record.verdict === "accepted")) return whole
      }
      if (performance.now() > end) throw new Error(`${sessionId} did not say ${type} within ${limitMs} ms.`)
      await sleep(4)
    }
  }

  async read(): Promise<WholeLog> {
    return readWholeLog(this.#broker.connect(), await Codec.open(this.#broker.registry), this.#config.prefix)
  }

  async stop(): Promise<void> {
    this.#over = true
    for (const { mortal } of this.#alive.values()) mortal.spare()
    for (const { running, mortal } of this.#alive.values()) if (!mortal.dead) await running?.loop.stop()
  }
}

/** A prefix and settings of its own, apart from whatever the environment says. */
export function worldConfig(config: Config): Config {
  return { ...config, kafka: null, prefix: `crash-${randomBytes(4).toString("hex")}`, partitions }
}

/** The tools of a file with this ledger: they read their settings when they are loaded. */
export async function toolsWithLedger(tools: string, ledger: string): Promise<Backend> {
  process.env["LEDGER_FILE"] = ledger
  try {
    return toolsBackend("tool-workers/classes", "classes", await loadTools(tools))
  } finally {
    delete process.env["LEDGER_FILE"]
  }
}
