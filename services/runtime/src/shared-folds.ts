import type { SessionEvent } from "@reins/events"
import type { LogRecord } from "@reins/log"
import type { Session, Verdict } from "@reins/session"
import type { KeptSessions } from "./kept-sessions.ts"
import type { Spill } from "./spill.ts"

/** A record of `sessions` and what the loop made of it. */
export interface Folded {
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly event: SessionEvent
  readonly verdict: Verdict
  readonly before: Session
  readonly after: Session
}

/** The fold of a partition that this process owns. */
export interface SharedFold {
  readonly sessions: KeptSessions
  /** One past what is folded. */
  next(): number
  /** Sessions of which something is not in their state, since a blob of it is missing. */
  unread(): readonly string[]
  /** Spills what need not be in memory, as far as that is due. */
  spill(): void
}

/**
 * Who shows what the loop folds, in the same process, and so need not fold it a second time: the gateway's read model.
 *
 * All of it is called in the moment in which it happens, and is to come back at once.
 */
export interface FoldReader {
  /** A partition is folded to its end as it was at assignment. */
  ready(partition: number): void
  /**
   * Everything of the partition below `next` is folded, the last of it being this: null where the record was erased or makes no sense, the record
   * itself where a blob of it is missing and it is not folded for that. In order, and from before `ready` on.
   */
  moved(partition: number, next: number, what: Folded | LogRecord | null): void
  /** A session was folded anew, since its blobs are back: everything of it up to here. */
  reread(partition: number, sessionId: string): void
  /** The partition is not folded here any more. True where the reader goes on with its sessions, and drops them when it is done. */
  lost(partition: number): boolean
}

/** What a process folds of `sessions`, for one more reader. */
export interface SharedFolds {
  /** Where sessions are spilled to in this process. */
  readonly spill: Spill
  /** The fold of a partition that is owned here and folded to its end as it was at assignment. */
  of(partition: number): SharedFold | undefined
  /** Whether the process has what it owns at the moment, and has folded all of it. */
  settled(): boolean
  /** From now on this reader is told. */
  tell(reader: FoldReader): void
}
