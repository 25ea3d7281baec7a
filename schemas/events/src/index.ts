export { type Agent, agent, defaultLimits, type Limits, type Tool, tool } from "./agent.ts"
export { type AvroSchema, avroOf } from "./avro.ts"
export { canonicalJson } from "./canonical-json.ts"
export { type AgentGiven, agentGiven, contentGiven, type HttpSettings, httpSettings, type ToolGiven, toolGiven } from "./commands.ts"
export type { Definition, Family } from "./define.ts"
export type { Envelope } from "./envelope.ts"
export type { EffectClass, EffectDone } from "./fields.ts"
export { isDeeperThan } from "./json-depth.ts"
export type { Usage } from "./model-responded.ts"
export { type IdleReason, idleReason } from "./session-idled.ts"
export type { ToolDeclared } from "./tool-declared.ts"
export {
  commandsTopic,
  deadLettersTopic,
  declarationsTopic,
  fixedTopics,
  sessionsTopic,
  shippedBackends,
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
