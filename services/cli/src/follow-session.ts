import { topicNames } from "@reins/events"
import { type Config, newInstance, type OpenLog, type ReadRecord, SessionReader } from "@reins/runtime"
import type { Session } from "@reins/session"
import { CliError } from "./fail.ts"
import { endsOf } from "./open.ts"

export interface FollowedSession {
  /** As the records told so far leave it. */
  readonly session: Session
  stop(): Promise<void>
}

export interface Told {
  /** What stood before the following began. */
  before?(record: ReadRecord): void
  record(record: ReadRecord, session: Session): void
  failed(error: Error): void
}

/** Follows the session log of one session from what stands now. What was said before is folded first: the verdicts of what follows depend on it. */
export async function followSession({ log, codec }: OpenLog, config: Config, sessionId: string, told: Told): Promise<FollowedSession> {
  const names = topicNames(config.prefix)
  const reader = await SessionReader.open(log, codec, config.prefix, sessionId)
  if (reader === null)
    throw new CliError(2, `There are no topics under the prefix ${config.prefix}. Create them with \`reins topics apply\`.`)
  const end = await endsOf(log, [names.sessions])
  for (const record of await reader.read({ tools: false })) told.before?.(record)
  const following = await log.follow({
    instance: newInstance("cli"),
    topics: [names.sessions],
    from: (topic, partition) => (partition === reader.partition ? (reader.next.get(topic) ?? 0) : end(topic, partition)),
    records: async (_topic, partition, records) => {
      if (partition !== reader.partition) return
      for (const record of records) {
        const read = await reader.fold(record)
        if (read !== null) told.record(read, reader.session)
      }
    },
    failed: told.failed,
  })
  return {
    get session() {
      return reader.session
    },
    stop: () => following.stop(),
  }
}
