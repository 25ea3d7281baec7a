import { collectBlobs, eraser } from "@reins/eraser"
import { topicNames } from "@reins/events"
import { intake } from "@reins/intake"
import { llmInvoker } from "@reins/llm-invoker"
import type { Log, LogRecord } from "@reins/log"
import { partitionOf } from "@reins/log"
import { withBlobs } from "@reins/log/blobs"
import { Codec, decodeRecord } from "@reins/log/codec"
import { type Carry, MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { type AnyService, Loop, type LoopOptions, Metrics, Spill, topicSettings } from "@reins/runtime"
import { SessionsFold, stateDigest } from "@reins/session"
import { toolRouter } from "@reins/tool-router"
import { worker } from "@reins/worker-kit"
import { BlobStore } from "./blobs.ts"
import { answerOf, client } from "./clients.ts"
import { type FaultKind, Faults } from "./faults.ts"
import { historyProblems, type Said } from "./histories.ts"
import { epochMs, Life } from "./life.ts"
import { SimulatedModel } from "./model.ts"
import { connect, type Network, NetworkedLog } from "./network.ts"
import { type Counted, Oracle, type Violation } from "./oracle.ts"
import { PlainWorker } from "./plain-worker.ts"
import { Random } from "./random.ts"
import { waitsFor } from "./reference.ts"
import { Tools, toolsOf } from "./tools.ts"
import { VirtualTime } from "./virtual-time.ts"

export type Deployment = "together" | "split" | "apart"

interface Deployed {
  readonly name: string
  readonly hosts: readonly string[]
  readonly times: number
}

/** How the services are spread over processes. */
export const deployments: Readonly<Record<Deployment, readonly Deployed[]>> = {
  /** Everything hosted together, three times. */
  together: [{ name: "host", hosts: ["intake", "llm-invoker", "tool-router", "eraser", "ledger", "second"], times: 3 }],
  /** The session services apart from the workers, two of each. */
  split: [
    { name: "host", hosts: ["intake", "llm-invoker", "tool-router", "eraser"], times: 2 },
    { name: "work", hosts: ["ledger", "second"], times: 2 },
  ],
  /** Each service for itself, two of each. */
  apart: ["intake", "llm-invoker", "tool-router", "eraser", "ledger", "second"].map((name) => ({ name, hosts: [name], times: 2 })),
}

export interface WorldOptions {
  readonly seed: number
  readonly deployment?: Deployment
  readonly without?: ReadonlySet<FaultKind>
  /** Kinds that strike as often as they can. */
  readonly often?: ReadonlySet<FaultKind>
  readonly sessionsMax?: number
  /** No faults but this: every process drops all that it has in memory after so many records and goes on from the log. */
  readonly forgetEvery?: number
  readonly tell?: (line: string) => void
}

export interface Story {
  readonly seed: number
  readonly deployment: Deployment
  readonly violations: readonly Violation[]
  readonly faults: ReadonlyMap<FaultKind, number>
  readonly counted: Counted
  readonly virtualMs: number
  readonly events: number
}

const prefix = "sim"
const topics = topicNames(prefix)
const backends = Object.keys(toolsOf)
/** After the faults stop, everything must have come to rest within this. */
const settleMs = 15 * 60_000
/** Longer than a grace time, the looks in it and the last that a late append may take together. */
const steadyMs = 15_000
/** Beside the session timeout and the grace time: for joining, replaying, looking and appending. */
const recoveryMarginMs = 5000
/** Slow effects that run before one that waits for a free place. */
const busyMarginMs = 15_000
/** Longer than any append takes here, and often enough. */
const collecting = { blobGraceMs: 60_000, collectFirstMs: 3000, collectEveryMs: 10_000 }
/** A run with more events than this goes round in circles. */
const eventsMax = 150_000
/** Processes that begin again after every record do little else. */
const eventsMaxForgetting = 1_000_000

/** What all worlds share, because making it anew for each would take longer than the world itself. */
interface Equipment {
  readonly codec: Codec
  readonly metrics: Metrics
  worlds: number
}
let equipment: Promise<Equipment> | undefined
/** What the processes would say to their operators; the story is told by the oracle. */
const unheard = (): void => undefined
const logger = {
  trace: unheard,
  debug: unheard,
  info: unheard,
  warn: unheard,
  error: unheard,
  fatal: unheard,
} as unknown as LoopOptions["logger"]

async function open(): Promise<Equipment> {
  return { codec: await Codec.open(new MemoryBroker().registry), metrics: new Metrics("simulation"), worlds: 0 }
}

/** Tells one story: everything in it follows from the seed. */
export async function simulate(options: WorldOptions): Promise<Story> {
  equipment ??= open()
  return new World(await equipment, options).run()
}

interface Slot {
  readonly name: string
  readonly hosts: readonly string[]
  readonly group: string
  readonly skewMs: number
  /** A helper that comes and goes. */
  readonly passing: boolean
  starts: number
  running: Running | undefined
}

interface Running {
  readonly slot: Slot
  readonly life: Life
  readonly client: MemoryLog
  readonly log: NetworkedLog
  /** The same, with what is too large for a record beside it. */
  readonly whole: Log
  readonly loop: Loop | undefined
  readonly plain: PlainWorker | undefined
  leaving: boolean
  folded: number
  /** Effects under way, and when the result of the last will stand. */
  effects: number
  quietAt: number
}

class World implements Network {
  readonly time = new VirtualTime()
  readonly random: Random
  readonly faults: Faults
  readonly absenceGraceMs: number
  readonly sessionTimeoutMs: number
  readonly #options: WorldOptions
  readonly #equipment: Equipment
  readonly #deployment: Deployment
  readonly #oracle: Oracle
  readonly #broker: MemoryBroker
  readonly #tools: Tools
  readonly #model: SimulatedModel
  readonly #slots: Slot[] = []
  readonly #partitions: number
  readonly #modelDeadlineMs: number
  /** How many effects of one service a process has under way at most, so that others wait for a place; null: as many as the product lets it. */
  readonly #places: number | null
  /** How long a session that runs no more is kept. */
  readonly #retentionMs: number | null
  /** How little a process keeps in memory, and how soon it writes snapshots: in some worlds everything that rests is spilled at once. */
  readonly #memory: Pick<LoopOptions, "sessionBytes" | "snapshotRestsMs" | "commitIntervalMs">
  readonly #spill = new Spill()
  readonly #blobs: BlobStore
  /** From how many bytes on a field stands in the blob store; null: in none. */
  readonly #fieldBytesMax: number | null
  /** How long the faults last. */
  readonly #troubleMs: number
  readonly #slow = new Map<string, { untilMs: number; delayMs: number }>()
  readonly #hiddenUntil = new Map<string, number>()
  /** When an instance was last away from its group, or seemed to be. */
  readonly #unsteadyAt = new Map<string, number>()
  readonly #failures: string[] = []
  #clientsDone = false

  constructor(equipment: Equipment, options: WorldOptions) {
    this.#equipment = equipment
    this.#options = options
    equipment.worlds++
    const root = new Random(options.seed)
    this.random = root.fork("network")
    const draw = root.fork("world")
    this.faults = new Faults(root.fork("faults"), options.without ?? new Set(), options.often ?? new Set())
    if (options.forgetEvery !== undefined) this.faults.stop()
    // Drawn in any case, so that a story told with its deployment given is the same story.
    const drawn = draw.pick(Object.keys(deployments) as Deployment[])
    this.#deployment = options.deployment ?? drawn
    this.#partitions = draw.int(2, 4)
    this.sessionTimeoutMs = draw.int(1500, 6000)
    // A member that lives may be off the list for less than the grace time.
    this.absenceGraceMs = draw.pick([0, 3000, 6000])
    this.#modelDeadlineMs = draw.pick([12_000, 45_000])
    this.#places = draw.pick([null, null, 1, 2])
    this.#memory = {
      sessionBytes: draw.pick([0, 20_000, 1_000_000_000]),
      snapshotRestsMs: draw.pick([0, 400, 3000]),
      commitIntervalMs: draw.pick([60, 500, 2000]),
    }
    this.#retentionMs = draw.chance(0.15) ? draw.int(3000, 20_000) : null
    // Most worlds are dense; some are long enough for deadlines and their margins to pass between the messages.
    this.#troubleMs = draw.chance(0.85) ? draw.int(6000, 25_000) : draw.int(90_000, 200_000)
    this.#blobs = new BlobStore({ time: this.time, random: root.fork("blobs"), faults: this.faults })
    this.#fieldBytesMax = root.fork("large").pick([null, 5, 5, 30, 60, 120])
    this.#oracle = new Oracle(
      equipment.codec,
      prefix,
      this.#blobs,
      (instance) => this.#isSteady(instance),
      (instance, sessionId) => this.#owns(instance, sessionId),
      () => this.time.now,
    )
    if (options.tell !== undefined) {
      const { tell } = options
      this.#oracle.tell = (line) => tell(`${this.time.now.toString().padStart(7)} ${line}`)
    }
    this.#broker = new MemoryBroker({
      now: () => epochMs + this.time.now,
      defer: (run) => void this.time.after(this.random.int(0, 2), run),
      timers: { monotonic: () => this.time.now, after: (ms, run) => this.time.after(ms, run) },
    })
    const oracle = this.#oracle
    const pace = draw.pick([1, 6, 25, 60])
    const deaths = root.fork("deaths")
    const forked = (purpose: string) => ({ time: this.time, random: root.fork(purpose), faults: this.faults, pace })
    this.#tools = new Tools({
      ...forked("tools"),
      began: (job, kit) => oracle.began(job, kit),
      questioned: (key, life) => oracle.questioned(key, life.instance),
      orphaned: (life) => {
        this.time.after(deaths.int(1, 40), () => {
          const orphan = this.#slots.find(({ running }) => running?.life === life)?.running
          if (orphan !== undefined) this.#kill(orphan)
        })
      },
      happened: (effect) => oracle.happened(effect),
    })
    this.#model = new SimulatedModel({
      ...forked("model"),
      asked: (call) => oracle.asked(call),
      answered: (call, answer) => oracle.answered(call, answer),
    })
    for (const { name, hosts, times } of [...deployments[this.#deployment], { name: "plain", hosts: ["plain"], times: 2 }]) {
      const group = `${prefix}.${name}`
      for (let index = 0; index < times; index++) this.#slots.push(this.#slot(`${name}${index}`, hosts, group, false, draw))
    }
  }

  #slot(name: string, hosts: readonly string[], group: string, passing: boolean, draw: Random): Slot {
    let skewMs = 0
    if (this.faults.strikes("clock-skew", 1)) skewMs = draw.int(-7_200_000, 7_200_000)
    return { name, hosts, group, skewMs, passing, starts: 0, running: undefined }
  }

  async run(): Promise<Story> {
    await this.#prepare()
    const draw = this.random.fork("start")
    for (const slot of this.#slots) this.time.after(draw.int(0, 200), () => this.#start(slot))
    if (this.#options.forgetEvery === undefined) this.#trouble()
    this.time.after(this.#troubleMs, () => this.#peace())
    let over = false
    const watch = (quiet: number): void => {
      const still = this.time.now > this.#troubleMs && this.#atRest()
      if (still && quiet >= 4) over = true
      else if (this.time.now > this.#troubleMs + settleMs) over = true
      else this.time.after(500, () => watch(still ? quiet + 1 : 0))
    }
    watch(0)
    const most = this.#options.forgetEvery === undefined ? eventsMax : eventsMaxForgetting
    await this.time.run(() => over || this.time.happened > most)
    for (const failure of this.#failures) this.#violated("I2", failure)
    if (!this.#clientsDone) this.#violated("I2", "a client still waits for an acknowledgement")
    this.#oracle.conclude()
    await this.#conclude()
    this.#spill.close()
    return {
      seed: this.#options.seed,
      deployment: this.#deployment,
      violations: this.#oracle.violations,
      faults: this.faults.counts,
      counted: this.#oracle.counted,
      virtualMs: this.time.now,
      events: this.time.happened,
    }
  }

  #violated(invariant: Violation["invariant"], detail: string): void {
    this.#oracle.tell?.(`!!! ${invariant} ${detail}`)
    this.#oracle.violations.push({ invariant, detail })
  }

  // --- the broker

  landed(by: string, batches: Parameters<Carry>[0], outcomes: Awaited<ReturnType<Carry>>): void {
    batches.forEach(({ topic, partition, entries }, index) => {
      const outcome = outcomes[index]
      if (outcome === undefined || !("placed" in outcome)) return
      const { baseOffset, timestamp } = outcome.placed
      entries.forEach(({ key, value, headers }, entry) => {
        this.#oracle.landed({ topic, partition, offset: baseOffset + entry, timestamp, key, value, headers }, by)
      })
    })
  }

  committed(group: string, commits: Parameters<Network["committed"]>[1]): void {
    this.#oracle.committed(group, commits)
  }

  extraDelayMs(topic: string): number {
    const slow = this.#slow.get(topic)
    return slow !== undefined && slow.untilMs > this.time.now ? this.random.int(0, slow.delayMs) : 0
  }

  hidden(instance: string): boolean {
    const isHidden = (this.#hiddenUntil.get(instance) ?? 0) > this.time.now
    if (isHidden) this.#unsteadyAt.set(instance, this.time.now)
    return isHidden
  }

  expelled(instance: string): void {
    this.#oracle.tell?.(`EXPELLED ${instance}`)
    this.#unsteadyAt.set(instance, this.time.now)
  }

  lost(instance: string, partition: number): void {
    this.#oracle.lost(instance, (sessionId) => partitionOf(sessionId, this.#partitions) === partition)
  }

  #owns(instance: string, sessionId: string): boolean {
    const running = this.#slots.find((slot) => slot.running?.life.instance === instance)?.running
    return running?.log.owns(partitionOf(sessionId, this.#partitions)) === true
  }

  #isSteady(instance: string): boolean {
    const lives = this.#slots.some(({ running }) => running?.life.instance === instance && running.life.running && !running.leaving)
    return lives && this.time.now - (this.#unsteadyAt.get(instance) ?? 0) > steadyMs
  }

  async #prepare(): Promise<void> {
    const admin = this.#broker.connect()
    await admin.applyTopics(topicSettings(prefix, this.#partitions, backends))
    const declare = (backend: string, tool: string, effect: string, claims: boolean): void => {
      const value = this.#equipment.codec.encode("declarations", {
        type: "tool.declared",
        backend,
        tool,
        description: `A tool that is ${effect}.`,
        inputSchema: '{"additionalProperties":false,"properties":{"n":{"type":"integer"}},"required":["n"],"type":"object"}',
        effect,
        timeoutMs: 4000,
        sideEffects: null,
        claims,
        encoding: claims ? "avro" : "json",
      })
      this.#broker.inject(topics.declarations, 0, { key: `${backend}/${tool}`, value })
    }
    // Declared once before anyone starts, as by an earlier deployment: a session that starts first is no race then.
    for (const [backend, tools] of Object.entries(toolsOf))
      for (const [tool, effect] of tools) declare(backend, tool, effect, backend !== "plain")
    const draw = this.random.fork("clients")
    const sessions = Math.min(draw.int(2, 5), this.#options.sessionsMax ?? 5)
    const life = new Life("client", this.time, 0)
    const clients: Promise<void>[] = []
    for (let index = 0; index < sessions; index++) {
      const log = this.#whole(new NetworkedLog(this, connect(this, this.#broker, life), life), life)
      const own = draw.fork(`client ${index}`)
      const acknowledged = (command: Parameters<Oracle["acknowledged"]>[0]): void => this.#oracle.acknowledged(command)
      clients.push(
        client(
          {
            time: this.time,
            random: own,
            faults: this.faults,
            log,
            topic: topics.commands,
            partitions: this.#partitions,
            lastsMs: this.#troubleMs,
            acknowledged,
            look: (sessionId) => this.#oracle.look(sessionId),
          },
          `s${index}`,
        ),
      )
    }
    void Promise.all(clients).then(() => {
      this.#clientsDone = true
    })
  }

  // --- processes

  #whole(log: Log, life: Life): Log {
    const { codec } = this.#equipment
    if (this.#fieldBytesMax === null) return log
    return withBlobs(log, { codec, blobs: this.#blobs.connect(life), clock: life, fieldBytesMax: this.#fieldBytesMax })
  }

  #start(slot: Slot): void {
    const instance = `${slot.name}.${++slot.starts}`
    const life = new Life(instance, this.time, slot.skewMs)
    const client = connect(this, this.#broker, life)
    const log = new NetworkedLog(this, client, life)
    const whole = this.#whole(log, life)
    this.#oracle.tell?.(`START ${instance}`)
    this.#unsteadyAt.set(instance, this.time.now)
    this.#oracle.started(instance)
    const failed = (error: Error): void => {
      if (life.dead) return
      this.#failures.push(`${instance} cannot go on: ${error.message}`)
      this.#kill(running)
    }
    const isPlain = slot.hosts.includes("plain")
    const counting = (service: AnyService): AnyService => {
      const { perform } = service
      if (perform === undefined) return service
      return {
        ...service,
        ...(this.#places === null || service.contract.erases === true ? {} : { concurrency: this.#places }),
        perform: async (work, performing) => {
          running.effects++
          try {
            return await perform(work, performing)
          } finally {
            running.effects--
            running.quietAt = this.time.now + 30
          }
        },
      }
    }
    const loop = isPlain
      ? undefined
      : new Loop({
          log: whole,
          codec: this.#equipment.codec,
          services: slot.hosts.map((host) => counting(this.#service(host, life, slot.group, whole))),
          prefix,
          partitions: this.#partitions,
          group: slot.group,
          instance,
          backends,
          metrics: this.#equipment.metrics,
          logger,
          clock: life,
          idPrefix: `${instance}_`,
          failed,
          spill: this.#spill,
          unreadAgainMs: 700,
          ...this.#memory,
          reread: (partition, sessionId, below) => this.#oracle.reread(instance, partition, sessionId, below),
          observe: (record) => {
            this.#oracle.observed(instance, record)
            const { forgetEvery } = this.#options
            // What is answered about a deleted session leaves nothing to go on from: who forgets it before its place is committed says it again.
            const leavesNothing = record.event.type === "command.rejected" && this.#oracle.look(record.event.sessionId)?.phase === "deleted"
            if (forgetEvery === undefined || leavesNothing) return
            running.folded++
            if (running.folded % forgetEvery === 0 && record.live) this.#forget(running)
          },
        })
    const plain = isPlain ? new PlainWorker(whole, life, this.#tools, topics.tools("plain")) : undefined
    const running: Running = { slot, life, client, log, whole, loop, plain, leaving: false, folded: 0, effects: 0, quietAt: 0 }
    slot.running = running
    const started = loop === undefined ? plain?.start(slot.group) : loop.start()
    started?.catch(failed)
  }

  #service(host: string, life: Life, group: string, log: Log): AnyService {
    const { codec, metrics } = this.#equipment
    switch (host) {
      case "intake":
        return intake({ codec, partitions: this.#partitions })
      case "llm-invoker": {
        const chance = this.random.fork(`jitter of ${life.instance}`)
        return llmInvoker({
          model: this.#model.port(life),
          metrics,
          limits: { deadlineMs: this.#modelDeadlineMs, deadlineMarginMs: 1000 },
          random: () => chance.next(),
        })
      }
      case "tool-router":
        return toolRouter()
      case "eraser":
        return eraser({
          log,
          codec,
          prefix,
          partitions: this.#partitions,
          logger,
          limits: { retentionMs: this.#retentionMs, ...collecting },
        })
      default:
        return worker(this.#tools.backend(host, life), { group, instance: life.instance })
    }
  }

  #kill(running: Running): void {
    const { slot, life, client } = running
    if (life.dead) return
    life.end()
    client.kill()
    slot.running = undefined
    this.#oracle.tell?.(`KILL ${life.instance}`)
    this.#oracle.died(life.instance)
    this.time.after(this.sessionTimeoutMs, () => client.expire())
    if (!slot.passing) this.time.after(this.random.int(10, 1500), () => this.#start(slot))
  }

  /** Everything it knows is gone at once, and so is its membership: what it knows next it knows from the log. */
  #forget(running: Running): void {
    const { slot, life, client } = running
    if (life.dead) return
    const forget = (): void => {
      if (life.dead) return
      // What is in memory goes, what is under way outside is brought to its end: this is about state, not about effects.
      if (running.effects > 0 || this.time.now < running.quietAt) return void life.after(5, forget)
      life.end()
      client.kill()
      client.expire()
      this.#oracle.tell?.(`FORGET ${life.instance}`)
      this.#start(slot)
    }
    life.after(1, forget)
  }

  #pause(running: Running, ms: number): void {
    const { life, client } = running
    this.#oracle.tell?.(`PAUSE ${life.instance} for ${ms} ms`)
    life.pause()
    client.pause()
    if (ms > this.sessionTimeoutMs) this.time.after(this.sessionTimeoutMs, () => client.expire())
    this.time.after(ms, () => this.#resume(running))
  }

  #resume({ life, client }: Running): void {
    if (life.dead || life.running) return
    this.#oracle.tell?.(`RESUME ${life.instance}`)
    this.#unsteadyAt.set(life.instance, this.time.now)
    // Whether a process hears first that it was expelled, or its own events, is chance.
    if (this.random.chance(0.5)) {
      life.resume()
      // Until it hears from its group it goes on with what it had in hand.
      this.time.after(this.faults.over ? 0 : this.random.int(0, 100), () => {
        if (life.running) client.resume()
      })
    } else {
      client.resume()
      life.resume()
    }
  }

  #drain(running: Running): void {
    const { slot, life, loop, plain, whole } = running
    if (running.leaving) return
    running.leaving = true
    this.#oracle.tell?.(`DRAIN ${life.instance}`)
    const gone = async (): Promise<void> => {
      if (loop !== undefined) await loop.drain(this.random.int(0, 4000))
      else await plain?.stop()
      await whole.close()
      if (life.dead) return
      life.end()
      slot.running = undefined
      this.#oracle.tell?.(`LEFT ${life.instance}`)
      this.#oracle.died(life.instance)
      if (!slot.passing) this.time.after(this.random.int(10, 600), () => this.#start(slot))
    }
    void gone()
  }

  // --- faults

  #trouble(): void {
    const { faults } = this
    const draw = this.random.fork("trouble")
    const every = (kind: FaultKind, meanMs: number, strike: (draw: Random) => boolean): void => {
      const rate = faults.rate(kind)
      if (rate === 0) return
      const own = draw.fork(kind)
      // In a long world as much happens as in a short one, spread out.
      const mean = (meanMs / rate) * Math.max(1, this.#troubleMs / 40_000)
      const next = (): void =>
        void this.time.after(Math.ceil(own.next() * 2 * mean), () => {
          if (faults.over) return
          if (strike(own)) faults.count(kind)
          next()
        })
      next()
    }
    const someone = (own: Random): Running | undefined => own.pick(this.#slots).running
    every("kill", 900, (own) => {
      const running = someone(own)
      if (running === undefined) return false
      this.#kill(running)
      return true
    })
    every("outage", 12_000, () => {
      for (const { running } of this.#slots) if (running !== undefined) this.#kill(running)
      return true
    })
    const pause = (own: Random, least: number, most: number): boolean => {
      const running = someone(own)
      if (running === undefined || !running.life.running) return false
      this.#pause(running, own.int(least, most))
      return true
    }
    every("pause", 900, (own) => pause(own, 20, this.sessionTimeoutMs - 100))
    every("zombie", 2500, (own) => pause(own, this.sessionTimeoutMs + 50, this.sessionTimeoutMs * 3))
    every("drain", 1800, (own) => {
      const running = someone(own)
      if (running === undefined || running.leaving) return false
      this.#drain(running)
      return true
    })
    every("join", 4000, (own) => {
      const like = own.pick(this.#slots.filter((slot) => !slot.passing))
      const slot = this.#slot(`${like.name}x${this.#slots.length}`, like.hosts, like.group, true, own)
      this.#slots.push(slot)
      this.#start(slot)
      this.time.after(own.int(300, 6000), () => {
        if (slot.running !== undefined) this.#drain(slot.running)
      })
      return true
    })
    // Below the grace time a member that lives may be off the list; without one there is no such list.
    if (this.absenceGraceMs > 0)
      every("member-hidden", 1000, (own) => {
        const running = someone(own)
        if (running === undefined) return false
        this.#hiddenUntil.set(running.life.instance, this.time.now + own.int(50, this.absenceGraceMs - 1000))
        return true
      })
    const readTopics = [topics.commands, topics.sessions, ...backends.map((backend) => topics.tools(backend))]
    every("slow-topic", 1500, (own) => {
      this.#slow.set(own.pick(readTopics), { untilMs: this.time.now + own.int(100, 3000), delayMs: own.int(20, 1500) })
      return true
    })
    every("compaction", 1500, (own) => {
      this.#broker.compact(own.pick([topics.sessions, topics.declarations]), 0)
      this.#broker.compact(topics.snapshots, own.int(0, this.#partitions - 1))
      this.#broker.compact(topics.sessions, own.int(0, this.#partitions - 1), { tombstones: own.pick(["keep", "drop"]) })
      return true
    })
    every("blob-spoilt", 2500, (own) => this.#blobs.spoil(own, own.int(50, 4000)))
    every("poison", 2000, (own) => {
      // A stranger's record in the place of a session's snapshot.
      if (own.chance(0.3)) {
        const key = `s${own.int(0, 4)}`
        const value = own.chance(0.2) ? null : Buffer.from("this is no snapshot")
        this.#broker.inject(topics.snapshots, partitionOf(key, this.#partitions), { key, value })
      }
      this.#poison(own, own.pick(readTopics))
      return true
    })
  }

  #poison(own: Random, topic: string): void {
    const partition = own.int(0, this.#partitions - 1)
    const isTools = topics.backendOf(topic) !== null
    const mark = `poison-${this.time.happened}`
    const unknownSchema = Buffer.alloc(9)
    unknownSchema.writeInt32BE(1_000_000 + this.#equipment.worlds, 1)
    const kinds: (readonly [key: string | null, value: Uint8Array | null])[] = [
      [mark, Buffer.from("this is no record")],
      [mark, Buffer.from([0, 0, 0])],
      [mark, Buffer.from([7, 0, 0, 0, 1, 2, 3])],
      [mark, Buffer.from([0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255])],
      [mark, unknownSchema],
      [mark, Buffer.from('{"type":"tool-call.finished"')],
      [mark, this.#equipment.codec.encode("declarations", declaration)],
    ]
    if (topic === topics.commands) kinds.push([mark, null], [null, Buffer.from('{"type":"message.send","content":"From nobody."}')])
    if (isTools)
      kinds.push(
        [mark, Buffer.from('{"type":"tool-call.finished","sessionId":"s0"}')],
        [mark, Buffer.from('{"type":"tool-call.flown","sessionId":"s0"}')],
      )
    // Of a session by its key alone: it goes with the session.
    const homes = ["s0", "s1", "s2", "s3", "s4"].filter((sessionId) => partitionOf(sessionId, this.#partitions) === partition)
    if (topic === topics.sessions && homes.length > 0)
      kinds.push([`${own.pick(homes)}/${mark}`, unknownSchema], [`${own.pick(homes)}/${mark}`, Buffer.from("this is no record")])
    const [key, value] = own.pick(kinds)
    const headers = { poison: mark }
    const offset = this.#broker.inject(topic, partition, { key, value, headers })
    this.#oracle.landed({ topic, partition, offset, timestamp: Math.floor(epochMs + this.time.now), key, value, headers }, "someone")
    this.#oracle.poisoned({ mark, topic, partition, offset, key, value })
  }

  // --- peace

  #peace(): void {
    this.#oracle.tell?.("--- the faults stop")
    this.faults.stop()
    // Where few effects may run at a time, what a dead process left waits behind those of who is left.
    const queueMs = this.#places === null ? 0 : busyMarginMs
    this.#oracle.peace(this.sessionTimeoutMs + this.absenceGraceMs + recoveryMarginMs + queueMs)
    this.#slow.clear()
    this.#blobs.mend()
    this.#hiddenUntil.clear()
    for (const { running } of this.#slots) if (running !== undefined) this.#resume(running)
    this.#help(3)
    this.#answer(0)
  }

  /** A client of which every write arrives. */
  #send(sessionId: string, command: Record<string, unknown>): void {
    const log = this.#broker.connect((batches, write) => {
      const outcomes = write(batches)
      this.landed("client", batches, outcomes)
      return Promise.resolve(outcomes)
    })
    void log.append({
      topic: topics.commands,
      partition: partitionOf(sessionId, this.#partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify({ ...command, sessionId })),
      headers: {},
      certainty: "always",
    })
  }

  /** Someone sees to it that no session waits for ever: whatever is said to require action is answered. */
  #answer(round: number): void {
    this.time.after(2000, () => {
      const random = this.random.fork(`answers of round ${round}`)
      for (const [sessionId, session] of this.#oracle.waiting()) {
        for (const call of session.calls) {
          const reason = waitsFor(session, call)
          if (reason === null) continue
          const command = answerOf(random, call, reason, round)
          this.#send(sessionId, { ...command, commandId: `${sessionId}-answer${round}-${call.id}` })
        }
      }
      this.#answer(round + 1)
    })
  }

  /** Someone looks after parked sessions: lets them go on, and ends those that park again. */
  #help(left: number): void {
    this.time.after(8000, () => {
      for (const sessionId of this.#oracle.parked())
        this.#send(sessionId, { type: left > 1 ? "session.resume" : "session.end", commandId: `${sessionId}-help${left}` })
      if (left > 1) this.#help(left - 1)
    })
  }

  #atRest(): boolean {
    if (!this.#clientsDone || this.#oracle.unsettled().length > 0) return false
    if (this.#oracle.unburied().length > 0 || this.#oracle.unerased().length > 0) return false
    if (this.#slots.some(({ running }) => (running?.loop?.unread ?? 0) > 0)) return false
    return this.#slots.every(({ running, passing }) =>
      running === undefined ? passing : running.life.running && (running.loop?.ready() ?? running.plain?.idle) === true,
    )
  }

  /**
   * I13 and I15: every live state is the replay's, before, while and after anything is erased and compacted. I22: what is shown of it is one
   * history.
   */
  async #conclude(): Promise<void> {
    const { codec } = this.#equipment
    const cuts = this.random.fork("cuts")
    const admin = this.#broker.connect()
    this.#oracle.concludeBlobs()
    // Whatever a collector may take now, every record that is left has what it names.
    await collectBlobs(withBlobs(admin, { codec, blobs: this.#blobs.atOnce() }), topics, -1)
    this.#oracle.concludeBlobs()
    for (let partition = 0; partition < this.#partitions; partition++) {
      const records = (this.#oracle.history.get(`${topics.sessions}/${partition}`) ?? []).map((record) => read(codec, record))
      const cut = cuts.int(0, records.length)
      for (const problem of historyProblems(records, cut)) this.#violated("I22", problem)
      const whole = digests(records)
      const differs = (log: readonly Said[], from: ReadonlyMap<string, string>, when: string): void => {
        const found = digests(log)
        for (const [sessionId, digest] of from)
          if (found.get(sessionId) !== digest) this.#violated("I15", `${sessionId} is another session ${when}`)
      }
      const compacted = cleaned(records, records.length, records.length)
      differs(compacted, whole, "after compaction")
      if (compacted.length < records.length) {
        const soFar = cuts.int(0, records.length)
        differs(cleaned(records, records.length, soFar), whole, `where a cleaner has come to ${soFar}`)
        differs(
          [...cleaned(records.slice(0, cut), cut, cut), ...records.slice(cut)],
          whole,
          `after a compaction at ${cut} that was the last`,
        )
        differs(cleaned(records.slice(0, cut), cut, cut), digests(records.slice(0, cut)), `after a compaction at ${cut}`)
        const standing: Said[] = []
        for await (const stretch of admin.replay(topics.sessions, partition, 0))
          for (const record of stretch) standing.push(read(codec, this.#oracle.whole(record)))
        differs(standing, whole, "as it stands in the log")
      }
      for (const { running } of this.#slots) {
        const loop = running?.loop
        if (loop === undefined || !loop.ready() || !loop.partitions.includes(partition)) continue
        if (running?.slot.hosts.some((host) => readers.includes(host)) !== true) continue
        for (const [sessionId, digest] of whole) {
          const live = loop.session(partition, sessionId)
          if (live === undefined || stateDigest(live) !== digest)
            this.#violated("I13", `${running.life.instance} holds another state of ${sessionId} than its replay`)
        }
      }
    }
  }
}

/** Who folds `sessions`. */
const readers: readonly string[] = ["intake", "llm-invoker", "tool-router", "eraser"]

function read(codec: Codec, record: LogRecord): Said {
  const decoded = record.value === null ? null : decodeRecord(codec, "sessions", record)
  return { record, event: decoded?.ok === true ? (decoded.said as unknown as Said["event"]) : null }
}

/** What compaction leaves: of each key the newest record that stands before `end`, where the cleaner has come only to `to` with older ones. */
function cleaned(records: readonly Said[], end: number, to: number): Said[] {
  const last = new Map<string | null, number>()
  for (let index = 0; index < end; index++) last.set((records[index] as Said).record.key, index)
  return records.filter(({ record }, index) => index >= to || last.get(record.key) === index)
}

function digests(records: readonly Said[]): Map<string, string> {
  const fold = new SessionsFold()
  for (const { record, event } of records) if (event !== null) fold.apply(event, record)
  return new Map([...fold.sessions].map(([sessionId, session]) => [sessionId, stateDigest(session)]))
}

const declaration = {
  type: "tool.declared",
  backend: "nowhere",
  tool: "none",
  description: null,
  inputSchema: "{}",
  effect: "pure",
  timeoutMs: 1,
  sideEffects: null,
  claims: false,
  encoding: "avro",
}
