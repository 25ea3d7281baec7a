import { randomBytes } from "node:crypto"
import { conversationMessages, isStarted, type Session, type SessionSummary, summarize } from "@reins/session"
import pc from "picocolors"
import { askAbout, isPersonHere, withPerson } from "./ask-person.ts"
import { defaultAgent, readAgent } from "./default-agent.ts"
import { CliError } from "./fail.ts"
import { followCommands, type Outcome, type Until, untilRest } from "./follow-command.ts"
import { type CommandGiven, type Harness, openHarness, type Shown } from "./harness.ts"
import { configured, iso } from "./open.ts"
import { clean, textOf } from "./render.ts"
import { nextCommands, waitingCalls } from "./waiting-calls.ts"

export interface Showing {
  readonly json?: boolean
  readonly quiet?: boolean
  /** Seconds. */
  readonly timeout?: string
}

export interface RunOptions extends Showing {
  readonly agent?: string
  readonly worker?: readonly string[]
  readonly session?: string
}

/** Starts a session with this prompt, shows it as it grows, ends with its outcome. */
export async function run(prompt: string, options: RunOptions): Promise<void> {
  const config = configured()
  const agent = options.agent === undefined ? defaultAgent(config.model) : await readAgent(options.agent)
  const sessionId = options.session ?? `sesn_${randomBytes(6).toString("hex")}`
  await command({ type: "session.start", sessionId, agent, input: [{ type: "text", text: prompt }] }, options, untilRest)
}

/** Says something to a session, shows what follows, ends with its outcome. */
export async function send(sessionId: string, text: string, options: RunOptions): Promise<void> {
  await command({ type: "message.send", sessionId, content: [{ type: "text", text }] }, options, untilRest)
}

/** Sends a command without content and waits for its answer. */
export function answered(
  type: "session.interrupt" | "session.end" | "session.resume" | "session.archive" | "session.delete",
): (sessionId: string, options: RunOptions) => Promise<void> {
  return (sessionId, options) => command({ type, sessionId }, options, () => ({ reason: type, exitCode: 0 }))
}

function command(given: CommandGiven, options: RunOptions, until: Until): Promise<void> {
  return commanding(options, async () => given, until)
}

/** Opens the log, publishes the command that `commandGiven` makes, shows what follows, and ends with its outcome. */
export async function commanding(
  options: RunOptions,
  commandGiven: (harness: Harness, shown: Shown) => Promise<CommandGiven>,
  until: Until = untilRest,
): Promise<void> {
  const config = configured()
  const timeoutMs = options.timeout === undefined ? undefined : Number(options.timeout) * 1000
  if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new CliError(2, `--timeout takes seconds; ${options.timeout} is none.`)
  const shown = showing(options)
  const harness = await openHarness(config, options.worker ?? [], shown)
  try {
    let commands: readonly [CommandGiven, ...CommandGiven[]] = [await commandGiven(harness, shown)]
    for (;;) {
      const outcome = await followCommands(harness, config, commands, shown, until, timeoutMs)
      const [first, ...others] = outcome.reason === "requires_action" ? await askedInPlace(outcome.session, options) : []
      if (first !== undefined) {
        commands = [first, ...others]
        continue
      }
      conclude(commands[0].sessionId, outcome, options, shown)
      process.exitCode = outcome.exitCode
      return
    }
  } finally {
    await harness.end()
  }
}

async function askedInPlace(session: Session, options: Showing): Promise<readonly CommandGiven[]> {
  if (options.json === true || options.quiet === true || !isPersonHere()) return []
  const say = (text: string): void => void process.stderr.write(`${text}\n`)
  return await withPerson((ask) => askAbout(waitingCalls(session), ask, say))
}

function showing(options: Showing): Shown {
  const aside = (text: string): void => {
    if (options.quiet !== true) process.stderr.write(`${text}\n`)
  }
  return { aside, record: options.json === true ? aside : (text) => void process.stdout.write(`${text}\n`) }
}

function conclude(sessionId: string, outcome: Outcome, options: Showing, shown: Shown): void {
  const summary = summarize(outcome.session, iso)
  if (options.json === true) {
    const document = summary ?? { sessionId, status: outcome.rejected === undefined ? outcome.reason : "rejected", ...outcome.rejected }
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
  } else if (summary !== null) printed(sessionId, outcome, summary, shown)
  // Said in any case: without it nobody knows why the session stands still.
  if (outcome.exitCode === 4)
    process.stderr.write(`The session ${sessionId} waits for a person:\n${nextCommands(waitingCalls(outcome.session))}\n`)
}

function printed(sessionId: string, outcome: Outcome, summary: SessionSummary, shown: Shown): void {
  const answer = lastWords(outcome.session)
  if (answer !== "") shown.record(`\n${answer}`)
  const { turns, toolCalls, usage } = summary
  shown.record("")
  shown.record(
    `${pc.bold(outcome.reason)} · ${turns} turns · ${toolCalls} tool calls · ${usage.inputTokens} tokens in, ${usage.outputTokens} out`,
  )
  shown.aside(`session ${pc.bold(sessionId)} · every record of it: npx reins events ${sessionId}`)
}

/** What the model said last, in full. */
export function lastWords(session: Session): string {
  if (!isStarted(session)) return ""
  const last = conversationMessages(session.conversation).at(-1)
  return last?.role === "assistant" ? clean(textOf(JSON.stringify(last.content))).replaceAll(" ⏎ ", "\n") : ""
}
