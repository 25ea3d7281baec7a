import type { z } from "zod"
import { approvalGiven } from "./approval-given.ts"
import { commandRejected } from "./command-rejected.ts"
import {
  approvalGive,
  messageSend,
  resultGive,
  sessionArchive,
  sessionDelete,
  sessionEnd,
  sessionInterrupt,
  sessionResume,
  sessionStart,
  sessionUpdate,
} from "./commands.ts"
import { contextCompacted } from "./context-compacted.ts"
import type { Definition } from "./define.ts"
import { agentSaved, environmentSaved, keySaved } from "./directory-facts.ts"
import { interruptReceived } from "./interrupt-received.ts"
import { messageReceived } from "./message-received.ts"
import { modelFailed } from "./model-failed.ts"
import { modelPreviewed } from "./model-previewed.ts"
import { modelRequested } from "./model-requested.ts"
import { modelResponded } from "./model-responded.ts"
import { resultReceived } from "./result-received.ts"
import { sessionArchived } from "./session-archived.ts"
import { sessionDeleted } from "./session-deleted.ts"
import { sessionEnded } from "./session-ended.ts"
import { sessionIdled } from "./session-idled.ts"
import { sessionParked } from "./session-parked.ts"
import { sessionResumed } from "./session-resumed.ts"
import { sessionSnapshot } from "./session-snapshot.ts"
import { sessionStarted } from "./session-started.ts"
import { sessionUpdated } from "./session-updated.ts"
import { toolCancelled } from "./tool-call-cancelled.ts"
import { toolClaimed } from "./tool-call-claimed.ts"
import { toolCallCompleted } from "./tool-call-completed.ts"
import { toolCallDispatched, toolDispatched } from "./tool-call-dispatched.ts"
import { toolCallFailed } from "./tool-call-failed.ts"
import { toolFinished } from "./tool-call-finished.ts"
import { toolCallHeld } from "./tool-call-held.ts"
import { toolCallOutcomeUnknown } from "./tool-call-outcome-unknown.ts"
import { toolProgressed } from "./tool-call-progressed.ts"
import { toolCallRefused } from "./tool-call-refused.ts"
import { toolCallTimedOut } from "./tool-call-timed-out.ts"
import { toolDeclared } from "./tool-declared.ts"

/** Every fact of the session log, in the order of the story. */
export const sessionFacts = [
  sessionStarted,
  messageReceived,
  interruptReceived,
  modelRequested,
  modelResponded,
  modelFailed,
  contextCompacted,
  toolCallRefused,
  toolCallHeld,
  approvalGiven,
  resultReceived,
  toolCallDispatched,
  toolCallCompleted,
  toolCallFailed,
  toolCallTimedOut,
  toolCallOutcomeUnknown,
  sessionIdled,
  sessionParked,
  sessionResumed,
  sessionUpdated,
  sessionEnded,
  sessionArchived,
  sessionDeleted,
  commandRejected,
] as const

/** Every fact on the topic of a tool backend. */
export const toolFacts = [toolDispatched, toolClaimed, toolProgressed, toolFinished, toolCancelled] as const

export const commands = [
  sessionStart,
  messageSend,
  sessionInterrupt,
  approvalGive,
  resultGive,
  sessionUpdate,
  sessionResume,
  sessionEnd,
  sessionArchive,
  sessionDelete,
] as const

/** Everything that has an Avro schema. */
export const definitions: readonly Definition[] = [
  ...sessionFacts,
  ...toolFacts,
  ...commands,
  toolDeclared,
  agentSaved,
  environmentSaved,
  keySaved,
  modelPreviewed,
  sessionSnapshot,
]

type Said<D> = D extends { readonly type: infer T; readonly schema: infer S extends z.ZodObject }
  ? z.infer<S> & { readonly type: T }
  : never

export type SessionEvent = Said<(typeof sessionFacts)[number]>
export type ToolEvent = Said<(typeof toolFacts)[number]>
export type Command = Said<(typeof commands)[number]>
/** A session fact of one type. */
export type SessionEventOf<T extends SessionEvent["type"]> = Extract<SessionEvent, { readonly type: T }>
/** A tool fact of one type. */
export type ToolEventOf<T extends ToolEvent["type"]> = Extract<ToolEvent, { readonly type: T }>
export type CommandOf<T extends Command["type"]> = Extract<Command, { readonly type: T }>
