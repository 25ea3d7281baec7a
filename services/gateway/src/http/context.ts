import type { HttpBindings } from "@hono/node-server"
import type { TopicNames } from "@reins/events"
import type { Log } from "@reins/log"
import type { Logger } from "pino"
import type { Directory } from "../directory/directory.ts"
import type { InFlight } from "./idempotency.ts"

/** What every route may use. */
export interface GatewayContext {
  readonly log: Log
  readonly topics: TopicNames
  readonly logger: Logger
  readonly directory: Directory
  readonly inFlight: InFlight
  /** `service@instance`, for the facts that the gateway says. */
  readonly by: string
  now(): number
  /** Whether a session of this environment exists. */
  hasSessionOf(environmentId: string): Promise<boolean>
}

/** What the middleware has found out by the time a route runs. */
export interface Env {
  readonly Bindings: HttpBindings
  readonly Variables: {
    readonly requestId: string
    readonly tenant: string
    /** Which key it is, never the key. */
    readonly credential: string
    readonly body: unknown
    readonly rawBody: Uint8Array
  }
}
