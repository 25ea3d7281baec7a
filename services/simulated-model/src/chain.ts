import { blocksOf, isText, isToolResult, isToolUse, type MessagesRequest, textOf } from "./messages.ts"
import { withoutSummary } from "./summary.ts"

/** A call that was made, with what came back. */
export interface MadeCall {
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
  readonly result: string
  readonly failed: boolean
}

/**
 * The conversation as the planner sees it: what was asked last, and what was done about it since. The server keeps nothing between
 * requests; whatever it knows, it knows from here.
 */
export interface Chain {
  /** The text of the last user message that has text. */
  readonly prompt: string
  /** The calls made for this prompt, one list a turn. */
  readonly turns: readonly (readonly MadeCall[])[]
  /** The calls of everything before this prompt, oldest first. */
  readonly earlier: readonly MadeCall[]
  /** Calls of before whose results came in the very message of this prompt: they have not been spoken of yet. */
  readonly unspoken: readonly MadeCall[]
}

export function chainOf({ messages }: MessagesRequest): Chain {
  const results = new Map<string, { readonly result: string; readonly failed: boolean }>()
  let promptAt = -1
  for (const [i, message] of messages.entries()) {
    if (message.role !== "user") continue
    for (const block of blocksOf(message.content)) {
      if (isToolResult(block)) results.set(block.tool_use_id, { result: textOf(block.content), failed: block.is_error === true })
      else if (isText(block)) promptAt = i
    }
  }
  const answeredAtPrompt = new Set<string>()
  const texts: string[] = []
  for (const block of blocksOf(messages[promptAt]?.content ?? [])) {
    if (isToolResult(block)) answeredAtPrompt.add(block.tool_use_id)
    else if (isText(block)) texts.push(block.text)
  }
  const turns: MadeCall[][] = []
  const earlier: MadeCall[] = []
  const unspoken: MadeCall[] = []
  for (const [i, message] of messages.entries()) {
    if (message.role !== "assistant") continue
    const made: MadeCall[] = []
    for (const block of blocksOf(message.content)) {
      if (!isToolUse(block)) continue
      const call: MadeCall = { name: block.name, input: block.input, ...(results.get(block.id) ?? { result: "", failed: true }) }
      made.push(call)
      if (answeredAtPrompt.has(block.id)) unspoken.push(call)
    }
    if (i < promptAt) earlier.push(...made)
    else if (made.length > 0) turns.push(made)
  }
  return { prompt: withoutSummary(texts.join("\n")), turns, earlier, unspoken }
}

/** The same call has the same key, whatever the order of its arguments. */
export function callKey(name: string, input: unknown): string {
  return `${name} ${JSON.stringify(input, (_key, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  )}`
}
