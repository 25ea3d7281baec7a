import type { SessionEvent, ToolEvent } from "@reins/events"
import type { ReadRecord } from "@reins/runtime"
import pc from "picocolors"

/** One record in one line: when, what, and what it says. Text of models and tools is shown with its control characters escaped. */
export function line(record: ReadRecord, since: number): string {
  const seconds = ((record.timestamp - since) / 1000).toFixed(2).padStart(7)
  const dull = record.verdict !== "accepted"
  const mark = dull ? pc.yellow(` (${record.verdict ?? "unreadable"})`) : ""
  const type = record.type.padEnd(25)
  const text = record.value === null ? "" : says(record.value as unknown as SessionEvent | ToolEvent)
  return `${pc.dim(`${seconds} s`)}  ${dull ? pc.dim(type) : colour(record.type)(type)} ${text}${mark}`
}

function colour(type: string): (text: string) => string {
  if (type.startsWith("model.")) return pc.cyan
  if (/failed|refused|timed-out|unknown|rejected|parked/.test(type)) return pc.red
  if (type.startsWith("tool-call.")) return pc.magenta
  return pc.green
}

/** What a record says, for a person. */
export function says(event: SessionEvent | ToolEvent): string {
  switch (event.type) {
    case "session.started":
      return `agent ${clean(event.agent.name)}, ${event.agent.model}, ${event.agent.tools.length} tools`
    case "message.received":
      return quote(textOf(event.content))
    case "model.requested":
      return `${(event.compacts ?? null) === null ? "" : "a summary, "}turn ${event.turn}${event.attempt > 1 ? `, attempt ${event.attempt}${event.replaces === null ? "" : ", takes over"}` : ""}`
    case "model.responded":
      return [quote(textOf(event.content)), ...toolUses(event.content)].filter((part) => part !== "").join(" ")
    case "context.compacted":
      return `${event.utterances} utterances in a summary: ${quote(textOf(event.content))}`
    case "model.failed":
      return `${event.kind}: ${clean(event.message)}${event.retryable ? `, again in ${event.retryAfterMs} ms` : ""}`
    case "tool-call.refused":
      return `${clean(event.tool)}: ${clean(event.message)}`
    case "tool-call.dispatched":
      return `${clean(event.tool)}${event.attempt > 1 ? `, attempt ${event.attempt}` : ""}${"backend" in event ? ` → ${event.backend} (${event.effect})` : ""}`
    case "tool-call.claimed":
      return `by ${event.instance}${event.replaces === null ? "" : ", takes over"}`
    case "tool-call.progressed":
      return clean(event.message)
    case "tool-call.finished":
      return event.outcome === "completed" ? quote(textOf(event.content ?? '""')) : `${event.outcome}: ${clean(event.message ?? "")}`
    case "tool-call.cancelled":
      return event.reason
    case "tool-call.completed":
      return `${event.isError ? "error: " : ""}${quote(textOf(event.content))}`
    case "tool-call.failed":
    case "tool-call.timed-out":
      return `${clean(event.message)}${event.retryAfterMs === null ? "" : `, again in ${event.retryAfterMs} ms`}`
    case "tool-call.outcome-unknown":
      return clean(event.message)
    case "tool-call.held":
      return `${clean(event.tool)} waits for ${heldFor[event.reason] ?? clean(event.reason)}${event.message === null ? "" : `: ${clean(event.message)}`}`
    case "approval.given":
      return `${event.decision} ${clean(event.toolUseId)}${event.message === null ? "" : `: ${clean(event.message)}`}`
    case "result.received":
      return `${event.isError ? "error " : ""}${textOf(event.content)}`
    case "session.updated":
      return `${clean(event.changes)}${event.tools === null ? "" : " and the tools"}`
    case "session.idled":
      return `${event.reason}${event.message === null ? "" : `: ${clean(event.message)}`}`
    case "session.parked":
      return `${event.code}: ${clean(event.message)}`
    case "command.rejected":
      return `${event.commandType} ${event.code}: ${clean(event.message)}`
    case "interrupt.received":
    case "session.resumed":
    case "session.ended":
    case "session.archived":
    case "session.deleted":
      return ""
    default:
      return event satisfies never
  }
}

const heldFor: Readonly<Record<string, string>> = {
  approval: "an approval",
  client: "its client",
  outcome_unknown: "a person to say what became of it",
}

/** The text of content: a JSON string, or the text blocks of an array. */
export function textOf(content: string): string {
  const value: unknown = JSON.parse(content)
  if (typeof value === "string") return value
  if (!Array.isArray(value)) return ""
  return (value as { type?: unknown; text?: unknown }[])
    .filter((block) => block.type === "text" && typeof block.text === "string")
    .map((block) => block.text as string)
    .join("\n")
}

function toolUses(content: string): string[] {
  const value: unknown = JSON.parse(content)
  if (!Array.isArray(value)) return []
  return (value as { type?: unknown; name?: unknown; input?: unknown }[])
    .filter((block) => block.type === "tool_use")
    .map((block) => pc.bold(`${clean(String(block.name))}(${clean(shorten(JSON.stringify(block.input ?? {}), 100))})`))
}

function quote(text: string): string {
  return text === "" ? "" : `"${clean(shorten(text, 160))}"`
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`
}

/** A terminal acts on control characters; what a model or tool says must not make it. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  return text
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`)
    .replaceAll("\n", " ⏎ ")
}
