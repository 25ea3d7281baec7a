import assert from "node:assert/strict"
import { describe, it, type TestContext } from "node:test"
import type Anthropic from "@anthropic-ai/sdk"
import type { AgentCreateParams } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import { refused, stage } from "./stage.ts"

const custom = {
  type: "custom" as const,
  name: "get_weather",
  description: "The weather of a place.",
  input_schema: { type: "object" as const, properties: { place: { type: "string" } }, required: ["place"] },
}
const orders = {
  mcp_servers: [{ type: "url" as const, name: "orders", url: "reins:orders" }],
  tools: [{ type: "mcp_toolset" as const, mcp_server_name: "orders" }],
}

async function open(t: TestContext): Promise<Anthropic> {
  return (await (await stage(t)).open()).client()
}

describe("agents", () => {
  it("are made with every default written out", async (t) => {
    const client = await open(t)
    const made = await client.beta.agents.create({ name: "Coder", model: "claude-opus-5-5" })
    const { id, created_at: created, updated_at: updated, ...rest } = made
    assert.match(id, /^agent_[1-9A-HJ-NP-Za-km-z]{24}$/)
    assert.ok(!Number.isNaN(Date.parse(created)))
    assert.equal(updated, created)
    assert.deepEqual(rest, {
      type: "agent",
      version: 1,
      name: "Coder",
      description: null,
      system: null,
      model: { id: "claude-opus-5-5" },
      tools: [],
      mcp_servers: [],
      skills: [],
      multiagent: null,
      metadata: {},
      execution_identity: { type: "service_account" },
      archived_at: null,
    })
    assert.deepEqual(await client.beta.agents.retrieve(id), made)
  })

  it("keep what they were given, and write out policies: a toolset asks unless it is told otherwise", async (t) => {
    const client = await open(t)
    const made = await client.beta.agents.create({
      name: "Clerk",
      model: { id: "claude-sonnet-5-5", effort: "low", speed: "fast", inference_geo: "eu" },
      description: "Knows the orders.",
      system: "Be brief.",
      metadata: { team: "blue" },
      mcp_servers: orders.mcp_servers,
      tools: [
        custom,
        {
          type: "mcp_toolset",
          mcp_server_name: "orders",
          default_config: { enabled: false },
          configs: [
            { name: "find", enabled: true, permission_policy: { type: "always_allow" } },
            { name: "cancel", enabled: true },
          ],
        },
      ],
    })
    assert.deepEqual(made.model, { id: "claude-sonnet-5-5", effort: { type: "low" }, speed: "fast", inference_geo: "eu" })
    assert.deepEqual(made.tools, [
      custom,
      {
        type: "mcp_toolset",
        mcp_server_name: "orders",
        default_config: { enabled: false, permission_policy: { type: "always_ask" } },
        configs: [
          { name: "find", enabled: true, permission_policy: { type: "always_allow" } },
          { name: "cancel", enabled: true, permission_policy: { type: "always_ask" } },
        ],
      },
    ])
    assert.deepEqual(made.mcp_servers, orders.mcp_servers)
    assert.deepEqual(made.metadata, { team: "blue" })
    assert.equal(made.system, "Be brief.")
  })

  it("are versioned: each change is one more, no change is none, and every version can be read", async (t) => {
    const client = await open(t)
    const { id } = await client.beta.agents.create({ name: "A", model: { id: "m", effort: "high" }, system: "One.", tools: [custom] })
    const second = await client.beta.agents.update(id, { version: 1, system: "Two.", metadata: { a: "1", b: "2" } })
    assert.equal(second.version, 2)
    assert.deepEqual(second.tools, [custom])
    // A patch of the metadata, a list replaced, a text cleared, a model replaced but for its effort.
    const third = await client.beta.agents.update(id, { metadata: { a: null, c: "3" }, tools: [], system: "", model: "n" })
    assert.equal(third.version, 3)
    assert.deepEqual(third.metadata, { b: "2", c: "3" })
    assert.deepEqual(third.tools, [])
    assert.equal(third.system, null)
    assert.deepEqual(third.model, { id: "n", effort: { type: "high" } })
    assert.deepEqual(await client.beta.agents.update(id, { name: "A", metadata: { b: "2" } }), third)
    assert.deepEqual(await client.beta.agents.update(id, {}), third)
    assert.deepEqual((await client.beta.agents.update(id, { model: { id: "n", effort: null } })).model, { id: "n" })
    assert.deepEqual(await client.beta.agents.retrieve(id, { version: 2 }), second)
    await refused(client.beta.agents.retrieve(id, { version: 5 }), 404, /agent version not found/)
    await refused(client.beta.agents.retrieve(id, { version: 0 }), 400, /version/)
    const versions: number[] = []
    for await (const { version } of client.beta.agents.versions.list(id, { limit: 3 })) versions.push(version)
    assert.deepEqual(versions, [4, 3, 2, 1])
  })

  it("are locked by their version where a client gives it: 409 at once, without a retry", async (t) => {
    const opened = await (await stage(t)).open()
    const client = opened.client({ maxRetries: 2 })
    const { id } = await client.beta.agents.create({ name: "A", model: "m" })
    await client.beta.agents.update(id, { name: "B" })
    const response = await fetch(`${opened.url}/v1/agents/${id}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ version: 1, name: "C" }),
    })
    assert.equal(response.status, 409)
    assert.equal(response.headers.get("x-should-retry"), "false")
    // Also where nothing would change.
    await refused(client.beta.agents.update(id, { version: 1, name: "B" }), 409, /is not the newest version/)
    assert.equal((await client.beta.agents.retrieve(id)).version, 2)
  })

  it("of two that save at once the log decides: each change without a lock is a version, each lock is won once", async (t) => {
    const world = await stage(t)
    const clients = [(await world.open()).client(), (await world.open()).client(), (await world.open()).client()]
    const { id } = await (clients[0] as Anthropic).beta.agents.create({ name: "0", model: "m" })
    const changed = await Promise.all(
      Array.from({ length: 24 }, (_, n) =>
        (clients[n % 3] as Anthropic).beta.agents.update(id, { metadata: { [`k${n % 8}`]: String(n) } }),
      ),
    )
    assert.deepEqual(
      changed.map(({ version }) => version).toSorted((a, b) => a - b),
      Array.from({ length: 24 }, (_, n) => n + 2),
    )
    // Each was answered with its own version, in which its own change stands.
    for (const [n, { metadata }] of changed.entries()) assert.equal(metadata[`k${n % 8}`], String(n))
    const locked = await Promise.allSettled(clients.map((client, n) => client.beta.agents.update(id, { version: 25, name: `locked ${n}` })))
    assert.equal(locked.filter(({ status }) => status === "fulfilled").length, 1)
    for (const one of locked) if (one.status === "rejected") assert.equal((one.reason as { status?: number }).status, 409)
    const seen = await Promise.all(clients.map((client) => client.beta.agents.retrieve(id)))
    assert.deepEqual(seen[1], seen[0])
    assert.deepEqual(seen[2], seen[0])
    assert.equal(seen[0]?.version, 26)
  })

  it("are archived once and for all", async (t) => {
    const client = await open(t)
    const { id } = await client.beta.agents.create({ name: "A", model: "m" })
    const archived = await client.beta.agents.archive(id)
    assert.ok(archived.archived_at !== null)
    assert.equal(archived.version, 1)
    assert.deepEqual(await client.beta.agents.archive(id), archived)
    await refused(client.beta.agents.update(id, { name: "B" }), 400, /archived/)
    assert.deepEqual((await client.beta.agents.list()).data, [])
    assert.deepEqual((await client.beta.agents.list({ include_archived: true })).data, [archived])
  })

  it("are listed newest first, page by page, within a time", async (t) => {
    const client = await open(t)
    const made: string[] = []
    for (let n = 0; n < 7; n++) made.unshift((await client.beta.agents.create({ name: String(n), model: "m" })).id)
    const pages: number[] = []
    const listed: string[] = []
    for await (const page of (await client.beta.agents.list({ limit: 3 })).iterPages()) {
      pages.push(page.data.length)
      listed.push(...page.data.map(({ id }) => id))
    }
    assert.deepEqual(pages, [3, 3, 1])
    assert.deepEqual(listed.toSorted(), made.toSorted())
    const times = await Promise.all(listed.map(async (id) => (await client.beta.agents.retrieve(id)).created_at))
    assert.deepEqual(times, times.toSorted().reverse())
    const first = times.at(-1) as string
    assert.equal((await client.beta.agents.list({ "created_at[gte]": first })).data.length, 7)
    assert.equal((await client.beta.agents.list({ "created_at[lte]": "2020-01-01T00:00:00Z" })).data.length, 0)
    const { next_page: page } = await client.beta.agents.list({ limit: 3 })
    await refused(client.beta.agents.list({ limit: 3, page, "created_at[lte]": "2020-01-01T00:00:00Z" }), 400, /created_at excludes/)
  })

  it("stand in the log: a gateway that starts later knows them all", async (t) => {
    const world = await stage(t)
    const client = (await world.open()).client()
    const made = await client.beta.agents.create({ name: "A", model: "m", tools: [custom] })
    const changed = await client.beta.agents.update(made.id, { name: "B" })
    const later = (await world.open()).client()
    assert.deepEqual(await later.beta.agents.retrieve(made.id), changed)
    assert.deepEqual(await later.beta.agents.retrieve(made.id, { version: 1 }), made)
  })
})

describe("an agent that cannot be", () => {
  const wrong: readonly (readonly [string, Record<string, unknown>, RegExp])[] = [
    ["no name", { name: undefined }, /^name: /],
    ["an empty name", { name: "" }, /name: /],
    ["a name too long", { name: "x".repeat(257) }, /name: /],
    ["no model", { model: undefined }, /model: /],
    ["a model without an id", { model: { effort: "low" } }, /model: /],
    ["an unknown field", { temperature: 1 }, /Unrecognized key: "temperature"/],
    ["a description too long", { description: "x".repeat(2049) }, /description: /],
    ["a system too long", { system: "x".repeat(100_001) }, /system: /],
    ["17 metadata", { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`k${n}`, "v"])) }, /metadata: at most 16/],
    ["a metadata value too long", { metadata: { a: "x".repeat(513) } }, /metadata\/a: /],
    ["a tool of no known type", { tools: [{ type: "bash" }] }, /tools\/0\/type: must be custom or mcp_toolset/],
    ["built-in tools", { tools: [{ type: "agent_toolset_20260401" }] }, /needs a sandbox, and there is none yet/],
    ["a tool name with a dot", { tools: [{ ...custom, name: "a.b" }] }, /tools\/0\/name: must match/],
    ["a tool name with a space", { tools: [{ ...custom, name: "a b" }] }, /tools\/0\/name: must match/],
    ["an emoji as a tool name", { tools: [{ ...custom, name: "🦊" }] }, /tools\/0\/name: must match/],
    ["a tool name of 129", { tools: [{ ...custom, name: "a".repeat(129) }] }, /tools\/0\/name: must match/],
    ["a tool that poses as a server's", { tools: [{ ...custom, name: "mcp__orders__find" }] }, /must not begin with mcp__/],
    ["a tool without a description", { tools: [{ ...custom, description: "" }] }, /tools\/0\/description/],
    ["the same tool twice", { tools: [custom, custom] }, /tools\/1: there are two of the tool get_weather/],
    ["257 tools", { tools: Array.from({ length: 257 }, (_, n) => ({ ...custom, name: `t${n}` })) }, /tools: /],
    ["5,000 tools", { tools: Array.from({ length: 5000 }, (_, n) => ({ ...custom, name: `t${n}` })) }, /tools: /],
    [
      "257 tools over two toolsets",
      {
        mcp_servers: [...orders.mcp_servers, { type: "url", name: "other", url: "reins:other" }],
        tools: ["orders", "other"].map((server) => ({
          type: "mcp_toolset",
          mcp_server_name: server,
          configs: Array.from({ length: 129 }, (_, n) => ({ name: `t${n}` })),
        })),
      },
      /tools: 258 tools over all toolsets/,
    ],
    ["a schema of no object", { tools: [{ ...custom, input_schema: { type: "array" } }] }, /tools\/0\/input_schema\/type/],
    ["a schema with $ref", { tools: [{ ...custom, input_schema: { type: "object", properties: { a: { $ref: "#" } } } }] }, /\$ref/],
    ["a schema with oneOf at its top", { tools: [{ ...custom, input_schema: { type: "object", oneOf: [] } }] }, /oneOf/],
    ["a schema with anyOf at its top", { tools: [{ ...custom, input_schema: { type: "object", anyOf: [] } }] }, /anyOf/],
    ["a server that no toolset names", { mcp_servers: orders.mcp_servers }, /mcp_servers\/0: no mcp_toolset/],
    ["a toolset of no server", { tools: orders.tools }, /tools\/0\/mcp_server_name: there is no MCP server orders/],
    ["two servers of a name", { ...orders, mcp_servers: [...orders.mcp_servers, ...orders.mcp_servers] }, /mcp_servers\/1\/name/],
    ["two toolsets of a server", { ...orders, tools: [...orders.tools, ...orders.tools] }, /tools\/1: there are two/],
    [
      "a server elsewhere",
      { ...orders, mcp_servers: [{ type: "url", name: "orders", url: "https://mcp.example.com" }] },
      /mcp_servers\/0\/url: must be reins:<backend>.*not supported yet/,
    ],
    [
      "a tool configured twice",
      { ...orders, tools: [{ ...orders.tools[0], configs: [{ name: "a" }, { name: "a" }] }] },
      /configs\/1\/name: a is configured twice/,
    ],
    [
      "the policy auto",
      { ...orders, tools: [{ ...orders.tools[0], default_config: { permission_policy: { type: "auto" } } }] },
      /tools\/0\/default_config\/permission_policy\/type: .*auto is not supported yet/,
    ],
    ["skills", { skills: [{ type: "anthropic", skill_id: "xlsx" }] }, /skills are not supported yet/],
    ["several agents", { multiagent: { type: "coordinator", agents: [] } }, /multiagent is not supported yet/],
    ["another identity", { execution_identity: { type: "aws_role", role_arn: "arn" } }, /service_account/],
  ]
  it("is refused, with a pointer to what is wrong, and leaves nothing behind", async (t) => {
    const client = await open(t)
    for (const [what, fields, says] of wrong) {
      await t.test(what, async () => {
        const params = { name: "A", model: "m", ...fields } as unknown as AgentCreateParams
        await refused(client.beta.agents.create(params), 400, says)
        assert.deepEqual((await client.beta.agents.list()).data, [])
      })
    }
  })
})
