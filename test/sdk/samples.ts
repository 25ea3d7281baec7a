// One sample of everything that tier 1 answers or streams, after the wire spec's own samples. The compiler holds each to the SDK's type, and
// the tests hold the validators to the samples: two readers of the same declarations that share no code.

import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents"
import type { BetaEnvironment, BetaEnvironmentDeleteResponse } from "@anthropic-ai/sdk/resources/beta/environments"
import type {
  BetaManagedAgentsDeletedSession,
  BetaManagedAgentsSendSessionEvents,
  BetaManagedAgentsSession,
  BetaManagedAgentsStreamSessionEvents,
} from "@anthropic-ai/sdk/resources/beta/sessions"
import type { ErrorResponse } from "@anthropic-ai/sdk/resources/shared"

export interface Sample {
  /** A type expression over the SDK's names. */
  readonly type: string
  readonly value: unknown
}

const at = "2026-11-22T10:00:00Z"

const agent: BetaManagedAgentsAgent = {
  id: "agent_01",
  type: "agent",
  version: 1,
  name: "Coder",
  description: null,
  system: null,
  model: { id: "claude-opus-5-5", effort: { type: "high" }, speed: "standard" },
  tools: [
    {
      type: "agent_toolset_20260401",
      default_config: { enabled: true, permission_policy: { type: "always_allow" } },
      configs: [{ name: "bash", type: "bash", enabled: true, permission_policy: { type: "always_ask" } }],
    },
    {
      type: "mcp_toolset",
      mcp_server_name: "orders",
      default_config: { enabled: true, permission_policy: { type: "always_ask" } },
      configs: [{ name: "get_order", enabled: true, permission_policy: { type: "always_allow" } }],
    },
    {
      type: "custom",
      name: "get_weather",
      description: "Says the weather.",
      input_schema: { type: "object", properties: {}, required: [] },
    },
  ],
  mcp_servers: [{ type: "url", name: "orders", url: "reins:orders" }],
  skills: [],
  multiagent: null,
  metadata: { team: "shop" },
  execution_identity: { type: "service_account" },
  created_at: at,
  updated_at: at,
  archived_at: null,
}

const selfHosted: BetaEnvironment = {
  id: "env_01",
  type: "environment",
  name: "prod",
  description: "",
  config: { type: "self_hosted" },
  metadata: {},
  scope: "organization",
  created_at: at,
  updated_at: at,
  archived_at: null,
}

const cloud: BetaEnvironment = {
  ...selfHosted,
  description: null,
  config: {
    type: "cloud",
    networking: { type: "limited", allowed_hosts: [], allow_mcp_servers: false, allow_package_managers: false },
    packages: { type: "packages", apt: [], cargo: [], gem: [], go: [], npm: [], pip: [] },
  },
}

const session: BetaManagedAgentsSession = {
  id: "sesn_01",
  type: "session",
  status: "idle",
  title: null,
  environment_id: "env_01",
  deployment_id: null,
  agent: {
    id: "agent_01",
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
    execution_identity: { type: "service_account" },
  },
  resources: [],
  vault_ids: [],
  metadata: {},
  budget: null,
  outcome_evaluations: [],
  stats: { active_seconds: 0, duration_seconds: 0 },
  usage: {
    input_tokens: 0,
    output_tokens: 0,
    cache_read_input_tokens: 0,
    cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
  },
  created_at: at,
  updated_at: at,
  archived_at: null,
}

const deletedSession: BetaManagedAgentsDeletedSession = { id: "sesn_01", type: "session_deleted" }
const deletedEnvironment: BetaEnvironmentDeleteResponse = { id: "env_01", type: "environment_deleted" }

const primary = { session_thread_id: "sthr_01", agent_name: "Coder" }

/** Every event of tier 1, with every optional key that tier 1 may use somewhere. */
export const eventSamples: readonly BetaManagedAgentsStreamSessionEvents[] = [
  { id: "sevt_01", type: "user.message", content: [{ type: "text", text: "hi" }], processed_at: null },
  { id: "sevt_02", type: "user.interrupt", processed_at: at, session_thread_id: null },
  { id: "sevt_03", type: "user.tool_confirmation", tool_use_id: "sevt_20", result: "allow", processed_at: at },
  { id: "sevt_04", type: "user.tool_confirmation", tool_use_id: "sevt_20", result: "deny", deny_message: "Not today.", processed_at: at },
  {
    id: "sevt_05",
    type: "user.custom_tool_result",
    custom_tool_use_id: "sevt_22",
    content: [{ type: "text", text: "4 °C" }],
    is_error: false,
    processed_at: at,
  },
  { id: "sevt_06", type: "agent.message", content: [{ type: "text", text: "Hello" }], processed_at: at },
  { id: "sevt_07", type: "agent.thinking", processed_at: at },
  {
    id: "sevt_08",
    type: "agent.tool_use",
    name: "bash",
    input: { command: "ls" },
    evaluated_permission: "allow",
    evaluation: { type: "always_allow" },
    processed_at: at,
  },
  {
    id: "sevt_09",
    type: "agent.tool_result",
    tool_use_id: "sevt_08",
    content: [{ type: "text", text: "a" }],
    is_error: false,
    processed_at: at,
  },
  {
    id: "sevt_20",
    type: "agent.mcp_tool_use",
    name: "refund",
    mcp_server_name: "orders",
    input: { id: "17", cents: 500 },
    evaluated_permission: "ask",
    evaluation: { type: "always_ask" },
    processed_at: at,
  },
  {
    id: "sevt_21",
    type: "agent.mcp_tool_result",
    mcp_tool_use_id: "sevt_20",
    content: [{ type: "text", text: "done" }],
    is_error: null,
    processed_at: at,
  },
  { id: "sevt_22", type: "agent.custom_tool_use", name: "get_weather", input: { city: "Oslo" }, processed_at: at },
  { id: "sevt_23", type: "agent.thread_context_compacted", processed_at: at },
  { id: "sevt_30", type: "session.status_running", processed_at: at },
  { id: "sevt_31", type: "session.status_idle", stop_reason: { type: "end_turn" }, stop_details: null, processed_at: at },
  {
    id: "sevt_32",
    type: "session.status_idle",
    stop_reason: { type: "requires_action", event_ids: ["sevt_20", "sevt_22"] },
    stop_details: null,
    processed_at: at,
  },
  {
    id: "sevt_33",
    type: "session.status_idle",
    stop_reason: { type: "refusal" },
    stop_details: { type: "refusal", category: null, explanation: null },
    processed_at: at,
  },
  { id: "sevt_34", type: "session.status_rescheduled", processed_at: at },
  { id: "sevt_35", type: "session.status_terminated", processed_at: at },
  {
    id: "sevt_36",
    type: "session.error",
    error: { type: "model_overloaded_error", message: "Overloaded.", retry_status: { type: "retrying" } },
    processed_at: at,
  },
  { id: "sevt_37", type: "session.updated", title: "New", metadata: { team: "shop" }, agent: session.agent, processed_at: at },
  { id: "sevt_38", type: "session.deleted", processed_at: at },
  { id: "sevt_39", type: "session.usage", usage: { input_tokens: 9, output_tokens: 2 }, budget: null, processed_at: at },
  { id: "sevt_40", type: "session.thread_status_running", ...primary, processed_at: at },
  {
    id: "sevt_41",
    type: "session.thread_status_idle",
    ...primary,
    stop_reason: { type: "retries_exhausted" },
    stop_details: null,
    processed_at: at,
  },
  { id: "sevt_42", type: "session.thread_status_rescheduled", ...primary, processed_at: at },
  { id: "sevt_43", type: "session.thread_status_terminated", ...primary, processed_at: at },
  { id: "sevt_50", type: "span.model_request_start", processed_at: at },
  {
    id: "sevt_51",
    type: "span.model_request_end",
    model_request_start_id: "sevt_50",
    is_error: false,
    model_usage: { input_tokens: 9, output_tokens: 2, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
    processed_at: at,
  },
  { type: "event_start", event: { id: "sevt_06", type: "agent.message" } },
  { type: "event_start", event: { id: "sevt_07", type: "agent.thinking" } },
  { type: "event_delta", event_id: "sevt_06", delta: { type: "content_delta", index: 0, content: { type: "text", text: "Hel" } } },
]

const sent: BetaManagedAgentsSendSessionEvents = {
  data: [{ id: "sevt_01", type: "user.message", content: [{ type: "text", text: "hi" }], processed_at: null }],
}

const notFound: ErrorResponse = { type: "error", error: { type: "not_found_error", message: "session not found" }, request_id: "req_01" }
const refused: ErrorResponse = { type: "error", error: { type: "invalid_request_error", message: "no" }, request_id: "req_02" }

const persisted = eventSamples.filter(({ type }) => type !== "event_start" && type !== "event_delta")

export const samples: readonly Sample[] = [
  { type: "BetaManagedAgentsAgent", value: agent },
  { type: "BetaEnvironment", value: selfHosted },
  { type: "BetaEnvironment", value: cloud },
  { type: "BetaManagedAgentsSession", value: session },
  { type: "BetaManagedAgentsDeletedSession", value: deletedSession },
  { type: "BetaEnvironmentDeleteResponse", value: deletedEnvironment },
  { type: "BetaManagedAgentsSendSessionEvents", value: sent },
  { type: "ErrorResponse", value: notFound },
  { type: "ErrorResponse", value: refused },
  { type: "BetaManagedAgentsAgentsPageCursor", value: { data: [agent], next_page: "cursor" } },
  { type: "BetaEnvironmentsPageCursor", value: { data: [selfHosted, cloud], next_page: null } },
  { type: "BetaManagedAgentsSessionsBidirectionalPageCursor", value: { data: [session], next_page: null, prev_page: null } },
  { type: "BetaManagedAgentsSessionEventsPageCursor", value: { data: persisted, next_page: null } },
  ...eventSamples.map((value) => ({ type: "BetaManagedAgentsStreamSessionEvents", value })),
  ...persisted.map((value) => ({ type: "BetaManagedAgentsSessionEvent", value })),
]
