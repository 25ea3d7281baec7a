export interface EraserLimits {
  /** How long a session that runs no more is kept after its last record; null: until someone deletes it. */
  readonly retentionMs: number | null
  /** How long to wait before an erasure that was cut off begins again. */
  readonly againMs: number
}

export const defaultEraserLimits: EraserLimits = { retentionMs: null, againMs: 1000 }
