// `npm test`: every test of the tree, in two runs of Node's own runner.
//
// T1 Suites that need nothing but themselves share one process, which is ten times faster than a process each.
// T2 Suites that talk to a broker or start processes have a process of their own, and share one broker and one registry.
// T3 Every process that a suite starts finds what the ones before it compiled: most of their time would go into reading TypeScript.
// T4 Where no broker can be had, that is said aloud at the start and at the end; with REINS_REQUIRE_KAFKA=1 it is a failure.
//
// Arguments select files: `npm test -- services/log` runs what lies under that path, or matches that glob. Options go on to
// Node: `npm test -- --test-name-pattern=fold`. A broker that already runs is used if REINS_TEST_KAFKA (and
// REINS_TEST_REGISTRY) name it.
import { spawn } from "node:child_process"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join, matchesGlob } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { kafkaAvailable, startKafka } from "../kafka/local.ts"

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface Run extends Counts {
  readonly ok: boolean
}

const root = fileURLToPath(new URL("../..", import.meta.url))
const countReporter = fileURLToPath(new URL("count-reporter.ts", import.meta.url))
const patterns = ["{schemas,services,infra}/**/*.test.ts", "test/**/*.test.ts"]
/** A test that hangs fails with its name instead of stopping the whole run; far above what any test takes. */
const testTimeoutMs = 600_000
const parentCheckMs = 500
/** More brokers' clients at once than this only make each other slow. */
const concurrencyMax = 4

/** A suite asks for the shared broker by this name, so its text tells that it wants one. */
const kafkaVariable = "REINS_TEST_KAFKA"
/** Marks of a suite that leaves its own process: it starts others, or a broker of its own. */
const goesOutside = /from "(node:child_process|@reins\/infra\/kafka|[^"]*\/kafka\/local\.ts|\.\/reins\.ts)"/

async function main(): Promise<void> {
  const startedMs = performance.now()
  process.chdir(root)
  const options = process.argv.slice(2).filter((argument) => argument.startsWith("-"))
  const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"))
  const files = globSync(patterns, { exclude: ["**/node_modules/**"] })
    .filter((file) => wanted.length === 0 || wanted.some((want) => selects(want, file)))
    .sort()
  if (files.length === 0) {
    process.stderr.write(`No test file matches ${wanted.length === 0 ? patterns.join(" or ") : wanted.join(" or ")}.\n`)
    process.exitCode = 1
    return
  }

  const onKafka = files.filter((file) => file.includes("/e2e/") || textOf(file).includes(kafkaVariable))
  const apart = files.filter((file) => onKafka.includes(file) || goesOutside.test(textOf(file)) || file.includes("/kafka/"))
  const together = files.filter((file) => !apart.includes(file))
  const broker = onKafka.length > 0 ? await openBroker() : noBroker

  const runs: Run[] = []
  const compiled = mkdtempSync(join(tmpdir(), "reins-compiled-"))
  process.env["NODE_COMPILE_CACHE"] ??= compiled
  try {
    if (together.length > 0) runs.push(await nodeTest(together, ["--test-isolation=none", ...options], broker.env))
    if (apart.length > 0) {
      const concurrency = Math.max(1, Math.min(concurrencyMax, availableParallelism() - 1))
      runs.push(await nodeTest(apart, [`--test-concurrency=${concurrency}`, ...options], broker.env))
    }
  } finally {
    await broker.stop()
    rmSync(compiled, { recursive: true, force: true })
  }

  const sum = (pick: (counts: Counts) => number): number => runs.reduce((total, run) => total + pick(run), 0)
  if (broker.missing !== undefined) process.stdout.write(banner(broker.missing))
  const ok = runs.every((run) => run.ok) && !(broker.missing !== undefined && broker.required)
  process.stdout.write(`\n${files.length} files in ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`)
  process.stdout.write(`${sum((c) => c.passed)} passed, ${sum((c) => c.failed)} failed, ${sum((c) => c.skipped)} skipped\n`)
  process.exitCode = ok ? 0 : 1
}

function selects(want: string, file: string): boolean {
  const path = want.replace(/^\.\//, "").replace(/\/$/, "")
  return file === path || file.startsWith(`${path}/`) || matchesGlob(file, path)
}

function textOf(file: string): string {
  return readFileSync(file, "utf8")
}

interface Broker {
  readonly env: Readonly<Record<string, string>>
  readonly required: boolean
  /** Why there is none. */
  readonly missing?: string
  stop(): Promise<void>
}

const noBroker: Broker = { env: {}, required: false, stop: async () => {} }

async function openBroker(): Promise<Broker> {
  const required = process.env["REINS_REQUIRE_KAFKA"] === "1"
  const running = process.env[kafkaVariable]
  if (running !== undefined && running !== "") return { ...noBroker, required }

  const without = (reason: string): Broker => {
    process.stdout.write(banner(reason))
    return { ...noBroker, required, missing: reason }
  }
  const availability = kafkaAvailable({ registry: true })
  if (!availability.ok) return without(availability.reason)

  process.stdout.write("Starting Kafka and a schema registry on loopback for the suites that need them (the first time fetches them) …\n")
  const startedMs = performance.now()
  try {
    const kafka = await startKafka({ registry: true })
    process.stdout.write(`Kafka is up at ${kafka.bootstrap} after ${((performance.now() - startedMs) / 1000).toFixed(1)} s.\n\n`)
    const registry: Record<string, string> = kafka.registryUrl === undefined ? {} : { REINS_TEST_REGISTRY: kafka.registryUrl }
    return { required, env: { [kafkaVariable]: kafka.bootstrap, ...registry }, stop: async () => await kafka.stop() }
  } catch (error) {
    // The first start fetches the broker, which a machine without a network cannot.
    return without(`It did not start: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function banner(reason: string): string {
  const line = "!".repeat(100)
  const consequence =
    process.env["REINS_REQUIRE_KAFKA"] === "1"
      ? "REINS_REQUIRE_KAFKA=1 is set, so this run fails."
      : "The suites that need a broker are skipped: this run does NOT show that Reins works on Kafka."
  return `\n${line}\n  NO KAFKA. ${reason}\n  ${consequence}\n${line}\n\n`
}

/** Node's runner prints for people; a second reporter beside it leaves the counts where we can read them. */
async function nodeTest(files: readonly string[], options: readonly string[], env: Readonly<Record<string, string>>): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), "reins-test-"))
  const countsFile = join(folder, "counts.json")
  const child = spawn(
    process.execPath,
    [
      "--disable-warning=ExperimentalWarning",
      "--test",
      // A suite that leaves a socket or a timer open would otherwise hold the run for ever, after its last test had passed.
      "--test-force-exit",
      `--test-timeout=${testTimeoutMs}`,
      "--test-reporter=spec",
      "--test-reporter-destination=stdout",
      `--test-reporter=${pathToFileURL(countReporter).href}`,
      `--test-reporter-destination=${countsFile}`,
      ...options,
      ...files,
    ],
    { stdio: "inherit", env: { ...process.env, ...env } },
  )
  // Ctrl-C reaches the child through the terminal; this process stays to take the broker down and to say how far it came.
  const stay = (): void => {}
  const terminate = (): void => void child.kill("SIGTERM")
  // npm gives a SIGTERM to its shell only, and some shells die without passing it on: then nobody would end the broker.
  const parent = process.ppid
  const watch = setInterval(() => {
    if (process.ppid !== parent) terminate()
  }, parentCheckMs)
  process.on("SIGINT", stay)
  process.on("SIGTERM", terminate)
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on("error", reject)
      child.on("exit", resolve)
    })
    const counts = readCounts(countsFile)
    // A run that was cut short counted nothing; it must not look like a run in which nothing failed.
    if (counts === undefined) return { passed: 0, failed: files.length, skipped: 0, ok: false }
    return { ...counts, failed: code === 0 ? counts.failed : Math.max(1, counts.failed), ok: code === 0 }
  } finally {
    clearInterval(watch)
    process.off("SIGINT", stay)
    process.off("SIGTERM", terminate)
    rmSync(folder, { recursive: true, force: true })
  }
}

function readCounts(file: string): Counts | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Counts
  } catch {
    return undefined
  }
}

await main()
