import { AppendRejectedError, type Log, partitionOf } from "@reins/log"
import { base58Of } from "../http/base58.ts"
import { ApiError, type ErrorType, unavailable } from "../http/errors.ts"
import { retriedWithinMs } from "../http/idempotency.ts"
import type { Projection } from "../projection/projection.ts"
import type { Answer } from "../projection/store.ts"

/** A command as anyone may publish it. */
export interface Command {
  readonly type: string
  readonly commandId: string
  readonly sessionId: string
  readonly [field: string]: unknown
}

export interface CommandsOptions {
  readonly log: Log
  readonly topic: string
  readonly partitions: number
  readonly projection: Projection
  /** How long a request waits for the answer to its commands. */
  readonly answerTimeoutMs: number
}

/** How far back a retry looks for the command of its first try, in records of a partition. */
const tailRecords = 5000

/** The one way in: publishes commands as any client of Kafka would, and waits for what they came to. Never writes to `sessions`. */
export class Commands {
  readonly #options: CommandsOptions

  constructor(options: CommandsOptions) {
    this.#options = options
  }

  /**
   * Publishes these, in their order, and resolves with what each came to. Throws 503 where the log cannot be reached or nobody answers in
   * time: whether they were heard is then not known, and a retry of the same request finds out. The caller's trace goes on in what follows.
   */
  async send(commands: readonly Command[], traceparent?: string): Promise<readonly Answer[]> {
    const { log, topic, partitions, projection, answerTimeoutMs } = this.#options
    const signal = AbortSignal.timeout(answerTimeoutMs)
    const answered = commands.map(({ sessionId, commandId }) => projection.answered(sessionId, commandId, signal))
    for (const one of answered) one.catch(() => undefined)
    const published = commands.map((command) =>
      log.append({
        topic,
        partition: partitionOf(command.sessionId, partitions),
        key: () => command.sessionId,
        value: Buffer.from(JSON.stringify(command)),
        headers: {
          type: command.type,
          session: command.sessionId,
          command: command.commandId,
          ...(traceparent === undefined ? {} : { traceparent }),
        },
        certainty: "once",
      }),
    )
    const places = await Promise.allSettled(published)
    for (const place of places) {
      if (place.status === "rejected" && place.reason instanceof AppendRejectedError)
        throw new ApiError(413, "request_too_large", `The log does not take this: ${place.reason.message}`)
    }
    try {
      // Where an append's outcome is unknown, the answer tells: it may have landed all the same.
      return await Promise.all(answered)
    } catch {
      throw unavailable("Nobody has answered yet. The request may still be carried out; the same request sent again has no second effect.")
    }
  }

  /** The command id that an earlier try of the same request was published under, in the last two minutes; `unjudged`: also one that nobody has answered yet. */
  async findRecent(prefix: string, now: number, unjudged: boolean): Promise<string | null> {
    const { log, topic, projection } = this.#options
    await projection.caughtUp()
    const known = projection.recentCommand(prefix, now)
    if (known !== null || !unjudged) return known
    // Published and not yet judged: it stands at the end of the commands.
    for (const { partition, start, end } of await log.bounds(topic)) {
      for await (const records of log.replay(topic, partition, Math.max(start, end - tailRecords), undefined, { bare: true })) {
        for (const { headers, timestamp } of records) {
          const id = headers["command"]
          if (id?.startsWith(prefix) === true && timestamp >= now - retriedWithinMs) return id
        }
      }
    }
    return null
  }
}

/** Codes of refusals, by the status that says the same. */
const statuses: Readonly<Record<string, readonly [number, ErrorType]>> = {
  session_unknown: [404, "not_found_error"],
  session_deleted: [404, "not_found_error"],
  session_ended: [409, "invalid_request_error"],
  session_exists: [409, "invalid_request_error"],
  session_not_idle: [409, "invalid_request_error"],
  session_parked: [409, "invalid_request_error"],
  session_unread: [409, "invalid_request_error"],
  content_too_large: [413, "request_too_large"],
  agent_too_large: [413, "request_too_large"],
  refused_by_log: [413, "request_too_large"],
  command_overtaken: [409, "invalid_request_error"],
}

/** A refusal of intake as an error of the API. */
export function refused({ code, message }: { readonly code: string; readonly message: string }): ApiError {
  const [status, type] = statuses[code] ?? [400, "invalid_request_error" as const]
  const surfaces = status === 409 ? { headers: { "x-should-retry": "false" } } : {}
  return new ApiError(status, type, message, { details: { error_code: code }, ...surfaces })
}

/** Follows from the request's id, so that a retry starts no second session. */
export function sessionIdOf(requestId: string): string {
  return `sesn_${base58Of(requestId)}`
}
