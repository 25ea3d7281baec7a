import type { RunningProcess } from "@reins/runtime"

/** Keeps a process up until a signal ends it: it drains, then exits 0. A second signal does not wait. */
export async function stayUp<P extends RunningProcess>(
  start: (failed: (error: Error) => void) => Promise<P>,
  banner: (running: P) => string,
): Promise<void> {
  const running = await start((error) => {
    process.stderr.write(`reins: this process cannot go on: ${error.message}\n`)
    process.exit(1)
  })
  process.stderr.write(`${banner(running)}\n`)
  if (running.port > 0) process.stderr.write(`  /livez, /readyz and /metrics on port ${running.port}\n`)
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve())
  })
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(130))
  await running.stop()
  process.exit(0)
}
