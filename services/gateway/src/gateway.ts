import type { IncomingMessage, ServerResponse } from "node:http"
import { topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { type Config, LogTime, type Metrics, type SharedFolds, systemClock } from "@reins/runtime"
import type { Logger } from "pino"
import { defaultGatewayLimits, type GatewayLimits } from "./config.ts"
import { agentRoutes } from "./directory/agents.ts"
import { Directory } from "./directory/directory.ts"
import { environmentRoutes } from "./directory/environments.ts"
import { createApp } from "./http/app.ts"
import type { Access } from "./http/auth.ts"
import type { GatewayContext } from "./http/context.ts"
import { InFlight } from "./http/idempotency.ts"
import { type HttpServer, listen } from "./http/server.ts"
import { LogWatch } from "./log-watch.ts"
import { Projection } from "./projection/projection.ts"
import { commandRoutes, OwnerRoutes } from "./reins/commands.ts"
import { reinsRoutes } from "./reins/routes.ts"
import { Commands } from "./sessions/commands.ts"
import { sessionRoutes } from "./sessions/routes.ts"
import { Streams } from "./sessions/stream.ts"

export interface GatewayOptions {
  readonly log: Log
  readonly codec: Codec
  readonly config: Config
  readonly metrics: Metrics
  readonly logger: Logger
  readonly instance: string
  /** What the services of the same process fold. */
  readonly folds?: SharedFolds
  readonly access: Access
  /** Answers what is not the API's: `/livez` and the like. True where it has answered. */
  readonly beside?: (request: IncomingMessage, response: ServerResponse) => boolean
  readonly limits?: Partial<GatewayLimits>
  readonly failed: (error: Error) => void
}

export interface Gateway {
  readonly url: string
  readonly port: number
  /** Everything that stood in the log at the start is known, and the log can be reached. */
  ready(): boolean
  /** What keeps it from being ready, in a few words; null where nothing does. */
  unready(): string | null
  stop(): Promise<void>
}

/** The way in and out: HTTP requests become commands, facts become responses and streams. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { log, codec, config, metrics, logger, instance, access, failed } = options
  const limits = { ...defaultGatewayLimits, ...options.limits }
  const topics = topicNames(config.prefix)
  const time = new LogTime(systemClock)
  const projection = new Projection({
    log,
    codec,
    topics,
    instance: `${instance}-gateway`,
    answerTimeoutMs: limits.answerTimeoutMs,
    time,
    logger,
    failed,
    ...(options.folds === undefined ? {} : { folds: options.folds }),
  })
  const directory = new Directory({
    log,
    codec,
    topics,
    instance: `${instance}-directory`,
    answerTimeoutMs: limits.answerTimeoutMs,
    failed,
  })
  const watch = new LogWatch({
    log,
    topic: topics.sessions,
    silenceMaxMs: limits.logSilenceMaxMs,
    failing: (error) => logger.warn({ err: error }, "The log does not answer the gateway, which is not ready if that goes on."),
  })
  const streams = new Streams({
    perCredentialMax: limits.streamsPerCredential,
    counted: (count) => metrics.sseClients.set(count),
    evicted: () => metrics.sseEvicted.inc(),
  })
  const commands = new Commands({
    log,
    topic: topics.commands,
    partitions: config.partitions,
    projection,
    answerTimeoutMs: limits.answerTimeoutMs,
  })
  const context: GatewayContext = {
    log,
    topics,
    logger,
    directory,
    inFlight: new InFlight(),
    by: `gateway@${instance}`,
    // Before the first record there is no log time yet.
    now: () => (time.now() > 0 ? time.now() : Date.now()),
    hasSessionOf: async (environmentId) => {
      await projection.caughtUp()
      return projection.store.hasSessionOf(environmentId)
    },
  }
  const app = createApp({
    context,
    access,
    rate: limits.rate,
    body: limits.body,
    measured: (route, method, code, seconds) => metrics.httpSeconds.observe({ route, method, code: String(code) }, seconds),
  })
  app.route("/v1/agents", agentRoutes(context))
  app.route("/v1/environments", environmentRoutes(context))
  app.route("/v1/sessions", sessionRoutes({ gateway: context, projection, commands, streams }))
  app.route("/reins/v1/commands", commandRoutes({ projection, commands }))
  const owner = new OwnerRoutes({ commands, body: limits.body })
  app.route("/reins/owner", owner.app)
  app.route("/reins/v1", reinsRoutes({ gateway: context, projection, codec }))

  await Promise.all([projection.start(), directory.start()])
  watch.start()
  const stopFollowing = async (): Promise<void> => {
    watch.stop()
    await Promise.all([projection.stop(), directory.stop()])
  }
  let server: HttpServer
  try {
    const { beside } = options
    server = await listen({ host: config.host, port: config.port, fetch: app.fetch, ...(beside === undefined ? {} : { beside }) })
  } catch (error) {
    await stopFollowing()
    throw error
  }
  const stop = async (): Promise<void> => {
    streams.close()
    await server.stop()
    await stopFollowing()
  }
  let stopped: Promise<void> | undefined
  const unready = (): string | null => (projection.ready() && directory.ready() ? watch.unreachable() : "catching up")
  if (log.kind === "sqlite") owner.announce(config.dataDir, server.url)
  return {
    url: server.url,
    port: server.port,
    ready: () => unready() === null,
    unready,
    stop: () => (stopped ??= stop()),
  }
}
