import type { HeldReason } from "@reins/events"

// What a person is shown of a session and of a record, beyond what the API tells: said by the gateway under /reins/v1, read by the console.

/** Where a session is, in one word for a person: `waiting` and `parked` are both `idle` to the API. */
export const states = ["running", "rescheduling", "waiting", "idle", "parked", "ended"] as const
export type State = (typeof states)[number]

/** A call that waits for someone, with exactly what it would do. */
export interface Waiting {
  /** The event that shows the call: what a confirmation or a result refers to. */
  readonly event_id: string
  readonly tool: string
  readonly reason: HeldReason
  /** Canonical JSON: the very bytes that the hash is of. */
  readonly arguments: string
  readonly arguments_sha256: string
  readonly message: string | null
}

/** A session as a console shows it: the API's resource, and what the API keeps in other places or does not tell. */
export interface Overview<Resource> {
  readonly type: "session_overview"
  readonly session: Resource
  readonly state: State
  /** Why it stands still, where it does. */
  readonly reason: string | null
  readonly waiting_for: readonly Waiting[]
  readonly turns: number
  readonly tool_calls: number
  /** How the first message begins; null where there is none. */
  readonly excerpt: string | null
  /** Where its log is. */
  readonly topic: string
  readonly partition: number
}

/** A record as it stands in the log, and what can be made of it. */
export interface RawRecord {
  readonly type: "record"
  /** The kind of log: with `kafka`, other clients can fetch it too. */
  readonly log: "memory" | "sqlite" | "kafka"
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: string
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly session_id: string
  readonly encoding: "avro" | "json" | "none"
  /** Of the registry; null where the value is no Avro. */
  readonly schema_id: number | null
  /** What it says; null where nobody can read it, and `problem` tells why. */
  readonly value: Readonly<Record<string, unknown>> | null
  readonly problem: string | null
  readonly value_base64: string | null
  readonly value_bytes: number
  /** `accepted` where events of the API were made of it; null where only a replay can tell. */
  readonly verdict: "accepted" | null
}
