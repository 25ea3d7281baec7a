import { topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import { type Log, LogOwnedError, type OwnerApi, partitionOf, readOwnerApi } from "@reins/log"
import { type Config, newInstance, type OpenLog, openLog } from "@reins/runtime"
import pc from "picocolors"
import { CliError } from "./fail.ts"
import { clean } from "./render.ts"
import { loadWorkers } from "./worker.ts"

export interface CommandGiven {
  readonly type: string
  readonly sessionId: string
  readonly [field: string]: unknown
}

export interface Published extends CommandGiven {
  readonly commandId: string
}

/** How a command and what follows it are shown. */
export interface Shown {
  /** The session's own records. */
  readonly record: (text: string) => void
  /** Everything else, for a person. */
  readonly aside: (text: string) => void
}

/** The log with someone behind it who acts on commands: on Kafka whoever runs there, embedded the owner of the folder or this process. */
export interface Harness extends OpenLog {
  /** What becomes of the sessions when this process leaves, as a half sentence. */
  readonly goesOn: string
  /** Resolves when the command stands in the log; what it came to is said there. */
  publish(command: Published): Promise<void>
  end(): Promise<void>
}

export async function openHarness(config: Config, workers: readonly string[], shown: Shown): Promise<Harness> {
  if (config.kafka !== null) {
    if (workers.length > 0)
      throw new CliError(2, "--worker serves tools in this process, which hosts nothing on Kafka: use `reins worker FILE`.")
    const { log, codec } = await openLog(config, newInstance("cli"))
    shown.aside(pc.dim(`on Kafka at ${config.kafka.brokers.join(", ")} · the services run where \`reins up\` was started`))
    return { log, codec, goesOn: "and goes on", publish: (command) => publish(log, config, command), end: () => log.close() }
  }
  try {
    return await hostHere(config, workers, shown)
  } catch (error) {
    if (!(error instanceof LogOwnedError)) throw error
    const owner = readOwnerApi(config.dataDir)
    if (owner === null) throw error
    if (workers.length > 0)
      throw new CliError(2, `--worker serves tools in the process that owns ${config.dataDir}: give it to \`reins dev\` there.`)
    return await beside(config, owner, shown)
  }
}

async function hostHere(config: Config, workers: readonly string[], shown: Shown): Promise<Harness> {
  const host = await startHost({
    config: { ...config, logLevel: process.env["REINS_LOG_LEVEL"] === undefined ? "warn" : config.logLevel, drainMs: 200 },
    workers: await loadWorkers(workers),
    failed: (error) => {
      process.stderr.write(`reins: ${error.message}\n`)
      process.exit(1)
    },
  })
  const { log, codec } = host
  shown.aside(pc.dim(`embedded: one process, the log in ${config.dataDir} · not for production; on Kafka: set KAFKA_BROKERS`))
  if (host.simulatedModel !== null)
    shown.aside(pc.yellow("SIMULATED MODEL: no ANTHROPIC_API_KEY is set, so a small deterministic planner answers in its place"))
  return {
    log,
    codec,
    goesOn: "and goes on with the next `reins run` or `reins dev`",
    publish: (command) => publish(log, config, command),
    end: () => host.stop(),
  }
}

/** Reads the file of the log beside its owner, who takes the commands. */
async function beside(config: Config, owner: OwnerApi, shown: Shown): Promise<Harness> {
  const { log, codec } = await openLog(config, newInstance("cli"), { readOnly: true })
  shown.aside(pc.dim(`embedded: the log in ${config.dataDir} belongs to the process that serves ${owner.url}, which takes the commands`))
  return {
    log,
    codec,
    goesOn: "and goes on",
    // The owner may have been started anew, on another port.
    publish: (command) => publishThrough(readOwnerApi(config.dataDir) ?? owner, command),
    end: () => log.close(),
  }
}

async function publish(log: Log, config: Config, command: Published): Promise<void> {
  const names = topicNames(config.prefix)
  const { sessionId, type } = command
  const topic = (await log.describeTopics()).find((one) => one.name === names.commands)
  await log.append({
    topic: names.commands,
    partition: partitionOf(sessionId, topic?.partitions ?? config.partitions),
    key: () => sessionId,
    value: Buffer.from(JSON.stringify(command)),
    headers: { type, session: sessionId },
    certainty: "always",
  })
}

/** The owner waits for the answer to a command for ten seconds. */
const answerTimeoutMs = 20_000
const tries = 3

/** Sent again under the same id a command has no second effect, so an answer that got lost is asked for again. */
async function publishThrough(owner: OwnerApi, command: Published): Promise<void> {
  let last = ""
  for (let attempt = 1; attempt <= tries; attempt++) {
    let response: Response
    try {
      response = await fetch(`${owner.url}/reins/owner/commands`, {
        method: "POST",
        headers: { authorization: `Bearer ${owner.token}`, "content-type": "application/json" },
        body: JSON.stringify(command),
        signal: AbortSignal.timeout(answerTimeoutMs),
      })
    } catch (error) {
      const { message, cause } = error as Error
      last = cause instanceof Error && cause.message !== "" ? cause.message : message
      continue
    }
    if (response.ok) return
    const { error } = (await response.json().catch(() => ({}))) as { error?: { message?: string; details?: { error_code?: string } } }
    // A refusal stands in the log, and is read there.
    if (error?.details?.error_code !== undefined) return
    last = clean(error?.message ?? `HTTP ${response.status}`)
    if (response.status < 500) throw new CliError(response.status === 404 ? 3 : 2, last)
  }
  throw new CliError(5, `The process that owns the log, at ${owner.url}, does not take the command: ${last}`)
}
