import { randomInt } from "node:crypto"
import { createServer } from "node:net"

export const host = "127.0.0.1"

// Below the ephemeral ports of Linux (32768) and macOS (49152). A port from there could be taken, while a broker is
// down, by the very client that tries to reach it: it would then be connected to itself.
const lowest = 20_000
const highest = 32_000

export async function freePort(taken: Set<number>): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = randomInt(lowest, highest)
    if (taken.has(port) || !(await isFree(port))) continue
    taken.add(port)
    return port
  }
  throw new Error(`No free port between ${lowest} and ${highest} on ${host}.`)
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
