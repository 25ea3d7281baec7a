import { LogUnavailableError, TopicMismatchError } from "../log.ts"
import { asError, brokerErrorType, type Connections, type Link } from "./client.ts"

const patienceMs = 5000
const backoffMaxMs = 500

/** What a broker says when it cannot answer yet: another one leads now, or this one does not know of it yet. */
const notYet: ReadonlySet<string> = new Set([
  "UNKNOWN_TOPIC_OR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "REPLICA_NOT_AVAILABLE",
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "REQUEST_TIMED_OUT",
  "NOT_CONTROLLER",
  "NODE_UNREACHABLE",
])

/** Something that is not so yet. It counts as an answer, so that the connections stay. */
export class NotYetError extends Error {
  readonly type = "LEADER_NOT_AVAILABLE"
}

/** Asks a question that may be asked again, for a few seconds. What the brokers refuse or do not answer becomes an error of the port. */
export async function ask<T>(link: Link, place: string, question: (connections: Connections) => Promise<T>): Promise<T> {
  const deadline = performance.now() + patienceMs
  for (let backoffMs = 20; ; backoffMs = Math.min(backoffMaxMs, backoffMs * 2)) {
    try {
      return await link.use(question)
    } catch (error) {
      if (error instanceof TopicMismatchError || error instanceof TypeError || error instanceof RangeError || link.closed) throw error
      const type = brokerErrorType(error)
      if (type !== undefined && !notYet.has(type)) {
        if (error instanceof LogUnavailableError) throw error
        throw new LogUnavailableError(`${place} refused: ${asError(error).message}.`, { cause: error })
      }
      if (performance.now() > deadline) {
        if (error instanceof LogUnavailableError) throw error
        throw new LogUnavailableError(`${place} did not answer: ${asError(error).message}.`, { cause: error })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, backoffMs))
    await link.use((connections) => connections.refresh([])).catch(() => undefined)
  }
}
