// The parent of every Java process that we start, and a process of its own so that it outlives ours.
//
// S1  A broker never outlives the process that asked for it. The IPC channel closes when that process ends, however it
//     ends (SIGKILL too), and then everything here is ended.
// S2  There is no moment at which a broker runs that nobody would end: the supervisor itself is the spawner, so there is
//     no pid that has yet to be told to a watcher.
// S3  A terminal's ^C reaches the asker only. The supervisor is started in a session of its own, so brokers are ended
//     because the asker ended, in order, and not by a signal that came by the way.

import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, openSync, rmSync } from "node:fs"

export type Order = {
  readonly kind: "start"
  readonly id: number
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly logFile: string
  readonly folder: string
}

/** What to leave behind when the asker is gone: removed where it was ours, ended in good order where it is to be kept. */
export type Estate = { readonly kind: "estate"; readonly removeFolder: string | undefined }

export type Report =
  | { readonly kind: "started"; readonly id: number; readonly pid: number }
  | { readonly kind: "ended"; readonly id: number; readonly reason: string }

const graceMs = 10_000
const children = new Map<number, ChildProcess>()
let estate: Estate = { kind: "estate", removeFolder: undefined }

function report(message: Report): void {
  // A channel that is closed has nobody left to tell, and `disconnect` says so already.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined)
}

function start(order: Order): void {
  const log = openSync(order.logFile, "a")
  const child = spawn(order.command, order.args, {
    cwd: order.folder,
    env: { ...process.env, ...order.env },
    stdio: ["ignore", log, log],
  })
  closeSync(log)
  children.set(order.id, child)
  if (child.pid !== undefined) report({ kind: "started", id: order.id, pid: child.pid })
  child.once("error", (error) => {
    children.delete(order.id)
    report({ kind: "ended", id: order.id, reason: error.message })
  })
  child.once("exit", (code, signal) => {
    children.delete(order.id)
    report({ kind: "ended", id: order.id, reason: signal ?? `exit code ${code}` })
  })
}

async function endAll(): Promise<void> {
  const running = [...children.values()]
  const ended = Promise.all(running.map((child) => new Promise<void>((resolve) => child.once("exit", () => resolve()))))
  const orderly = estate.removeFolder === undefined
  for (const child of running) {
    // A stopped process (SIGSTOP) would hear SIGTERM only after it is woken.
    if (orderly) child.kill("SIGCONT")
    child.kill(orderly ? "SIGTERM" : "SIGKILL")
  }
  const force = setTimeout(() => running.forEach((child) => child.kill("SIGKILL")), graceMs)
  await ended
  clearTimeout(force)
  if (estate.removeFolder !== undefined) rmSync(estate.removeFolder, { recursive: true, force: true })
}

if (process.send !== undefined) {
  process.on("message", (message: Order | Estate) => {
    if (message.kind === "start") start(message)
    else estate = message
  })
  process.once("disconnect", () => void endAll().then(() => process.exit(0)))
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.on(signal, () => void endAll().then(() => process.exit(0)))
  }
}
