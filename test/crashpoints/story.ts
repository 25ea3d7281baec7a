import { type TopicNames, topicNames } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"

/** From so many bytes on a field stands in the blob store here: little, so that a short story has some. */
export const fieldBytesMax = 1000

/** Sets of services that share a process. */
export type Shape = Readonly<Record<string, readonly string[]>>

/** What is told in every run, while one process dies: commands, each sent when the log has come so far. */
export interface Story {
  readonly steps: readonly Step[]
  /** Sessions that are there at the end, and those of which only `session.deleted` is to be left. */
  readonly kept: readonly string[]
  readonly deleted: readonly string[]
}

export interface Step {
  readonly command: { readonly type: string; readonly sessionId: string; readonly commandId: string; readonly [field: string]: unknown }
  /** From here on points count, unless it was from an earlier step. */
  readonly counts?: true
  /** Whether the log has come to where the next step may follow. */
  readonly done: (seen: Seen) => boolean
}

/** The session log and the snapshots since the beginning of a run, as anyone reads them. */
export class Seen {
  readonly #log: Pick<Log, "replay">
  readonly #names: TopicNames
  readonly #next = new Map<string, number>()
  readonly sessions: LogRecord[] = []
  readonly snapshots: LogRecord[] = []

  /** `from`: where the run begins. */
  constructor(log: Pick<Log, "replay">, prefix: string, from: { readonly sessions: number; readonly snapshots: number }) {
    this.#log = log
    this.#names = topicNames(prefix)
    this.#next.set(this.#names.sessions, from.sessions)
    this.#next.set(this.#names.snapshots, from.snapshots)
  }

  async look(): Promise<void> {
    for (const [topic, next] of this.#next) {
      const seen = topic === this.#names.sessions ? this.sessions : this.snapshots
      for await (const records of this.#log.replay(topic, 0, next, undefined, { bare: true })) {
        seen.push(...records)
        this.#next.set(topic, (records.at(-1)?.offset ?? next) + 1)
      }
    }
  }
}

/** The offset of a record that says the last of these after it said the others, in this order; undefined where it is not there yet. */
function said(seen: Seen, sessionId: string, ...types: readonly string[]): number | undefined {
  const left = [...types]
  return seen.sessions.find(({ headers }) => {
    if (headers["session"] === sessionId && headers["type"] === left[0]) left.shift()
    return left.length === 0
  })?.offset
}

/** The session has said these, in this order. */
export function says(sessionId: string, ...types: readonly string[]): Step["done"] {
  return (seen) => said(seen, sessionId, ...types) !== undefined
}

/** The session has said these, and a snapshot holds the last of them. */
export function rests(sessionId: string, ...types: readonly string[]): Step["done"] {
  return (seen) => {
    const offset = said(seen, sessionId, ...types)
    return (
      offset !== undefined &&
      seen.snapshots.some(({ key, value, headers }) => key === sessionId && value !== null && Number(headers["offset"]) >= offset)
    )
  }
}

/** Nothing of the session stands without a tombstone but that it was deleted, and its snapshot says no more. */
export function isErased(sessionId: string): Step["done"] {
  return (seen) => {
    const tombstoned = new Set(seen.sessions.flatMap(({ key, value }) => (value === null ? [key] : [])))
    const left = seen.sessions.filter(
      ({ key, value, headers }) => value !== null && headers["session"] === sessionId && !tombstoned.has(key),
    )
    const snapshot = seen.snapshots.findLast(({ key }) => key === sessionId)
    return left.length > 0 && left.every(isDeletion) && snapshot?.headers["status"] === "deleted"
  }
}

export function isDeletion({ headers }: Pick<LogRecord, "headers">): boolean {
  return headers["type"] === "session.deleted"
}

/** What a log has of a story once its cleaner and its retention have been everywhere: no tombstones, and nothing that is to go. */
export function cleaned(log: Pick<Log, "describeTopics" | "replay">, prefix: string, story: Story): Pick<Log, "describeTopics" | "replay"> {
  const { sessions } = topicNames(prefix)
  const stays = (topic: string, sessionId = ""): boolean =>
    story.kept.includes(sessionId) || (topic === sessions && story.deleted.includes(sessionId))
  return {
    describeTopics: () => log.describeTopics(),
    async *replay(topic, ...where) {
      const gone = new Set<string | null>()
      for await (const records of log.replay(topic, ...where)) for (const { key, value } of records) if (value === null) gone.add(key)
      for await (const records of log.replay(topic, ...where))
        yield records.filter(({ key, headers }) => !gone.has(key) && stays(topic, headers["session"]))
    },
  }
}
