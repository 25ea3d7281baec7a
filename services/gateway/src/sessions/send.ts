import type { BetaManagedAgentsSendSessionEvents } from "@anthropic-ai/sdk/resources/beta/sessions/events"
import { canonicalJson, type SessionEvent } from "@reins/events"
import {
  type ApiEvent,
  type Asked,
  apiEventId,
  awaits,
  callEventId,
  holdOf,
  type Known,
  type Refusal,
  refusalOf,
  type Session,
  sha256Hex,
} from "@reins/session"
import { ApiError, invalid } from "../http/errors.ts"
import { type ProjectedSession, Projection } from "../projection/projection.ts"
import { iso } from "../projection/rereader.ts"
import type { Answer } from "../projection/store.ts"
import type { ClientEvent } from "./client-events.ts"
import { type Command, type Commands, refused } from "./commands.ts"

type Sent = NonNullable<BetaManagedAgentsSendSessionEvents["data"]>[number]

/** An event of a request, and the command that it becomes; null where it can have no effect any more and is only acknowledged. */
interface Planned {
  readonly event: ClientEvent
  readonly command: Command | null
  /** What an earlier try of the request came to, where it did: the session may have gone on since, and is not judged again. */
  readonly known: Answer | null
}

/**
 * Sends the events of one request: all of them are judged first, each on the session as those before it would leave it, so that one bad
 * event refuses the request; then each is a command of its own, and intake has the last word.
 */
export async function sendEvents(
  events: readonly ClientEvent[],
  requestId: string,
  projected: ProjectedSession,
  context: {
    readonly projection: Projection
    readonly commands: Commands
    readonly now: () => number
    readonly traceparent: string | undefined
  },
): Promise<Sent[]> {
  const planned = plan(events, requestId, projected, context.projection)
  const commands = planned.flatMap(({ command }) => (command === null ? [] : [command]))
  const answers = await context.commands.send(commands, context.traceparent)
  const byId = new Map<string, Answer>(commands.map((command, index) => [command.commandId, answers[index] as Answer]))
  const said: Sent[] = []
  for (const [index, { event, command, known }] of planned.entries()) {
    const answer = command === null ? known : (byId.get(command.commandId) as Answer)
    if (answer !== null && "code" in answer) {
      const error = refused(answer)
      throw new ApiError(error.status, error.type, `events/${index}: ${error.message}`, {
        details: { ...error.details, accepted: index },
        ...(error.headers === undefined ? {} : { headers: error.headers }),
      })
    }
    const id = apiEventId(answer === null ? `${requestId}.${index}` : answer.eventId)
    const shown = context.projection.store.event(projected.session.sessionId, id)?.event
    said.push((shown ?? acknowledged(event, id, iso(context.now()))) as unknown as Sent)
  }
  return said
}

/** An event that changed nothing: a second answer, or one that came too late. It is acknowledged and stands in no history. */
function acknowledged(event: ClientEvent, id: string, time: string): ApiEvent {
  return { ...event, id, processed_at: time }
}

function plan(events: readonly ClientEvent[], requestId: string, projected: ProjectedSession, projection: Projection): readonly Planned[] {
  const { sessionId } = projected.session
  let session: Session = projected.session
  return events.map((event, index) => {
    const known = projection.store.answer(sessionId, `${requestId}.${index}`)
    if (known !== null) return { event, command: null, known }
    const command = commandOf(event, index, requestId, session, sessionId, projection)
    if (command === null) return { event, command, known }
    const refusal = refusalOf(session, sessionId, command as unknown as Asked)
    if (refusal !== null) throw prefixed(refusal, index)
    session = asIf(session, command)
    return { event, command, known }
  })
}

function prefixed(refusal: Refusal, index: number): ApiError {
  return refused({ code: refusal.code, message: `events/${index}: ${refusal.message}` })
}

function commandOf(
  event: ClientEvent,
  index: number,
  requestId: string,
  session: Session,
  sessionId: string,
  projection: Projection,
): Command | null {
  const ids = { commandId: `${requestId}.${index}`, sessionId }
  switch (event.type) {
    case "user.message":
      return { type: "message.send", ...ids, content: event.content }
    case "user.interrupt":
      return { type: "session.interrupt", ...ids }
    case "user.custom_tool_result": {
      const call = callOf(
        projection,
        session,
        sessionId,
        event.custom_tool_use_id,
        "agent.custom_tool_use",
        `events/${index}/custom_tool_use_id`,
      )
      if (call === null) return null
      const content = event.content ?? []
      return {
        type: "result.give",
        ...ids,
        toolUseId: call,
        content: content.length === 0 ? undefined : content,
        isError: event.is_error ?? false,
      }
    }
    case "user.tool_confirmation": {
      const place = `events/${index}/tool_use_id`
      const call = callOf(projection, session, sessionId, event.tool_use_id, "", place)
      if (call === null) throw invalid(`${place}: the call ${event.tool_use_id} does not wait for a confirmation any more.`)
      const message = event.deny_message ?? undefined
      // Bound to what was shown: a model may use the id of a call again, and this must not allow what nobody has seen.
      const { input = "" } = (session as Known).calls.find(({ toolUseId }) => toolUseId === call) ?? {}
      const bound = { toolUseId: call, argumentsHash: sha256Hex(input) }
      return { type: "approval.give", ...ids, ...bound, decision: event.result, ...(message === undefined ? {} : { message }) }
    }
    default:
      return event satisfies never
  }
}

/** The call that an event shows; null where its turn is over. Throws where there is no such event, or it is of another kind. */
function callOf(projection: Projection, session: Session, sessionId: string, id: string, kind: string, place: string): string | null {
  const shown = projection.store.event(sessionId, id)?.event
  const fits = kind === "" ? shown?.type === "agent.tool_use" || shown?.type === "agent.mcp_tool_use" : shown?.type === kind
  if (shown === undefined || !fits) throw invalid(`${place}: there is no ${kind === "" ? "tool use" : kind} ${id} in this session.`)
  if (session.phase !== "awaiting-tools") return null
  return session.calls.find((call) => callEventId(session, call.toolUseId) === id)?.toolUseId ?? null
}

/** The session as this command will leave it, near enough to judge the next event of the same request. */
function asIf(session: Session, command: Command): Session {
  const outside = {
    eventId: `evt_planned_${command.commandId}`,
    sessionId: command.sessionId,
    tenant: "",
    at: 0,
    by: "gateway",
    causedBy: null,
    traceparent: null,
    commandId: command.commandId,
    command: { partition: 0, offset: 0 },
  }
  const call = session.phase === "awaiting-tools" ? session.calls.find(({ toolUseId }) => toolUseId === command["toolUseId"]) : undefined
  const hold = call !== undefined && session.phase === "awaiting-tools" && awaits(session, call) !== null ? holdOf(session, call) : null
  const answer = { ...outside, causedBy: hold, toolUseId: String(command["toolUseId"]) }
  const facts: Readonly<Record<string, SessionEvent>> = {
    "message.send": { ...outside, type: "message.received", content: canonicalJson(command["content"] ?? []) },
    "session.interrupt": { ...outside, type: "interrupt.received" },
    "approval.give": {
      ...answer,
      type: "approval.given",
      decision: command["decision"] as "allow" | "deny",
      message: null,
      argumentsHash: sha256Hex(call?.input ?? ""),
    },
    "result.give": { ...answer, type: "result.received", content: "[]", isError: false },
  }
  const fact = facts[command.type]
  return fact === undefined ? session : Projection.after(session, fact)
}
