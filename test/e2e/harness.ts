import { type ChildProcess, fork, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"
import type { Hold } from "../fixtures/model-process.ts"
import type { JournalLine, LoggedRecord } from "../scenarios/long-session.ts"

// Real processes for tests. Everything that a test starts is ended by its pid, and what it wrote is shown when the test fails.

export const root: string = fileURLToPath(new URL("../..", import.meta.url))
const program = join(root, "services/cli/src/main.ts")

/** Far above what anything here takes: a wait that ends so has found a fault, not a busy machine. */
export const patienceMs = 60_000

export async function until<T>(
  look: () => T | Promise<T>,
  what: string,
  limitMs: number = patienceMs,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== null && found !== false) return found as Exclude<T, false | null | undefined>
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export type Environment = Readonly<Record<string, string | undefined>>

/** The environment of a process under test: nothing of the developer's own settings reaches it. */
function environment(given: Environment): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(REINS|KAFKA|SCHEMA_REGISTRY|ANTHROPIC|NODE_TEST)_/.test(name))
  return { ...Object.fromEntries(own), NO_COLOR: "1", KAFKAJS_NO_PARTITIONER_WARNING: "1", ...given }
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A process under test. */
export class Started {
  readonly name: string
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  stdout = ""
  stderr = ""
  over = false

  constructor(name: string, child: ChildProcess) {
    this.name = name
    this.child = child
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      this.stdout += chunk
    })
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      this.stderr += chunk
    })
    this.ended = new Promise((resolve) => {
      child.once("close", (code, signal) => {
        this.over = true
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr })
      })
    })
  }

  get pid(): number {
    const { pid } = this.child
    if (pid === undefined) throw new Error(`${this.name} has no pid: it did not start.`)
    return pid
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.over) this.child.kill(signal)
  }

  /** The name that it gives itself in claims, as its banner says. */
  get instance(): string {
    const found = / as ([\w.-]+)/.exec(this.stderr)?.[1]
    if (found === undefined) throw new Error(`${this.name} has not said who it is.`)
    return found
  }

  /** Where its health is asked for; known once it says so. */
  get address(): string | undefined {
    const port = /on port (\d+)/.exec(this.stderr)?.[1]
    return port === undefined ? undefined : `http://127.0.0.1:${port}`
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`${this.address}${path}`, { signal: AbortSignal.timeout(10_000) })
    return { status: response.status, text: await response.text() }
  }

  /** Resolves when `/readyz` says so; rejects when the process ends instead. */
  async ready(): Promise<this> {
    await until(async () => {
      if (this.over) throw new Error(`${this.name} ended before it was ready:\n${this.stderr}`)
      if (this.address === undefined) return false
      return (await this.get("/readyz").catch(() => ({ status: 0 }))).status === 200
    }, `${this.name} is ready`)
    return this
  }
}

export interface ModelProcess {
  readonly url: string
  /** From this turn on nothing is answered; null lets all go on. */
  hold(fromTurn: number | null): void
  journal(): readonly JournalLine[]
}

/** What one test file starts, and its folder. */
export class Bench {
  readonly dir: string = mkdtempSync(join(tmpdir(), "reins-e2e-"))
  readonly #started: Started[] = []

  path(name: string): string {
    return join(this.dir, name)
  }

  #keep(name: string, child: ChildProcess): Started {
    const started = new Started(name, child)
    this.#started.push(started)
    return started
  }

  /** Starts `reins …`. */
  reins(args: readonly string[], env: Environment, name: string = `reins ${args.join(" ")}`): Started {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, ...args], {
      cwd: this.dir,
      env: environment(env),
      stdio: ["ignore", "pipe", "pipe"],
    })
    return this.#keep(name, child)
  }

  /** Runs any program to its end. */
  start(name: string, file: string, args: readonly string[], env: Environment, cwd: string = this.dir): Started {
    return this.#keep(name, spawn(file, args, { cwd, env: environment(env), stdio: ["ignore", "pipe", "pipe"] }))
  }

  /** Runs `reins …` to its end. */
  run(args: readonly string[], env: Environment): Promise<Ended> {
    return this.reins(args, env).ended
  }

  async model(options: { readonly latencyMs: number; readonly name?: string }): Promise<ModelProcess> {
    const file = this.path(`${options.name ?? "model"}.journal.jsonl`)
    const child = fork(fileURLToPath(new URL("../fixtures/model-process.ts", import.meta.url)), [file, String(options.latencyMs)], {
      env: environment({}),
      execArgv: ["--disable-warning=ExperimentalWarning"],
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    })
    const started = this.#keep("model", child)
    const url = await new Promise<string>((resolve, reject) => {
      child.once("message", (message) => resolve((message as { url: string }).url))
      void started.ended.then(({ stderr }) => reject(new Error(`The model did not start:\n${stderr}`)))
    })
    return {
      url,
      hold: (holdFromTurn) => void child.send({ holdFromTurn } satisfies Hold),
      journal: () => linesOf<JournalLine>(file),
    }
  }

  /** Runs a test; where it fails, shows the end of what every process wrote. */
  async telling(test: () => Promise<void>): Promise<void> {
    try {
      await test()
    } catch (error) {
      for (const { name, stderr, child } of this.#started)
        process.stderr.write(`\n--- ${name}, ${child.exitCode ?? child.signalCode ?? "running"}\n${stderr.slice(-3000)}\n`)
      throw error
    }
  }

  /** Kills what still runs, by pid, and removes the folder. */
  async close(): Promise<void> {
    for (const started of this.#started) started.kill("SIGKILL")
    await Promise.all(this.#started.map(({ ended }) => ended))
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** The whole lines of a JSONL file that someone may be writing. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- The caller knows what is written there.
export function linesOf<T>(file: string): readonly T[] {
  if (!existsSync(file)) return []
  const text = readFileSync(file, "utf8")
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as T)
}

export function recordsOf(jsonl: string): readonly LoggedRecord[] {
  return jsonl
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as LoggedRecord)
}

/** One sample of a Prometheus text: its value, or undefined where no sample has this name and these labels. */
export function sample(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/i.exec(line)
    if (match === null || match[1] !== name) continue
    const given = match[2] ?? ""
    if (Object.entries(labels).every(([label, value]) => given.includes(`${label}="${value}"`))) return Number(match[3])
  }
  return undefined
}
