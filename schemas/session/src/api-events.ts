import {
  canonicalJson,
  clientBackend,
  depthMax,
  type IdleReason,
  isDeeperThan,
  type SessionEvent,
  type SessionEventOf,
  type Tool,
} from "@reins/events"
import { type Call, type Known, parkedKind, type Session, type Step } from "./session.ts"
import { isStarted } from "./summary.ts"

/**
 * The events of the Managed Agents API as a pure projection of the session log: list, stream, console and audit are made of the same
 * function over the same records, so they cannot disagree. Field by field the SDK's types are the reference
 * (`@anthropic-ai/sdk`, resources/beta/sessions/events.d.ts).
 *
 * V1 Ids follow from the record alone, and a record from its logical id: the same log gives the same events, in every instance.
 * V2 Only accepted records become events; what was superseded or came late is for the audit.
 * V3 `session.usage` directly precedes `session.status_idle`, and nothing follows that until something new arrives.
 * V4 A message that has to wait is said twice under one id: queued (`processed_at` null), and where a request takes it.
 */
export interface ApiEvent {
  readonly id: string
  readonly type: string
  /** ISO 8601; null while a message of the client waits. */
  readonly processed_at: string | null
  readonly [field: string]: unknown
}

export type ApiStatus = "idle" | "running" | "rescheduling" | "terminated"

/** The status word of the session resource; null for a session that is not there. */
export function apiStatus(session: Session): ApiStatus | null {
  switch (session.phase) {
    case "absent":
    case "deleted":
      return null
    case "idle":
      return session.wake ? "running" : "idle"
    case "awaiting-model": {
      const { state } = session.request
      return state.is === "failed" && state.retryable && state.kind !== parkedKind ? "rescheduling" : "running"
    }
    case "awaiting-tools":
      return session.waiting === undefined ? "running" : "idle"
    case "settling":
      return "running"
    case "parked":
      return "idle"
    case "ended":
      return "terminated"
    default:
      return session satisfies never
  }
}

/** The id of the event that a record becomes; `part` tells several events of one record apart. */
export function apiEventId(eventId: string, part = ""): string {
  return `sevt_${eventId.replace(/^evt_/, "")}${part === "" ? "" : `_${part}`}`
}

/** The id of the one `agent.message` of an answer, known from its claim before the answer is: previews carry it. */
export function messageEventId(claim: string): string {
  return apiEventId(claim, "message")
}

/** The id of the `agent.thinking` that the n-th thinking block of an answer becomes. */
export function thinkingEventId(claim: string, index: number): string {
  return apiEventId(claim, `thinking${index}`)
}

/** The id of the event that shows a call of the latest response. */
export function callEventId(session: Known, toolUseId: string): string {
  return apiEventId(session.response ?? "", `call${session.calls.findIndex((call) => call.toolUseId === toolUseId)}`)
}

/** The primary thread, the one that every session has. */
export function threadIdOf(sessionId: string): string {
  return `sthr_${sessionId.replace(/^sesn_/, "")}`
}

/** What one record becomes, in the order in which it is to be shown. `iso` writes milliseconds since the epoch as ISO 8601, UTC. */
export function apiEvents(
  before: Session,
  event: SessionEvent,
  step: Step,
  timestamp: number,
  iso: (ms: number) => string,
): readonly ApiEvent[] {
  if (step.verdict !== "accepted") return []
  return new Telling(before, step.session, event, iso(timestamp)).tell()
}

class Telling {
  readonly #before: Session
  readonly #after: Session
  readonly #event: SessionEvent
  readonly #time: string
  readonly #told: ApiEvent[] = []

  constructor(before: Session, after: Session, event: SessionEvent, time: string) {
    this.#before = before
    this.#after = after
    this.#event = event
    this.#time = time
  }

  tell(): readonly ApiEvent[] {
    const event = this.#event
    switch (event.type) {
      case "session.started":
        if (event.input !== null) this.#message(event.eventId, event.input, true)
        this.#nowRunning()
        break
      case "message.received":
        this.#message(event.eventId, event.content, this.#before.phase === "idle" && !this.#before.wake)
        this.#nowRunning()
        break
      case "interrupt.received":
        this.#say("", "user.interrupt")
        this.#cutOff()
        this.#closedCalls()
        break
      case "approval.given":
        this.#approval(event)
        break
      case "result.received":
        this.#result(event)
        break
      case "model.requested":
        this.#requested(event)
        break
      case "model.responded":
        this.#responded(event)
        break
      case "model.failed":
        this.#failed(event)
        break
      case "context.compacted":
        this.#say("", "agent.thread_context_compacted")
        break
      case "tool-call.held":
        if (event.reason === "outcome_unknown") this.#error("unknown_error", event.message ?? "", "exhausted")
        break
      case "tool-call.dispatched":
        break
      case "tool-call.refused":
      case "tool-call.completed":
      case "tool-call.failed":
      case "tool-call.timed-out":
      case "tool-call.outcome-unknown":
        this.#closedCalls()
        break
      case "session.idled":
        this.#idled(event.reason as IdleReason, event.message)
        break
      case "session.parked":
        this.#cutOff()
        this.#error("unknown_error", event.message, "exhausted")
        this.#idle({ type: "retries_exhausted" }, null)
        break
      case "session.resumed":
        this.#nowRunning()
        break
      case "session.updated":
        this.#updated()
        break
      case "session.ended":
      case "session.archived":
        this.#terminated()
        break
      case "session.deleted":
        this.#say("", "session.deleted")
        break
      case "command.rejected":
        break
      default:
        event satisfies never
    }
    return this.#told
  }

  #say(part: string, type: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#told.push({ id: apiEventId(this.#event.eventId, part), type, processed_at: this.#time, ...fields })
  }

  #thread(): { session_thread_id: string; agent_name: string } {
    const name = isStarted(this.#after) ? this.#after.agent.name : ""
    return { session_thread_id: threadIdOf(this.#event.sessionId), agent_name: name }
  }

  #message(eventId: string, content: string, processed: boolean): void {
    this.#told.push({
      id: apiEventId(eventId),
      type: "user.message",
      processed_at: processed ? this.#time : null,
      content: contentBlocks(content),
    })
  }

  /** Says that work goes on, where it did not. */
  #nowRunning(): void {
    if (apiStatus(this.#after) !== "running" || apiStatus(this.#before) === "running") return
    this.#say("running", "session.status_running")
    this.#say("thread_running", "session.thread_status_running", this.#thread())
  }

  #requested(event: SessionEventOf<"model.requested">): void {
    const before = this.#before
    // A takeover: what its predecessor began has come to nothing.
    this.#cutOff()
    if (isStarted(before)) {
      for (const queued of before.queued.slice(0, event.takes))
        if (queued.begins !== true) this.#message(queued.eventId, queued.content, true)
    }
    this.#nowRunning()
    this.#say("", "span.model_request_start")
  }

  /** Ends the span of a model request that is open, without a result. */
  #cutOff(): void {
    const before = this.#before
    if (before.phase !== "awaiting-model" || before.request.state.is !== "open") return
    this.#spanEnd(before.request.claim, true, null)
  }

  #spanEnd(claim: string, isError: boolean, usage: SessionEventOf<"model.responded">["usage"] | null): void {
    this.#told.push({
      id: apiEventId(claim, "end"),
      type: "span.model_request_end",
      processed_at: this.#time,
      model_request_start_id: apiEventId(claim),
      is_error: isError,
      model_usage: {
        input_tokens: usage?.inputTokens ?? 0,
        output_tokens: usage?.outputTokens ?? 0,
        cache_read_input_tokens: usage?.cacheReadTokens ?? 0,
        cache_creation_input_tokens: usage?.cacheWriteTokens ?? 0,
      },
    })
  }

  #responded(event: SessionEventOf<"model.responded">): void {
    const after = this.#after
    if (!isStarted(after)) return
    // Still asking: nobody can use the answer, or it is a summary, which is no message to anyone.
    const summary = after.phase === "awaiting-model" && after.compaction !== undefined && after.breach === null
    const broken = after.phase === "awaiting-model" && !summary
    if (!broken && !summary) {
      const blocks = JSON.parse(event.content) as readonly ({ readonly type?: unknown; readonly text?: unknown } | null)[]
      const thinking = blocks.filter((block) => block?.type === "thinking" || block?.type === "redacted_thinking")
      for (const index of thinking.keys())
        this.#told.push({ id: thinkingEventId(event.claim, index), type: "agent.thinking", processed_at: this.#time })
      const text = blocks.flatMap((block) =>
        block?.type === "text" && typeof block.text === "string" && block.text !== "" ? [{ type: "text", text: block.text }] : [],
      )
      if (text.length > 0)
        this.#told.push({ id: messageEventId(event.claim), type: "agent.message", processed_at: this.#time, content: text })
      for (const call of after.calls) this.#call(after, call)
    }
    const fault = after.phase === "awaiting-model" && after.request.state.is === "failed" ? after.request.state : null
    this.#spanEnd(event.claim, fault !== null, event.usage)
    if (broken) this.#error("model_request_failed_error", after.breach ?? "", "exhausted")
    else if (fault !== null) this.#retrying("model_request_failed_error", fault)
    else if (!summary) for (const call of after.calls) if (call.state.is === "done") this.#callResult(after, call)
  }

  #call(session: Known, call: Call): void {
    const tool = toolOf(session, call)
    const common = { processed_at: this.#time, name: call.tool, input: objectOf(call.input) }
    const id = callEventId(session, call.toolUseId)
    if (tool?.backend === clientBackend) {
      this.#told.push({ id, type: "agent.custom_tool_use", ...common })
      return
    }
    const policy = tool?.permission ?? "always_allow"
    const evaluated =
      tool === undefined
        ? { evaluated_permission: "deny" }
        : { evaluated_permission: policy === "always_ask" ? "ask" : "allow", evaluation: { type: policy } }
    if ((tool?.server ?? null) === null) this.#told.push({ id, type: "agent.tool_use", ...common, ...evaluated })
    else this.#told.push({ id, type: "agent.mcp_tool_use", mcp_server_name: tool?.server, ...common, ...evaluated })
  }

  /** The results of the calls that this record closed. */
  #closedCalls(): void {
    const before = isStarted(this.#before) ? this.#before : null
    const after = isStarted(this.#after) ? this.#after : null
    if (before === null || after === null) return
    for (const [index, call] of after.calls.entries()) {
      if (call.state.is === "done" && before.calls[index]?.state.is !== "done") this.#callResult(after, call)
    }
  }

  #callResult(session: Known, call: Call): void {
    if (call.state.is !== "done") return
    const tool = toolOf(session, call)
    const id = callEventId(session, call.toolUseId)
    const common = {
      id: `${id}_result`,
      processed_at: this.#time,
      content: contentBlocks(call.state.content),
      is_error: call.state.isError,
    }
    // Closed without its client: said as its answer, so that no client takes the call for open and runs it.
    if (tool?.backend === clientBackend) this.#told.push({ ...common, type: "user.custom_tool_result", custom_tool_use_id: id })
    else if ((tool?.server ?? null) === null) this.#told.push({ ...common, type: "agent.tool_result", tool_use_id: id })
    else this.#told.push({ ...common, type: "agent.mcp_tool_result", mcp_tool_use_id: id })
  }

  /** The call that this answer changed; null where it came too late to change anything. */
  #answeredCall(toolUseId: string): { readonly session: Known; readonly call: Call } | null {
    if (!isStarted(this.#before) || !isStarted(this.#after)) return null
    const index = this.#after.calls.findIndex((call) => call.toolUseId === toolUseId)
    const call = this.#after.calls[index]
    if (call === undefined || this.#before.calls[index] === call) return null
    return { session: this.#after, call }
  }

  #approval(event: SessionEventOf<"approval.given">): void {
    const answered = this.#answeredCall(event.toolUseId)
    if (answered === null) return
    this.#say("", "user.tool_confirmation", {
      tool_use_id: callEventId(answered.session, event.toolUseId),
      result: event.decision,
      ...(event.message === null ? {} : { deny_message: event.message }),
    })
    this.#nowRunning()
    this.#callResult(answered.session, answered.call)
  }

  #result(event: SessionEventOf<"result.received">): void {
    const answered = this.#answeredCall(event.toolUseId)
    if (answered === null) return
    const byClient = toolOf(answered.session, answered.call)?.backend === clientBackend
    if (byClient)
      this.#say("", "user.custom_tool_result", {
        custom_tool_use_id: callEventId(answered.session, event.toolUseId),
        content: contentBlocks(event.content),
        is_error: event.isError,
      })
    this.#nowRunning()
    if (!byClient) this.#callResult(answered.session, answered.call)
  }

  #failed(event: SessionEventOf<"model.failed">): void {
    this.#spanEnd(event.claim, true, null)
    this.#retrying(event.kind === "given_up" ? null : errorType(event), event)
  }

  /** What went wrong, where that is to be said, and that it is tried again, where it is. */
  #retrying(type: string | null, { message, retryable }: { readonly message: string; readonly retryable: boolean }): void {
    if (type !== null) this.#error(type, message, retryable ? "retrying" : "exhausted")
    if (!retryable) return
    this.#say("rescheduled", "session.status_rescheduled")
    this.#say("thread_rescheduled", "session.thread_status_rescheduled", this.#thread())
  }

  #error(type: string, message: string, retry: "retrying" | "exhausted" | "terminal"): void {
    this.#say("error", "session.error", { error: { type, message, retry_status: { type: retry } } })
  }

  #idled(reason: IdleReason, message: string | null): void {
    const after = this.#after
    if (!isStarted(after)) return
    switch (reason) {
      case "requires_action":
        return this.#idle({ type: "requires_action", event_ids: waitingFor(after) }, null)
      case "end_turn":
      case "max_tokens":
        // What has arrived meanwhile is taken up at once: to whoever looks the session never stood still.
        if (apiStatus(after) !== "running") this.#idle({ type: "end_turn" }, null)
        return
      case "interrupted":
        this.#idle({ type: "end_turn" }, null)
        break
      case "refusal":
        this.#idle({ type: "refusal" }, { type: "refusal", category: null, explanation: message })
        break
      case "limit_reached":
        this.#error("unknown_error", message ?? "A limit of the session was reached.", "exhausted")
        this.#idle({ type: "budget_reached" }, null)
        break
      case "retries_exhausted":
      case "context_window_exceeded":
      case "model_error":
        if (reason !== "model_error")
          this.#error(
            reason === "context_window_exceeded" && after.compacted > 0 ? "compaction_limit_reached_error" : "model_request_failed_error",
            message ?? reason,
            "exhausted",
          )
        this.#idle({ type: "retries_exhausted" }, null)
        break
      default:
        reason satisfies never
    }
    if (apiStatus(after) !== "running") return
    this.#say("running", "session.status_running")
    this.#say("thread_running", "session.thread_status_running", this.#thread())
  }

  #idle(stopReason: object, stopDetails: object | null): void {
    const after = this.#after
    if (!isStarted(after)) return
    this.#say("thread_idle", "session.thread_status_idle", { ...this.#thread(), stop_reason: stopReason, stop_details: stopDetails })
    this.#say("usage", "session.usage", { usage: usageOf(after), budget: null })
    this.#say("", "session.status_idle", { stop_reason: stopReason, stop_details: stopDetails })
  }

  #updated(): void {
    const before = isStarted(this.#before) ? this.#before.profile : null
    const after = isStarted(this.#after) ? this.#after.profile : null
    const changed: Record<string, unknown> = {}
    if (after?.title !== (before?.title ?? null)) changed["title"] = after?.title ?? null
    if (after?.metadata !== (before?.metadata ?? "{}")) changed["metadata"] = JSON.parse(after?.metadata ?? "{}")
    if (after?.agent !== (before?.agent ?? null)) changed["agent"] = JSON.parse(after?.agent ?? "null")
    if (Object.keys(changed).length > 0) this.#say("", "session.updated", changed)
  }

  #terminated(): void {
    if (this.#before.phase === "ended") return
    this.#cutOff()
    this.#closedCalls()
    this.#say("thread_terminated", "session.thread_status_terminated", this.#thread())
    this.#say("", "session.status_terminated")
  }
}

/** The events that a session in `requires_action` waits for an answer to. */
export function waitingFor(session: Known): readonly string[] {
  return session.calls.filter((call) => call.state.is === "held").map((call) => callEventId(session, call.toolUseId))
}

function toolOf(session: Known, call: Call): Tool | undefined {
  return session.agent.tools.find((tool) => tool.name === call.tool)
}

/** Usage as the API counts it; the log does not tell cache writes of five minutes and of an hour apart. */
export function usageOf({ usage }: Known): object {
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_read_input_tokens: usage.cacheReadTokens,
    cache_creation: { ephemeral_5m_input_tokens: usage.cacheWriteTokens, ephemeral_1h_input_tokens: 0 },
  }
}

function errorType({ kind, status }: SessionEventOf<"model.failed">): string {
  if (kind === "overloaded_error" || status === 529) return "model_overloaded_error"
  if (kind === "rate_limit_error" || status === 429) return "model_rate_limited_error"
  if (kind === "billing_error" || status === 402) return "billing_error"
  return "model_request_failed_error"
}

const shown: ReadonlySet<unknown> = new Set(["text", "image", "document", "search_result"])

/** Content as blocks that the API knows: text stays, what it does not know is shown as its JSON. */
function contentBlocks(json: string): readonly unknown[] {
  const content = parsed(json)
  if (typeof content === "string") return [{ type: "text", text: content }]
  if (!Array.isArray(content)) return [{ type: "text", text: json }]
  return content.map((block: unknown) =>
    shown.has((block as { type?: unknown } | null)?.type)
      ? withoutCacheControl(block as object)
      : { type: "text", text: canonicalJson(block) },
  )
}

function withoutCacheControl(block: object): object {
  const { cache_control: _, ...rest } = block as { cache_control?: unknown }
  return rest
}

function objectOf(json: string): object {
  const value = parsed(json)
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : { value }
}

/** The text itself where it is no JSON that can be shown: what anyone wrote into the log stops nobody. */
function parsed(json: string): unknown {
  try {
    const value = JSON.parse(json) as unknown
    return isDeeperThan(value, depthMax) ? json : value
  } catch {
    return json
  }
}
