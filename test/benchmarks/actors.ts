import { type ChildProcess, fork } from "node:child_process"
import process from "node:process"

const quiet = ["--disable-warning=ExperimentalWarning", "--disable-warning=TimeoutNegativeWarning"]

/** The processes that act in one measurement. A child says "ready", and what CPU it took when it is told to stop. */
export class Actors {
  readonly #children: ChildProcess[] = []

  start(file: string, args: readonly string[], env: NodeJS.ProcessEnv): void {
    this.#children.push(fork(file, [...args], { env, execArgv: quiet }))
  }

  async ready(): Promise<void> {
    await Promise.all(this.#children.map((child) => new Promise((resolve, reject) => child.once("message", resolve).once("exit", reject))))
  }

  /** Ends them; answers their CPU time since they were ready. */
  async stop(): Promise<number> {
    const cpuMs = this.#children.map(
      (child) =>
        new Promise<number>((resolve) => {
          child.once("message", (message) => child.once("exit", () => resolve((message as { cpuMs: number }).cpuMs)))
          child.send("stop")
        }),
    )
    return (await Promise.all(cpuMs)).reduce((sum, ms) => sum + ms, 0)
  }

  /** For when something went wrong. */
  kill(): void {
    for (const child of this.#children) if (child.exitCode === null) child.kill("SIGKILL")
  }
}

/** In a child: says that it is ready, and answers "stop". */
export function readyToStop(): void {
  const cpu = process.cpuUsage()
  process.on("message", () => {
    const { user, system } = process.cpuUsage(cpu)
    process.send?.({ cpuMs: (user + system) / 1000 })
    process.exit(0)
  })
  process.send?.("ready")
}
