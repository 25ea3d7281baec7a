import { canonicalJson } from "@reins/events"
import { digestOf } from "./conversation.ts"
import { sha256Hex } from "./digest.ts"
import type { Session } from "./session.ts"

/** SHA-256 over the canonical state: two instances that read the same log have the same digest. */
export function stateDigest(session: Session): string {
  return sha256Hex(canonicalJson(plain(session)))
}

function plain(session: Session): unknown {
  const commands = { full: session.commands.full.map((set) => [...set]), recent: session.commands.recent }
  if (session.phase === "absent") return { ...session, commands }
  // Which of several deletions was the one may hang on what is erased (E10); that it is deleted does not.
  if (session.phase === "deleted") return { phase: session.phase, sessionId: session.sessionId, tenant: session.tenant }
  const { conversation, profile, agent, queued, contextTokens: _, startedBy: __, compacted, ...rest } = session
  return {
    ...rest,
    // What version 0.1.0 did not know is left out where nothing was given, so that its logs keep their digests.
    agent: { ...withoutNulls(agent), tools: agent.tools.map(withoutNulls) },
    queued: queued.map(({ eventId, content }) => ({ eventId, content })),
    ...(profile === null ? {} : { profile }),
    ...(compacted === 0 ? {} : { compacted }),
    commands,
    conversation: digestOf(conversation),
    ...(session.phase === "parked" ? { before: plain(session.before) } : {}),
  }
}

const later: ReadonlySet<string> = new Set(["permission", "onUnknown", "server", "contextTokens"])

function withoutNulls<T extends object>(given: T): Partial<T> {
  return Object.fromEntries(Object.entries(given).filter(([name, value]) => !(later.has(name) && (value ?? null) === null))) as Partial<T>
}
