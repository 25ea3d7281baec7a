import type { ApiEvent } from "@reins/session"
import type { Placed } from "./api.ts"

/** A tool call with all that belongs to it, wherever in the session it was said. */
export interface CallItem {
  readonly is: "call"
  readonly use: Placed
  /** More than one where a call had to be asked about again. */
  readonly confirmations: readonly Placed[]
  readonly result: Placed | null
}

export type Item =
  | { readonly is: "thinking"; readonly placed: Placed }
  | { readonly is: "message"; readonly placed: Placed }
  | CallItem
  | { readonly is: "error"; readonly placed: Placed }
  /** What says how the harness went on, and nothing of what was done; shown where everything is. */
  | { readonly is: "plumbing"; readonly placed: Placed }

export type Entry =
  | { readonly is: "said"; readonly key: string; readonly placed: Placed }
  | {
      /** A model request and what came of it, up to the next one. */
      readonly is: "request"
      readonly key: string
      /** Counted from the first that is loaded. */
      readonly number: number
      /** Null where the request began before what is loaded. */
      readonly start: Placed | null
      readonly end: Placed | null
      readonly items: readonly Item[]
    }
  | { readonly is: "note"; readonly key: string; readonly placed: Placed }
  | { readonly is: "plumbing"; readonly key: string; readonly placed: Placed }

const plumbing: ReadonlySet<string> = new Set([
  "session.status_running",
  "session.thread_status_running",
  "session.thread_status_idle",
  "session.thread_status_rescheduled",
  "session.thread_status_terminated",
  "session.thread_created",
  "session.usage",
])

interface OpenRequest {
  start: Placed | null
  end: Placed | null
  readonly key: string
  readonly items: Item[]
}

/** Groups the events of a session by model request: each holds its answer, its calls with their results, and what went wrong. */
export function transcript(events: readonly Placed[], options: { readonly all: boolean }): readonly Entry[] {
  const entries: (Entry | OpenRequest)[] = []
  const callAt = new Map<string, { readonly request: OpenRequest; readonly index: number }>()
  const requests = new Map<string, OpenRequest>()
  let request: OpenRequest | null = null

  const opened = (placed: Placed): OpenRequest => {
    if (request !== null) return request
    request = { start: null, end: null, key: placed.event.id, items: [] }
    entries.push(request)
    return request
  }
  const attach = (placed: Placed, callId: unknown, part: "confirmation" | "result"): void => {
    const at = callAt.get(String(callId))
    const call = at?.request.items[at.index]
    // Its call is on an earlier page: it stands by itself until that is loaded.
    if (at === undefined || call?.is !== "call") entries.push({ is: "note", key: placed.event.id, placed })
    else if (part === "result") at.request.items[at.index] = { ...call, result: placed }
    else at.request.items[at.index] = { ...call, confirmations: [...call.confirmations, placed] }
  }

  for (const placed of events) {
    const { event } = placed
    switch (event.type) {
      case "span.model_request_start":
        request = { start: placed, end: null, key: event.id, items: [] }
        requests.set(event.id, request)
        entries.push(request)
        break
      case "span.model_request_end": {
        // An interrupt stands between a request and its end.
        const ended = requests.get(String(event["model_request_start_id"])) ?? opened(placed)
        ended.end = placed
        break
      }
      case "agent.thinking":
        opened(placed).items.push({ is: "thinking", placed })
        break
      case "agent.message":
        opened(placed).items.push({ is: "message", placed })
        break
      case "agent.tool_use":
      case "agent.mcp_tool_use":
      case "agent.custom_tool_use": {
        const { items } = opened(placed)
        callAt.set(event.id, { request: opened(placed), index: items.length })
        items.push({ is: "call", use: placed, confirmations: [], result: null })
        break
      }
      case "user.tool_confirmation":
        attach(placed, event["tool_use_id"], "confirmation")
        break
      case "agent.tool_result":
        attach(placed, event["tool_use_id"], "result")
        break
      case "agent.mcp_tool_result":
        attach(placed, event["mcp_tool_use_id"], "result")
        break
      case "user.custom_tool_result":
        attach(placed, event["custom_tool_use_id"], "result")
        break
      case "session.error":
        if (request === null) entries.push({ is: "note", key: event.id, placed })
        else request.items.push({ is: "error", placed })
        break
      case "user.message":
        request = null
        entries.push({ is: "said", key: event.id, placed })
        break
      default:
        if (!plumbing.has(event.type)) {
          // Where a turn ends or breaks off, the next message stands apart from it; a wait for an answer does not end it.
          if (!waits(event)) request = null
          entries.push({ is: "note", key: event.id, placed })
        } else if (options.all) {
          if (request === null) entries.push({ is: "plumbing", key: event.id, placed })
          else request.items.push({ is: "plumbing", placed })
        }
    }
  }
  let number = 0
  return entries.map((entry) => ("is" in entry ? entry : { is: "request", number: ++number, ...entry }))
}

function waits(event: ApiEvent): boolean {
  return (event["stop_reason"] as { readonly type?: unknown } | null | undefined)?.type === "requires_action"
}

/** Content blocks as text, with a word for what is none. */
export function textOf(content: unknown): string {
  if (!Array.isArray(content)) return typeof content === "string" ? content : JSON.stringify(content ?? "")
  return content.map(blockText).join("\n\n")
}

function blockText(block: unknown): string {
  const { type, text, title, source } = (block ?? {}) as {
    readonly type?: unknown
    readonly text?: unknown
    readonly title?: unknown
    readonly source?: { readonly media_type?: unknown; readonly url?: unknown; readonly data?: unknown }
  }
  if (type === "text" && typeof text === "string") return text
  if (type === "image" || type === "document") {
    const what = [type, title, source?.media_type, source?.url].filter((part) => typeof part === "string" && part !== "")
    const size = typeof source?.data === "string" ? [`${Math.ceil((source.data.length * 3) / 4 / 1024)} kB`] : []
    return `[${[...what, ...size].join(" · ")}]`
  }
  return JSON.stringify(block)
}

/** Milliseconds between two events; null where one of them is missing or waits. */
export function between(from: Placed | null, to: Placed | null): number | null {
  const [a, b] = [from?.event.processed_at ?? null, to?.event.processed_at ?? null]
  return a === null || b === null ? null : Date.parse(b) - Date.parse(a)
}

/** Tokens of a request, from the end of its span. */
export function usageOf(end: Placed | null): { readonly input: number; readonly output: number; readonly cached: number } | null {
  const usage = end?.event["model_usage"] as Readonly<Record<string, number>> | undefined
  if (usage === undefined) return null
  const cached = usage["cache_read_input_tokens"] ?? 0
  return {
    input: (usage["input_tokens"] ?? 0) + cached + (usage["cache_creation_input_tokens"] ?? 0),
    output: usage["output_tokens"] ?? 0,
    cached,
  }
}
