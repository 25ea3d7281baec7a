import { type ChildProcess, fork } from "node:child_process"
import process from "node:process"
import { fileURLToPath } from "node:url"

// The processes of the API's benchmark, which answer questions over the channel that they were forked with.

/** When a record was given to the log, when it stood there, and when a follower heard of it. */
export interface Stamp {
  readonly givenMs?: number
  readonly stoodMs?: number
  readonly heardMs?: number
}

export interface Usage {
  readonly cpuMs: number
  readonly rssMb: number
}

interface Questions {
  [name: string]: (given: never) => unknown
}

/** In a child: says that it is ready, answers until it is told to stop. */
export function answerQuestions(questions: Questions): void {
  const all: Questions = {
    ...questions,
    usage: (): Usage => {
      const { user, system } = process.cpuUsage()
      return { cpuMs: (user + system) / 1000, rssMb: process.memoryUsage.rss() / 1024 / 1024 }
    },
  }
  process.on("message", ({ number, name, given }: { number: number; name: string; given: unknown }) => {
    if (name === "stop") process.exit(0)
    process.send?.({ number, answer: all[name]?.(given as never) })
  })
  // Whoever asked is gone.
  process.on("disconnect", () => process.exit(0))
  process.send?.("ready")
}

/** A child, from the side of whoever asks. */
export class Asked {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>()
  #number = 0
  #ready: Promise<void>

  constructor(program: URL, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = fork(fileURLToPath(program), [...args], {
      env,
      execArgv: ["--disable-warning=ExperimentalWarning", "--disable-warning=TimeoutNegativeWarning"],
    })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#ready = promise
    this.#child.on("message", (message: "ready" | { readonly number: number; readonly answer: unknown }) => {
      if (message === "ready") return resolve()
      this.#waiting.get(message.number)?.resolve(message.answer)
      this.#waiting.delete(message.number)
    })
    this.#child.once("exit", (code) => {
      const error = new Error(`${program.pathname} ${args.join(" ")} ended with ${code}.`)
      reject(error)
      for (const { reject: refuse } of this.#waiting.values()) refuse(error)
    })
  }

  async ready(): Promise<this> {
    await this.#ready
    return this
  }

  ask<T>(name: string, given?: unknown): Promise<T> {
    const number = this.#number++
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve: (answer) => resolve(answer as T), reject })
      this.#child.send({ number, name, given })
    })
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = new Promise((resolve) => this.#child.once("exit", resolve))
    this.#child.send({ number: -1, name: "stop" })
    await ended
  }
}
