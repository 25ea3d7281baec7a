import { AppendRejectedError, AppendWithdrawnError, type Certainty, type Log, type LogRecord } from "@reins/log"
import type { Logger } from "pino"
import type { Metrics } from "./metrics.ts"
import type { OwnedPartition } from "./owned-partition.ts"
import type { AnyService, Draft, Hearing, View } from "./service.ts"
import type { Origin } from "./speaker.ts"

/** What judging commands needs of the loop. */
export interface CommandDesk {
  readonly log: Log
  readonly metrics: Metrics
  readonly logger: Logger
  /** Whether all is read that stood in `sessions` when this command was read; if not, commands are heard again once it may be. */
  hasReadWhatStood(owned: OwnedPartition, command: LogRecord): boolean
  view(owned: OwnedPartition, sessionId: string, service: AnyService): View
  append(owned: OwnedPartition, sessionId: string, key: string, draft: Draft, origin: Origin, certainty: Certainty): Promise<void>
  bury(owned: OwnedPartition, record: LogRecord, service: string, reason: string, message: string): void
}

/**
 * Has the commands that wait in a partition judged, in their order, and follows up on each. One is refused only once all is read that stood
 * when it was read: its sender may know more than whoever judges it. Those behind it wait with it.
 */
export function hearCommands(desk: CommandDesk, owned: OwnedPartition, service: AnyService | undefined): void {
  let heard = 0
  for (const record of owned.commands) {
    if (service?.hear !== undefined) {
      const hearing = judged(desk, owned, record, service.hear, service)
      if (isRefusal(hearing) && !desk.hasReadWhatStood(owned, record)) break
      followUp(desk, owned, record, hearing, service)
    }
    heard++
  }
  owned.commands.splice(0, heard)
}

function isRefusal(hearing: Hearing): boolean {
  return hearing.judged === "answer" && hearing.event.type === "command.rejected"
}

function followUp(desk: CommandDesk, owned: OwnedPartition, record: LogRecord, hearing: Hearing, service: AnyService): void {
  // Newer commands may be answered before an older one is sent on or buried, so only an answer can be behind the newest.
  const isBehind = record.offset <= (owned.sessions.commandOffsets.get(owned.number) ?? -1)
  if (isBehind && hearing.judged === "answer") return
  switch (hearing.judged) {
    case "known":
      break
    case "bury":
      desk.metrics.deadLetters.inc({ service: service.name, reason: hearing.reason })
      if (record.offset >= (owned.buriedTo.get(record.topic) ?? 0)) desk.bury(owned, record, service.name, hearing.reason, hearing.message)
      break
    case "forward":
      awaitAnswer(
        desk,
        owned,
        record.offset,
        desk.log.append({
          topic: record.topic,
          partition: hearing.partition,
          key: () => hearing.key,
          value: record.value,
          headers: hearing.headers,
          // It goes to another partition, whose loss must not take it back; sent twice it does no harm.
          certainty: "always",
        }),
      )
      break
    case "answer":
      awaitAnswer(desk, owned, record.offset, answer(desk, owned, record, hearing, service))
      owned.dirty.add(hearing.sessionId)
      break
    default:
      hearing satisfies never
  }
}

/** A judgement that throws concerns one command: nobody could read it, and its partition goes on (P8). */
function judged(
  desk: CommandDesk,
  owned: OwnedPartition,
  record: LogRecord,
  hear: NonNullable<AnyService["hear"]>,
  service: AnyService,
): Hearing {
  try {
    return hear(record, (sessionId) => desk.view(owned, sessionId, service))
  } catch (error) {
    desk.logger.error({ err: error, offset: record.offset }, "Judging a command threw.")
    return { judged: "bury", reason: "judging_failed", message: `The command could not be judged: ${(error as Error).message}` }
  }
}

/** Appends what a command became; where the log does not take it, its sender is told so, as of any other command that cannot be done. */
async function answer(
  desk: CommandDesk,
  owned: OwnedPartition,
  record: LogRecord,
  { sessionId, event, tenant, traceparent }: Extract<Hearing, { judged: "answer" }>,
  service: AnyService,
): Promise<void> {
  const origin = { tenant, traceparent, by: service.name }
  const key = `command/${record.offset}`
  try {
    await desk.append(owned, sessionId, key, { on: "sessions", event }, origin, "until-withdrawn")
  } catch (error) {
    if (!(error instanceof AppendRejectedError) || !("commandId" in event) || event.type === "command.rejected") throw error
    const rejected: Draft = {
      on: "sessions",
      event: {
        type: "command.rejected",
        commandId: event.commandId,
        command: event.command,
        commandType: record.headers["type"] ?? event.type,
        code: "refused_by_log",
        message: `The log does not take what this command becomes (${event.type}): ${error.message}`.slice(0, 4000),
      },
    }
    await desk.append(owned, sessionId, `${key}/rejected`, rejected, origin, "until-withdrawn")
  }
}

/** Until its answer stands, a command is not dealt with: the committed offset stays below it. */
function awaitAnswer({ logger }: CommandDesk, owned: OwnedPartition, offset: number, placed: Promise<unknown>): void {
  owned.answering.add(offset)
  placed.then(
    () => owned.answering.delete(offset),
    (error: unknown) => {
      if (error instanceof AppendWithdrawnError) return
      owned.answering.delete(offset)
      logger.error({ err: error, offset }, "The answer to a command was refused by the log.")
    },
  )
}
