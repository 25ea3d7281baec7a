import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { kafkaFolder, kafkaJars } from "./artifacts.ts"
import { didNotStart } from "./failure.ts"
import type { Java } from "./java.ts"
import { freePort, host } from "./ports.ts"
import { clusterReady } from "./probe.ts"
import { clusterIdOf, formatFrom, formatWithKafka, keepFeatureLevels } from "./storage.ts"
import type { SupervisedProcess, Supervisor } from "./supervised.ts"
import { warmStart } from "./warm-start.ts"

export type Broker = {
  readonly pid: number
  readonly port: number
  /** What the broker logged: for the eye, not for an assertion. */
  readonly logFile: string
  /** Sends the signal; for one that ends the broker, resolves when it has ended. Default SIGKILL. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same port and data (killing it first if it runs) and waits until it answers. */
  restart(): Promise<void>
}

/** The broker's jars, and what a first start leaves for the next. */
export type KafkaProgram = { readonly classPath: string; readonly folder: string; readonly flags: readonly string[] }

type BrokerPlan = { readonly id: number; readonly port: number; readonly controllerPort: number; readonly folder: string }

const readyTimeoutMs = 90_000

const jvmFlags: readonly string[] = [
  "-Xms192m",
  "-Xmx768m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  `-Dlog4j2.configurationFile=${fileURLToPath(new URL("./log4j2.properties", import.meta.url))}`,
]

export async function prepareKafka(java: Java): Promise<KafkaProgram> {
  const classPath = (await kafkaJars()).join(delimiter)
  const warm = await warmStart(kafkaFolder(), java, async ({ supervisor, folder, flags }) => {
    const taken = new Set<number>()
    const plan = { id: 1, port: await freePort(taken), controllerPort: await freePort(taken), folder: join(folder, "rehearsal") }
    const properties = writeProperties(plan, [plan])
    await formatWithKafka(supervisor, java.command, classPath, properties, plan.folder)
    keepFeatureLevels(join(plan.folder, "data"), folder)
    const run = await startBroker(supervisor, java, { classPath, folder, flags }, plan, properties)
    await brokersReady([run], [1])
    void run.process.ended.then(() => rmSync(plan.folder, { recursive: true, force: true }))
    return run.process
  })
  return { classPath, ...warm }
}

export async function startBrokers(
  supervisor: Supervisor,
  java: Java,
  program: KafkaProgram,
  folder: string,
  ports: readonly number[],
  taken: Set<number>,
): Promise<readonly Broker[]> {
  const clusterId = clusterIdOf(folder)
  const plans: BrokerPlan[] = []
  for (const [index, port] of ports.entries()) {
    const id = index + 1
    plans.push({ id, port, controllerPort: await freePort(taken), folder: join(folder, `broker-${id}`) })
  }
  const runs = await Promise.all(
    plans.map(async (plan) => {
      const properties = writeProperties(plan, plans)
      formatFrom(program.folder, join(plan.folder, "data"), clusterId, plan.id)
      return await startBroker(supervisor, java, program, plan, properties)
    }),
  )
  await brokersReady(
    runs,
    plans.map((plan) => plan.id),
  )

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
      await brokersReady([run], [run.plan.id])
    },
  }))
}

type BrokerRun = {
  readonly plan: BrokerPlan
  readonly logFile: string
  readonly start: () => Promise<SupervisedProcess>
  process: SupervisedProcess
}

async function startBroker(
  supervisor: Supervisor,
  java: Java,
  program: KafkaProgram,
  plan: BrokerPlan,
  properties: string,
): Promise<BrokerRun> {
  const logFile = join(plan.folder, "broker.log")
  const start = (): Promise<SupervisedProcess> =>
    supervisor.start({
      command: java.command,
      args: [...jvmFlags, ...program.flags, "-cp", program.classPath, "kafka.Kafka", properties],
      env: {},
      logFile,
      folder: plan.folder,
    })
  return { plan, logFile, start, process: await start() }
}

/** A broker answers its clients only once it is registered and not fenced, so an answer is readiness. */
async function brokersReady(runs: readonly BrokerRun[], ids: readonly number[]): Promise<void> {
  const dead = (): BrokerRun | undefined => runs.find((run) => run.process.endedBecause !== undefined)
  try {
    await clusterReady(
      runs.map((run) => run.plan.port),
      ids,
      readyTimeoutMs,
      () => {
        const run = dead()
        return run === undefined ? undefined : `Broker ${run.plan.id} ended (${run.process.endedBecause}).`
      },
    )
  } catch (error) {
    const told = dead() ?? runs[0]
    throw didNotStart(error instanceof Error ? error.message : String(error), told?.logFile ?? "", error)
  }
}

const pausing: ReadonlySet<NodeJS.Signals> = new Set(["SIGSTOP", "SIGCONT"])

async function signalProcess(child: SupervisedProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.endedBecause !== undefined) return
  try {
    process.kill(child.pid, signal)
  } catch (error) {
    // It ended between the two lines; its end is reported in a moment.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error
  }
  if (!pausing.has(signal)) await child.ended
}

function writeProperties(plan: BrokerPlan, plans: readonly BrokerPlan[]): string {
  mkdirSync(plan.folder, { recursive: true })
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
    "default.replication.factor": replicas,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": 4,
    "offsets.retention.minutes": 525_600,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": 4,
    // With the default of 9 s, a broker that was killed and started again is refused for 9 s as its own double.
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    // The default takes 128 MiB of heap.
    "log.cleaner.dedupe.buffer.size": 4_194_304,
    "log.cleaner.backoff.ms": 250,
  }
  const file = join(plan.folder, "server.properties")
  // A backslash, as in a Windows path, is an escape in a properties file.
  const lines = Object.entries(properties).map(([name, value]) => `${name}=${String(value).replaceAll("\\", "/")}\n`)
  writeFileSync(file, lines.join(""))
  return file
}
