import { type Command, type CommandOf, canonicalJson, contentGiven, isDeeperThan } from "@reins/events"
import { type LogRecord, partitionOf } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import type { Hearing, SessionDraft, View } from "@reins/runtime"
import { type Call, heard, holdOf, type Refusal, refusalOf, type Session, sha256Hex } from "@reins/session"
import { intakeLimits } from "./config.ts"
import { firstIssue, forwardedHeaders, type Read, type ReadCommand, readCommand } from "./read-command.ts"
import { resolveAgent, resolveTools } from "./resolve-agent.ts"

/**
 * Judges one command. A bad one is answered by `command.rejected` that its sender finds by commandId, or by a dead letter where nobody
 * can be answered; a repeated commandId has no second effect; a command on another session's partition is sent on unchanged.
 */
export function hear(
  record: LogRecord,
  viewOf: (sessionId: string) => View,
  context: { readonly codec: Codec; readonly partitions: number; readonly contentMax?: number },
): Hearing {
  const read = readCommand(context.codec, record)
  if ("unreadable" in read) return { judged: "bury", reason: read.reason, message: read.unreadable }
  const home = partitionOf(read.sessionId, context.partitions)
  if (home !== record.partition) {
    const headers = { ...record.headers, [forwardedHeaders.commandId]: read.commandId, [forwardedHeaders.sessionId]: read.sessionId }
    // Unchanged, its key too: what is wrong with it is judged at home, the same wherever it stood first.
    return { judged: "forward", partition: home, headers, key: record.key ?? read.sessionId }
  }
  const view = viewOf(read.sessionId)
  if (heard(view.session.commands, read.commandId)) return { judged: "known" }
  const command = { partition: record.partition, offset: record.offset }
  const answer = (event: SessionDraft): Hearing => ({
    judged: "answer",
    sessionId: read.sessionId,
    tenant: tenantOf(read, view),
    traceparent: traceparentOf(record),
    event,
  })
  const reject = (commandType: string, code: string, message: string): Hearing =>
    answer({ type: "command.rejected", commandId: read.commandId, command, commandType, code, message: message.slice(0, 4000) })
  if ("rejected" in read) return reject(read.commandType, read.code, read.rejected)
  const judged = judge(read, view, context.contentMax ?? intakeLimits.contentMax)
  if (!("type" in judged)) return reject(read.command.type, judged.code, judged.message)
  return answer({ ...judged, commandId: read.commandId, command } as SessionDraft)
}

/** Of the session; of one that is to be, as whoever starts it says. */
function tenantOf(read: Read, { session }: View): string {
  if (session.phase !== "absent") return session.tenant
  return "command" in read && read.command.type === "session.start" ? (read.command.tenant ?? "default") : "default"
}

type WithoutCommand<D> = D extends unknown ? Omit<D, "commandId" | "command"> : never
/** The fact that a command becomes, or why it is refused. */
type Judged = Refusal | WithoutCommand<SessionDraft>

function judge({ command, sessionId }: ReadCommand, view: View, contentMax: number): Judged {
  const { session } = view
  const refusal =
    refusalWhileUnread(view, sessionId, command.type) ??
    refusalOf(session, sessionId, command) ??
    refusalWhileParking(view, sessionId, command)
  if (refusal !== null) return refusal
  switch (command.type) {
    case "session.start":
      return started(command, view, contentMax)
    case "message.send": {
      const said = content(command.content, "content", contentMax)
      return typeof said === "string" ? { type: "message.received", content: said } : said
    }
    case "session.interrupt":
      return { type: "interrupt.received" }
    case "approval.give": {
      const [call, causedBy] = openCall(session, command.toolUseId)
      const { toolUseId, decision } = command
      return {
        type: "approval.given",
        toolUseId,
        decision,
        message: command.message ?? null,
        argumentsHash: sha256Hex(call?.input ?? ""),
        causedBy,
      }
    }
    case "result.give": {
      const { toolUseId } = command
      const given = command.content ?? null
      const said = given === null ? "[]" : content(given, "content", contentMax)
      if (typeof said !== "string") return said
      return {
        type: "result.received",
        toolUseId,
        content: said,
        isError: command.isError ?? false,
        causedBy: openCall(session, toolUseId)[1],
      }
    }
    case "session.update":
      return updated(command, view)
    case "session.end":
      return { type: "session.ended" }
    case "session.archive":
      return { type: "session.archived" }
    case "session.delete":
      return { type: "session.deleted" }
    case "session.resume":
      return { type: "session.resumed" }
    default:
      return command satisfies never
  }
}

/** What can be asked of a session whatever it does. */
const askedOfAny: ReadonlySet<Command["type"]> = new Set(["message.send", "session.interrupt", "session.end"])

/**
 * Of a session that is not known whole nobody can say what it does. It is about to be parked; once that stands it is known to rest. Its park
 * may be lost, which is only decided, where what is asked here is said until it stands.
 */
function refusalWhileUnread({ session, settled, unread }: View, sessionId: string, asked: Command["type"]): Refusal | null {
  const rests = session.phase === "parked" && settled.phase === "parked"
  if (!unread || rests || session.phase === "ended" || session.phase === "deleted") return null
  if (askedOfAny.has(asked) && session.phase !== "absent") return null
  return {
    code: "session_unread",
    message: `Something of the session ${sessionId} cannot be read, as its blob is missing or damaged (reins sessions show ${sessionId}). Put the blob back, or interrupt the session, then ask again.`,
  }
}

/** For the same reason what may run beside a park that does not stand yet is not closed for good. */
function refusalWhileParking({ session, settled }: View, sessionId: string, command: Command): Refusal | null {
  const closes = command.type === "session.archive" || command.type === "session.delete"
  return closes && session.phase === "parked" && settled.phase !== "parked" ? refusalOf(settled, sessionId, command) : null
}

/** A call that can be answered, and the record that the answer follows from. */
function openCall(session: Session, toolUseId: string): readonly [Call | undefined, string | null] {
  if (session.phase !== "awaiting-tools") return [undefined, null]
  const call = session.calls.find((one) => one.toolUseId === toolUseId)
  return [call, call === undefined ? null : holdOf(session, call)]
}

function started(command: CommandOf<"session.start">, view: View, contentMax: number): Judged {
  let resolved: ReturnType<typeof resolveAgent>
  try {
    resolved = resolveAgent(command.agent, view)
  } catch (error) {
    return { code: "invalid_agent", message: `agent: ${(error as Error).message}` }
  }
  if ("code" in resolved) return resolved
  const beside = Buffer.byteLength(command.profile ?? "") + Buffer.byteLength(command.metadata ?? "")
  const bytes = Buffer.byteLength(JSON.stringify(resolved.agent)) + beside
  if (bytes > intakeLimits.agentMax)
    return {
      code: "agent_too_large",
      message: `/agent: ${bytes} bytes with all its tools, profile and metadata; at most ${intakeLimits.agentMax} fit.`,
    }
  const input = command.input === undefined || command.input === null ? null : content(command.input, "input", contentMax)
  if (input !== null && typeof input !== "string") return input
  const metadata = jsonObject(command.metadata, "metadata")
  if (typeof metadata === "object" && metadata !== null) return metadata
  const profile = jsonObject(command.profile, "profile")
  if (typeof profile === "object" && profile !== null) return profile
  const { title = null, environmentId = null } = command
  return {
    type: "session.started",
    agent: resolved.agent,
    input,
    title: title?.toWellFormed() ?? null,
    metadata,
    environmentId: environmentId?.toWellFormed() ?? null,
    profile,
  }
}

function updated(command: CommandOf<"session.update">, view: View): Judged {
  const changes = jsonObject(command.changes ?? "{}", "changes")
  if (typeof changes === "object") return changes ?? { code: "invalid_command", message: "/changes: must be a JSON object." }
  if ((command.agent ?? null) === null) return { type: "session.updated", changes, tools: null }
  let tools: ReturnType<typeof resolveTools>
  try {
    tools = resolveTools(command.agent as string, view)
  } catch (error) {
    return { code: "invalid_agent", message: `agent: ${(error as Error).message}` }
  }
  if ("code" in tools) return tools
  const text = canonicalJson(tools.tools)
  if (Buffer.byteLength(text) + Buffer.byteLength(changes) > intakeLimits.agentMax)
    return { code: "agent_too_large", message: `/agent: more than the ${intakeLimits.agentMax} bytes that fit.` }
  return { type: "session.updated", changes, tools: text }
}

/** A JSON object as canonical text; null where nothing is given; or what is wrong with it. */
function jsonObject(json: string | null | undefined, field: string): string | null | Refusal {
  if (json === undefined || json === null) return null
  const invalid = (what: string): Refusal => ({ code: "invalid_command", message: `/${field}: ${what}.` })
  if (Buffer.byteLength(json) > intakeLimits.agentMax) return invalid(`at most ${intakeLimits.agentMax} bytes fit`)
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    return invalid(`not JSON: ${(error as Error).message}`)
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return invalid("must be a JSON object")
  if (isDeeperThan(value, intakeLimits.depthMax)) return invalid(`nests deeper than ${intakeLimits.depthMax}`)
  return canonicalJson(value)
}

/** Content as a JSON array of blocks, canonical; or what is wrong with it. */
function content(json: string, field: string, bytesMax: number): string | Refusal {
  const bytes = Buffer.byteLength(json)
  if (bytes > bytesMax) {
    const where = bytesMax === intakeLimits.contentMax ? " into one record; a blob store takes more (REINS_BLOBS)" : ""
    return { code: "content_too_large", message: `/${field}: ${bytes} bytes; at most ${bytesMax} fit${where}.` }
  }
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    return { code: "invalid_command", message: `/${field}: not JSON: ${(error as Error).message}` }
  }
  if (isDeeperThan(value, intakeLimits.depthMax))
    return { code: "invalid_command", message: `/${field}: nests deeper than ${intakeLimits.depthMax}.` }
  const parsed = contentGiven.safeParse(value)
  if (!parsed.success) return { code: "invalid_command", message: `/${field}${firstIssue(parsed.error)}` }
  return canonicalJson(typeof parsed.data === "string" ? [{ type: "text", text: parsed.data }] : parsed.data)
}

/** W3C Trace Context of the sender, where it is well formed; anything else is ignored. */
function traceparentOf(record: LogRecord): string | null {
  const given = record.headers["traceparent"]
  return given !== undefined && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(given) ? given : null
}
