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
  if (session.phase === "absent") return { phase: session.phase, commands }
  const { conversation, ...rest } = session
  return {
    ...rest,
    commands,
    conversation: digestOf(conversation),
    ...(session.phase === "parked" ? { before: plain(session.before) } : {}),
  }
}
