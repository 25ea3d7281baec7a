import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { inheritedEnv } from "./config.ts"
import type { Estate, Order, Report } from "./supervisor.ts"

export type SupervisedProcess = {
  readonly pid: number
  /** Why it ended, or undefined while it runs. */
  readonly endedBecause: string | undefined
  /** Whoever asks for it keeps our event loop alive until then. */
  readonly ended: Promise<string>
}

export type Supervisor = {
  start(order: Omit<Order, "kind" | "id">): Promise<SupervisedProcess>
  /** The folder is not to be removed after all. */
  keep(): void
  /** Ends every process that is left and the supervisor itself. */
  close(): Promise<void>
}

/**
 * Starts the supervisor. It does not keep our event loop alive, so a test that forgets to stop its broker still ends,
 * and its broker with it.
 */
export function startSupervisor(removeFolder: string | undefined): Supervisor {
  const file = fileURLToPath(new URL("./supervisor.ts", import.meta.url))
  const supervisor = fork(file, [], {
    detached: true,
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [],
    env: inheritedEnv(),
  })
  const processes = new Map<number, { pid: number; settle(report: Report): void }>()
  let waiting = 0
  let nextId = 1

  supervisor.on("message", (report: Report) => processes.get(report.id)?.settle(report))
  supervisor.once("exit", () => {
    // Someone killed the supervisor alone: what it watched is ours to end.
    for (const [id, { pid, settle }] of processes) {
      if (pid > 0) killQuietly(pid)
      settle({ kind: "ended", id, reason: "its supervisor ended" })
    }
  })
  release(supervisor)
  tell(supervisor, { kind: "estate", removeFolder })

  async function heldAlive<T>(promise: Promise<T>): Promise<T> {
    waiting += 1
    hold(supervisor)
    try {
      return await promise
    } finally {
      waiting -= 1
      if (waiting === 0) release(supervisor)
    }
  }

  return {
    start(order) {
      const id = nextId++
      const ended = Promise.withResolvers<string>()
      const started = Promise.withResolvers<SupervisedProcess>()
      let endedBecause: string | undefined
      const entry = {
        pid: 0,
        settle(report: Report) {
          if (report.kind === "started") {
            entry.pid = report.pid
            started.resolve({
              pid: report.pid,
              get endedBecause() {
                return endedBecause
              },
              get ended() {
                return heldAlive(ended.promise)
              },
            })
            return
          }
          processes.delete(id)
          endedBecause = report.reason
          ended.resolve(report.reason)
          started.reject(new Error(`${order.command} did not start: ${report.reason}`))
        },
      }
      processes.set(id, entry)
      tell(supervisor, { ...order, kind: "start", id })
      return heldAlive(started.promise)
    },
    keep() {
      tell(supervisor, { kind: "estate", removeFolder: undefined })
    },
    async close() {
      if (supervisor.exitCode !== null || supervisor.signalCode !== null) return
      const exited = new Promise<void>((resolve) => supervisor.once("exit", () => resolve()))
      hold(supervisor)
      if (supervisor.connected) supervisor.disconnect()
      await exited
    },
  }
}

function tell(supervisor: ChildProcess, message: Order | Estate): void {
  // A supervisor that is gone says so by its exit, to everyone who waits for one of its processes.
  supervisor.send(message, () => undefined)
}

function hold(supervisor: ChildProcess): void {
  supervisor.ref()
  supervisor.channel?.ref()
}

function release(supervisor: ChildProcess): void {
  supervisor.unref()
  supervisor.channel?.unref()
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It had ended already.
  }
}
