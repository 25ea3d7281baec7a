import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { topicNames } from "@reins/events"
import { sharedKafka } from "@reins/infra/kafka"
import { intake } from "@reins/intake"
import { llmInvoker, type Model } from "@reins/llm-invoker"
import { partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { confluentRegistry } from "@reins/log/confluent"
import { openKafka } from "@reins/log/kafka"
import { newInstance, openLog, readConfig, startProcess, topicSettings } from "@reins/runtime"
import { toolRouter } from "@reins/tool-router"
import { worker } from "@reins/worker-kit"
import { benchBackend, instantModel, publishStart } from "./workload.ts"

// How long a partition stands still when its process ends: `npm run bench -- handover [--kills 20] [--only NAME] [--json]`. Processes that host
// all services are killed (or told to end) while sessions run, and a supervisor starts the next one the moment the last one is gone.
// Method and table: README.md.

interface Way {
  readonly name: string
  readonly signal: "SIGKILL" | "SIGTERM"
  /** Whether the processes may tell each other through a folder of this machine. */
  readonly state: boolean
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  /** Processes that run at the same time; the others are there when one ends. */
  readonly processes: 1 | 2
}

const usual = { sessionTimeoutMs: 6000, heartbeatIntervalMs: 1500 }
const ways: readonly Way[] = [
  { name: "kill, restart, session timeout", signal: "SIGKILL", state: false, ...usual, processes: 1 },
  { name: "kill, restart", signal: "SIGKILL", state: true, ...usual, processes: 1 },
  { name: "kill, standby", signal: "SIGKILL", state: true, ...usual, processes: 2 },
  { name: "SIGTERM, restart", signal: "SIGTERM", state: true, ...usual, processes: 1 },
  { name: "SIGTERM, standby", signal: "SIGTERM", state: true, ...usual, processes: 2 },
  { name: "kill, restart, 3 s session", signal: "SIGKILL", state: false, sessionTimeoutMs: 3000, heartbeatIntervalMs: 500, processes: 1 },
]

const partitions = 4
/** As long as a model takes that answers quickly, so that nearly every session has an open claim when its process ends. */
const modelMs = 300
const turns = 60
const sessionsPerKill = 6
/** The ways take turns, so that all see the same moods of the machine. */
const killsPerTurn = 5
const patienceMs = 60_000

/** What one end of a process came to, in milliseconds from the signal. */
interface Handover {
  /** The process is gone, and its successor is started. */
  readonly goneMs: number
  /** The successor has loaded its code and connected; none where a standby needs no successor. */
  readonly upMs: number | null
  /** The first claim of another process on a session that nobody had claimed: its command was appended right after the signal. */
  readonly claimMs: number
  /** The first takeover of a claim of the dead; none where it answered all it had begun. */
  readonly takeoverMs: number | null
}

if (process.argv[2] === "role") await role(JSON.parse(process.argv[3] as string) as Way, process.argv[4] as string)
else await main()

/** In a child: a process that hosts everything, as `reins up` does. */
async function role(way: Way, stateDir: string): Promise<void> {
  const config = readConfig(process.env)
  const backend = benchBackend()
  const instance = newInstance("host")
  const { brokers, registryUrl } = config.kafka as NonNullable<typeof config.kafka>
  const log = await openKafka({
    brokers,
    instance,
    sessionTimeoutMs: way.sessionTimeoutMs,
    heartbeatIntervalMs: way.heartbeatIntervalMs,
    ...(way.state ? { stateDir } : {}),
  })
  const instant = instantModel(turns)
  const model: Model = {
    provider: "bench",
    ask: async (request) => {
      await sleep(modelMs)
      return instant.ask(request)
    },
  }
  const running = await startProcess({
    config,
    instance,
    opened: { log, codec: await Codec.open(confluentRegistry({ url: registryUrl, auth: null })) },
    services: ["intake", "llm-invoker", "tool-router", backend.service],
    backends: [backend.backend],
    build: ({ codec, metrics, me }) => [
      intake({ codec, partitions: config.partitions }),
      llmInvoker({ model, metrics }),
      toolRouter(),
      worker(backend, me),
    ],
    failed: (error) => {
      process.stderr.write(`${error.stack}\n`)
      process.exit(1)
    },
  })
  process.once("SIGTERM", () => {
    void running
      .stop()
      .then(() => log.close())
      .then(() => process.exit(0))
  })
  process.once("disconnect", () => process.exit(1))
  process.send?.(instance)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: { kills: { type: "string", default: "20" }, only: { type: "string" }, json: { type: "boolean", default: false } },
  })
  const kafka = await sharedKafka({ registry: true })
  const wanted = ways.filter(({ name }) => values.only === undefined || values.only === name)
  const measured = new Map<Way, Handover[]>(wanted.map((way) => [way, []]))
  for (let left = Number(values.kills); left > 0; left -= killsPerTurn) {
    for (const [way, handovers] of measured)
      handovers.push(
        ...(await measure(way, Math.min(left, killsPerTurn), { KAFKA_BROKERS: kafka.bootstrap, SCHEMA_REGISTRY_URL: kafka.registryUrl })),
      )
  }
  const found: object[] = []
  for (const [way, handovers] of measured) {
    const takeovers = handovers.flatMap(({ takeoverMs }) => (takeoverMs === null ? [] : [takeoverMs]))
    const row = {
      way: way.name,
      ends: handovers.length,
      gone: spread(handovers.map(({ goneMs }) => goneMs)),
      up: spread(handovers.flatMap(({ upMs }) => (upMs === null ? [] : [upMs]))),
      claimOnceUp: spread(handovers.flatMap(({ claimMs, upMs }) => (upMs === null ? [] : [claimMs - upMs]))),
      claim: spread(handovers.map(({ claimMs }) => claimMs)),
      takeovers: takeovers.length,
      takeover: spread(takeovers),
    }
    found.push(row)
    process.stderr.write(
      `${way.name.padEnd(32)} ${row.ends} ends  gone ${show(row.gone)}  up ${show(row.up)}  next claim once up ${show(row.claimOnceUp)}  next claim ${show(row.claim)}  takeover ${show(row.takeover)} (${row.takeovers})\n`,
    )
  }
  if (values.json) process.stdout.write(`${JSON.stringify(found, null, 2)}\n`)
  process.exit(0)
}

interface Spread {
  readonly p50Ms: number
  readonly p95Ms: number
  readonly maxMs: number
}

function spread(figures: readonly number[]): Spread | null {
  if (figures.length === 0) return null
  const sorted = [...figures].sort((a, b) => a - b)
  const at = (share: number): number => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number)
  return { p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) }
}

function show(spread: Spread | null): string {
  return spread === null ? "none" : `p50 ${spread.p50Ms} p95 ${spread.p95Ms} max ${spread.maxMs} ms`
}

/** One process under a supervisor, and who it is in its claims. */
interface Child {
  readonly process: ChildProcess
  readonly instance: Promise<string>
  upAt: number | null
}

async function up(child: Child): Promise<number> {
  await child.instance
  return child.upAt as number
}

async function measure(way: Way, kills: number, broker: Readonly<Record<string, string | undefined>>): Promise<readonly Handover[]> {
  const stateDir = mkdtempSync(join(tmpdir(), "reins-handover-"))
  const env = {
    ...process.env,
    ...broker,
    REINS_TOPIC_PREFIX: `handover-${randomBytes(4).toString("hex")}`,
    REINS_PARTITIONS: String(partitions),
    REINS_LOG_LEVEL: "error",
    REINS_STATE: "off",
  }
  const config = readConfig(env)
  const names = topicNames(config.prefix)
  const { log, codec } = await openLog(config, newInstance("driver"))
  await log.applyTopics(topicSettings(config.prefix, partitions, ["http", "function", "bench"]))

  let over = false
  const children = new Set<Child>()
  const start = (): Child => {
    const child = fork(fileURLToPath(import.meta.url), ["role", JSON.stringify(way), stateDir], {
      env,
      execArgv: ["--disable-warning=ExperimentalWarning", "--disable-warning=TimeoutNegativeWarning"],
    })
    const started: Child = {
      process: child,
      instance: new Promise((resolve, reject) => {
        child.once("message", (instance) => {
          started.upAt = performance.now()
          resolve(instance as string)
        })
        child.once("exit", () => reject(new Error("A process ended before it was ready.")))
      }),
      upAt: null,
    }
    started.instance.catch(() => undefined)
    children.add(started)
    child.once("exit", () => {
      children.delete(started)
      if (!over) start()
    })
    return started
  }

  interface Claimed {
    readonly at: number
    readonly instance: string
    readonly sessionId: string
    readonly turn: number
    readonly replaces: string | null
  }
  const claims: Claimed[] = []
  const following = await log.follow({
    instance: newInstance("driver"),
    topics: [names.sessions],
    records: (_topic, _partition, records) => {
      const at = performance.now()
      for (const { headers, value } of records) {
        if (headers["type"] !== "model.requested") continue
        const decoded = codec.decode(value as Uint8Array)
        if (!decoded.ok) continue
        const { instance, turn, replaces } = decoded.said as unknown as { instance: string; turn: number; replaces: string | null }
        claims.push({ at, instance, sessionId: headers["session"] as string, turn, replaces })
      }
    },
  })
  const command = (sessionId: string): void => {
    publishStart(log, names.commands, partitions, sessionId, turns)
  }
  const until = async <T>(look: () => T | undefined, what: string): Promise<T> => {
    for (const end = performance.now() + patienceMs; performance.now() < end; await sleep(2)) {
      const seen = look()
      if (seen !== undefined) return seen
    }
    throw new Error(`${way.name}: waited ${patienceMs} ms in vain: ${what}.`)
  }

  const handovers: Handover[] = []
  try {
    for (let index = 0; index < way.processes; index++) start()
    for (let round = 0; round < kills; round++) {
      await Promise.all([...children].map(({ instance }) => instance))
      const begun = performance.now()
      const running = Array.from({ length: sessionsPerKill }, (_, index) => `sesn_${round}_${index}`)
      for (const sessionId of running) command(sessionId)
      const isWarm = (sessionId: string): boolean => claims.some((claim) => claim.sessionId === sessionId && claim.turn >= 2)
      await until(() => (running.every(isWarm) ? true : undefined), "sessions run")
      // At any place between two heartbeats.
      await sleep(Math.random() * 1500)
      const owner = [...claims].reverse().find(({ at, sessionId }) => at > begun && running.includes(sessionId)) as Claimed
      const named = await Promise.all([...children].map(async (child) => ({ child, instance: await child.instance })))
      const victim = named.find(({ instance }) => instance === owner.instance)?.child as Child
      // A new session beside one of the victim's.
      let salt = 0
      const fresh = (): string => `sesn_fresh_${round}_${salt}`
      while (partitionOf(fresh(), partitions) !== partitionOf(owner.sessionId, partitions)) salt++
      const killedAt = performance.now()
      let goneAt = 0
      victim.process.once("exit", () => {
        goneAt = performance.now()
      })
      victim.process.kill(way.signal)
      command(fresh())
      const others = (claim: Claimed): boolean => claim.at > killedAt && claim.instance !== owner.instance
      const claim = await until(() => claims.find((one) => others(one) && one.sessionId === fresh()), "the next claim")
      // Of what the dead one had claimed and not answered; after a drain there is none, and by chance after a kill.
      const takeover = await until(
        () => {
          const after = claims.filter((one) => others(one) && running.includes(one.sessionId))
          const found = after.find(({ replaces }) => replaces !== null)
          if (found !== undefined) return found
          return way.signal === "SIGTERM" || running.every((sessionId) => after.some((one) => one.sessionId === sessionId))
            ? null
            : undefined
        },
        `a takeover of ${owner.instance}; since the signal: ${JSON.stringify(claims.filter(({ at }) => at > killedAt).slice(-20))}`,
      )
      handovers.push({
        goneMs: goneAt - killedAt,
        upMs: way.processes === 1 ? (await up([...children][0] as Child)) - killedAt : null,
        claimMs: claim.at - killedAt,
        takeoverMs: takeover === null ? null : takeover.at - killedAt,
      })
      claims.splice(0, Math.max(0, claims.length - 2000))
    }
  } finally {
    over = true
    const ends = [...children].map(({ process: child }) => new Promise((resolve) => child.once("exit", resolve)))
    for (const { process: child } of children) child.kill("SIGKILL")
    await Promise.all(ends)
    await following.stop()
    await log.close()
    rmSync(stateDir, { recursive: true, force: true })
  }
  return handovers
}
