import assert from "node:assert/strict"
import { createServer } from "node:net"
import process from "node:process"
import { fileURLToPath } from "node:url"
import Anthropic from "@anthropic-ai/sdk"
import type { OrdersLine } from "../sdk/orders.ts"
import { Bench, type Environment, linesOf, recordsOf, type Started, until } from "./harness.ts"

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
  /** Of the second gateway, where there is one. */
  readonly otherUrl: string
  readonly #env: Environment
  readonly #parts = new Map<string, { readonly args: readonly string[]; process: Started }>()

  private constructor(port: number, otherPort: number, modelPort: number, env: Environment) {
    this.url = `http://127.0.0.1:${port}`
    this.otherUrl = `http://127.0.0.1:${otherPort}`
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

  /** `parts`: the arguments of each process. Those that serve the API are named `gateway` and `other-gateway`. */
  static async start(
    parts: Readonly<Record<string, readonly string[]>>,
    env: Environment = {},
    first: (world: ApiWorld) => Promise<void> = async () => {},
  ): Promise<ApiWorld> {
    const [port, otherPort, modelPort] = [await freePort(), await freePort(), await freePort()]
    const world = new ApiWorld(port, otherPort, modelPort, env)
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
      await first(world)
      for (const [name, args] of Object.entries(parts)) {
        world.#parts.set(name, { args, process: world.#spawn(name, args) })
      }
      await world.ready()
    })
    return world
  }

  #spawn(name: string, args: readonly string[]): Started {
    const url = { gateway: this.url, "other-gateway": this.otherUrl }[name]
    return this.bench.reins(args, { ...this.#env, ...(url === undefined ? {} : { REINS_PORT: new URL(url).port }) }, name)
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

  /** A client of which every request goes to the other gateway than the one before. */
  alternatingClient(): Anthropic {
    let calls = 0
    const alternate: typeof fetch = (input, init) => {
      const url = String(input instanceof Request ? input.url : input)
      return fetch(calls++ % 2 === 0 ? url : url.replace(this.url, this.otherUrl), init)
    }
    return new Anthropic({ apiKey: "any", baseURL: this.url, fetch: alternate })
  }

  /** A new key of this tenant, as a person makes it. */
  async keyOf(tenant: string): Promise<string> {
    const made = await this.bench.run(["keys", "create", "--tenant", tenant, "--name", "test", "--json"], this.#env)
    assert.equal(made.code, 0, made.stderr)
    return (JSON.parse(made.stdout) as { key: string }).key
  }

  client(options: { readonly maxRetries?: number; readonly apiKey?: string } = {}): Anthropic {
    return new Anthropic({ apiKey: "any", baseURL: this.url, ...options })
  }

  /** Every record of a session, as `reins events` reads them beside whoever writes. */
  async records(sessionId: string): Promise<ReturnType<typeof recordsOf>> {
    return recordsOf((await this.bench.run(["events", sessionId, "--jsonl"], this.#env)).stdout)
  }

  effects(): readonly OrdersLine[] {
    return linesOf<OrdersLine>(this.bench.path("orders.jsonl"))
  }

  async stop(): Promise<void> {
    await this.bench.close()
  }
}
