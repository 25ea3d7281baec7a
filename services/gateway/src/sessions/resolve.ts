import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import type { BetaManagedAgentsSessionAgent } from "@anthropic-ai/sdk/resources/beta/sessions/sessions"
import { type AgentGiven, clientBackend, type ToolGiven, type ToolsetGiven } from "@reins/events"

/** What a session of the API may spend unless it is told otherwise: limits against running away, far from any session of use. */
const limits: AgentGiven["limits"] = { turns: 10_000, toolCalls: 50_000, outputTokens: 20_000_000, wallClockMs: 30 * 86_400_000 }
/** Longest answer of one model request; the API has no field for it. */
const maxTokens = 32_000

/** The agent as a session shows it: one version, copied. */
export function snapshotOf(agent: BetaManagedAgentsAgent): BetaManagedAgentsSessionAgent {
  const { id, version, name, description, system, model, tools, mcp_servers, skills, execution_identity } = agent
  return { type: "agent", id, version, name, description, system, model, tools, mcp_servers, skills, multiagent: null, execution_identity }
}

type Tools = Pick<BetaManagedAgentsSessionAgent, "tools" | "mcp_servers">

/** The tools of an agent as a command names them: custom tools are the client's, an MCP server `reins:<backend>` is a backend of ours. */
export function toolsGiven({ tools, mcp_servers: servers }: Tools): { readonly tools: ToolGiven[]; readonly toolsets: ToolsetGiven[] } {
  const own: ToolGiven[] = []
  const toolsets: ToolsetGiven[] = []
  for (const tool of tools) {
    if (tool.type === "custom") {
      own.push({
        name: tool.name,
        backend: clientBackend,
        description: tool.description,
        inputSchema: { ...tool.input_schema },
      })
    } else if (tool.type === "mcp_toolset") {
      const server = servers.find((one) => one.name === tool.mcp_server_name)
      if (server === undefined) continue
      const { enabled, permission_policy: policy } = tool.default_config
      const settings = tool.configs.map((config) => [
        config.name,
        { enabled: config.enabled, permission: permissionOf(config.permission_policy.type) },
      ])
      toolsets.push({
        backend: server.url.replace(/^reins:/, ""),
        server: server.name,
        enabled,
        permission: permissionOf(policy.type),
        tools: Object.fromEntries(settings) as ToolsetGiven["tools"],
      })
    }
  }
  return { tools: own, toolsets }
}

/** What we cannot judge by itself is asked about. */
function permissionOf(policy: string): "always_allow" | "always_ask" {
  return policy === "always_allow" ? "always_allow" : "always_ask"
}

/** The agent of a `session.start`. */
export function agentGiven(agent: BetaManagedAgentsSessionAgent): AgentGiven {
  const { id: model, effort, speed, inference_geo: geo } = agent.model
  const params: Record<string, unknown> = {}
  if (effort !== undefined) params["output_config"] = { effort: effort.type }
  if (speed === "fast") params["speed"] = speed
  if (geo !== undefined) params["inference_geo"] = geo
  return {
    name: agent.name.slice(0, 200),
    model,
    ...(agent.system === null ? {} : { system: agent.system }),
    maxTokens,
    ...toolsGiven(agent),
    params,
    limits,
  }
}
