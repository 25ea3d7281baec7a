import { randomBytes } from "node:crypto"
import type { SessionEvent } from "@reins/events"
import type { Config, ReadRecord } from "@reins/runtime"
import type { Session } from "@reins/session"
import { CliError } from "./fail.ts"
import { followSession } from "./follow-session.ts"
import type { CommandGiven, Harness, Published, Shown } from "./harness.ts"
import { clean, line } from "./render.ts"
import { type Rest, restOf } from "./rest.ts"

/** How long nobody may answer a command on Kafka before we say what is probably missing. */
const silenceMs = 10_000

export interface Outcome extends Rest {
  readonly session: Session
  readonly rejected?: { readonly code: string; readonly message: string }
}

/** Where the following ends, asked after every record once all commands are answered: the session's rest, or the answers alone. */
export type Until = (session: Session) => Rest | null

export const untilRest: Until = restOf

export function newCommand(given: CommandGiven): Published {
  return { ...given, commandId: `cli_${randomBytes(8).toString("hex")}` }
}

/** Publishes commands to one session as any client would, shows it as it grows, until they are answered and `until` says where it ends. */
export async function followCommands(
  harness: Harness,
  config: Config,
  given: readonly [CommandGiven, ...CommandGiven[]],
  shown: Shown,
  until: Until,
  timeoutMs?: number,
): Promise<Outcome> {
  const commands = given.map(newCommand)
  const { sessionId } = given[0]
  const open = new Set(commands.map(({ commandId }) => commandId))
  let since: number | undefined
  let rejected: Outcome | null = null
  let settle: (outcome: Outcome) => void = () => undefined
  let refuse: (error: Error) => void = () => undefined
  const outcome = new Promise<Outcome>((resolve, reject) => {
    settle = resolve
    refuse = reject
  })
  // Whoever waits for it may not have come to it when it fails.
  outcome.catch(() => undefined)
  const onRecord = (read: ReadRecord, session: Session): void => {
    since ??= read.timestamp
    shown.record(line(read, since))
    if (read.value === null || read.verdict !== "accepted") return
    const event = read.value as unknown as SessionEvent
    if ("commandId" in event && open.delete(event.commandId) && event.type === "command.rejected") rejected ??= rejection(event, session)
    if (open.size > 0) return
    if (rejected !== null) return settle(rejected)
    const rest = until(session)
    if (rest !== null) settle({ ...rest, session })
  }
  const following = await followSession(harness, config, sessionId, { record: onRecord, failed: (error) => refuse(error) })
  const timers: NodeJS.Timeout[] = []
  const late = `The session ${sessionId} did not come to rest in time; it goes on. Look at it with: npx reins events ${sessionId} -f`
  if (timeoutMs !== undefined) timers.push(setTimeout(() => refuse(new CliError(7, late)), timeoutMs))
  // A second one does not wait: by then nobody listens any more, and the process ends as the system has it.
  const interrupted = (): void => refuse(new CliError(130, `Interrupted. The session ${sessionId} stands in the log ${harness.goesOn}.`))
  process.once("SIGINT", interrupted)
  const silence = "Nobody has answered the command yet. Are the services running? `reins up` starts them."
  timers.push(setTimeout(() => (since === undefined ? shown.aside(silence) : undefined), silenceMs))
  try {
    const published = Promise.all(commands.map((command) => harness.publish(command)))
    await Promise.race([published, outcome])
    return await outcome
  } finally {
    process.off("SIGINT", interrupted)
    for (const timer of timers) clearTimeout(timer)
    await following.stop()
  }
}

function rejection({ code, message }: { readonly code: string; readonly message: string }, session: Session): Outcome {
  return { session, reason: code, exitCode: exitCodeOf(code), rejected: { code, message: clean(message) } }
}

function exitCodeOf(code: string): number {
  if (code.startsWith("invalid")) return 2
  if (code === "action_required") return 4
  return code === "session_unknown" || code === "session_deleted" || code === "call_unknown" ? 3 : 1
}
