export { type Asked, awaits, holdOf, type Refusal, refusalOf } from "./admission.ts"
export {
  type ApiEvent,
  type ApiStatus,
  apiEventId,
  apiEvents,
  apiStatus,
  callEventId,
  messageEventId,
  thinkingEventId,
  threadIdOf,
  usageOf,
  waitingFor,
} from "./api-events.ts"
export { heard } from "./command-ids.ts"
export { type Asking, continuation } from "./compaction.ts"
export {
  conversationMessages,
  digestOf,
  emptyDigest,
  forgotten,
  forgottenPart,
  type Message,
  recalled,
  say,
  type Utterance,
} from "./conversation.ts"
export { sha256Hex } from "./digest.ts"
export { type AgentEntry, type AgentVersion, DirectoryFold, type EnvironmentEntry, type KeyEntry, type Save } from "./directory.ts"
export { absent, allDone, allHeld, conversationWith, evolve } from "./evolve.ts"
export { foldVersion } from "./fold-version.ts"
export { type Frozen, freeze, thaw } from "./frozen.ts"
export { asking, bodyVersion, openRequestBody, requestBody, requestBodyHash, requestParameters } from "./request-body.ts"
export type {
  Absent,
  AwaitingModel,
  AwaitingTools,
  Call,
  Compaction,
  Deleted,
  Ended,
  Idle,
  Known,
  ModelAttempt,
  Parked,
  Position,
  Profile,
  Queued,
  Running,
  Session,
  Settling,
  Step,
  Verdict,
} from "./session.ts"
export { SessionsFold } from "./sessions-fold.ts"
export { type Overview, type RawRecord, type State, states, type Waiting } from "./shown.ts"
export { stateDigest } from "./state-digest.ts"
export { isAtRest, isStarted, type SessionSummary, type Started, type Status, statusOf, summarize } from "./summary.ts"
export { type Claim, evolveToolCall, isOpen, needsClaim, type ToolCall, type ToolResult, type ToolStep } from "./tool-call.ts"
export { ToolsFold } from "./tools-fold.ts"
