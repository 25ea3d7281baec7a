import { randomBytes } from "node:crypto"
import { type SessionEvent, topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import { type Log, partitionOf } from "@reins/log"
import { type Config, newInstance, type OpenLog, openLog, type ReadRecord, SessionReader } from "@reins/runtime"
import type { Session } from "@reins/session"
import pc from "picocolors"
import { CliError } from "./fail.ts"
import { endsOf } from "./open.ts"
import { clean, line } from "./render.ts"
import { loadWorkers } from "./worker.ts"

/** How long nobody may answer a command on Kafka before we say what is probably missing. */
const silenceMs = 10_000

/** How a command and what follows it are shown. */
export interface Shown {
  /** The session's own records. */
  readonly record: (text: string) => void
  /** Everything else, for a person. */
  readonly aside: (text: string) => void
}

/** The log with someone behind it who acts on commands: on Kafka whoever runs there, embedded this process. */
export interface Harness extends OpenLog {
  end(): Promise<void>
}

export async function openHarness(config: Config, workers: readonly string[], shown: Shown): Promise<Harness> {
  if (config.kafka !== null) {
    if (workers.length > 0)
      throw new CliError(2, "--worker serves tools in this process, which hosts nothing on Kafka: use `reins worker FILE`.")
    const { log, codec } = await openLog(config, newInstance("cli"))
    shown.aside(pc.dim(`on Kafka at ${config.kafka.brokers.join(", ")} · the services run where \`reins up\` was started`))
    return { log, codec, end: () => log.close() }
  }
  const host = await startHost({
    config: { ...config, logLevel: process.env["REINS_LOG_LEVEL"] === undefined ? "warn" : config.logLevel, drainMs: 200 },
    workers: await loadWorkers(workers),
    failed: (error) => {
      process.stderr.write(`reins: ${error.message}\n`)
      process.exit(1)
    },
  })
  shown.aside(pc.dim(`embedded: one process, the log in ${config.dataDir} · not for production; on Kafka: set KAFKA_BROKERS`))
  if (host.simulatedModel !== null)
    shown.aside(pc.yellow("SIMULATED MODEL: no ANTHROPIC_API_KEY is set, so a small deterministic planner answers in its place"))
  return { log: host.log, codec: host.codec, end: () => host.stop() }
}

export interface Outcome {
  readonly session: Session
  readonly reason: string
  readonly exitCode: number
  readonly rejected?: { readonly code: string; readonly message: string }
}

export interface CommandGiven {
  readonly type: string
  readonly sessionId: string
  readonly [field: string]: unknown
}

/** Whether a record ends the waiting, and with what. */
export type Until = (event: SessionEvent, session: Session, commandId: string) => Outcome | null

/** Publishes a command as any client would, shows the session as it grows, until `until` says where it ends. */
export async function followCommand(
  { log, codec }: OpenLog,
  config: Config,
  command: CommandGiven,
  shown: Shown,
  until: Until,
  timeoutMs?: number,
): Promise<Outcome> {
  const names = topicNames(config.prefix)
  const { sessionId } = command
  const reader = await SessionReader.open(log, codec, config.prefix, sessionId)
  if (reader === null)
    throw new CliError(2, `There are no topics under the prefix ${config.prefix}. Create them with \`reins topics apply\`.`)
  const end = await endsOf(log, [names.sessions])
  // What was said before is folded and not shown: the verdicts of what follows depend on it.
  if (command.type !== "session.start") await reader.read({ tools: false })
  const commandId = `cli_${randomBytes(8).toString("hex")}`
  let since: number | undefined
  let heard = false
  let settle: (outcome: Outcome) => void = () => undefined
  let refuse: (error: Error) => void = () => undefined
  const outcome = new Promise<Outcome>((resolve, reject) => {
    settle = resolve
    refuse = reject
  })
  const onRecord = (read: ReadRecord): void => {
    heard = true
    since ??= read.timestamp
    shown.record(line(read, since))
    if (read.value === null || read.verdict !== "accepted") return
    const ends =
      rejected(read.value as unknown as SessionEvent, reader.session, commandId) ??
      until(read.value as unknown as SessionEvent, reader.session, commandId)
    if (ends !== null) settle(ends)
  }
  const following = await log.follow({
    instance: newInstance("cli"),
    topics: [names.sessions],
    from: (topic, partition) => Math.max(end(topic, partition), partition === reader.partition ? (reader.next.get(topic) ?? 0) : 0),
    records: async (_topic, partition, records) => {
      if (partition !== reader.partition) return
      for (const record of records) {
        const read = await reader.fold(record)
        if (read !== null) onRecord(read)
      }
    },
    failed: (error) => refuse(error),
  })
  const timers: NodeJS.Timeout[] = []
  const late = `The session ${sessionId} did not come to rest in time; it goes on. Look at it with: npx reins events ${sessionId} -f`
  if (timeoutMs !== undefined) timers.push(setTimeout(() => refuse(new CliError(7, late)), timeoutMs))
  // A second one does not wait: by then nobody listens any more, and the process ends as the system has it.
  const goesOn = config.kafka === null ? " and goes on with the next `reins run` or `reins dev`" : " and goes on"
  const interrupted = (): void => refuse(new CliError(130, `Interrupted. The session ${sessionId} stands in the log${goesOn}.`))
  process.once("SIGINT", interrupted)
  const silence = "Nobody has answered the command yet. Are the services running? `reins up` starts them."
  timers.push(setTimeout(() => (heard ? undefined : shown.aside(silence)), silenceMs))
  try {
    await publish(log, config, { ...command, commandId })
    return await outcome
  } finally {
    process.off("SIGINT", interrupted)
    for (const timer of timers) clearTimeout(timer)
    await following.stop()
  }
}

async function publish(log: Log, config: Config, command: CommandGiven): Promise<void> {
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

function rejected(event: SessionEvent, session: Session, commandId: string): Outcome | null {
  if (event.type !== "command.rejected" || event.commandId !== commandId) return null
  const { code, message } = event
  const exitCode = code.startsWith("invalid") ? 2 : code === "session_unknown" ? 3 : 1
  return { session, reason: code, exitCode, rejected: { code, message: clean(message) } }
}

/** Until the session rests: idle with nothing queued, ended or parked. */
export const untilRest: Until = (event, session) => {
  switch (event.type) {
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

/** Until the command itself is answered. */
export const untilAnswered: Until = (event, session, commandId) =>
  "commandId" in event && event.commandId === commandId ? { session, reason: event.type, exitCode: 0 } : null
