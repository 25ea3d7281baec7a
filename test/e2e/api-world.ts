import assert from "node:assert/strict"
import { createServer } from "node:net"
import process from "node:process"
import { fileURLToPath } from "node:url"
import Anthropic from "@anthropic-ai/sdk"
import type { OrdersLine } from "../sdk/orders.ts"
import { Bench, type Environment, linesOf, type Started, until } from "./harness.ts"

const storyModel = fileURLToPath(new URL("../sdk/story-model.ts", import.meta.url))
/** The backend `orders` of the story, as a worker file. */
export const ordersFile: string = fileURLToPath(new URL("../sdk/orders.ts", import.meta.url))

/** A port that is free now: who is killed comes back to the address that its clients know. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  assert.ok(address !== null && typeof address === "object")
  return address.port
}

/** Everything that the story needs, as processes of their own: the model, and `reins …` in as many parts as a test likes. */
export class ApiWorld {
  readonly bench: Bench = new Bench()
  readonly url: string
  readonly #env: Environment
  readonly #parts = new Map<string, { readonly args: readonly string[]; process: Started }>()

  private constructor(port: number, modelPort: number, env: Environment) {
    this.url = `http://127.0.0.1:${port}`
    this.#env = {
      ...env,
      REINS_DATA: this.bench.path("data"),
      REINS_LOG_LEVEL: "warn",
      REINS_DRAIN_MS: "500",
      ANTHROPIC_BASE_URL: `http://127.0.0.1:${modelPort}`,
      ANTHROPIC_API_KEY: "none",
      ORDERS_LEDGER: this.bench.path("orders.jsonl"),
    }
    const model = this.bench.start("the model", process.execPath, [storyModel, String(modelPort)], {})
    void model.ended.then(({ code, stderr }) => {
      if (code !== null && code !== 0) process.stderr.write(stderr)
    })
  }

  /** `parts`: the arguments of each process. The one that serves the API is named `gateway`. */
  static async start(parts: Readonly<Record<string, readonly string[]>>, env: Environment = {}): Promise<ApiWorld> {
    const [port, modelPort] = [await freePort(), await freePort()]
    const world = new ApiWorld(port, modelPort, env)
    await until(
      () =>
        fetch(`http://127.0.0.1:${modelPort}/`, { signal: AbortSignal.timeout(1000) }).then(
          () => true,
          () => false,
        ),
      "the model answers",
    )
    if (env["KAFKA_BROKERS"] !== undefined) {
      const applied = await world.bench.run(["topics", "apply"], world.#env)
      assert.equal(applied.code, 0, applied.stderr)
    }
    await world.bench.telling(async () => {
      for (const [name, args] of Object.entries(parts)) {
        world.#parts.set(name, { args, process: world.#spawn(name, args) })
      }
      await world.ready()
    })
    return world
  }

  #spawn(name: string, args: readonly string[]): Started {
    const port = new URL(this.url).port
    return this.bench.reins(args, { ...this.#env, ...(name === "gateway" ? { REINS_PORT: port } : {}) }, name)
  }

  async ready(): Promise<void> {
    await Promise.all([...this.#parts.values()].map(({ process: one }) => one.ready()))
  }

  /** Kills a part as a machine would that loses its power, and starts it again; resolves when it is ready. */
  async killAndRestart(name: string): Promise<void> {
    const part = this.#parts.get(name)
    assert.ok(part !== undefined, name)
    part.process.kill("SIGKILL")
    await part.process.ended
    part.process = this.#spawn(name, part.args)
    await part.process.ready()
  }

  get partNames(): readonly string[] {
    return [...this.#parts.keys()]
  }

  client(options: { readonly maxRetries?: number } = {}): Anthropic {
    return new Anthropic({ apiKey: "any", baseURL: this.url, ...options })
  }

  effects(): readonly OrdersLine[] {
    return linesOf<OrdersLine>(this.bench.path("orders.jsonl"))
  }

  async stop(): Promise<void> {
    await this.bench.close()
  }
}
