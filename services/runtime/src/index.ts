export { type Clock, LogTime, systemClock } from "./clock.ts"
export { type Health, serveHealth } from "./health.ts"
export { Loop, type LoopOptions, type Observed } from "./loop.ts"
export { Metrics } from "./metrics.ts"
export {
  type AnyService,
  type Contract,
  callTag,
  type Draft,
  type Hearing,
  type Intent,
  type Performing,
  type Service,
  type SessionDraft,
  type ToolDraft,
  type View,
} from "./service.ts"
