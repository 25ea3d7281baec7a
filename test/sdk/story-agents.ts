import assert from "node:assert/strict"
import { ordersAgent, type Step, type Teller, weatherTool } from "./teller.ts"

const ask = { type: "always_ask" } as const
const allow = { type: "always_allow" } as const

export function agentSteps(teller: Teller): readonly Step[] {
  const { agents, sessions } = teller.client.beta
  return [
    {
      name: "an agent is created with every default written out, and is retrieved as it was answered",
      async run() {
        const agent = await teller.agent({
          ...ordersAgent,
          description: "Sees to orders.",
          system: "Be brief.",
          metadata: { team: "shop" },
        })
        assert.equal(agent.version, 1)
        assert.equal(agent.archived_at, null)
        assert.equal(agent.description, "Sees to orders.")
        assert.equal(agent.system, "Be brief.")
        assert.equal(agent.model.id, "claude-opus-5-5")
        assert.deepEqual(agent.metadata, { team: "shop" })
        assert.deepEqual(agent.skills, [])
        assert.equal(agent.multiagent, null)
        assert.deepEqual(agent.mcp_servers, ordersAgent.mcp_servers)
        const [custom, toolset] = agent.tools
        assert.deepEqual(custom, weatherTool)
        assert.ok(toolset?.type === "mcp_toolset")
        // What is not said of an MCP toolset is asked about.
        assert.deepEqual(toolset.default_config, { enabled: true, permission_policy: ask })
        assert.deepEqual(
          toolset.configs.map(({ name, enabled, permission_policy }) => ({ name, enabled, permission_policy })),
          ["get_order", "count_stock"].map((name) => ({ name, enabled: true, permission_policy: allow })),
        )
        assert.deepEqual(await retrieved(agent.id), agent)
        assert.deepEqual(await retrieved(agent.id, 1), agent)
      },
    },
    {
      name: "an update adds a version; one that changes nothing does not; one that stands on an old version conflicts",
      async run() {
        const first = await teller.agent({ ...ordersAgent, metadata: { team: "shop", floor: "2" } })
        const second = await updated(first.id, { description: "Second.", metadata: { floor: null, door: "b" }, version: 1 })
        assert.equal(second.version, 2)
        assert.equal(second.description, "Second.")
        assert.deepEqual(second.metadata, { team: "shop", door: "b" })
        assert.deepEqual(second.tools, first.tools)
        assert.ok(Date.parse(second.updated_at) >= Date.parse(first.updated_at))
        assert.equal(second.created_at, first.created_at)

        assert.deepEqual(await updated(first.id, { description: "Second." }), second)
        await teller.refused("agents.update", { status: 409 }, () => agents.update(first.id, { description: "Third.", version: 1 }))
        // The lock is tried although nothing would change.
        await teller.refused("agents.update", { status: 409 }, () => agents.update(first.id, { description: "Second.", version: 1 }))
        await teller.refused("agents.update", { status: 400 }, () => agents.update(first.id, { name: "" }))
        assert.deepEqual(await retrieved(first.id), second)

        const third = await updated(first.id, { tools: [], mcp_servers: null, description: null, system: "Be long." })
        assert.deepEqual([third.version, third.tools, third.mcp_servers, third.description, third.system], [3, [], [], null, "Be long."])
        assert.deepEqual(await retrieved(first.id, 1), first)
        assert.deepEqual(await retrieved(first.id, 2), second)
        await teller.refused("agents.retrieve", { status: [400, 404] }, () => agents.retrieve(first.id, { version: 4 }))

        const versions = [first, second, third]
        const listed: number[] = []
        let page = await teller.page("agents.versions.list", "BetaManagedAgentsAgentsPageCursor", () =>
          agents.versions.list(first.id, { limit: 2 }),
        )
        for (;;) {
          assert.ok(page.data.length <= 2)
          for (const one of page.data) assert.deepEqual(one, versions[one.version - 1])
          listed.push(...page.data.map(({ version }) => version))
          if (!page.hasNextPage()) break
          const before = page
          page = await teller.page("agents.versions.list", "BetaManagedAgentsAgentsPageCursor", () => before.getNextPage())
        }
        assert.deepEqual(
          listed.toSorted((a, b) => a - b),
          [1, 2, 3],
        )
      },
    },
    {
      name: "a session keeps the version of the agent that it began with",
      async run() {
        const agent = await teller.agent({ system: "First." })
        await updated(agent.id, { system: "Second." })
        const environment = await teller.environment()
        const at = { environment_id: environment.id }
        const latest = await teller.session({ agent: agent.id, ...at })
        assert.deepEqual([latest.agent.version, latest.agent.system], [2, "Second."])
        const pinned = await teller.session({ agent: { type: "agent", id: agent.id, version: 1 }, ...at })
        assert.deepEqual([pinned.agent.version, pinned.agent.system], [1, "First."])
        const overridden = await teller.session({
          agent: { type: "agent_with_overrides", id: agent.id, system: "Of my own.", tools: [weatherTool] },
          ...at,
        })
        assert.deepEqual([overridden.agent.id, overridden.agent.system, overridden.agent.tools], [agent.id, "Of my own.", [weatherTool]])
        await updated(agent.id, { system: "Third." })
        assert.deepEqual((await teller.retrieved(latest.id)).agent, latest.agent)
      },
    },
    {
      name: "an archived agent stays readable, is archived once, cannot be changed, and begins no session",
      async run() {
        const { agent, environment, session } = await teller.opened()
        const archived = await archivedAgent(agent.id)
        assert.ok(archived.archived_at !== null)
        assert.equal((await archivedAgent(agent.id)).archived_at, archived.archived_at)
        assert.equal((await retrieved(agent.id)).archived_at, archived.archived_at)
        await teller.refused("agents.update", { status: [400, 409] }, () => agents.update(agent.id, { description: "No." }))
        await teller.refused("sessions.create", { status: [400, 404, 409] }, () =>
          sessions.create({ agent: agent.id, environment_id: environment.id }),
        )
        // Sessions that run go on.
        assert.equal((await teller.retrieved(session.id)).status, "idle")
      },
    },
    {
      name: "what an agent may not be is refused with a sentence",
      async run() {
        const fine = { name: "n", model: "claude-opus-5-5" }
        const server = { type: "url", name: "orders", url: "reins:orders" } as const
        const refused: readonly (readonly [what: string, params: object])[] = [
          ["no name", { model: fine.model }],
          ["an empty name", { ...fine, name: "" }],
          ["a name too long", { ...fine, name: "n".repeat(257) }],
          ["no model", { name: fine.name }],
          ["a toolset without its server", { ...fine, tools: [{ type: "mcp_toolset", mcp_server_name: "orders" }] }],
          ["a server without its toolset", { ...fine, mcp_servers: [server] }],
          ["a sandbox that is not there", { ...fine, tools: [{ type: "agent_toolset_20260401" }] }],
          ["a tool of a kind that nobody knows", { ...fine, tools: [{ type: "telepathy" }] }],
          ["a schema that is no object", { ...fine, tools: [{ ...weatherTool, input_schema: { type: "string" } }] }],
          ["two tools of one name", { ...fine, tools: [weatherTool, weatherTool] }],
          ["a tool with a name that no model takes", { ...fine, tools: [{ ...weatherTool, name: "get weather" }] }],
          ["metadata that is no text", { ...fine, metadata: { n: 1 } }],
          ["too much metadata", { ...fine, metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, "v"])) }],
        ]
        for (const [what, params] of refused)
          await teller.refused(`agents.create with ${what}`, { status: 400 }, () => agents.create(params as never))
      },
    },
  ]

  function retrieved(id: string, version?: number): ReturnType<typeof teller.agent> {
    return teller.answer("agents.retrieve", "BetaManagedAgentsAgent", () => agents.retrieve(id, version === undefined ? {} : { version }))
  }

  function updated(id: string, params: Parameters<typeof agents.update>[1]): ReturnType<typeof teller.agent> {
    return teller.answer("agents.update", "BetaManagedAgentsAgent", () => agents.update(id, params))
  }

  function archivedAgent(id: string): ReturnType<typeof teller.agent> {
    return teller.answer("agents.archive", "BetaManagedAgentsAgent", () => agents.archive(id))
  }
}
