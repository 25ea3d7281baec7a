import { CliError } from "./fail.ts"
import type { CommandGiven } from "./harness.ts"
import { type Answer, callMeant, commandOf, type WaitingCall } from "./waiting-calls.ts"

/** What a line typed into a session asks for. */
export type Typed =
  | { readonly does: "command"; readonly command: CommandGiven; readonly call: WaitingCall | null }
  | { readonly does: "quit" }
  | { readonly does: "nothing" }

export const lineHelp =
  "Type to say something; /allow [call], /deny [call] [reason], /result [call] text, /interrupt, /quit; a line that begins with // begins with /."

/** Reads one line against what waits now. Throws a CliError that says what is wrong with it. */
export function readLine(text: string, sessionId: string, waiting: readonly WaitingCall[]): Typed {
  const line = text.trim()
  if (line === "") return { does: "nothing" }
  if (!line.startsWith("/") || line.startsWith("//")) {
    const said = line.startsWith("//") ? line.slice(1) : line
    return { does: "command", command: { type: "message.send", sessionId, content: [{ type: "text", text: said }] }, call: null }
  }
  const [, word, rest] = /^\/(\S*)\s*([\s\S]*)$/.exec(line) as unknown as [string, string, string]
  switch (word) {
    case "quit":
      return { does: "quit" }
    case "interrupt":
      return { does: "command", command: { type: "session.interrupt", sessionId }, call: null }
    case "allow":
      return answering({ is: "allow" }, rest === "" ? undefined : rest)
    case "deny": {
      const [call, reason] = callAndRest(rest)
      return answering({ is: "deny", reason: reason === "" ? null : reason }, call)
    }
    case "result": {
      const [call, said] = callAndRest(rest)
      if (said === "") throw new CliError(2, "/result takes the text of the result.")
      return answering({ is: "result", text: said, isError: false }, call)
    }
    default:
      throw new CliError(2, `There is no /${word}. ${lineHelp}`)
  }

  function answering(answer: Answer, given: string | undefined): Typed {
    const call = callMeant(waiting, given, answer.is, sessionId)
    return { does: "command", command: commandOf(call, answer), call }
  }

  /** The first word is a call where it is the id of one that waits, else it belongs to the text. */
  function callAndRest(words: string): [call: string | undefined, rest: string] {
    const [, first, others] = /^(\S*)\s*([\s\S]*)$/.exec(words) as unknown as [string, string, string]
    const isCall = waiting.some(({ toolUseId, eventId }) => toolUseId === first || eventId === first)
    return isCall ? [first, others] : [undefined, words]
  }
}
