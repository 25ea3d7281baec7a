// A real Kafka and a real schema registry on loopback, without Docker: for `npm run kafka` and for the tests.
//
// Nothing here outlives the process that asked for it (supervisor.ts), and nothing is shared between two that ask at
// the same time but the read-only artifacts in the cache (artifacts.ts).

import { mkdirSync, mkdtempSync, readFileSync, writeFileSync, existsSync, rmSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { tmpdir } from "node:os"
import { delimiter, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { findMaven, kafkaFolder, kafkaJars, registryFolder, registryJar } from "./artifacts.ts"
import { findJavas, type Java } from "./java.ts"
import { freePort } from "./ports.ts"
import { clusterReady, eventually } from "./probe.ts"
import { startSupervisor, type SupervisedProcess, type Supervisor } from "./supervised.ts"

export type KafkaOptions = {
  /** Three brokers have replication factor 3 for Kafka's own topics. Default 1. */
  readonly brokers?: 1 | 3
  /** Also start the schema registry. Default true. */
  readonly registry?: boolean
  /** Kept between runs. Default: a temporary folder, removed at the end. */
  readonly dataDir?: string
  /** Default: free ports on loopback. */
  readonly ports?: { readonly brokers?: readonly number[]; readonly registry?: number }
}

export type Broker = {
  readonly pid: number
  readonly port: number
  /** What the broker logged so far: for a failure message, not for an assertion. */
  readonly logFile: string
  /** Sends the signal; for one that ends the broker, resolves when it has ended. Default SIGKILL. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same port and data (ending it first if it runs) and waits until it answers. */
  restart(): Promise<void>
}

export type Kafka = {
  readonly bootstrap: string
  readonly registryUrl?: string
  /** What a process needs in its environment to find both. */
  readonly env: Readonly<Record<string, string>>
  readonly brokers: readonly Broker[]
  stop(): Promise<void>
}

export type Availability = { readonly ok: true } | { readonly ok: false; readonly reason: string }

const host = "127.0.0.1"
const javaMajorForBroker = 17
const javaMajorForRegistry = 21
const readyTimeoutMs = 90_000
const startAttemptsMax = 3

/** Whether this machine can run what is asked for, and if not, what it lacks. */
export function kafkaAvailable(options: Pick<KafkaOptions, "registry"> = {}): Availability {
  const newest = findJavas()[0]
  const found = newest === undefined ? "none was found" : `the newest found is ${newest.major}`
  const looked = "JAVA_HOME, PATH and the common JVM folders such as /usr/lib/jvm"
  if (newest === undefined || newest.major < javaMajorForBroker) {
    return { ok: false, reason: `Kafka needs Java ${javaMajorForBroker} or newer; ${found} (${looked}).` }
  }
  const wantsRegistry = options.registry ?? true
  if (wantsRegistry && newest.major < javaMajorForRegistry) {
    const reason = `The broker could run, but the schema registry needs Java ${javaMajorForRegistry} or newer; ${found} (${looked}).`
    return { ok: false, reason }
  }
  const cached = existsSync(kafkaFolder()) && (!wantsRegistry || existsSync(registryFolder()))
  if (!cached && findMaven() === undefined) {
    return { ok: false, reason: "Kafka is fetched with Maven on first use, and there is no mvn on the PATH." }
  }
  return { ok: true }
}

export async function startKafka(options: KafkaOptions = {}): Promise<Kafka> {
  const available = kafkaAvailable(options)
  if (!available.ok) throw new Error(available.reason)
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options)
    } catch (error) {
      // A port that was free a moment ago can be taken by the time the broker binds it. Ports that were asked for
      // are not exchanged for others.
      const clash = error instanceof PortTakenError && options.ports === undefined
      if (!clash || attempt === startAttemptsMax) throw error
    }
  }
}

class PortTakenError extends Error {}

type BrokerPlan = { readonly id: number; readonly port: number; readonly controllerPort: number; readonly folder: string }

async function startOnce(options: KafkaOptions): Promise<Kafka> {
  const size = options.brokers ?? 1
  const wantsRegistry = options.registry ?? true
  const [java] = findJavas()
  if (java === undefined) throw new Error("Java was there a moment ago.")
  const jars = await kafkaJars()
  const jar = wantsRegistry ? await registryJar() : undefined

  const temporary = options.dataDir === undefined ? mkdtempSync(join(tmpdir(), "reins-kafka-")) : undefined
  const folder = temporary ?? resolve(options.dataDir ?? "")
  const supervisor = startSupervisor(temporary)
  const stop = async (): Promise<void> => {
    await supervisor.close()
    // The supervisor removes it as well; this is for one that was killed.
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true })
  }

  try {
    const taken = new Set<number>([...(options.ports?.brokers ?? []), ...(options.ports?.registry === undefined ? [] : [options.ports.registry])])
    const plans: BrokerPlan[] = []
    for (let id = 1; id <= size; id++) {
      const port = options.ports?.brokers?.[id - 1] ?? (await freePort(host, taken))
      const controllerPort = await freePort(host, taken)
      plans.push({ id, port, controllerPort, folder: join(folder, `broker-${id}`) })
    }
    const registryPort = wantsRegistry ? (options.ports?.registry ?? (await freePort(host, taken))) : undefined
    const managementPort = wantsRegistry ? await freePort(host, taken) : undefined

    const cluster = startBrokers({ supervisor, java, jars, plans, clusterId: clusterId(folder) })
    const registry =
      jar === undefined || registryPort === undefined || managementPort === undefined
        ? undefined
        : startRegistry({
            supervisor,
            java,
            jar,
            port: registryPort,
            managementPort,
            folder: join(folder, "registry"),
            kept: temporary === undefined,
          })
    // Both settle before either failure is told, so that nothing is still starting while we stop.
    const [brokersResult, registryResult] = await Promise.allSettled([cluster, registry])
    if (brokersResult.status === "rejected") throw brokersResult.reason
    if (registryResult.status === "rejected") throw registryResult.reason

    const bootstrap = plans.map((plan) => `${host}:${plan.port}`).join(",")
    const registryUrl = registryResult.value
    return {
      bootstrap,
      ...(registryUrl === undefined ? {} : { registryUrl }),
      env: {
        KAFKA_BROKERS: bootstrap,
        ...(registryUrl === undefined ? {} : { SCHEMA_REGISTRY_URL: registryUrl }),
      },
      brokers: brokersResult.value,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

type BrokersOrder = {
  readonly supervisor: Supervisor
  readonly java: Java
  readonly jars: readonly string[]
  readonly plans: readonly BrokerPlan[]
  readonly clusterId: string
}

async function startBrokers(order: BrokersOrder): Promise<readonly Broker[]> {
  const { supervisor, java, jars, plans } = order
  const classPath = jars.join(delimiter)

  const runs = await Promise.all(
    plans.map(async (plan) => {
      mkdirSync(plan.folder, { recursive: true })
      const properties = join(plan.folder, "server.properties")
      const logFile = join(plan.folder, "broker.log")
      writeFileSync(properties, serverProperties(plan, plans))
      const common = { command: java.command, env: {}, logFile, folder: plan.folder }
      if (!existsSync(join(plan.folder, "data", "meta.properties"))) {
        const format = await supervisor.start({
          ...common,
          args: ["-XX:TieredStopAtLevel=1", "-cp", classPath, "kafka.tools.StorageTool", "format", "-t", order.clusterId, "-c", properties, "--ignore-formatted"],
        })
        const reason = await format.ended
        if (reason !== "exit code 0") throw failure(`The broker's storage could not be formatted (${reason}).`, logFile)
      }
      const start = (): Promise<SupervisedProcess> =>
        supervisor.start({ ...common, args: [...brokerFlags, "-cp", classPath, "kafka.Kafka", properties] })
      return { plan, logFile, start, process: await start() }
    }),
  )

  try {
    await clusterReady(plans.map((plan) => plan.port), plans.length, readyTimeoutMs, () => {
      const dead = runs.find((run) => run.process.endedBecause !== undefined)
      return dead === undefined ? undefined : `Broker ${dead.plan.id} ended (${dead.process.endedBecause}).`
    })
  } catch (error) {
    const dead = runs.find((run) => run.process.endedBecause !== undefined) ?? runs[0]
    throw failure(error instanceof Error ? error.message : String(error), dead?.logFile ?? "")
  }

  return runs.map((run) => ({
    get pid() {
      return run.process.pid
    },
    port: run.plan.port,
    logFile: run.logFile,
    async kill(signal = "SIGKILL") {
      await signalProcess(run.process, signal)
    },
    async restart() {
      await signalProcess(run.process, "SIGKILL")
      run.process = await run.start()
      try {
        await clusterReady([run.plan.port], 1, readyTimeoutMs, () =>
          run.process.endedBecause === undefined ? undefined : `It ended (${run.process.endedBecause}).`,
        )
      } catch (error) {
        throw failure(`Broker ${run.plan.id} did not come back: ${String(error)}`, run.logFile)
      }
    },
  }))
}

const brokerFlags: readonly string[] = [
  "-Xms192m",
  "-Xmx768m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  `-Dlog4j2.configurationFile=${fileURLToPath(new URL("./log4j2.properties", import.meta.url))}`,
]

const pausing: ReadonlySet<NodeJS.Signals> = new Set(["SIGSTOP", "SIGCONT"])

async function signalProcess(child: SupervisedProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.endedBecause !== undefined) return
  try {
    process.kill(child.pid, signal)
  } catch (error) {
    // Ended between the two lines; its end is reported in a moment.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error
  }
  if (!pausing.has(signal)) await child.ended
}

function serverProperties(plan: BrokerPlan, plans: readonly BrokerPlan[]): string {
  const replicas = Math.min(plans.length, 3)
  const inSync = Math.min(replicas, 2)
  const properties: Readonly<Record<string, string | number | boolean>> = {
    "process.roles": "broker,controller",
    "node.id": plan.id,
    "controller.quorum.voters": plans.map(({ id, controllerPort }) => `${id}@${host}:${controllerPort}`).join(","),
    listeners: `PLAINTEXT://${host}:${plan.port},CONTROLLER://${host}:${plan.controllerPort}`,
    "advertised.listeners": `PLAINTEXT://${host}:${plan.port}`,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": join(plan.folder, "data"),
    // A topic that nobody created is a mistake to hear about, as in production.
    "auto.create.topics.enable": false,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": 4,
    "offsets.retention.minutes": 525_600,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": 4,
    "default.replication.factor": replicas,
    // With the default of 9 s a broker that was killed and started again is refused for 9 s, as its own double.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    // The default takes 128 MiB of heap.
    "log.cleaner.dedupe.buffer.size": 4_194_304,
    "log.cleaner.backoff.ms": 250,
  }
  // A backslash (Windows) is an escape in a properties file.
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${String(value).replaceAll("\\", "/")}\n`)
    .join("")
}

/** A cluster keeps its id: brokers of one data folder must agree on it. */
function clusterId(folder: string): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, "cluster-id")
  if (existsSync(file)) return readFileSync(file, "utf8").trim()
  const id = randomBytes(16).toString("base64url")
  writeFileSync(file, `${id}\n`)
  return id
}

type RegistryOrder = {
  readonly supervisor: Supervisor
  readonly java: Java
  readonly jar: string
  readonly port: number
  readonly managementPort: number
  readonly folder: string
  readonly kept: boolean
}

async function startRegistry(order: RegistryOrder): Promise<string> {
  const { supervisor, java, jar, port, managementPort, folder } = order
  mkdirSync(folder, { recursive: true })
  const logFile = join(folder, "registry.log")
  const registry = await supervisor.start({
    command: java.command,
    args: ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", jar],
    env: {
      QUARKUS_HTTP_HOST: host,
      QUARKUS_HTTP_PORT: String(port),
      // Left alone, the management listener is open to the network on port 9000.
      QUARKUS_MANAGEMENT_HOST: host,
      QUARKUS_MANAGEMENT_PORT: String(managementPort),
      QUARKUS_LOG_LEVEL: "WARN",
      ...(order.kept ? { APICURIO_DATASOURCE_URL: `jdbc:h2:file:${join(folder, "h2")}` } : {}),
    },
    logFile,
    folder,
  })
  const url = `http://${host}:${port}/apis/ccompat/v7`
  const gaveUp = (): string | undefined =>
    registry.endedBecause === undefined ? undefined : `The schema registry ended (${registry.endedBecause}).`
  try {
    await eventually(readyTimeoutMs, gaveUp, async () => {
      const answer = await fetch(`${url}/subjects`, { signal: AbortSignal.timeout(2_000) })
      if (answer.status !== 200) throw new Error(`/subjects answered ${answer.status}.`)
    })
    // Apicurio starts with NONE, which accepts anything.
    const answer = await fetch(`${url}/config`, {
      method: "PUT",
      headers: { "content-type": "application/vnd.schemaregistry.v1+json" },
      body: JSON.stringify({ compatibility: "FULL_TRANSITIVE" }),
    })
    if (!answer.ok) throw new Error(`PUT /config answered ${answer.status}: ${await answer.text()}`)
  } catch (error) {
    throw failure(error instanceof Error ? error.message : String(error), logFile)
  }
  return url
}

function failure(sentence: string, logFile: string): Error {
  const log = existsSync(logFile) ? readFileSync(logFile, "utf8") : ""
  const message = `${sentence} The end of its log:\n${log.slice(-3_000)}`
  return /BindException|Address already in use/.test(log) ? new PortTakenError(message) : new Error(message)
}
