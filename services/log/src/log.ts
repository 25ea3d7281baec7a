import type { Aside } from "./blobs/aside.ts"
import type { Blobs } from "./blobs/blobs.ts"

/**
 * The log port: append, replay, follow. Everything durable in Reins goes through these three, said in our words; an adapter
 * (memory, SQLite, Kafka) keeps the promises below, and `test/conformance/log.ts` holds every adapter to them.
 *
 * G1 A placed entry is durable, at the offset and with the timestamp that its promise resolved with.
 * G2 Entries of one partition are placed in the order in which they were appended, also over retries of `certain` ones.
 * G3 A follower gets every record of its partitions once, in offset order, without a gap, from where `from` said.
 * G4 Two members of a group never own one partition at the same time as far as their `alive()` says true.
 * G5 A record read is the record written: the same key, value bytes and headers.
 */

/** One record as it stands in the log. `timestamp` is the log's own append time, milliseconds since the epoch. */
export interface LogRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly key: string | null
  readonly value: Uint8Array | null
  readonly headers: Readonly<Record<string, string>>
  /** Of a record whose header `blobs` names some: what they hold, or why nobody knows. Not part of the record. */
  readonly aside?: Aside
}

/** How hard an append tries. A decision is taken anew from what is read, so it is sent once; a fact that exists nowhere else is sent until it stands. */
export type Certainty =
  /** One try. Rejects with `AppendUnknownError` where nobody can say whether it landed. */
  | "once"
  /** Again, under a new key, until acknowledged or withdrawn (`withdraw`). */
  | "until-withdrawn"
  /** Again, under a new key, until acknowledged or the log is closed. */
  | "always"

export interface Append {
  readonly topic: string
  readonly partition: number
  /** Asked once per physical append: a retry gets a new key, so compaction can never prefer the later copy. */
  readonly key: () => string | null
  readonly value: Uint8Array | null
  readonly headers: Readonly<Record<string, string>>
  readonly certainty: Certainty
}

/**
 * A header of tombstones, and of records that replace an older one: the offset of the record, under the same key in the same partition, that
 * is to go. A log with a cleaner takes that record out when it compacts; one without takes it out in the same commit.
 */
export const erasesHeader = "erases"

/** Where an append stands. */
export interface Placed {
  readonly offset: number
  readonly timestamp: number
}

/** The outcome of an append is not known: it may stand in the log, or land later. Read before you decide again. */
export class AppendUnknownError extends Error {
  readonly code = "append-unknown"
  readonly retryable = true
}

/** The log refused the record for good (too large, not allowed, no such partition): it is nowhere and never will be. */
export class AppendRejectedError extends Error {
  readonly code = "append-rejected"
  readonly retryable = false
}

/** The entry was taken back before it was sent: its partition was lost or the log is closing. It is nowhere. */
export class AppendWithdrawnError extends Error {
  readonly code = "append-withdrawn"
  readonly retryable = false
}

/** The log cannot be reached or opened at all. `message` says what to do. */
export class LogUnavailableError extends Error {
  readonly code: string = "log-unavailable"
  readonly retryable: boolean = true
}

/** The data folder belongs to another process. */
export class LogOwnedError extends Error {
  readonly code = "log-owned"
  readonly retryable = false
}

/** A topic stands in the log with other settings than Reins needs. `message` says which and how to mend it. */
export class TopicMismatchError extends Error {
  readonly code = "topic-mismatch"
  readonly retryable = false
}

/** What a topic must be; `schemas/events/src/topics.ts` holds them as data. */
export interface TopicSettings {
  readonly name: string
  readonly partitions: number
  readonly cleanup: "compact" | "delete"
  /** Of a compacted topic: a log without a cleaner takes the older records of a key out as soon as a newer one stands. */
  readonly newestOnly?: boolean
  /** Further settings in the words of the log's own administration, written when the topic is created. */
  readonly config: Readonly<Record<string, string>>
}

export interface TopicDescription {
  readonly name: string
  readonly partitions: number
  readonly cleanup: string
  readonly config: Readonly<Record<string, string>>
}

export interface Bounds {
  readonly partition: number
  /** The first offset that may still be read. */
  readonly start: number
  /** One past the last offset. */
  readonly end: number
}

export interface Commit {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** At most 1,000 characters, kept beside the offset. */
  readonly note: string
}

export interface FollowOptions {
  /** The group whose members share the partitions. Without one: every partition, no membership (`alive` is then always true). */
  readonly group?: string
  /** Unique for every start of a process. */
  readonly instance: string
  /** Followed together: who owns partition p of one owns partition p of all. */
  readonly topics: readonly string[]
  /**
   * Where to begin a newly owned partition; `committed` is what the group last committed there. Default: the beginning. Nothing of the topic
   * is delivered before it has said so.
   */
  from?(topic: string, partition: number, committed: { offset: number; note: string } | null): number | Promise<number>
  /** Where the reader of this partition already is, so that what was folded at the acknowledgement is not fetched again. */
  position?(topic: string, partition: number): number | undefined
  /** Called before the first record of a newly owned partition. */
  assigned?(partition: number): void
  /** In offset order. Awaited before the next records of the same partition. */
  records(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void>
  /** All that stood in this partition when it was assigned (or the topic added) has been delivered. */
  caughtUp?(topic: string, partition: number): void
  /** The partition is no longer ours; no records of it come any more. */
  lost?(partition: number): void
  /** The follower cannot go on. The process should end; another one takes over. */
  failed?(error: Error): void
}

export interface Following {
  /** The partitions owned now. */
  partitions(): readonly number[]
  /**
   * False when membership may have been lost without our knowledge: start nothing new (design rule 7). False also until the group has
   * told a member that joined its share, which may be nothing.
   */
  alive(): boolean
  /** Follows one more topic from now on, in the same partitions. */
  add(topic: string): Promise<void>
  /**
   * Reads a partition of a topic no further, for who hears of its records otherwise. Nothing of it is delivered from now on, not even what was under
   * way. Does nothing where it is not read.
   */
  pause(topic: string, partition: number): void
  /** Goes on with what was paused at this offset, wherever it was paused. `caughtUp` is said again. */
  resume(topic: string, partition: number, from: number): void
  commit(commits: readonly Commit[]): Promise<void>
  /** Leaves the group and ends. Calls no `lost`. */
  stop(): Promise<void>
}

export interface ReplayOptions {
  /** Without what stands in the blob store: for who looks at keys and headers alone. */
  readonly bare?: boolean
}

export interface Log {
  readonly kind: "memory" | "sqlite" | "kafka"
  /** How long an instance must be absent from every look at its group before it counts as gone (design rule 6). */
  readonly absenceGraceMs: number
  append(append: Append): Promise<Placed>
  /** Takes back what waits unsent for these partitions, except what is to be appended `always`. */
  withdraw(topic: string, partition: number): void
  /** What stands in [from, to); `to` defaults to the end at the time of the call. Compacted records are left out. */
  replay(topic: string, partition: number, from: number, to?: number, how?: ReplayOptions): AsyncIterable<readonly LogRecord[]>
  bounds(topic: string): Promise<readonly Bounds[]>
  follow(options: FollowOptions): Promise<Following>
  /** The instances that are members of the group now; null where the answer cannot be trusted (unreachable, unknown group). */
  members(group: string): Promise<ReadonlySet<string> | null>
  /**
   * Whether the process of this instance is known for certain to have ended, by better evidence than its absence from the group: nothing
   * that it began here can still begin. False where nobody knows; a log that cannot know need not say.
   */
  ended?(group: string, instance: string): boolean
  /** Creates what is missing, verifies what stands. Throws `TopicMismatchError`. Returns the names created. */
  applyTopics(topics: readonly TopicSettings[]): Promise<readonly string[]>
  /** Throws `TopicMismatchError` where one is missing or differs. */
  verifyTopics(topics: readonly TopicSettings[]): Promise<void>
  describeTopics(): Promise<readonly TopicDescription[]>
  /**
   * Takes these records out at once and for good, whatever the topic's cleanup. Only a log of this machine can; elsewhere retention takes them
   * in its time. Offsets do not move: readers find holes, or a null value where the newest record of a partition stood.
   */
  remove?(topic: string, partition: number, offsets: readonly number[]): Promise<void>
  /**
   * Writes what stands anew, so that no byte of what was taken out is left on the disk. Nothing else happens meanwhile, about 15 ms for every
   * megabyte of the log. Rejects where another process is in the way; to be tried again then.
   */
  rewrite?(): Promise<void>
  /** Where fields stand that are too large for a record; absent where there is no such place, and none may be so large. */
  readonly blobs?: Blobs
  /** Sends what waits, then closes. */
  close(): Promise<void>
}
