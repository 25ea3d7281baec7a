// What sessions of a chaos run have that others have not: by their number, so that every run has each of it, and some of it together.

export interface Traits {
  /** Some of its tools wait for a person each time, and its client runs a tool of its own. */
  readonly asks: boolean
  /** Its model sees little at a time, and it is spoken to until its conversation has outgrown that. */
  readonly narrow: boolean
  /** It is spoken to once more after a rest in which its snapshot was written. */
  readonly returns: boolean
  /** It says and is told what no record can hold. */
  readonly large: boolean
  /** It is deleted once it rests, and spoken to once more. */
  readonly doomed: boolean
}

export function traitsOf(index: number): Traits {
  return {
    asks: index % 3 === 2,
    narrow: index % 5 === 0,
    returns: index % 4 === 1 || index % 4 === 3,
    large: index % 12 === 1 || index % 12 === 4,
    doomed: index % 8 === 4 || index % 8 === 6,
  }
}

/** By name, the windows of the models in tokens. */
export const windows = { "claude-sonnet-5-5": 200_000, "claude-haiku-4-5": 4000 } as const

export function modelOf({ narrow }: Traits): keyof typeof windows {
  return narrow ? "claude-haiku-4-5" : "claude-sonnet-5-5"
}

/** What is said in a session, in its prompts, in its title, and by the pages that it reads: a word that is nobody else's. */
export function canaryOf(sessionId: string): string {
  return `canary-of-${sessionId}.`
}

/** Sessions of which something was said here. */
export function canariesIn(value: Uint8Array | null): ReadonlySet<string> {
  const bytes = Buffer.from(value ?? [])
  if (!bytes.includes("canary-of-")) return new Set()
  return new Set([...bytes.toString("latin1").matchAll(/canary-of-([\w-]+)\./g)].map(([, sessionId]) => sessionId as string))
}

/** A text of so many characters, no part of which is like another, so that a cut or a gap in it would show. */
export function longText(beginning: string, length: number): string {
  const parts = [beginning]
  for (let at = beginning.length; at < length; ) {
    const line = ` line ${parts.length}`
    parts.push(line)
    at += line.length
  }
  return parts.join("").slice(0, Math.max(length, beginning.length))
}
