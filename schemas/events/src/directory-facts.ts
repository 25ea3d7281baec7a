import { z } from "zod"
import { count, json } from "./fields.ts"

/** The outside of every fact of the directory. `eventId` is stable over retries of one request, so that a retry has no second effect. */
const outside = {
  eventId: z.string().min(1),
  tenant: z.string(),
  at: z.int().meta({ content: "timestamp-millis" }),
  by: z.string(),
}
const exampleOutside = { eventId: "evt_a1", tenant: "default", at: 1_795_000_000_000, by: "gateway@host-1" }

const agentSchema = z.object({
  ...outside,
  id: z.string().min(1),
  /** Counted from 1; accepted only as the successor of the newest. Archiving keeps the version. */
  version: count(),
  /** The agent as the API shows it, a JSON object without `version` and the times that the log gives. */
  agent: json(),
  archived: z.boolean(),
})
export const agentSaved = {
  type: "agent.saved" as const,
  family: "agents" as const,
  recordName: "reins.agents.AgentSaved",
  meaning: "A version of an agent, or its archiving. Sessions hold a copy of the version they began with.",
  saidBy: ["gateway"],
  heardBy: ["gateway"],
  schema: agentSchema,
  example: {
    type: "agent.saved" as const,
    ...exampleOutside,
    id: "agent_01",
    version: 1,
    agent: '{"name":"Coder","model":{"id":"claude-sonnet-5-5"}}',
    archived: false,
  },
}
export type AgentSaved = z.infer<typeof agentSchema> & { readonly type: "agent.saved" }

const environmentSchema = z.object({
  ...outside,
  id: z.string().min(1),
  /** Counted from 1; accepted only as the successor of the newest. */
  revision: count(),
  /** The environment as the API shows it, a JSON object; null once it is deleted. */
  environment: json().nullable(),
  archived: z.boolean(),
})
export const environmentSaved = {
  type: "environment.saved" as const,
  family: "agents" as const,
  recordName: "reins.agents.EnvironmentSaved",
  meaning: "A revision of an environment, its archiving or its deletion.",
  saidBy: ["gateway"],
  heardBy: ["gateway"],
  schema: environmentSchema,
  example: {
    type: "environment.saved" as const,
    ...exampleOutside,
    eventId: "evt_e1",
    id: "env_01",
    revision: 1,
    environment: '{"name":"prod","config":{"type":"self_hosted"}}',
    archived: false,
  },
}
export type EnvironmentSaved = z.infer<typeof environmentSchema> & { readonly type: "environment.saved" }

const keySchema = z.object({
  ...outside,
  id: z.string().min(1),
  name: z.string(),
  /** SHA-256 of the key, hex. The key itself is nowhere. */
  hash: z.string(),
  revoked: z.boolean(),
})
export const keySaved = {
  type: "key.saved" as const,
  family: "keys" as const,
  recordName: "reins.keys.KeySaved",
  meaning: "An API key of a tenant was created or revoked. Only its hash is kept.",
  saidBy: ["cli"],
  heardBy: ["gateway"],
  schema: keySchema,
  example: {
    type: "key.saved" as const,
    ...exampleOutside,
    by: "cli@host-1",
    eventId: "evt_k1",
    id: "apikey_01",
    name: "ci",
    hash: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    revoked: false,
  },
}
export type KeySaved = z.infer<typeof keySchema> & { readonly type: "key.saved" }
