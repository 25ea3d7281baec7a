import type { Usage } from "@reins/events"

/** A part of a block as it is written. Of thinking only that it began: then `text` is empty. */
export type OnDelta = (block: number, kind: "text" | "thinking", text: string) => void

export interface ModelRequest {
  /** The exact bytes to send. */
  readonly body: string
  readonly sessionId: string
  readonly signal: AbortSignal
  readonly timeoutMs: number
  /** Where someone may want to look on. Called in the order of the stream and never after the answer; it must not throw. */
  readonly onDelta?: OnDelta
}

/** A whole answer: nothing of a stream that broke off ever becomes one. */
export interface ModelAnswer {
  /** The content array as JSON text. */
  readonly content: string
  /** The rest of the message as JSON text. */
  readonly message: string
  readonly model: string
  readonly stopReason: string | null
  readonly usage: Usage
  readonly requestId: string | null
}

/** Why there is no answer. */
export interface ModelFault {
  readonly fault: {
    readonly kind: string
    readonly status: number | null
    readonly message: string
    readonly retryable: boolean
    /** What the provider asked for; null: ours to choose. */
    readonly retryAfterMs: number | null
    readonly requestId: string | null
  }
}

/** The port to a model. It never throws: a failure is a fact. */
export interface Model {
  /** For metrics: who answers. */
  readonly provider: string
  ask(request: ModelRequest): Promise<ModelAnswer | ModelFault>
}
