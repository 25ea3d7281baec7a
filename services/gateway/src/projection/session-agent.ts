import type { Known } from "@reins/session"

/** The agent that a session shows: as the API knows it, or for one started elsewhere, as it can be told. */
export function agentOf(session: Known): { readonly id: string; readonly version: number; readonly [field: string]: unknown } {
  const given = JSON.parse(session.profile?.agent ?? "{}") as { readonly id?: unknown; readonly version?: unknown }
  // Whoever writes commands may give anything as a profile.
  if (typeof given.id === "string" && Number.isSafeInteger(given.version)) return given as { id: string; version: number }
  const system = session.agent.system === null ? null : (JSON.parse(session.agent.system) as unknown)
  return {
    id: "agent_unregistered",
    type: "agent",
    version: 1,
    name: session.agent.name,
    description: null,
    system: typeof system === "string" ? system : system === null ? null : JSON.stringify(system),
    model: { id: session.agent.model },
    tools: [],
    mcp_servers: [],
    skills: [],
    multiagent: null,
    execution_identity: { type: "service_account" },
  }
}

/** The environment of a session that was started without one. */
export const noEnvironment = "env_none"

export function environmentOf(session: Known): string {
  return session.profile?.environmentId ?? noEnvironment
}
