/** From when to when, both inclusive, in milliseconds since the epoch. */
export interface TimeRange {
  readonly from: number
  readonly to: number
}

export const anyTime: TimeRange = { from: Number.MIN_SAFE_INTEGER, to: Number.MAX_SAFE_INTEGER }
