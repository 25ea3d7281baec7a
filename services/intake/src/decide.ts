import { canonicalJson, contentGiven, isDeeperThan } from "@reins/events"
import { type LogRecord, partitionOf } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import type { Hearing, SessionDraft, View } from "@reins/runtime"
import { heard } from "@reins/session"
import { intakeLimits } from "./config.ts"
import { firstIssue, forwardedHeaders, type ReadCommand, readCommand } from "./read-command.ts"
import { resolveAgent } from "./resolve-agent.ts"

/**
 * Judges one command. A bad one is answered by `command.rejected` that its sender finds by commandId, or by a dead letter where nobody
 * can be answered; a repeated commandId has no second effect; a command on another session's partition is sent on unchanged.
 */
export function hear(
  record: LogRecord,
  viewOf: (sessionId: string) => View,
  context: { readonly codec: Codec; readonly partitions: number },
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
    tenant: view.session.phase === "absent" ? "default" : view.session.tenant,
    traceparent: traceparentOf(record),
    event,
  })
  const reject = (commandType: string, code: string, message: string): Hearing =>
    answer({ type: "command.rejected", commandId: read.commandId, command, commandType, code, message: message.slice(0, 4000) })
  if ("rejected" in read) return reject(read.commandType, read.code, read.rejected)
  const judged = judge(read, view)
  if (!("type" in judged)) return reject(read.command.type, judged.code, judged.message)
  return answer({ ...judged, commandId: read.commandId, command } as SessionDraft)
}

type WithoutCommand<D> = D extends unknown ? Omit<D, "commandId" | "command"> : never
/** The fact that a command becomes, or why it is refused. */
type Judged = { readonly code: string; readonly message: string } | WithoutCommand<SessionDraft>

function judge({ command, sessionId }: ReadCommand, view: View): Judged {
  const { session } = view
  if (command.type === "session.start") {
    if (session.phase !== "absent")
      return { code: "session_exists", message: `There is a session ${sessionId} already. Choose another sessionId, or leave it out.` }
    let resolved: ReturnType<typeof resolveAgent>
    try {
      resolved = resolveAgent(command.agent, (backend, tool) => view.declaration(backend, tool))
    } catch (error) {
      return { code: "invalid_agent", message: `agent: ${(error as Error).message}` }
    }
    if ("code" in resolved) return resolved
    const bytes = Buffer.byteLength(JSON.stringify(resolved.agent))
    if (bytes > intakeLimits.agentMax)
      return { code: "agent_too_large", message: `/agent: ${bytes} bytes with all its tools; at most ${intakeLimits.agentMax} fit.` }
    const input = command.input === undefined || command.input === null ? null : content(command.input, "input")
    if (input !== null && typeof input !== "string") return input
    return { type: "session.started", agent: resolved.agent, input }
  }
  if (session.phase === "absent")
    return { code: "session_unknown", message: `There is no session ${sessionId}. Start it with session.start, or check the id.` }
  if (session.phase === "ended")
    return { code: "session_ended", message: `The session ${sessionId} has ended; nothing more happens in it. Start a new one.` }
  switch (command.type) {
    case "message.send": {
      const said = content(command.content, "content")
      return typeof said === "string" ? { type: "message.received", content: said } : said
    }
    case "session.interrupt":
      return { type: "interrupt.received" }
    case "session.end":
      return { type: "session.ended" }
    case "session.resume":
      return session.phase === "parked"
        ? { type: "session.resumed" }
        : { code: "session_not_parked", message: `The session ${sessionId} is not parked; there is nothing to resume.` }
    default:
      return command satisfies never
  }
}

/** Content as a JSON array of blocks, canonical; or what is wrong with it. */
function content(json: string, field: string): string | { code: string; message: string } {
  const bytes = Buffer.byteLength(json)
  if (bytes > intakeLimits.contentMax)
    return { code: "content_too_large", message: `/${field}: ${bytes} bytes; at most ${intakeLimits.contentMax} fit into one record.` }
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
