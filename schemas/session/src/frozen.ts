import type { CommandIds } from "./command-ids.ts"
import { forgotten, type Utterance } from "./conversation.ts"
import type { Session } from "./session.ts"

/** A session as it is kept outside of memory: in a snapshot, or in a file of this machine. */
export interface Frozen {
  readonly session: Session
  /** Offsets of the records that it follows from, in order: where its conversation is recalled from. */
  readonly records: readonly number[]
}

interface Written {
  readonly session: Readonly<Record<string, unknown>>
  /** The first offset, then by how much each is larger than the one before it. */
  readonly records: readonly number[]
}

/**
 * The state as JSON text, without what was said: of the conversation only its digest is written, and `records` tell where the rest is.
 * `thaw` gives the same session again, with a conversation that has to be recalled before it can be sent.
 */
export function freeze({ session, records }: Frozen): string {
  const steps = records.map((offset, index) => offset - (index === 0 ? 0 : (records[index - 1] as number)))
  return JSON.stringify({ session: written(session), records: steps } satisfies Written)
}

/** Throws where the text is none of `freeze`. */
export function thaw(text: string): Frozen {
  const { session, records } = JSON.parse(text) as Written
  let offset = 0
  return {
    session: read(session),
    records: records.map((step) => {
      offset += step
      return offset
    }),
  }
}

function written(session: Session): Record<string, unknown> {
  const { full, recent } = session.commands
  const commands = { full: full.map((ids) => [...ids]), recent }
  if (session.phase === "absent" || session.phase === "deleted") return { ...session, commands }
  const { conversation } = session
  return {
    ...session,
    commands,
    conversation: conversation === null ? null : forgotten(conversation),
    ...(session.phase === "parked" ? { before: written(session.before) } : {}),
  }
}

function read(session: Readonly<Record<string, unknown>>): Session {
  const { full, recent } = session["commands"] as { readonly full: readonly string[][]; readonly recent: readonly string[] }
  const commands: CommandIds = { full: full.map((ids) => new Set(ids)), recent }
  const before = session["before"] as Readonly<Record<string, unknown>> | undefined
  return { ...session, commands, ...(before === undefined ? {} : { before: read(before) }) } as unknown as Session & {
    readonly conversation?: Utterance | null
  }
}
