export { type Agent, agent, clientBackend, defaultLimits, type Limits, type Tool, tool } from "./agent.ts"
export { type AvroSchema, avroOf } from "./avro.ts"
export { canonicalJson } from "./canonical-json.ts"
export {
  type AgentGiven,
  agentGiven,
  contentGiven,
  type HttpSettings,
  httpSettings,
  type ToolGiven,
  type ToolsetGiven,
  toolGiven,
} from "./commands.ts"
export { type Definition, type Family, jsonFields } from "./define.ts"
export type { AgentSaved, EnvironmentSaved, KeySaved } from "./directory-facts.ts"
export type { Envelope } from "./envelope.ts"
export type { EffectClass, EffectDone } from "./fields.ts"
export { depthMax, isDeeperThan } from "./json-depth.ts"
export type { ModelPreviewed } from "./model-previewed.ts"
export type { Usage } from "./model-responded.ts"
export { type IdleReason, idleReason } from "./session-idled.ts"
export type { SessionSnapshot } from "./session-snapshot.ts"
export type { HeldReason } from "./tool-call-held.ts"
export type { ToolDeclared } from "./tool-declared.ts"
export {
  agentsTopic,
  commandsTopic,
  deadLettersTopic,
  declarationsTopic,
  deltasTopic,
  fixedTopics,
  keysTopic,
  sessionsTopic,
  shippedBackends,
  snapshotsTopic,
  type Topic,
  type TopicNames,
  toolsTopic,
  topicNames,
} from "./topics.ts"
export {
  type Command,
  type CommandOf,
  commands,
  definitions,
  type SessionEvent,
  type SessionEventOf,
  sessionFacts,
  type ToolEvent,
  type ToolEventOf,
  toolFacts,
} from "./vocabulary.ts"
