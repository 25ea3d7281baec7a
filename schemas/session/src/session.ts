import type { Agent, EffectClass, HeldReason, IdleReason, Usage } from "@reins/events"
import type { CommandIds } from "./command-ids.ts"
import type { Utterance } from "./conversation.ts"

/** A tool call of the latest response. */
export interface Call {
  readonly toolUseId: string
  readonly tool: string
  /** Canonical JSON of the arguments. */
  readonly input: string
  /** The latest attempt; 0 before the first. */
  readonly attempt: number
  /** Attempts that failed and are to count against the retries. */
  readonly failures: number
  /** The eventId of the allow under which it may run: one run, and another attempt only where the last had no effect. Absent where none was asked for. */
  readonly approval?: string
  readonly state:
    | { readonly is: "wanted" /** Log time before which it is not dispatched again. */; readonly notBefore: number }
    | {
        readonly is: "dispatched"
        readonly eventId: string
        readonly backend: string
        readonly effect: EffectClass
        readonly idempotencyKey: string
        /** Log time. */
        readonly deadlineAt: number
        /** Offset of the decision on `sessions`. */
        readonly offset: number
      }
    | {
        /** It waits for someone. */
        readonly is: "held"
        readonly eventId: string
        readonly reason: HeldReason
        readonly argumentsHash: string
        readonly message: string | null
      }
    | { readonly is: "done" /** Content for the tool_result, as JSON text. */; readonly content: string; readonly isError: boolean }
}

/** A message that waits for the next model request. */
export interface Queued {
  readonly eventId: string
  /** A JSON array as text. */
  readonly content: string
  /** It found the session idle: it began a turn as it came. */
  readonly begins?: true
}

/** The latest attempt at a model call. */
export interface ModelAttempt {
  /** The eventId of its `model.requested`. */
  readonly claim: string
  readonly attempt: number
  /** Failures that count against the retries (giving up and takeovers do not). */
  readonly failures: number
  readonly group: string
  readonly instance: string
  /** Log time. */
  readonly deadlineAt: number
  readonly bodyHash: string
  readonly state:
    | { readonly is: "open" }
    /** A summary was given, and `context.compacted` is due. */
    | { readonly is: "answered" }
    | { readonly is: "failed"; readonly kind: string; readonly message: string; readonly retryable: boolean; readonly notBefore: number }
}

/** The kind of failure of a request that was open when its session was parked. */
export const parkedKind = "parked"

/** What a session is called and where it comes from: for people and the API, nothing that a decision stands on. */
export interface Profile {
  readonly title: string | null
  /** A JSON object of strings. */
  readonly metadata: string
  readonly environmentId: string | null
  /** The agent as the API shows it, a JSON object; null for a session that was not started through it. */
  readonly agent: string | null
}

/** What every session that was started has, whatever its phase. */
export interface Known {
  readonly sessionId: string
  readonly tenant: string
  readonly agent: Agent
  /** The eventId of its `session.started`: what its first request is made on. */
  readonly startedBy: string
  /** Log time of `session.started`. */
  readonly startedAt: number
  /** Log time of the newest accepted record. */
  readonly changedAt: number
  readonly commands: CommandIds
  readonly traceparent: string | null
  readonly conversation: Utterance | null
  readonly queued: readonly Queued[]
  /** Of the latest response; their results go into the next request. */
  readonly calls: readonly Call[]
  /** The eventId of the latest response. */
  readonly response: string | null
  readonly turns: number
  readonly toolCalls: number
  readonly usage: Usage
  /** Of the latest request and its answer together; 0 where the conversation was summarised since. It follows from `response`. */
  readonly contextTokens: number
  /** Summaries in a row, without an answer of the model to what came of them. */
  readonly compacted: number
  /** Set when a limit refused something in this turn. */
  readonly limitReached: boolean
  /** The invariant that a record broke; the router parks the session for it. */
  readonly breach: string | null
  /** Null where nothing was given. */
  readonly profile: Profile | null
}

/** Nothing was started under this id; rejected commands are remembered, so that the first record of a commandId decides for ever. */
export interface Absent {
  readonly phase: "absent"
  readonly commands: CommandIds
}
/** No turn runs. `wake` says that queued messages ask for one. */
export interface Idle extends Known {
  readonly phase: "idle"
  readonly reason: IdleReason | null
  readonly wake: boolean
}
export interface AwaitingModel extends Known {
  readonly phase: "awaiting-model"
  readonly request: ModelAttempt
  /** The request asks for a summary of the conversation. Absent where it asks for the next turn. */
  readonly compaction?: Compaction
}
/** A conversation being summarised. */
export interface Compaction {
  /** 0: it is put before the model as it stands; else as a transcript of at most so many characters. */
  readonly budget: number
  /** Messages of the turn for which room is made: they follow the summary, or the conversation where there comes none. */
  readonly taken: readonly Queued[]
  /** What the model made of it; null until then. */
  readonly summary: string | null
}
/** Calls are open, or all are done and the next request is due. */
export interface AwaitingTools extends Known {
  readonly phase: "awaiting-tools"
  /**
   * Every open call is held. `told`: `session.idled` has said so. `still`: some of it was answered since and nothing runs, which is to be
   * told anew. Absent while a call runs, or before it was told at all.
   */
  readonly waiting?: "told" | "still"
}
/** The turn is over and `session.idled` is due. */
export interface Settling extends Known {
  readonly phase: "settling"
  readonly reason: IdleReason
}
export interface Parked extends Known {
  readonly phase: "parked"
  readonly code: string
  readonly message: string
  readonly before: Running
}
export interface Ended extends Known {
  readonly phase: "ended"
  /** Log time; absent where it ended without being archived. */
  readonly archivedAt?: number
}
/** Wins over everything and stays. Made of `session.deleted` alone: nothing else of the session is left, in the state or in the log. */
export interface Deleted {
  readonly phase: "deleted"
  readonly sessionId: string
  readonly tenant: string
  /** The command that deleted it. What else was asked of it is forgotten with its records, and refused if it is asked again. */
  readonly commands: CommandIds
}

export type Running = Idle | AwaitingModel | AwaitingTools | Settling
export type Session = Absent | Running | Parked | Ended | Deleted

/** What the fold makes of a record. */
export type Verdict =
  /** It changed the state. */
  | "accepted"
  /** The same logical record was accepted before. */
  | "duplicate"
  /** It no longer fits: something else came first. */
  | "superseded"
  /** A result of an attempt that is closed: kept, not folded in. */
  | "late"

export interface Step {
  readonly session: Session
  readonly verdict: Verdict
}

/** Where a record stands: its place and the time the log gave it. */
export interface Position {
  readonly offset: number
  readonly timestamp: number
}
