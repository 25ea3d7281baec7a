import { type BodyLimits, defaultBodyLimits } from "./http/body.ts"

/** Limits of the gateway, each with its reason. */
export interface GatewayLimits {
  /** How long a request waits for the answer to its commands: far longer than intake takes, shorter than a proxy waits. */
  readonly answerTimeoutMs: number
  /** How long the log may be silent before the gateway is not ready: as long as a member of a group counts as one without an answer. */
  readonly logSilenceMaxMs: number
  /** Requests a second per credential, and how many may be saved up: against a client that runs wild, far above one that does not. */
  readonly rate: { readonly perSecond: number; readonly burst: number }
  /** Event streams that one credential may have open at a time: against a client that opens them and lets none go. A gateway is measured with 2,000. */
  readonly streamsPerCredential: number
  readonly body: BodyLimits
}

export const defaultGatewayLimits: GatewayLimits = {
  answerTimeoutMs: 10_000,
  logSilenceMaxMs: 5000,
  rate: { perSecond: 1000, burst: 5000 },
  streamsPerCredential: 5000,
  body: defaultBodyLimits,
}
