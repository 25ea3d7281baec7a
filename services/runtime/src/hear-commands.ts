import { AppendRejectedError, AppendWithdrawnError, type Certainty, type Log, type LogRecord, type Placed } from "@reins/log"
import type { Logger } from "pino"
import type { Metrics } from "./metrics.ts"
import type { OwnedPartition } from "./owned-partition.ts"
import type { AnyService, Draft, Hearing, SessionDraft, View } from "./service.ts"
import type { Origin } from "./speaker.ts"

type Answer = Extract<Hearing, { judged: "answer" }>
type CommandFact = Extract<SessionDraft, { readonly commandId: string }>

/** What judging commands needs of the loop. */
export interface CommandDesk {
  readonly log: Log
  readonly metrics: Metrics
  readonly logger: Logger
  /** Whether all is read that stood in `sessions` when this command was read; if not, commands are heard again once it may be. */
  hasReadWhatStood(owned: OwnedPartition, command: LogRecord): boolean
  view(owned: OwnedPartition, sessionId: string, service: AnyService): View
  /** The offset at which it stands. */
  append(owned: OwnedPartition, sessionId: string, key: string, draft: Draft, origin: Origin, certainty: Certainty): Promise<number>
  /** An answer stands that was not folded at its acknowledgement: it is yet to be read, or nobody can. */
  unfolded(owned: OwnedPartition): void
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
        record,
        null,
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
      if (mayBeAnswered(owned, record, hearing)) break
      awaitAnswer(desk, owned, record, hearing.sessionId, answer(desk, owned, record, inTime(owned, record, hearing), service))
      owned.dirty.add(hearing.sessionId)
      break
    default:
      hearing satisfies never
  }
}

/** What a deleted session had heard is forgotten: an older command of it that is read again was answered, unless it is known here that it lost. */
function mayBeAnswered(owned: OwnedPartition, record: LogRecord, { sessionId }: Answer): boolean {
  return isBehind(owned, record) && !owned.answering.hasLost(record.offset) && owned.sessions.statusOf(sessionId) === "deleted"
}

function isBehind(owned: OwnedPartition, { offset }: LogRecord): boolean {
  return offset <= (owned.sessions.commandOffsets.get(owned.number) ?? -1)
}

/**
 * The fact that a command becomes may not come behind that of a newer one (rule 15), and not a second time where it lost: the command can only
 * be refused.
 */
function inTime(owned: OwnedPartition, record: LogRecord, hearing: Answer): Answer {
  const { event } = hearing
  if (!(isBehind(owned, record) || owned.answering.hasLost(record.offset)) || event.type === "command.rejected" || !("commandId" in event))
    return hearing
  const message =
    "What this command became was overtaken by what another process had said of its session, and nothing came of it. Send it again under another commandId."
  return { ...hearing, event: rejected(record, event, "command_overtaken", message) }
}

function rejected(record: LogRecord, event: CommandFact, code: string, message: string): SessionDraft {
  const { commandId, command } = event
  const commandType = record.headers["type"] ?? event.type
  return { type: "command.rejected", commandId, command, commandType, code, message: message.slice(0, 4000) }
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
  { sessionId, event, tenant, traceparent }: Answer,
  service: AnyService,
): Promise<number> {
  const origin = { tenant, traceparent, by: service.name }
  const key = `command/${record.offset}`
  try {
    return await desk.append(owned, sessionId, key, { on: "sessions", event }, origin, "until-withdrawn")
  } catch (error) {
    if (!(error instanceof AppendRejectedError) || !("commandId" in event) || event.type === "command.rejected") throw error
    const message = `The log does not take what this command becomes (${event.type}): ${error.message}`
    const instead: Draft = { on: "sessions", event: rejected(record, event, "refused_by_log", message) }
    return await desk.append(owned, sessionId, `${key}/rejected`, instead, origin, "until-withdrawn")
  }
}

/** Until its answer is accepted, or it stands elsewhere, a command is not dealt with: the committed offset stays below it. */
function awaitAnswer(
  desk: CommandDesk,
  owned: OwnedPartition,
  record: LogRecord,
  sessionId: string | null,
  placed: Promise<number | Placed>,
): void {
  const open = owned.answering.add(record, sessionId)
  placed.then(
    (at) => {
      // What was folded at its acknowledgement, or read before it, is settled.
      if (!owned.answering.isOpen(open)) return
      if (typeof at !== "number") return owned.answering.settle(record.offset)
      open.at = at
      desk.unfolded(owned)
    },
    (error: unknown) => {
      if (error instanceof AppendWithdrawnError) return
      if (owned.answering.isOpen(open)) owned.answering.settle(record.offset)
      desk.logger.error({ err: error, offset: record.offset }, "The answer to a command was refused by the log.")
    },
  )
}
