import { randomBytes } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"
import { shippedBackends } from "@reins/events"
import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { type Logger, pino } from "pino"
import { type Config, readConfig } from "./config.ts"
import { answerHealth, type Health, type HealthOptions, serveHealth } from "./health.ts"
import { Loop, type LoopOptions, type Observed } from "./loop.ts"
import { Metrics } from "./metrics.ts"
import { openLog } from "./open-log.ts"
import type { AnyService } from "./service.ts"
import type { SharedFolds } from "./shared-folds.ts"
import { Spill } from "./spill.ts"
import { toolsTopicSettings, topicSettings } from "./topics.ts"

/** What a service is made from in a process. */
export interface ServiceContext {
  readonly config: Config
  /** For what is no fact: an effect reads it, publishes commands, takes records out. Facts go through the loop. */
  readonly log: Log
  readonly codec: Codec
  readonly metrics: Metrics
  readonly logger: Logger
  /** Group and instance of this process: what its claims name. */
  readonly me: { readonly group: string; readonly instance: string }
}

export interface ProcessOptions {
  readonly config: Config
  /** Folder names of the services hosted, which name the group. */
  readonly services: readonly string[]
  readonly build: (context: ServiceContext) => readonly AnyService[]
  /** Backends beside the shipped ones that this process serves; their topics are created if missing. */
  readonly backends?: readonly string[]
  readonly instance?: string
  readonly logger?: Logger
  readonly metrics?: Metrics
  readonly observe?: (record: Observed) => void
  readonly failed: (error: Error) => void
  /** No port is opened without it, or without a front. */
  readonly health?: boolean
  /** What listens on the port beside the health routes, such as the gateway. */
  readonly front?: (process: Fronted) => Promise<Front>
  /** An open log to share instead of one of its own; then `stop` leaves it open. */
  readonly opened?: { readonly log: Log; readonly codec: Codec }
  /** How often offsets are committed and how soon snapshots are written, where it is not as usual. */
  readonly pace?: Pace
}

export type Pace = Pick<LoopOptions, "commitIntervalMs" | "snapshotRestsMs" | "snapshotUncoveredMax">

/** What a front is given of its process. */
export interface Fronted extends Omit<ServiceContext, "me"> {
  readonly log: Log
  readonly instance: string
  /** What the services of the process fold. */
  readonly folds: SharedFolds
  /** Answers the health routes; false for any other request. */
  readonly beside: (request: IncomingMessage, response: ServerResponse) => boolean
  readonly failed: (error: Error) => void
}

export interface Front {
  readonly port: number
  /** Why it cannot serve, in a few words; null where it can. */
  unready(): string | null
  stop(): Promise<void>
}

export interface RunningProcess {
  readonly loop: Loop
  readonly log: Log
  readonly codec: Codec
  readonly metrics: Metrics
  readonly instance: string
  readonly group: string
  /** Of the front and of `/livez`, `/readyz`, `/metrics`; 0 without them. */
  readonly port: number
  /** Drains, leaves the group, closes. */
  stop(): Promise<void>
}

export function newInstance(name: string): string {
  return `${name}-${randomBytes(5).toString("hex")}`
}

/** The group of a set of services: their folder names, sorted. */
export function groupOf(prefix: string, services: readonly string[]): string {
  return `${prefix}.${[...services].sort().join("+")}`
}

/** One process: any set of services over one membership, one follower, one fold and one writer (design, Hosting). */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { config } = options
  const instance =
    options.instance ?? newInstance(options.services.length === 1 ? (options.services[0] as string).replaceAll("/", "-") : "host")
  const logger = options.logger ?? pino({ level: config.logLevel, base: { instance } }, pino.destination(2))
  const metrics = options.metrics ?? new Metrics(version)
  const group = groupOf(config.prefix, options.services)
  const own = options.opened === undefined
  const { log, codec } = options.opened ?? (await openLog(config, instance, { warn: (warning) => logger.warn(warning) }))
  let health: Health | undefined
  let front: Front | undefined
  let failed = false
  const spill = new Spill()
  const end = async (): Promise<void> => {
    await front?.stop()
    await health?.stop()
    spill.close()
    if (own) await log.close()
  }
  try {
    const backends = options.backends ?? []
    if (log.kind === "kafka") {
      await log.verifyTopics(topicSettings(config.prefix, config.partitions))
      if (backends.length > 0)
        await log.applyTopics(backends.map((backend) => toolsTopicSettings(config.prefix, config.partitions, backend)))
    } else {
      await log.applyTopics(topicSettings(config.prefix, config.partitions, [...shippedBackends, ...backends]))
    }
    const services = options.build({ config, log, codec, metrics, logger, me: { group, instance } })
    const fail = (error: Error): void => {
      failed = true
      options.failed(error)
    }
    const loop = new Loop({
      log,
      codec,
      services,
      prefix: config.prefix,
      partitions: config.partitions,
      group,
      instance,
      backends: [...shippedBackends, ...backends],
      metrics,
      logger,
      previews: config.previews,
      spill,
      failed: fail,
      ...(options.observe === undefined ? {} : { observe: options.observe }),
      ...options.pace,
    })
    const state: HealthOptions = { unready: () => loop.unready() ?? front?.unready() ?? null, alive: () => !failed, metrics }
    if (options.front !== undefined) {
      const beside = (request: IncomingMessage, response: ServerResponse): boolean => answerHealth(state, request, response)
      front = await options.front({ config, codec, metrics, logger, log, instance, folds: loop.folds, beside, failed: fail })
    } else if (options.health === true) {
      health = await serveHealth({ host: config.host, port: config.port, ...state })
    }
    await loop.start()
    return {
      loop,
      log,
      codec,
      metrics,
      instance,
      group,
      port: front?.port ?? health?.port ?? 0,
      stop: async () => {
        await loop.drain(config.drainMs)
        await end()
      },
    }
  } catch (error) {
    await end()
    throw error
  }
}

/** The version that metrics and clients show. */
export const version = "0.1.0"

/** Runs a process until a signal ends it: what every `main.ts` does. Exits 0 after a drain, 2 on bad configuration, 5 when the log cannot be reached. */
export async function runProcess(
  options: Omit<ProcessOptions, "config" | "failed" | "health">,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  let config: Config
  try {
    config = readConfig(environment)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exitCode = 2
    return
  }
  for (const warning of config.warnings) process.stderr.write(`${warning}\n`)
  const logger = options.logger ?? pino({ level: config.logLevel }, pino.destination(2))
  let running: RunningProcess
  try {
    running = await startProcess({
      ...options,
      config,
      logger,
      health: true,
      metrics: options.metrics ?? new Metrics(version).withDefaults(),
      failed: (error) => {
        logger.fatal({ err: error }, "The process cannot go on; another one takes its partitions over.")
        process.exit(1)
      },
    })
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exitCode = exitCodeOf(error)
    return
  }
  logger.info({ services: options.services, group: running.group, instance: running.instance, port: running.port }, "Running.")
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve())
  })
  logger.info("Draining: what has begun is finished, nothing new begins.")
  await running.stop()
  process.exit(0)
}

/** 2 for what the caller must mend, 5 for what cannot be reached, 1 otherwise. */
export function exitCodeOf(error: unknown): number {
  switch ((error as { code?: unknown }).code) {
    case "config":
    case "tools-file":
    case "topic-mismatch":
      return 2
    case "log-unavailable":
    case "blobs-unavailable":
    case "log-owned":
    case "schema-incompatible":
      return 5
    default:
      return 1
  }
}
