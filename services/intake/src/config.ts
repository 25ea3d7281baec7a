/** Limits of what a command may bring, with their reasons. */
export const intakeLimits: {
  /** Longest content of one message, in bytes of JSON: with its agent, a record stays well below the broker's limit of 1 MiB. */
  readonly contentMax: number
  /** The same where a blob store takes what a record cannot hold: as much as a request of the API may have. */
  readonly contentMaxWithBlobs: number
  /** Longest agent, resolved, in bytes of JSON. */
  readonly agentMax: number
  /** Deepest JSON of a command. Nothing of use nests deeper, and without a bound the stack of whoever reads it would be one. */
  readonly depthMax: number
  /** Longest JSON text of a tool's schema: compiling costs time that grows with it. */
  readonly schemaMax: number
  readonly schemaDepthMax: number
  /** Of a tool that says nothing. */
  readonly toolTimeoutMs: number
} = {
  contentMax: 512 * 1024,
  contentMaxWithBlobs: 32 * 1024 * 1024,
  agentMax: 256 * 1024,
  depthMax: 100,
  schemaMax: 64 * 1024,
  schemaDepthMax: 32,
  toolTimeoutMs: 60_000,
}
