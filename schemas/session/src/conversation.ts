import { sha256Hex } from "./digest.ts"

/**
 * The conversation as a chain that grows at its end and shares everything before it: adding costs what is added, and any two
 * states of a session share their common past. Content is kept as the JSON text that goes into the request, never re-serialised.
 */
export interface Utterance {
  readonly before: Utterance | null
  readonly role: "user" | "assistant"
  /** Content blocks as JSON text, comma separated, without the array's brackets. */
  readonly blocks: string
  /** Chained digest of the conversation up to and including this utterance. */
  readonly digest: string
  readonly length: number
  /** Characters of the conversation up to and including this utterance. */
  readonly size: number
  /**
   * False where what it said, or what stands before it, was not kept in memory: the digest stands for it, which is all that the fold needs.
   * Who has to send the conversation recalls it from the log first (`recalled`).
   */
  readonly whole: boolean
}

/** The digest of a conversation in which nothing was said. */
export const emptyDigest: string = sha256Hex("")

export function digestOf(conversation: Utterance | null): string {
  return conversation === null ? emptyDigest : conversation.digest
}

/** What was last said after an utterance: a decision and the fold of its record say the same twice, and need hash it once. */
const lastSaid = new WeakMap<Utterance, Utterance>()

/** Adds content, a JSON array as text. An empty array says nothing and adds nothing. */
export function say(before: Utterance | null, role: "user" | "assistant", content: string): Utterance | null {
  const blocks = content.slice(content.indexOf("[") + 1, content.lastIndexOf("]")).trim()
  if (blocks === "") return before
  const known = before === null ? undefined : lastSaid.get(before)
  if (known !== undefined && known.role === role && known.blocks === blocks) return known
  const said: Utterance = {
    before,
    role,
    blocks,
    digest: sha256Hex(`${digestOf(before)}\n${role}\n${blocks}`),
    length: (before?.length ?? 0) + 1,
    size: (before?.size ?? 0) + blocks.length,
    whole: before?.whole ?? true,
  }
  if (before !== null) lastSaid.set(before, said)
  return said
}

/** Where a conversation that is not kept stands for all that was said up to there. */
export function forgotten(conversation: Utterance): Utterance {
  const { role, digest, length, size } = conversation
  return { before: null, role, blocks: "", digest, length, size, whole: false }
}

/** The same conversation, whole: `past` is what its forgotten part was. Throws where it was something else. */
export function recalled(conversation: Utterance, past: Utterance): Utterance {
  const since: Utterance[] = []
  let at: Utterance = conversation
  for (; at.before !== null; at = at.before) since.push(at)
  if (at.digest !== past.digest) throw new Error(`The conversation up to ${at.digest} is not the one up to ${past.digest}.`)
  return since.reduceRight<Utterance>((before, { role, blocks }) => say(before, role, `[${blocks}]`) as Utterance, past)
}

/** The end of what is forgotten of a conversation; null where all of it is there. */
export function forgottenPart(conversation: Utterance | null): Utterance | null {
  if (conversation === null || conversation.whole) return null
  let at = conversation
  while (at.before !== null) at = at.before
  return at
}

/** Oldest first. Throws where part of it is forgotten: nobody may take that for all that was said. */
export function utterances(conversation: Utterance | null): Utterance[] {
  assertWhole(conversation)
  const all: Utterance[] = []
  for (let at = conversation; at !== null; at = at.before) all.push(at)
  return all.reverse()
}

/** A message of the Messages API. */
export interface Message {
  readonly role: "user" | "assistant"
  readonly content: readonly unknown[]
}

/** The exact messages that a model is given: neighbours of one role are one message, as the API wants all results of a turn together. */
export function conversationMessages(conversation: Utterance | null): Message[] {
  return JSON.parse(`[${messagesText(conversation)}]`) as Message[]
}

/** The messages as canonical JSON text, comma separated. */
export function messagesText(conversation: Utterance | null): string {
  if (conversation === null) return ""
  assertWhole(conversation)
  let text = closing(conversation.role)
  for (let at: Utterance | null = conversation; at !== null; at = at.before)
    text = joint(at.before?.role ?? null, at.role) + at.blocks + text
  return text
}

export function assertWhole(conversation: Utterance | null): void {
  if (conversation?.whole === false) throw new Error("Part of the conversation is not in memory; recall it from the log first.")
}

/** The text between the blocks of two neighbouring utterances. */
export function joint(before: string | null, role: string): string {
  if (before === role) return ","
  return `${before === null ? "" : `${closing(before)},`}{"content":[`
}

export function closing(role: string): string {
  return `],"role":"${role}"}`
}
