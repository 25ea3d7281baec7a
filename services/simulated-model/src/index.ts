export { BadRequest, checkRequest } from "./check-request.ts"
export type { ContentBlock, Message, MessagesRequest, StopReason, TextBlock, Tool, ToolResultBlock, ToolUseBlock } from "./messages.ts"
export { plan } from "./planner.ts"
export {
  type Answer,
  type Call,
  calls,
  cut,
  type Delivery,
  events,
  type Failure,
  fails,
  type Hang,
  hangs,
  inOrder,
  type Raw,
  type Said,
  type SaidBlock,
  type Script,
  says,
  trickles,
} from "./script.ts"
export { type Outcome, planned, type RecordedCall, type SimulatedModel, type SimulatedModelOptions, startSimulatedModel } from "./server.ts"
