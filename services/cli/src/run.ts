import { randomBytes } from "node:crypto"
import { conversationMessages, isStarted, type Session, summarize } from "@reins/session"
import pc from "picocolors"
import { defaultAgent, readAgent } from "./default-agent.ts"
import { CliError } from "./fail.ts"
import {
  type CommandGiven,
  followCommand,
  type Outcome,
  openHarness,
  type Shown,
  type Until,
  untilAnswered,
  untilRest,
} from "./follow-command.ts"
import { configured, iso } from "./open.ts"
import { clean, textOf } from "./render.ts"

interface Showing {
  readonly json?: boolean
  readonly quiet?: boolean
}

export interface RunOptions extends Showing {
  readonly agent?: string
  readonly worker?: readonly string[]
  readonly session?: string
  /** Seconds. */
  readonly timeout?: string
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
  type: "session.interrupt" | "session.end" | "session.resume",
): (sessionId: string, options: RunOptions) => Promise<void> {
  return (sessionId, options) => command({ type, sessionId }, options, untilAnswered)
}

async function command(given: CommandGiven, options: RunOptions, until: Until): Promise<void> {
  const config = configured()
  const timeoutMs = options.timeout === undefined ? undefined : Number(options.timeout) * 1000
  if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new CliError(2, `--timeout takes seconds; ${options.timeout} is none.`)
  const shown = showing(options)
  const harness = await openHarness(config, options.worker ?? [], shown)
  try {
    const outcome = await followCommand(harness, config, given, shown, until, timeoutMs)
    conclude(given.sessionId, outcome, options, shown)
    process.exitCode = outcome.exitCode
  } finally {
    await harness.end()
  }
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
    process.stdout.write(`${JSON.stringify(summary ?? { sessionId, status: "rejected", ...outcome.rejected }, null, 2)}\n`)
    return
  }
  if (summary === null) return
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
function lastWords(session: Session): string {
  if (!isStarted(session)) return ""
  const last = conversationMessages(session.conversation).at(-1)
  return last?.role === "assistant" ? clean(textOf(JSON.stringify(last.content))).replaceAll(" ⏎ ", "\n") : ""
}
