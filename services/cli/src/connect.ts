import { createInterface, type Interface } from "node:readline"
import type { SessionEvent } from "@reins/events"
import type { ReadRecord } from "@reins/runtime"
import { isStarted, type Session, statusOf } from "@reins/session"
import pc from "picocolors"
import { lineHelp, readLine } from "./connect-line.ts"
import { CliError } from "./fail.ts"
import { newCommand } from "./follow-command.ts"
import { type FollowedSession, followSession } from "./follow-session.ts"
import { type Harness, openHarness } from "./harness.ts"
import { configured, notFound } from "./open.ts"
import { clean, line } from "./render.ts"
import { restOf } from "./rest.ts"
import { lastWords } from "./run.ts"
import { needs, nextCommands, shownCall, waitingCalls } from "./waiting-calls.ts"

export interface ConnectOptions {
  readonly all?: boolean
  readonly exit?: boolean
  readonly worker?: readonly string[]
}

/**
 * A session live: every record as it comes, every line typed as a message or an answer. Leaving it, by Ctrl+C, Ctrl+D or `/quit`, does
 * nothing to the session.
 */
export async function connect(sessionId: string, options: ConnectOptions): Promise<void> {
  const config = configured()
  const terminal = new Terminal(options.exit === true)
  const harness = await openHarness(config, options.worker ?? [], { record: terminal.print, aside: terminal.aside })
  try {
    const connection = new Connection(harness, sessionId, terminal)
    process.exitCode = await connection.run((told) => followSession(harness, config, sessionId, told), options.all === true)
  } finally {
    terminal.close()
    await harness.end()
  }
}

/** Lines in, text out. Records go to stdout, all else to stderr; on a terminal what is being typed stays below what is printed. */
class Terminal {
  readonly leavesAtEnd: boolean
  readonly #typing: boolean = process.stdin.isTTY && process.stdout.isTTY
  #lines: Interface | undefined

  constructor(leavesAtEnd: boolean) {
    this.leavesAtEnd = leavesAtEnd
  }

  readonly print = (text: string): void => this.#write(process.stdout, text)
  readonly aside = (text: string): void => this.#write(process.stderr, text)

  #write(to: NodeJS.WriteStream, text: string): void {
    if (!this.#typing || this.#lines === undefined) {
      to.write(`${text}\n`)
      return
    }
    process.stdout.write("\r\u001b[K")
    to.write(`${text}\n`)
    this.#lines.prompt(true)
  }

  /** On a terminal an end of input (Ctrl+D) is a person leaving, and so is Ctrl+C anywhere. */
  open(typed: (text: string) => void, ended: () => void, left: () => void): void {
    this.#lines = createInterface({
      input: process.stdin,
      ...(this.#typing ? { output: process.stdout, terminal: true, prompt: "> " } : { terminal: false }),
    })
    this.#lines.on("line", (text) => {
      typed(text)
      if (this.#typing) this.#lines?.prompt()
    })
    this.#lines.once("close", this.#typing ? left : ended)
    if (this.#typing) {
      this.#lines.on("SIGINT", left)
      this.#lines.prompt()
    }
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, left)
  }

  close(): void {
    const lines = this.#lines
    this.#lines = undefined
    lines?.close()
    // A pipe that nobody closes must not keep the process.
    process.stdin.unref?.()
    if (this.#typing) process.stdout.write("\r\u001b[K")
  }
}

type Follow = (told: Parameters<typeof followSession>[3]) => Promise<FollowedSession>

class Connection {
  readonly #harness: Harness
  readonly #sessionId: string
  readonly #terminal: Terminal
  readonly #unanswered = new Set<string>()
  #following: FollowedSession | undefined
  #since: number | undefined
  /** The hold that was last shown, so that each is shown once. */
  #shown = new Set<string>()
  #inputOver = false
  #sending: Promise<void> = Promise.resolve()
  #leave: (exitCode: number) => void = () => undefined
  #break: (error: Error) => void = () => undefined

  constructor(harness: Harness, sessionId: string, terminal: Terminal) {
    this.#harness = harness
    this.#sessionId = sessionId
    this.#terminal = terminal
  }

  async run(follow: Follow, all: boolean): Promise<number> {
    const left = new Promise<number>((resolve, reject) => {
      this.#leave = resolve
      this.#break = reject
    })
    left.catch(() => undefined)
    this.#following = await follow({
      ...(all ? { before: (record) => this.#print(record) } : {}),
      record: (record, session) => this.#record(record, session),
      failed: (error) => this.#break(error),
    })
    try {
      const { session } = this.#following
      if (!isStarted(session)) throw notFound(this.#sessionId)
      this.#terminal.aside(
        `connected to ${pc.bold(clean(this.#sessionId))}, which is ${restOf(session)?.reason ?? statusOf(session)}. ${lineHelp}`,
      )
      this.#showWaiting(session)
      if (this.#isOver(session)) return 0
      this.#terminal.open(
        (text) => this.#typed(text),
        () => this.#ended(),
        () => this.#detach(),
      )
      return await left
    } finally {
      await this.#following.stop()
    }
  }

  get #session(): Session {
    return (this.#following as FollowedSession).session
  }

  #print(record: ReadRecord): void {
    this.#since ??= record.timestamp
    this.#terminal.print(line(record, this.#since))
  }

  #record(record: ReadRecord, session: Session): void {
    this.#print(record)
    if (record.value === null || record.verdict !== "accepted") return
    const event = record.value as unknown as SessionEvent
    if ("commandId" in event) this.#unanswered.delete(event.commandId)
    this.#showWaiting(session)
    if (event.type === "session.idled" && event.reason !== "requires_action") {
      const words = lastWords(session)
      if (words !== "") this.#terminal.print(`\n${words}\n`)
    }
    if (this.#isOver(session)) this.#leave(0)
    else this.#leaveAtRest(session)
  }

  #isOver(session: Session): boolean {
    if (session.phase !== "ended" && session.phase !== "deleted") return false
    this.#terminal.aside(
      `The session ${clean(this.#sessionId)} is ${session.phase === "ended" ? "at its end" : "deleted"}: nothing more happens in it.`,
    )
    return true
  }

  #showWaiting(session: Session): void {
    for (const call of waitingCalls(session)) {
      if (this.#shown.has(call.heldBy)) continue
      this.#shown.add(call.heldBy)
      const how = [...(call.reason === "client" ? [] : ["/allow", "/deny"]), ...(call.reason === "approval" ? [] : ["/result"])]
      this.#terminal.aside(pc.yellow(`${shownCall(call)}  ${needs(call)}: ${how.join(", ")}`))
    }
  }

  /** One after the other: what was typed first is in the log first. */
  #typed(text: string): void {
    this.#sending = this.#sending.then(() => this.#send(text)).catch((error: unknown) => this.#refused(error))
  }

  async #send(text: string): Promise<void> {
    const typed = readLine(text, this.#sessionId, waitingCalls(this.#session))
    if (typed.does === "quit") return this.#detach()
    if (typed.does === "nothing") return
    const command = newCommand(typed.command)
    this.#unanswered.add(command.commandId)
    try {
      await this.#harness.publish(command)
    } catch (error) {
      this.#unanswered.delete(command.commandId)
      throw error
    }
  }

  /** What cannot be done leaves the connection as it is; a program that is done with its input hears of it. */
  #refused(error: unknown): void {
    if (!(error instanceof CliError)) return this.#break(error instanceof Error ? error : new Error(String(error)))
    this.#terminal.aside(`reins: ${error.message}`)
  }

  #ended(): void {
    void this.#sending.then(() => {
      this.#inputOver = true
      this.#leaveAtRest(this.#session)
    })
  }

  #leaveAtRest(session: Session): void {
    if (!this.#inputOver || !this.#terminal.leavesAtEnd || this.#unanswered.size > 0) return
    const rest = restOf(session)
    if (rest === null) return
    if (rest.reason === "requires_action")
      this.#terminal.aside(`The session ${clean(this.#sessionId)} waits for a person:\n${nextCommands(waitingCalls(session))}`)
    this.#leave(rest.exitCode)
  }

  #detach(): void {
    this.#terminal.aside(`Detached. The session ${clean(this.#sessionId)} stands in the log ${this.#harness.goesOn}.`)
    this.#leave(0)
  }
}
