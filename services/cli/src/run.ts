import { randomBytes } from "node:crypto"
import { type SessionEvent, topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import { type Log, partitionOf } from "@reins/log"
import { type Config, newInstance, openLog, type ReadRecord, SessionReader } from "@reins/runtime"
import { type Session, summarize } from "@reins/session"
import pc from "picocolors"
import { defaultAgent, readAgent } from "./default-agent.ts"
import { CliError } from "./fail.ts"
import { configured, endsOf, iso } from "./open.ts"
import { clean, line } from "./render.ts"
import { loadWorkers } from "./worker.ts"

export interface RunOptions {
  readonly agent?: string
  readonly json?: boolean
  readonly worker?: readonly string[]
  readonly session?: string
  /** Seconds. */
  readonly timeout?: string
  readonly quiet?: boolean
}

/** How long nobody may answer a command on Kafka before we say what is probably missing. */
const silenceMs = 10_000

/** Starts a session with this prompt, shows it as it grows, ends with its outcome. */
export async function run(prompt: string, options: RunOptions): Promise<void> {
  const config = configured()
  const timeoutMs = options.timeout === undefined ? undefined : Number(options.timeout) * 1000
  if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new CliError(2, `--timeout takes seconds; ${options.timeout} is none.`)
  const agent = options.agent === undefined ? defaultAgent(config.model) : await readAgent(options.agent)
  const say = (text: string): void => {
    if (options.quiet !== true) process.stderr.write(`${text}\n`)
  }
  const shown = (text: string): void => void (options.json === true ? say(text) : process.stdout.write(`${text}\n`))
  const sessionId = options.session ?? `sesn_${randomBytes(6).toString("hex")}`
  const began = await begin(config, options, say)
  try {
    const outcome = await follow({
      config,
      log: began.log,
      codec: began.codec,
      sessionId,
      agent,
      prompt,
      timeoutMs,
      shown,
      say,
      json: options.json === true,
    })
    const summary = summarize(outcome.session, iso)
    if (options.json === true)
      process.stdout.write(`${JSON.stringify(summary ?? { sessionId, status: "rejected", ...outcome.rejected }, null, 2)}\n`)
    else if (summary !== null) {
      const { turns, toolCalls, usage } = summary
      shown("")
      shown(
        `${pc.bold(outcome.reason)} · ${turns} turns · ${toolCalls} tool calls · ${usage.inputTokens} tokens in, ${usage.outputTokens} out`,
      )
      say(`session ${pc.bold(sessionId)} · every record of it: npx reins events ${sessionId}`)
    }
    process.exitCode = outcome.exitCode
  } finally {
    await began.end()
  }
}

async function begin(
  config: Config,
  options: RunOptions,
  say: (text: string) => void,
): Promise<{ log: Log; codec: Awaited<ReturnType<typeof openLog>>["codec"]; end: () => Promise<void> }> {
  if (config.kafka !== null) {
    const { log, codec } = await openLog(config, newInstance("cli"))
    say(pc.dim(`on Kafka at ${config.kafka.brokers.join(", ")} · the services run where \`reins up\` was started`))
    return { log, codec, end: () => log.close() }
  }
  const workers = await loadWorkers(options.worker ?? [])
  const host = await startHost({
    config: { ...config, logLevel: process.env["REINS_LOG_LEVEL"] === undefined ? "warn" : config.logLevel, drainMs: 200 },
    workers,
    failed: (error) => {
      process.stderr.write(`reins: ${error.message}\n`)
      process.exit(1)
    },
  })
  say(pc.dim(`embedded: one process, the log in ${config.dataDir} · not for production; on Kafka: set KAFKA_BROKERS`))
  if (host.simulatedModel !== null)
    say(pc.yellow("SIMULATED MODEL: no ANTHROPIC_API_KEY is set, so a small deterministic planner answers in its place"))
  return { log: host.log, codec: host.codec, end: () => host.stop() }
}

interface Outcome {
  readonly session: Session
  readonly reason: string
  readonly exitCode: number
  readonly rejected?: { readonly code: string; readonly message: string }
}

interface Follow {
  readonly config: Config
  readonly log: Log
  readonly codec: Awaited<ReturnType<typeof openLog>>["codec"]
  readonly sessionId: string
  readonly agent: unknown
  readonly prompt: string
  readonly timeoutMs: number | undefined
  readonly shown: (text: string) => void
  readonly say: (text: string) => void
  readonly json: boolean
}

/** Publishes the command as any client would, and follows the session until it rests. */
async function follow({ config, log, codec, sessionId, agent, prompt, timeoutMs, shown, say }: Follow): Promise<Outcome> {
  const names = topicNames(config.prefix)
  const reader = await SessionReader.open(log, codec, config.prefix, sessionId)
  if (reader === null)
    throw new CliError(2, `There are no topics under the prefix ${config.prefix}. Create them with \`reins topics apply\`.`)
  const end = await endsOf(log, [names.sessions])
  const commandId = `run_${randomBytes(8).toString("hex")}`
  let since: number | undefined
  let settle: (outcome: Outcome) => void
  let refuse: (error: Error) => void
  const outcome = new Promise<Outcome>((resolve, reject) => {
    settle = resolve
    refuse = reject
  })
  let heard = false
  const following = await log.follow({
    instance: newInstance("cli"),
    topics: [names.sessions],
    // What another session of the partition said before does not matter to a session that is new.
    from: end,
    records: async (_topic, partition, records) => {
      if (partition !== reader.partition) return
      for (const record of records) {
        const read = await reader.fold(record)
        if (read === null) continue
        heard = true
        since ??= read.timestamp
        shown(line(read, since ?? read.timestamp))
        const rests = restsAt(read, reader.session, commandId)
        if (rests !== null) settle(rests)
      }
    },
    failed: (error) => refuse(error),
  })
  // A second one does not wait: by then nobody listens any more, and the process ends as the system has it.
  const interrupted = (): void =>
    refuse(
      new CliError(
        130,
        `Interrupted. The session ${sessionId} stands in the log${config.kafka === null ? " and goes on with the next `reins run` or `reins dev`" : " and goes on"}.`,
      ),
    )
  process.once("SIGINT", interrupted)
  const timers: NodeJS.Timeout[] = []
  if (timeoutMs !== undefined)
    timers.push(
      setTimeout(
        () =>
          refuse(
            new CliError(
              7,
              `The session ${sessionId} did not come to rest in time; it goes on. Look at it with: npx reins events ${sessionId} -f`,
            ),
          ),
        timeoutMs,
      ),
    )
  timers.push(
    setTimeout(() => {
      if (!heard) say("Nobody has answered the command yet. Are the services running? `reins up` starts them.")
    }, silenceMs),
  )
  try {
    const sessions = (await log.describeTopics()).find((topic) => topic.name === names.sessions)
    await log.append({
      topic: names.commands,
      partition: partitionOf(sessionId, sessions?.partitions ?? config.partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify({ type: "session.start", commandId, sessionId, agent, input: [{ type: "text", text: prompt }] })),
      headers: { type: "session.start", session: sessionId },
      certainty: "always",
    })
    return await outcome
  } finally {
    for (const timer of timers) clearTimeout(timer)
    process.off("SIGINT", interrupted)
    await following.stop()
  }
}

/** Where a session rests, or null while it goes on. */
function restsAt(record: ReadRecord, session: Session, commandId: string): Outcome | null {
  const event = record.value as unknown as SessionEvent | null
  if (event === null || record.verdict !== "accepted") return null
  switch (event.type) {
    case "command.rejected":
      return event.commandId === commandId
        ? {
            session,
            reason: event.code,
            exitCode: event.code.startsWith("invalid") ? 2 : 1,
            rejected: { code: event.code, message: clean(event.message) },
          }
        : null
    case "session.idled":
      return session.phase === "idle" && session.wake
        ? null
        : { session, reason: event.reason, exitCode: event.reason === "end_turn" ? 0 : 1 }
    case "session.ended":
      return { session, reason: "ended", exitCode: 0 }
    case "session.parked":
      return { session, reason: "parked", exitCode: 1 }
    default:
      return null
  }
}
