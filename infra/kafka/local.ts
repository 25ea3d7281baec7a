// A real Kafka and a real schema registry on loopback, without Docker: for `npm run kafka` and for the tests.
//
// Nothing here outlives the process that asked for it (supervisor.ts), and two that ask at the same time share only
// what is in the cache and never changes (artifacts.ts, warm-start.ts).

import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { findMaven, kafkaFolder, registryFolder } from "./artifacts.ts"
import { type Broker, prepareKafka, startBrokers } from "./brokers.ts"
import { readConfig } from "./config.ts"
import { LocalKafkaError } from "./failure.ts"
import { findJavas, type Java } from "./java.ts"
import { freePort } from "./ports.ts"
import { prepareRegistry, startRegistry } from "./registry.ts"
import { startSupervisor } from "./supervised.ts"

export type { Broker } from "./brokers.ts"
export { LocalKafkaError } from "./failure.ts"

export type KafkaOptions = {
  /** With three, Kafka's own topics have replication factor 3, and so have new ones by default. Default 1. */
  readonly brokers?: 1 | 3
  /** Start the schema registry too. Default true. */
  readonly registry?: boolean
  /** Kept between runs. Default: a temporary folder, removed at the end. */
  readonly dataDir?: string
  /** Default: free ports on loopback. */
  readonly ports?: { readonly brokers?: readonly number[]; readonly registry?: number }
}

export type KafkaAddress = {
  readonly bootstrap: string
  readonly registryUrl?: string
  /** What a process needs in its environment to find both. */
  readonly env: Readonly<Record<string, string>>
}

export type Kafka = KafkaAddress & {
  readonly brokers: readonly Broker[]
  stop(): Promise<void>
}

export type Availability = { readonly ok: true } | { readonly ok: false; readonly reason: string }

const javaMajorForBroker = 17
const javaMajorForRegistry = 21
const startAttemptsMax = 3

/** Whether this machine can run what is asked for, and if not, what it lacks. */
export function kafkaAvailable(options: Pick<KafkaOptions, "registry"> = {}): Availability {
  const newest = findJavas()[0]
  const found = newest === undefined ? "none was found" : `the newest found is ${newest.version}`
  const looked = "in JAVA_HOME, on the PATH and in the common JVM folders such as /usr/lib/jvm"
  if (newest === undefined || newest.major < javaMajorForBroker) {
    return { ok: false, reason: `Kafka needs Java ${javaMajorForBroker} or newer; ${found} ${looked}.` }
  }
  const wantsRegistry = options.registry ?? true
  if (wantsRegistry && newest.major < javaMajorForRegistry) {
    const reason = `The broker could run, but the schema registry needs Java ${javaMajorForRegistry} or newer; ${found} ${looked}.`
    return { ok: false, reason }
  }
  const fetched = existsSync(kafkaFolder()) && (!wantsRegistry || existsSync(registryFolder()))
  if (!fetched && findMaven() === undefined) {
    return { ok: false, reason: "Kafka is fetched with Maven on first use, and there is no mvn on the PATH." }
  }
  return { ok: true }
}

export async function startKafka(options: KafkaOptions = {}): Promise<Kafka> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(options)
    } catch (error) {
      // A port that was free a moment ago may be taken by the time the broker binds it. Ports that were asked for are
      // not exchanged for others.
      const clash = error instanceof LocalKafkaError && error.code === "kafka-port-taken" && options.ports === undefined
      if (!clash || attempt === startAttemptsMax) throw error
    }
  }
}

async function startOnce(options: KafkaOptions): Promise<Kafka> {
  const wantsRegistry = options.registry ?? true
  const { java, kafka, registry } = await prepare(wantsRegistry)

  const temporary = options.dataDir === undefined ? mkdtempSync(join(tmpdir(), "reins-kafka-")) : undefined
  const folder = temporary ?? resolve(options.dataDir ?? "")
  const supervisor = startSupervisor(temporary)
  const stop = async (): Promise<void> => {
    await supervisor.close()
    // The supervisor removes it as well; this is for one that was killed.
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true })
  }

  try {
    const asked = options.ports?.brokers ?? []
    const taken = new Set(asked)
    const registryPort = options.ports?.registry ?? (await freePort(taken))
    taken.add(registryPort)
    const ports: number[] = []
    for (let index = 0; index < (options.brokers ?? 1); index++) ports.push(asked[index] ?? (await freePort(taken)))

    // Both settle before either failure is told, so that nothing is still starting when we stop.
    const [started, registered] = await Promise.allSettled([
      startBrokers(supervisor, java, kafka, folder, ports, taken),
      registry === undefined
        ? undefined
        : startRegistry(supervisor, java, registry, join(folder, "registry"), registryPort, taken, temporary === undefined),
    ])
    if (started.status === "rejected") throw started.reason
    if (registered.status === "rejected") throw registered.reason
    const bootstrap = started.value.map((broker) => `127.0.0.1:${broker.port}`).join(",")
    return { ...address(bootstrap, registered.value?.url), brokers: started.value, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Fetches what is missing. The one part of a start that needs the network, and only the first time. */
async function prepare(wantsRegistry: boolean): Promise<{
  readonly java: Java
  readonly kafka: Awaited<ReturnType<typeof prepareKafka>>
  readonly registry: Awaited<ReturnType<typeof prepareRegistry>> | undefined
}> {
  const available = kafkaAvailable({ registry: wantsRegistry })
  const [java] = findJavas()
  if (!available.ok || java === undefined) {
    throw new LocalKafkaError("kafka-not-available", available.ok ? "Java is gone." : available.reason)
  }
  const [kafka, registry] = await Promise.all([prepareKafka(java), wantsRegistry ? prepareRegistry(java) : undefined])
  return { java, kafka, registry }
}

function address(bootstrap: string, registryUrl: string | undefined): KafkaAddress {
  return {
    bootstrap,
    ...(registryUrl === undefined ? {} : { registryUrl }),
    env: { KAFKA_BROKERS: bootstrap, ...(registryUrl === undefined ? {} : { SCHEMA_REGISTRY_URL: registryUrl }) },
  }
}

const shared = new Map<boolean, Promise<KafkaAddress>>()

/**
 * The broker of all tests in this process: the runner's when it started one (REINS_TEST_KAFKA, REINS_TEST_REGISTRY),
 * else one of our own, started when first asked for and ended with the process. Tests share it: use topic names of
 * your own, and `startKafka` for a broker that you mean to kill.
 */
export function sharedKafka(options: Pick<KafkaOptions, "registry"> = {}): Promise<KafkaAddress> {
  const registry = options.registry ?? true
  const { testKafka, testRegistry } = readConfig()
  if (testKafka !== undefined && (!registry || testRegistry !== undefined)) {
    return Promise.resolve(address(testKafka, testRegistry))
  }
  const running = shared.get(true) ?? shared.get(registry)
  if (running !== undefined) return running
  const started = startKafka({ registry })
  shared.set(registry, started)
  return started
}

/**
 * For a test's `skip`: false when there is a Kafka to test on, else the reason, which is also printed, because a
 * skipped proof must not look like a proof. With REINS_REQUIRE_KAFKA=1 it throws.
 *
 *     const skip = await skipWithoutKafka()
 *     test("…", { skip }, async () => { const { bootstrap } = await sharedKafka() })
 */
export async function skipWithoutKafka(options: Pick<KafkaOptions, "registry"> = {}): Promise<string | false> {
  const registry = options.registry ?? true
  const { testKafka, testRegistry, requireKafka } = readConfig()
  if (testKafka !== undefined && (!registry || testRegistry !== undefined)) return false
  try {
    await prepare(registry)
    return false
  } catch (error) {
    // Only an absence is a reason to skip; a Kafka that is there and does not start is a failure.
    if (!(error instanceof LocalKafkaError) || error.code !== "kafka-not-available" || requireKafka) throw error
    process.stderr.write(`\n*** SKIPPED, NOT PROVEN: ${error.message}\n*** REINS_REQUIRE_KAFKA=1 makes this a failure.\n\n`)
    return error.message
  }
}
