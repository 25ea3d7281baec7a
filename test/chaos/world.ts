import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"
import { type TopicNames, topicNames } from "@reins/events"
import { type Kafka, startKafka } from "@reins/infra/kafka"
import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import { FaultProxy } from "../e2e/fault-proxy.ts"
import type { Bench, Environment } from "../e2e/harness.ts"
import { startOrders } from "../fixtures/orders.ts"
import { BlobFolder } from "./blob-folder.ts"
import { Door } from "./door.ts"
import { Fleet, type Role } from "./fleet.ts"

export const partitions = 8
export const toolTimeoutMs = 15_000

const inside = new URL("./inside.ts", import.meta.url).href

/** Everything that a run starts: brokers, what stands between them and the processes, the outside that these talk to, and the processes. */
export interface World {
  readonly bench: Bench
  readonly kafka: Kafka
  readonly proxy: FaultProxy
  readonly door: Door
  readonly ordersUrl: string
  readonly model: Model
  readonly names: TopicNames
  readonly prefix: string
  /** Of a process that nobody harms. */
  readonly env: Environment
  readonly roles: readonly Role[]
  readonly fleet: Fleet
  readonly blobs: BlobFolder
  /** The file of effects. */
  readonly ledger: string
  /** As it is, but that it has every blob that ever stood. */
  readonly log: Log
  readonly codec: Codec
}

export interface Model {
  readonly url: string
  wellFromNowOn(): void
}

export interface WorldOptions {
  readonly seed: number
  readonly brokers: 1 | 3
  readonly roles: readonly Role[]
}

/** `closing` is given what ends each part, in the order in which they were started. */
export async function startWorld(options: WorldOptions, bench: Bench, closing: (() => unknown)[]): Promise<World> {
  const { seed, brokers, roles } = options
  const kafka = await startKafka({ brokers })
  closing.push(() => kafka.stop())
  const proxy = await FaultProxy.start()
  closing.push(() => proxy.stop())
  const proxyPort = await portOf(proxy, kafka.brokers[0]?.port ?? 0)
  const ledger = bench.path("effects.jsonl")
  const door = await Door.before(new URL(kafka.registryUrl ?? ""))
  closing.push(() => door.stop())
  const orders = await startOrders(ledger)
  closing.push(() => orders.close())
  const [model, modelProcess] = await startModel(bench, seed)
  closing.push(() => modelProcess.kill("SIGKILL"))
  const blobs = new BlobFolder(bench.dir)
  closing.push(() => blobs.stop())
  const prefix = `chaos-${randomBytes(4).toString("hex")}`
  const env: Environment = {
    ...kafka.env,
    REINS_TOPIC_PREFIX: prefix,
    REINS_PARTITIONS: String(partitions),
    // They say how they took over, and nothing else below a warning.
    REINS_LOG_LEVEL: "debug",
    REINS_BLOBS: blobs.path,
    ANTHROPIC_BASE_URL: model.url,
    ANTHROPIC_API_KEY: "no-key-is-needed",
    LEDGER_FILE: ledger,
    LEDGER_DELAY_MS: "400",
    TOOL_TIMEOUT_MS: String(toolTimeoutMs),
  }
  const applied = await bench.run(["topics", "apply"], env)
  if (applied.code !== 0) throw new Error(applied.stderr)
  const fleet = new Fleet(bench, ({ proxied, skewMs: skew }) => ({
    ...env,
    SCHEMA_REGISTRY_URL: throughDoor(kafka.registryUrl, door),
    NODE_OPTIONS: `--import=${inside}`,
    ...(proxied ? { CHAOS_PROXY: `${proxyPort}:${kafka.brokers.map(({ port }) => port).join(",")}` } : {}),
    ...(skew === 0 ? {} : { CHAOS_SKEW_MS: String(skew) }),
  }))
  for (const role of roles) for (const proxied of [true, false]) fleet.start(role, { proxied, skewMs: 0 })
  await fleet.heal()
  const { log, codec } = await openLog(readConfig({ ...env, REINS_BLOBS: blobs.kept }), newInstance("watch"))
  closing.push(() => log.close())
  return {
    bench,
    kafka,
    proxy,
    door,
    ordersUrl: orders.url,
    model,
    names: topicNames(prefix),
    prefix,
    env,
    roles,
    fleet,
    blobs,
    ledger,
    log,
    codec,
  }
}

/** Where the proxy listens: it tells by the connections that it hands out. */
function portOf(proxy: FaultProxy, brokerPort: number): Promise<number> {
  return new Promise((resolve) => {
    const socket = proxy.socketFactory({
      host: "127.0.0.1",
      port: brokerPort,
      ssl: undefined,
      onConnect: () => {
        resolve(socket.remotePort ?? 0)
        socket.destroy()
      },
    })
  })
}

/** The registry's address as processes behind the door know it. */
function throughDoor(registryUrl: string | undefined, door: Door): string {
  const url = new URL(registryUrl ?? "")
  url.port = String(door.port)
  return url.href
}

async function startModel(bench: Bench, seed: number): Promise<readonly [Model, ChildProcess]> {
  const child = fork(
    fileURLToPath(new URL("./model.ts", import.meta.url)),
    [bench.path("journal.jsonl"), bench.path("model-faults.jsonl"), String(seed), "10", "8000"],
    { execArgv: ["--disable-warning=ExperimentalWarning"], stdio: ["ignore", "inherit", "inherit", "ipc"] },
  )
  const url = await new Promise<string>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { url: string }).url))
    child.once("exit", (code) => reject(new Error(`The model did not start: ${code}.`)))
  })
  return [{ url, wellFromNowOn: () => void child.send("well") }, child]
}
