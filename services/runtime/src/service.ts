import type { Envelope, ModelPreviewed, SessionEvent, ToolDeclared, ToolEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import type { Session, Status, ToolCall } from "@reins/session"
import type { Clock } from "./clock.ts"

/** What a service reads and says, as data: the catalogue, the ACLs and the tests derive from it. */
export interface Contract {
  /** `tools`: the topics of every backend; `tools.<backend>`: of one. */
  readonly reads: readonly string[]
  readonly says: readonly string[]
  /** Families whose unreadable records this service puts into the dead letters. */
  readonly buries: readonly ("commands" | "sessions" | "tools")[]
  /** The declared tools must be known before the first decision. */
  readonly needsDeclarations: boolean
  /** Whoever hosts it writes the snapshots of what it owns: one service of all, so that several groups do not write each its own. */
  readonly keepsSnapshots?: true
  /** It erases deleted sessions: beside facts it appends tombstones to `sessions`, which nobody else does. */
  readonly erases?: true
}

type WithoutEnvelope<E> = E extends unknown ? Omit<E, keyof Envelope> & { readonly causedBy?: string | null } : never
/** A fact as a decision says it: the runtime stamps the envelope. */
export type SessionDraft = WithoutEnvelope<SessionEvent>
export type ToolDraft = WithoutEnvelope<ToolEvent>

/** Where a draft goes: the session log, or the topic of a backend. */
export type Draft =
  | { readonly on: "sessions"; readonly event: SessionDraft }
  | {
      readonly on: "tools"
      readonly backend: string
      readonly event: ToolDraft /** How the workers of this backend read; Avro unless said. */
      readonly encoding?: "avro" | "json"
    }

/** What ought to be true now. Intents of one `key` are the same intent: while it is under way it is not begun again. */
export type Intent<Work = never> =
  | ({ readonly do: "append"; readonly key: string } & Draft)
  /** An effect outside. Begun at most once per key in a process, and only while membership is sure (design rules 3 and 7). */
  | {
      readonly do: "perform"
      readonly key: string
      readonly work: Work /** What stops it on the way: an interrupt or end of the session, or the cancelling of a call (`callTag`). */
      readonly stoppedBy: string
      /** Once it has ended it may begin again under the same key, if that is still what ought to be: for an effect that may happen twice. */
      readonly again?: true
    }
  /** Decide again at this log time. */
  | { readonly do: "wake"; readonly at: number }
  /** Decide again once the conversation is whole: it has to be sent, and was not kept in memory. */
  | { readonly do: "recall" }

/** Tags an effect as belonging to one attempt at a call. */
export function callTag(sessionId: string, toolUseId: string, attempt: number): string {
  return `${sessionId}/${toolUseId}/${attempt}`
}

/** What a decision may look at. Everything is a value; nothing here acts. */
export interface View {
  readonly sessionId: string
  /** Log time. */
  readonly now: number
  readonly group: string
  readonly instance: string
  /** The session with what is appended but not yet read back: pure decisions chain on it (design rule 19). */
  readonly session: Session
  /** The session as read back: effects stand on it (design rule 3). */
  readonly settled: Session
  /** Whether something of it on `sessions` cannot be read here, since its blob is missing: the state is not what the log says then. */
  readonly unread: boolean
  /** One past the newest record of `sessions` folded. */
  readonly sessionsNext: number
  /** The offset from which records of this session may stand that have no tombstone, its `session.deleted` aside; null where there are none. */
  readonly standing: number | null
  /** A call on its backend's topic as read back. */
  toolCall(backend: string, toolUseId: string): ToolCall | undefined
  /** The open calls of this session on the topics followed: as read back, and with what is appended but not yet read back. */
  openToolCalls(): Iterable<{ readonly backend: string; readonly call: ToolCall | undefined; readonly ahead: ToolCall }>
  declaration(backend: string, tool: string): ToolDeclared | undefined
  /** Everything that the workers of a backend have declared. */
  declarationsOf(backend: string): readonly ToolDeclared[]
  /** Whether the instance has left its group for good; where unknown, this session is decided again once it is known. */
  gone(group: string, instance: string): boolean
  /** Whether a claim was given up by a record that landed before it: nobody will ever act on it, and nobody else says so. */
  givenUp(claim: string): boolean
  /** Whether this process has begun (or given up) the effect with this key. */
  begun(key: string): boolean
}

/** How an effect speaks while it runs. */
export interface Performing {
  /** Aborted when the effect is no longer wanted or the process must end before it does. */
  readonly signal: AbortSignal
  /** Aborts the signal after so long; the first call counts. */
  abortAfter(ms: number): void
  /** True once the process must end: what was begun may then be left to its successor. */
  readonly ending: () => boolean
  /** The only clock of an effect. */
  readonly clock: Clock
  /** Log time. */
  now(): number
  /** Says something on the way; lost if the process dies. */
  progress(draft: Draft): void
  /**
   * Shows a part of an answer that is still being written; absent where previews are switched off. Tells whether the log took it, and
   * never rejects: what was lost is never said again.
   */
  readonly preview?: (said: ModelPreviewed) => Promise<boolean>
  /** For a service whose contract says that it erases. */
  readonly erasing?: Erasing
}

/** What erasing a session needs of the loop, beside the log itself. */
export interface Erasing {
  /** The partition of the session. */
  readonly partition: number
  /** Appends a tombstone under the key of this record of `sessions`; resolves when it stands, rejects where the partition is lost. */
  tombstone(record: LogRecord): Promise<void>
  /** Has the snapshot of the session say what it is now, so that nothing of what it was is left there; rejects where it does not stand. */
  replaceSnapshot(): Promise<void>
  /** Whatever of the session stood below this offset of `sessions`, and beside it when this effect began, is erased. */
  erased(below: number): void
  /** The offset below which every command of a partition is dealt with; 0 where another process sees to them. */
  commandsDealtWith(partition: number): number
}

/** What intake makes of one command. */
export type Hearing =
  | {
      readonly judged: "answer"
      readonly sessionId: string
      readonly tenant: string
      readonly traceparent: string | null
      readonly event: SessionDraft
    }
  /** Nothing is to be said: it was answered before. */
  | { readonly judged: "known" }
  | { readonly judged: "forward"; readonly partition: number; readonly headers: Readonly<Record<string, string>>; readonly key: string }
  | { readonly judged: "bury"; readonly reason: string; readonly message: string }

/** A service: what it hears, what ought to follow, and the one way in which it touches the world. */
export interface Service<Work = never> {
  /** Its folder under `services/`. */
  readonly name: string
  readonly contract: Contract
  /** Pure and re-entrant. */
  decide?(view: View): readonly Intent<Work>[]
  /** The effect; what it says is appended until it stands. It must not throw: a failure is a fact. */
  perform?(work: Work, performing: Performing): Promise<readonly Draft[]>
  /** What to say instead of a result that the log refuses for good, for example because it is too large. */
  refused?(draft: Draft, why: string): Draft | undefined
  /** What to say about the claims on this session that this process made and has not begun, now that it lost them. */
  giveUp?(view: View): readonly Draft[]
  /** Judges one command; `view` shows the session that it is for. */
  hear?(record: LogRecord, view: (sessionId: string) => View): Hearing
  /** Whether it may have something to do, unasked, about a session that stands so. Sessions that run are always decided on. */
  concernedWith?(status: Status): boolean
  /** Tools that this service serves; published to `tool-declarations` before it follows. */
  readonly declares?: readonly ToolDeclared[]
  /** What is to be done now and then and concerns no session: by whoever owns the first partition, so by one process of a group at a time. */
  readonly chore?: { readonly firstAfterMs: number; readonly everyMs: number; run(signal: AbortSignal): Promise<void> }
  /** Effects at the same time; further ones wait. */
  readonly concurrency?: number
}

/** A service whose work the host need not know. */
// biome-ignore lint/suspicious/noExplicitAny: the host hands back to a service only what that service gave it.
export type AnyService = Service<any>
