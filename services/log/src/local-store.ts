import type { PartitionBatch } from "./group-commit.ts"
import type { Bounds, Commit, LogRecord, TopicDescription, TopicSettings } from "./log.ts"

/** Where the first entry of a batch stands; the others follow it without a gap, all with the same timestamp. */
export interface StoredAt {
  readonly baseOffset: number
  readonly timestamp: number
}

/** A stretch of one partition: what stands there, and where to read on (past holes too). */
export interface Stretch {
  readonly records: readonly LogRecord[]
  readonly next: number
}

/** What a partition's `read` returns at most. */
export interface StretchLimit {
  readonly records: number
  readonly bytes: number
}

/**
 * Where a log of one process keeps its records. Synchronous on purpose: a write is over when the call returns, so nothing
 * can happen between the placing of a record and the telling of it. The caller has checked topics, partitions and sizes.
 */
export interface Store {
  /** Places all batches or none. Timestamps are `now` or the newest of the partition, whichever is later. */
  append(batches: readonly PartitionBatch[], now: number): readonly StoredAt[]
  /** What stands in [from, to) as far as the limit goes, at least one record where there is one. */
  read(topic: string, partition: number, from: number, to: number, limit: StretchLimit): Stretch
  /**
   * Takes records out for good; of the newest of the partition, whose offset is what the next one counts from, value and headers. Absent where
   * the store stands for a broker, which has a cleaner instead.
   */
  remove?(topic: string, partition: number, offsets: readonly number[]): void
  /** Writes what stands anew where something was taken out. Throws where a reader is in the way; it is then still due. */
  rewrite?(): void
  /** One past the last offset. */
  end(topic: string, partition: number): number
  bounds(topic: string): readonly Bounds[]
  createTopic(settings: TopicSettings): void
  topic(name: string): TopicDescription | undefined
  topics(): readonly TopicDescription[]
  commit(group: string, commits: readonly Commit[]): void
  committed(group: string, topic: string, partition: number): { readonly offset: number; readonly note: string } | null
  register(subject: string, schema: string): number
  schema(id: number): string | null
  close(): void
}
