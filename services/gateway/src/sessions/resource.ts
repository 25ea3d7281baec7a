import type { BetaManagedAgentsSession } from "@anthropic-ai/sdk/resources/beta/sessions/sessions"
import { apiStatus, usageOf } from "@reins/session"
import { notFound } from "../http/errors.ts"
import type { ProjectedSession, Projection } from "../projection/projection.ts"
import { iso } from "../projection/rereader.ts"
import { agentOf, environmentOf } from "../projection/session-agent.ts"

/** A session of this tenant. Throws 404 where there is none, whoever else may have it. */
export function sessionOf(projection: Projection, tenant: string, sessionId: string): ProjectedSession {
  const session = projection.session(tenant, sessionId)
  if (session === null) throw notFound("session")
  return session
}

/** A session as the API shows it. `now` is log time: durations of what still runs count up to it. */
export function sessionResource({ session, activeMs, runningSince, closedAt }: ProjectedSession, now: number): BetaManagedAgentsSession {
  const active = activeMs + (runningSince === null ? 0 : Math.max(0, now - runningSince))
  const activeSeconds = active / 1000
  return {
    id: session.sessionId,
    type: "session",
    status: apiStatus(session) ?? "terminated",
    title: session.profile?.title ?? null,
    environment_id: environmentOf(session),
    deployment_id: null,
    agent: agentOf(session) as unknown as BetaManagedAgentsSession["agent"],
    resources: [],
    vault_ids: [],
    metadata: JSON.parse(session.profile?.metadata ?? "{}") as Record<string, string>,
    budget: null,
    outcome_evaluations: [],
    stats: { active_seconds: activeSeconds, duration_seconds: Math.max(0, (closedAt ?? now) - session.startedAt) / 1000 },
    usage: usageOf(session),
    created_at: iso(session.startedAt),
    updated_at: iso(session.changedAt),
    archived_at: session.phase === "ended" && session.archivedAt !== undefined ? iso(session.archivedAt) : null,
  }
}
