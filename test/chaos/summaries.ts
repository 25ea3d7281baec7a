import type { LoggedRecord } from "../scenarios/long-session.ts"

// What must be true of a conversation that is made short. A summary is a turn of its own: it is asked for, given, and then recorded as what the
// next request begins with. What a transcript leaves out is the product's to choose; all else is held to the letter.

/** A summary that was asked for. */
export interface Summary {
  /** Contents of the messages that follow it. */
  readonly taken: readonly string[]
  /** Its text, once it was given. */
  text: string | null
}

/** What an instruction adds to a transcript at most. */
const instructionMax = 1000

/** The text of an answer, where it is a summary. */
export function summaryIn({ value }: LoggedRecord): string | null {
  if (!["end_turn", "max_tokens", "stop_sequence"].includes(value.stopReason)) return null
  const blocks = JSON.parse(value.content as string) as readonly { readonly type: string; readonly text?: string }[]
  const text = blocks.flatMap(({ type, text: said }) => (type === "text" && said !== undefined ? [said] : []))
  return text.join("\n").trim() || null
}

/** Why these words do not stand for the summary that was given; null where they do. */
export function wrongContinuation(content: string, { text }: Summary): string | null {
  const blocks = JSON.parse(content) as readonly { readonly type: string; readonly text: string }[]
  const [block] = blocks
  if (text === null) return "no summary was given"
  if (blocks.length !== 1 || block?.type !== "text") return "is more than one text"
  return block.text.endsWith(`<summary>\n${text}\n</summary>`) ? null : "has other words than the summary that was given"
}

/** Why a request of at most so many characters is none for a transcript of a conversation that begins so; null where it is one. */
export function wrongTranscript(body: string, budget: number, beginning: string): string | null {
  const { messages, tools } = JSON.parse(body) as { messages: { role: string; content: { text?: string }[] }[]; tools?: unknown }
  const [message] = messages
  const [block] = message?.content ?? []
  const text = block?.text ?? ""
  if (messages.length !== 1 || message?.role !== "user" || message.content.length !== 1) return "is more than one message"
  if (tools !== undefined) return "offers tools"
  if (text.length > budget + instructionMax) return `has ${text.length} characters, ${budget} may be of the conversation`
  return text.startsWith(`<conversation>\nuser: ${beginning}`) ? null : "begins otherwise than the conversation"
}
