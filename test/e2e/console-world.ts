import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Anthropic from "@anthropic-ai/sdk"
import { type KeySaved, topicNames } from "@reins/events"
import { type Host, type HostOptions, startHost } from "@reins/host"
import { readConfig } from "@reins/runtime"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { defineTool, toolsBackend } from "@reins/worker-kit"
import { z } from "zod"
import { getOrder, refund } from "../sdk/orders.ts"

/** What a tool answers that means harm to whoever looks at it. It would set `window.pwned` if any of it ran. */
export const hostileText: string = [
  `<img src=x onerror="window.pwned='img'">`,
  `<script>window.pwned='script'</script>`,
  `<svg onload="window.pwned='svg'"></svg><a href="javascript:window.pwned='link'">click</a>`,
  "\u001b[31mred\u001b[0m \u202eevil\u202c",
].join("\n")

const readNotes = defineTool({
  name: "read_notes",
  description: "Reads the notes of a customer, whatever they are.",
  input: z.strictObject({ of: z.string() }),
  effect: "pure",
  timeoutMs: 30_000,
  run: () => hostileText,
})

const weather = {
  type: "custom" as const,
  name: "get_weather",
  description: "The weather of a place.",
  input_schema: { type: "object" as const, properties: { place: { type: "string" } }, required: ["place"] },
}

/** Everything in this process: services, gateway with the console, the simulated model, tools of a shop. */
export class ConsoleWorld {
  readonly host: Host
  readonly model: SimulatedModel
  readonly url: string
  readonly failures: Error[]
  readonly #dir: string

  private constructor(host: Host, model: SimulatedModel, dir: string, failures: Error[]) {
    this.host = host
    this.model = model
    this.url = `http://127.0.0.1:${host.port}`
    this.failures = failures
    this.#dir = dir
  }

  static async start(gateway: NonNullable<HostOptions["gateway"]> = "open"): Promise<ConsoleWorld> {
    const dir = mkdtempSync(join(tmpdir(), "reins-console-"))
    const model = await startSimulatedModel()
    const failures: Error[] = []
    const host = await startHost({
      config: readConfig({
        REINS_DATA: dir,
        REINS_PARTITIONS: "3",
        REINS_PORT: "0",
        REINS_LOG_LEVEL: "silent",
        REINS_DRAIN_MS: "500",
        ANTHROPIC_BASE_URL: model.url,
        ANTHROPIC_API_KEY: "none",
      }),
      gateway,
      workers: [toolsBackend("tool-workers/shop", "shop", [getOrder, refund, readNotes])],
      failed: (error) => void failures.push(error),
    })
    return new ConsoleWorld(host, model, dir, failures)
  }

  async stop(): Promise<void> {
    await this.host.stop()
    await this.model.stop()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  /** A key of this tenant, as `reins keys create` saves it. */
  async key(tenant: string): Promise<string> {
    const { log, codec } = this.host
    const secret = `rk_${randomBytes(16).toString("hex")}`
    const saved: KeySaved = {
      type: "key.saved",
      eventId: `evt_${tenant}`,
      tenant,
      at: 0,
      by: "cli@test",
      id: `key_${tenant}`,
      name: tenant,
      hash: createHash("sha256").update(secret).digest("hex"),
      revoked: false,
    }
    await log.append({
      topic: topicNames("reins").keys,
      partition: 0,
      key: () => `${saved.id}/1`,
      value: codec.encode("keys", saved),
      headers: { type: saved.type },
      certainty: "once",
    })
    return secret
  }

  client(apiKey: string = "any"): Anthropic {
    return new Anthropic({ baseURL: this.url, apiKey })
  }

  /** A session of the shop's agent that begins with this. Refunds are asked about; the weather is the client's. */
  async session(text: string, options: { readonly title?: string; readonly client?: Anthropic } = {}): Promise<string> {
    const { agents, environments, sessions } = (options.client ?? this.client()).beta
    const allowed = { enabled: true, permission_policy: { type: "always_allow" as const } }
    const agent = await agents.create({
      name: "Shopkeeper",
      model: "claude-sonnet-5-5",
      system: "You see to orders.",
      mcp_servers: [{ type: "url", name: "shop", url: "reins:shop" }],
      tools: [
        weather,
        {
          type: "mcp_toolset",
          mcp_server_name: "shop",
          configs: [
            { name: "get_order", ...allowed },
            { name: "read_notes", ...allowed },
          ],
        },
      ],
    })
    const environment = await environments.create({ name: `shop-${randomBytes(4).toString("hex")}` })
    const { title } = options
    const session = await sessions.create({
      agent: agent.id,
      environment_id: environment.id,
      ...(title === undefined ? {} : { title }),
      initial_events: [{ type: "user.message", content: [{ type: "text", text }] }],
    })
    return session.id
  }
}
