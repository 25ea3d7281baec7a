import type { BetaManagedAgentsSession } from "@anthropic-ai/sdk/resources/beta/sessions/sessions"
import {
  allHeld,
  apiStatus,
  callEventId,
  type Known,
  type Overview as OverviewOf,
  type Started,
  type State,
  type Waiting,
} from "@reins/session"
import type { ProjectedSession } from "../projection/projection.ts"
import type { Store } from "../projection/store.ts"
import { sessionResource } from "../sessions/resource.ts"
import { anyTime } from "../time-range.ts"

export type Overview = OverviewOf<BetaManagedAgentsSession>

const excerptMax = 200

export function overviewOf(projected: ProjectedSession, context: { now: number; topic: string; store: Store }): Overview {
  const { session, partition } = projected
  const { now, topic, store } = context
  return {
    type: "session_overview",
    session: sessionResource(projected, now),
    state: stateOf(session),
    reason: reasonOf(session),
    waiting_for: waitingOf(session),
    turns: session.turns,
    tool_calls: session.toolCalls,
    excerpt: excerptOf(store, session.sessionId),
    topic,
    partition,
  }
}

export function stateOf(session: Started): State {
  if (session.phase === "parked") return "parked"
  if (session.phase === "ended") return "ended"
  // For a person it waits from the moment on that nothing runs; the API says so once `session.idled` has.
  if (session.phase === "awaiting-tools" && allHeld(session.calls)) return "waiting"
  const status = apiStatus(session)
  if (status === "idle") return "idle"
  return status === "rescheduling" ? "rescheduling" : "running"
}

function reasonOf(session: Started): string | null {
  if (session.phase === "idle") return session.reason
  return session.phase === "parked" ? session.message : null
}

function waitingOf(session: Known): readonly Waiting[] {
  return session.calls.flatMap(({ toolUseId, tool, input, state }) =>
    state.is === "held"
      ? [
          {
            event_id: callEventId(session, toolUseId),
            tool,
            reason: state.reason,
            arguments: input,
            arguments_sha256: state.argumentsHash,
            message: state.message,
          },
        ]
      : [],
  )
}

function excerptOf(store: Store, sessionId: string): string | null {
  const [first] = store.events({
    sessionId,
    types: ["user.message"],
    ...anyTime,
    descending: false,
    after: null,
    limit: 1,
  })
  const content = first?.event["content"] as readonly { readonly type?: unknown; readonly text?: unknown }[] | undefined
  const text = (content ?? []).flatMap((block) => (block.type === "text" && typeof block.text === "string" ? [block.text] : [])).join(" ")
  return text === "" ? null : text.slice(0, excerptMax)
}
