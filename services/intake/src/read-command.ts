import { type Command, commands, type Definition, isDeeperThan, jsonFields } from "@reins/events"
import { asideOf, type LogRecord } from "@reins/log"
import { type Codec, isJson } from "@reins/log/codec"
import type { z } from "zod"
import { intakeLimits } from "./config.ts"

/** A command as it was said, with its ids as given or as they follow from where it stood first. */
export interface ReadCommand {
  readonly command: Command
  readonly commandId: string
  readonly sessionId: string
}

export type Read =
  | ReadCommand
  /** The sender can be answered: who and about which session is known. */
  | {
      readonly rejected: string
      readonly code: string
      readonly commandId: string
      readonly sessionId: string
      readonly commandType: string
    }
  /** Nobody to answer. */
  | { readonly unreadable: string; readonly reason: string }

/** Headers that a forwarded command carries, so that its ids stay those of the place where it stood first. */
export const forwardedHeaders = { commandId: "reins-command-id", sessionId: "reins-session-id" } as const

const idPattern = /^[\x21-\x7e]{1,200}$/

/** Reads a record of `commands`: Avro, or JSON as anyone can type it. Never throws. */
export function readCommand(codec: Codec, record: LogRecord): Read {
  if (record.value === null) return { unreadable: "A command has a value; this record has none.", reason: "null_value" }
  const json = isJson(record.value)
  const said = json ? readJson(record.value) : readAvro(codec, record.value)
  if ("unreadable" in said) return { unreadable: String(said["unreadable"]), reason: String(said["reason"]) }
  const place = `${record.topic}-${record.partition}-${record.offset}`.replace(/[^\x21-\x7e]/g, "_")
  const commandId = text(said["commandId"]) ?? record.headers[forwardedHeaders.commandId] ?? `cmd_${place}`
  const given = text(said["sessionId"]) ?? record.headers[forwardedHeaders.sessionId] ?? text(record.key)
  const isStart = said["type"] === "session.start"
  const sessionId = given ?? (isStart ? `sesn_${place}` : null)
  const commandType = text(said["type"]) ?? "unknown"
  if (sessionId === null || !idPattern.test(sessionId)) {
    return {
      unreadable: `A ${commandType} needs a sessionId of 1 to 200 printable ASCII characters without spaces, in the value or as the record's key.`,
      reason: "no_session_id",
    }
  }
  const reject = (code: string, rejected: string): Read => ({
    rejected,
    code,
    commandId: commandId.slice(0, 200),
    sessionId,
    commandType: commandType.slice(0, 100),
  })
  for (const name of ["commandId", "sessionId"])
    if (said[name] !== undefined && said[name] !== null && typeof said[name] !== "string")
      return reject("invalid_command", `/${name}: must be a string.`)
  if (!idPattern.test(commandId)) return reject("invalid_command", "/commandId: must be 1 to 200 printable ASCII characters without spaces")
  if (record.key !== null && said["sessionId"] !== undefined && said["sessionId"] !== null && record.key !== sessionId) {
    return reject(
      "key_mismatch",
      `The record's key ${JSON.stringify(record.key)} is not the sessionId ${JSON.stringify(sessionId)}. Use the sessionId as the key.`,
    )
  }
  const aside = asideOf(record)
  // Nobody waits for it to come back: the sender is told, and may say it again under another id.
  if (aside !== null && "fault" in aside) return reject(aside.fault, aside.message)
  const definition = (commands as unknown as readonly Definition[]).find((one) => one.type === said["type"])
  if (definition === undefined) {
    return reject(
      "unknown_command",
      `There is no command ${JSON.stringify(said["type"] ?? null)}. There are: ${commands.map((one) => one.type).join(", ")}.`,
    )
  }
  const fields: Record<string, unknown> = { ...said, commandId, sessionId }
  if (aside !== null) {
    const strange = Object.keys(aside.texts).find((name) => !jsonFields(definition).has(name))
    if (strange !== undefined) return reject("invalid_command", `/${strange}: is no field of ${definition.type} that can stand in a blob.`)
    if (record.headers["session"] !== sessionId)
      return reject("invalid_command", "/sessionId: is another than that of the header, whose blobs it names.")
  }
  if (json) {
    for (const name of ["agent", "input", "content", "metadata", "profile", "changes"]) {
      if (fields[name] === undefined || fields[name] === null) continue
      if (isDeeperThan(fields[name], intakeLimits.depthMax))
        return reject("invalid_command", `/${name}: nests deeper than ${intakeLimits.depthMax}.`)
      fields[name] = JSON.stringify(fields[name])
    }
  }
  Object.assign(fields, aside?.texts)
  const parsed = definition.schema.safeParse(fields)
  if (!parsed.success) return reject("invalid_command", firstIssue(parsed.error))
  return { command: { ...parsed.data, type: definition.type } as unknown as Command, commandId, sessionId }
}

/** The first thing that is wrong, with a JSON pointer to it. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  return issue === undefined ? "invalid" : `/${issue.path.join("/")}: ${issue.message}`
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null
}

function readJson(value: Uint8Array): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(value))
    return parsed as Record<string, unknown>
  } catch (error) {
    return { unreadable: `The value begins like JSON and is none: ${(error as Error).message}`, reason: "undecodable" }
  }
}

function readAvro(codec: Codec, value: Uint8Array): Record<string, unknown> {
  const decoded = codec.decode(value)
  if (decoded.ok) {
    if (decoded.definition.family !== "commands")
      return { unreadable: `${decoded.definition.recordName} is no command.`, reason: "wrong_topic" }
    return decoded.said
  }
  if ("unknownSchema" in decoded)
    return { unreadable: `This process has not met schema ${decoded.unknownSchema}.`, reason: "unknown_schema" }
  return { unreadable: decoded.message, reason: decoded.reason }
}
