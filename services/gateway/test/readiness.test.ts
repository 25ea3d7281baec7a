import assert from "node:assert/strict"
import { describe, it, type TestContext } from "node:test"
import { type Log, LogUnavailableError } from "@reins/log"
import { startProcess } from "@reins/runtime"
import { startGateway } from "../src/index.ts"
import { LogWatch } from "../src/log-watch.ts"
import { stage } from "./stage.ts"

interface Looked {
  readonly readyz: number
  readonly why: string
  readonly livez: number
}

/** A process that hosts a gateway and nothing else, over a log that can be away. */
async function lone(t: TestContext): Promise<{ bounds: Log["bounds"] | undefined; look(): Promise<Looked> }> {
  const world = await stage(t)
  const there = world.broker.connect()
  const faulty = { bounds: undefined as Log["bounds"] | undefined }
  const log = new Proxy<Log>(there, {
    get: (target, name: keyof Log) => {
      const value = (name === "bounds" ? faulty.bounds : undefined) ?? target[name]
      return typeof value === "function" ? value.bind(target) : value
    },
  })
  const { config } = await world.open()
  const running = await startProcess({
    config: { ...config, logLevel: "silent" },
    services: [],
    build: () => [],
    opened: { log, codec: world.codec },
    front: (process) => startGateway({ ...process, access: "open", limits: { logSilenceMaxMs: 500 } }),
    failed: (error) => {
      throw error
    },
  })
  t.after(() => running.stop())
  const get = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${running.port}${path}`)
  return Object.assign(faulty, {
    look: async () => {
      const [readyz, livez] = await Promise.all([get("/readyz"), get("/livez")])
      return { readyz: readyz.status, why: (await readyz.text()).trim(), livez: livez.status }
    },
  })
}

describe("a gateway without a service beside it", () => {
  const away = async (): Promise<never> => {
    throw new LogUnavailableError("Kafka at nowhere cannot be reached.")
  }
  const silent = (): Promise<never> => new Promise(() => undefined)

  for (const [what, bounds] of [
    ["refuses", away],
    ["is silent", silent],
  ] as const)
    it(`is not ready while the log ${what}, lives on, and is ready again once it answers`, async (t) => {
      const gateway = await lone(t)
      await until(async () => (await gateway.look()).readyz === 200)
      gateway.bounds = bounds
      await until(async () => (await gateway.look()).readyz === 503)
      const { why, livez } = await gateway.look()
      // Whoever reaches the API reads it too: what stands where is for the gateway's own log.
      assert.match(why, /^the log has not answered for \d+ s$/)
      assert.equal(livez, 200)
      gateway.bounds = undefined
      await until(async () => (await gateway.look()).readyz === 200)
      assert.equal((await gateway.look()).why, "ready")
    })

  it("is ready while some answers are late", async () => {
    let asked = 0
    const told: string[] = []
    const watch = new LogWatch({
      log: { bounds: () => (asked++ < 3 ? away() : silent()) },
      topic: "t.sessions",
      silenceMaxMs: 600_000,
      askEveryMs: 1,
      failing: ({ message }) => told.push(message),
    })
    watch.start()
    await until(async () => asked > 3)
    assert.equal(watch.unreachable(), null)
    assert.deepEqual(told, ["Kafka at nowhere cannot be reached."])
    watch.stop()
  })
})

async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await holds())) {
    assert.ok(performance.now() < end, "Waited a minute in vain.")
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
