export interface RouterLimits {
  /** Attempts at one call that may fail before the model is told. */
  readonly failuresMax: number
  /** Longest result that goes to the model, in characters of JSON. A record stays below the broker's limit of 1 MiB. */
  readonly resultMax: number
}

export const defaultRouterLimits: RouterLimits = { failuresMax: 3, resultMax: 256 * 1024 }

/** Longest result where a blob store takes what a record cannot hold: pictures and documents, which a request to the model has room for four of. */
export const resultMaxWithBlobs: number = 8 * 1024 * 1024
