import type { ChildProcess } from "node:child_process"
import { setTimeout as sleep } from "node:timers/promises"
import type { CrashAt } from "./mortal.ts"
import type { Asked, Told } from "./mortal-process.ts"

/** A registry of a busy machine may not be there in time: as any supervisor does, once more. */
const startsMax = 3

interface Child {
  readonly child: ChildProcess
  readonly ready: Promise<boolean>
  readonly ended: Promise<NodeJS.Signals | number | null>
  stderr(): string
}

/** Keeps one process of a run alive: the one that is to die, and after it its successor. */
export class Supervisor {
  diedAt: number | null = null
  readonly #fork: (at: CrashAt | null) => ChildProcess
  readonly #at: CrashAt | null
  readonly #deadline: number
  #living: Child
  #failures = 0

  constructor(fork: (at: CrashAt | null) => ChildProcess, at: CrashAt | null, limitMs: number) {
    this.#fork = fork
    this.#at = at
    this.#deadline = Date.now() + limitMs
    this.#living = this.#start(at)
  }

  /** A moment's wait. Throws where nobody lives, or where it has taken too long. */
  async patience(what: string): Promise<void> {
    const { child, stderr } = this.#living
    if (this.#failures > startsMax && child.exitCode !== null) throw new Error(`A process ended with ${child.exitCode}:\n${stderr()}`)
    if (Date.now() > this.#deadline) throw new Error(`${what} takes too long (${this.#at?.point}:${this.#at?.n}):\n${stderr()}`)
    await sleep(50)
  }

  async ready(): Promise<void> {
    while (!(await this.#living.ready)) await this.patience("The start")
  }

  /** Asks whoever lives; its successor where it dies of the question. */
  async ask<Key extends "counts" | "states">(asked: Asked, key: Key): Promise<Extract<Told, { readonly [K in Key]: unknown }>> {
    for (;;) {
      await this.ready()
      const { child, ended } = this.#living
      const told = await new Promise<Told | null>((resolve) => {
        child.once("message", resolve)
        void ended.then(() => resolve(null))
        if (child.connected) child.send(asked)
      })
      if (told !== null && key in told) return told as Extract<Told, { readonly [K in Key]: unknown }>
      await this.patience("An answer")
    }
  }

  /** Lets it drain; what it had come to before. Null where it died of that: then its successor lives. */
  async drain(): Promise<Extract<Told, { readonly passed: unknown }> | null> {
    await this.ready()
    const { child, ended } = this.#living
    const died = this.diedAt
    const told = await new Promise<Told | null>((resolve) => {
      child.once("message", resolve)
      void ended.then(() => resolve(null))
      child.kill("SIGTERM")
    })
    await ended
    if (told !== null && "passed" in told) return told
    if (this.diedAt === died) throw new Error(`A process did not drain:\n${this.#living.stderr()}`)
    return null
  }

  #start(at: CrashAt | null): Child {
    const child = this.#fork(at)
    let stderr = ""
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      stderr = `${stderr}${chunk}`.slice(-4000)
    })
    const ended = new Promise<NodeJS.Signals | number | null>((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)))
    const ready = new Promise<boolean>((resolve) => {
      child.once("message", () => resolve(true))
      void ended.then(() => resolve(false))
    })
    void ended.then((how) => {
      if (how === "SIGKILL" && this.diedAt === null) {
        this.diedAt = Date.now()
        this.#living = this.#start(null)
      } else if (typeof how === "number" && how > 0 && ++this.#failures <= startsMax) {
        this.#living = this.#start(this.diedAt === null ? at : null)
      }
    })
    return { child, ready, ended, stderr: () => stderr }
  }
}
