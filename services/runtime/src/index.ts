export { type Clock, LogTime, pause, systemClock } from "./clock.ts"
export { type Config, ConfigError, environmentNames, isLoopback, readConfig } from "./config.ts"
export { type DeadLetter, readDeadLetters, retryDeadLetter, type Settled, settleDeadLetter } from "./dead-letters.ts"
export { answerHealth, type Health, type HealthOptions, serveHealth } from "./health.ts"
export { KeptSessions, sessionBytesDefault } from "./kept-sessions.ts"
export { Loop, type LoopOptions, type Observed } from "./loop.ts"
export { Metrics } from "./metrics.ts"
export { type OpenLog, openLog } from "./open-log.ts"
export {
  exitCodeOf,
  type Front,
  type Fronted,
  groupOf,
  newInstance,
  type Pace,
  type ProcessOptions,
  type RunningProcess,
  runProcess,
  type ServiceContext,
  startProcess,
  version,
} from "./process.ts"
export { type ReadRecord, readSessions, SessionReader } from "./read-session.ts"
export {
  type AnyService,
  type Contract,
  callTag,
  type Draft,
  type Erasing,
  type Hearing,
  type Intent,
  type Performing,
  type Service,
  type SessionDraft,
  type ToolDraft,
  type View,
} from "./service.ts"
export type { Folded, FoldReader, SharedFold, SharedFolds } from "./shared-folds.ts"
export { Spill } from "./spill.ts"
export { toolsTopicSettings, topicSettings } from "./topics.ts"
export { isReadable, type Rereading, rereadPartition, sessionOfRecord, type UnreadRecord, unreadRecord } from "./unread.ts"
