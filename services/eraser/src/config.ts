export interface EraserLimits {
  /** How long a session that runs no more is kept after its last record; null: until someone deletes it. */
  readonly retentionMs: number | null
  /** How long to wait before an erasure that was cut off begins again. */
  readonly againMs: number
  /** How old a blob is that may be collected. No append takes as long: it would have to be tried for a day after its blob stood. */
  readonly blobGraceMs: number
  /** How often blobs are collected, and how long after the start for the first time. */
  readonly collectEveryMs: number
  readonly collectFirstMs: number
}

const hourMs = 3_600_000

export const defaultEraserLimits: EraserLimits = {
  retentionMs: null,
  againMs: 1000,
  blobGraceMs: 24 * hourMs,
  collectEveryMs: 24 * hourMs,
  collectFirstMs: hourMs,
}
