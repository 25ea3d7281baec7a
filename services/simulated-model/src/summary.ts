import { blocksOf, isText, isToolResult, isToolUse, type MessagesRequest, textOf } from "./messages.ts"

/** How much of what was asked, and of the last result, a summary repeats. */
const quotedCharactersMax = 400

/** Whether a prompt asks for the summary of a conversation that became too long, as harnesses do. */
export function asksForSummary(prompt: string): boolean {
  return /write (the|a) (detailed )?summary\b/i.test(prompt)
}

/** A prompt without the summary that stands before it: what is asked is what follows. */
export function withoutSummary(prompt: string): string {
  const end = "</summary>"
  const at = prompt.lastIndexOf(end)
  return at < 0 || asksForSummary(prompt) ? prompt : prompt.slice(at + end.length).trim()
}

/** Whether the conversation is a summary and nothing else: what was under way is to go on. */
export function isSummaryAlone({ messages }: MessagesRequest): boolean {
  const text = messages.flatMap(({ content }) => blocksOf(content).filter(isText)).map(({ text }) => text)
  return messages.length === 1 && text.length > 0 && withoutSummary(text.join("\n")) === ""
}

/** What was asked first, how many calls were made, what the last brought: enough to see what a conversation was about. */
export function summarize({ messages }: MessagesRequest): string {
  const blocks = messages.flatMap(({ content }) => blocksOf(content))
  const asked = messages.find(({ role }) => role === "user")
  const first =
    asked === undefined
      ? ""
      : blocksOf(asked.content)
          .filter(isText)
          .map(({ text }) => text)[0]
  const calls = blocks.filter(isToolUse).length
  const last = blocks.filter(isToolResult).at(-1)
  return [
    `Asked: ${quoted(first ?? "")}.`,
    `Calls made: ${calls}.`,
    ...(last === undefined ? [] : [`The last result: ${quoted(textOf(last.content))}.`]),
  ].join(" ")
}

/** Orders in brackets are not to be carried out again because they are quoted. */
function quoted(text: string): string {
  const short = text.length <= quotedCharactersMax ? text : `${text.slice(0, quotedCharactersMax)}…`
  return JSON.stringify(short.replaceAll("[[", "[").replaceAll("<<", "<"))
}
