import { randomBytes } from "node:crypto"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { topicNames } from "@reins/events"
import { build } from "@reins/host"
import { type Log, partitionOf } from "@reins/log"
import { MemoryBlobs, withBlobs } from "@reins/log/blobs"
import type { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import {
  type Config,
  Metrics,
  type Pace,
  type RunningProcess,
  startProcess,
  toolsTopicSettings,
  topicSettings,
  version,
} from "@reins/runtime"
import { stateDigest } from "@reins/session"
import { type Backend, loadTools, toolsBackend, worker } from "@reins/worker-kit"
import { type CrashAt, Mortal } from "./mortal.ts"
import { fieldBytesMax, Seen, type Shape, type Step } from "./story.ts"

const partitions = 1
/** How often offsets are committed, and how soon snapshots are written: a story of some 50 ms shall have them all. */
const pace: Pace = { commitIntervalMs: 5, snapshotRestsMs: 10, snapshotUncoveredMax: 5 }
const drainMs = 1000

interface Alive {
  readonly log: MemoryLog
  readonly mortal: Mortal
  readonly started: Promise<void>
  running: RunningProcess | null
}

export interface MemoryWorldOptions {
  readonly config: Config
  readonly codec: Codec
  readonly backend: Backend
  readonly shape: Shape
  /** Whether the log has a cleaner, as a broker, or takes records out at once, as a log of this machine. */
  readonly cleaner: "compacts" | "none"
}

/** Processes over one broker and one blob store in memory, one of which is to die; its successor is started at once. */
export class MemoryWorld {
  /** The process that died; null until then. */
  died: string | null = null
  readonly blobs: MemoryBlobs = new MemoryBlobs()
  readonly #broker: MemoryBroker
  readonly #options: MemoryWorldOptions
  readonly #alive = new Map<string, Alive>()
  readonly #failures: Error[] = []
  #counts = false

  constructor(options: MemoryWorldOptions) {
    this.#options = options
    this.#broker = new MemoryBroker({ cleaner: options.cleaner })
  }

  /** Starts every process; the one that is named dies where it is told to. `counts`: its points count from here on. */
  async start(doomed: string | null, crashAt: CrashAt | null, counts: boolean): Promise<void> {
    const { config, backend, shape } = this.#options
    const { prefix } = config
    this.#counts = counts
    await this.#broker
      .connect()
      .applyTopics([...topicSettings(prefix, partitions), toolsTopicSettings(prefix, partitions, backend.backend)])
    for (const name of Object.keys(shape)) this.#begin(name, name === doomed ? crashAt : null)
    for (const name of Object.keys(shape)) await this.#living(name)
  }

  /** The process of this name once it has started. One that dies while it starts is followed by another, whose start counts in its place. */
  async #living(name: string): Promise<Alive> {
    for (;;) {
      const one = this.#alive.get(name) as Alive
      await one.started
      if (!one.mortal.dead) return one
      await sleep(0)
    }
  }

  #begin(name: string, crashAt: CrashAt | null): void {
    const log = this.#broker.connect()
    const mortal = new Mortal(crashAt, this.#counts, () => {
      this.died = name
      log.kill()
      // After the turn in which it died: the group learns of it when the session timeout is over.
      setImmediate(() => {
        log.expire()
        void one.running?.loop.stop().catch(() => undefined)
        this.#begin(name, null)
      })
    })
    const started = Promise.race([
      mortal.died,
      this.#run(name, log, mortal).then((running) => {
        one.running = running
      }),
    ])
    const one: Alive = { log, mortal, started, running: null }
    this.#alive.set(name, one)
  }

  #run(name: string, log: MemoryLog, mortal: Mortal): Promise<RunningProcess> {
    const { config, codec, backend, shape } = this.#options
    const services = shape[name] ?? []
    const hosted = services.filter((service) => service !== backend.backend)
    const isWorker = services.includes(backend.backend)
    return startProcess({
      config,
      services: services.map((service) => (service === backend.backend ? backend.service : service)),
      backends: isWorker ? [backend.backend] : [],
      build: (context) => mortal.services([...build(hosted, context), ...(isWorker ? [worker(backend, context.me)] : [])]),
      opened: { log: withBlobs(mortal.log(log), { codec, blobs: mortal.blobs(this.blobs), fieldBytesMax }), codec },
      observe: (record) => mortal.folded(record),
      pace,
      metrics: new Metrics(version),
      failed: (error) => void this.#failures.push(error),
    })
  }

  /** The points that a process came to, and how often. */
  passed(name: string): ReadonlyMap<string, number> {
    return this.#alive.get(name)?.mortal.passed ?? new Map()
  }

  /** Where the process that runs under this name now began to read the session log. */
  readFrom(name: string): number {
    return this.#alive.get(name)?.mortal.readFrom.get("sessions") ?? 0
  }

  /** As any client has it. */
  get log(): Log {
    return withBlobs(this.#broker.connect(), { codec: this.#options.codec, blobs: this.blobs })
  }

  /** Says everything that is to be said, each when the log has come so far. */
  async tell(steps: readonly Step[], limitMs: number): Promise<void> {
    const { prefix } = this.#options.config
    const log = this.#broker.connect()
    const seen = new Seen(log, prefix, { sessions: 0, snapshots: 0 })
    const end = performance.now() + limitMs
    for (const { command, counts, done } of steps) {
      if (counts === true) this.#count()
      const { sessionId } = command
      await log.append({
        topic: topicNames(prefix).commands,
        partition: partitionOf(sessionId, partitions),
        key: () => sessionId,
        value: Buffer.from(JSON.stringify(command)),
        headers: {},
        certainty: "always",
      })
      for (;;) {
        if (this.#failures[0] !== undefined) throw this.#failures[0]
        await seen.look()
        if (done(seen)) break
        if (performance.now() > end) throw new Error(`After ${command.commandId} the log did not come to what it should in ${limitMs} ms.`)
        await sleep(1)
      }
    }
  }

  #count(): void {
    this.#counts = true
    for (const { mortal } of this.#alive.values()) mortal.count()
  }

  /**
   * Everyone drains, and their successors where they die of that. Before that, every process that reads `sessions` is to have come to these
   * states; what it came to otherwise, as sentences.
   */
  async end(digests: ReadonlyMap<string, string>): Promise<readonly string[]> {
    const differing: string[] = []
    for (const name of Object.keys(this.#options.shape)) {
      for (;;) {
        const one = await this.#living(name)
        if (!name.startsWith("tool-workers")) differing.push(...(await differences(name, one, digests)))
        await Promise.race([one.running?.loop.drain(drainMs), one.mortal.died])
        if (!one.mortal.dead) break
      }
    }
    return differing
  }
}

const agreesWithinMs = 5000

/** Sessions of which a process has another state than these, after it had time to read everything. */
async function differences(name: string, { running }: Alive, digests: ReadonlyMap<string, string>): Promise<readonly string[]> {
  const end = performance.now() + agreesWithinMs
  for (;;) {
    const other = [...digests].filter(([sessionId, digest]) => {
      const session = running?.loop.session(0, sessionId)
      return session === undefined || stateDigest(session) !== digest
    })
    if (other.length === 0) return []
    if (performance.now() > end) return other.map(([sessionId]) => `${name} comes to another state of ${sessionId} than the log`)
    await sleep(2)
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
