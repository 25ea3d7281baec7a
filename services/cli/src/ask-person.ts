import { createInterface } from "node:readline/promises"
import type { CommandGiven } from "./harness.ts"
import { type Answer, canBe, commandOf, needs, shownCall, type WaitingCall } from "./waiting-calls.ts"

/** A person at a terminal: null where the question is left without an answer (Ctrl+D). */
export type Ask = (question: string) => Promise<string | null>

/** Asks about each call in turn; the commands that give the answers. What is left waits on. */
export async function askAbout(waiting: readonly WaitingCall[], ask: Ask, say: (text: string) => void): Promise<readonly CommandGiven[]> {
  const commands: CommandGiven[] = []
  for (const call of waiting) {
    say(`\n${shownCall(call)}\n  ${needs(call)}`)
    const answer = await askOne(call, ask, say)
    if (answer !== null) commands.push(commandOf(call, answer))
  }
  return commands
}

async function askOne(call: WaitingCall, ask: Ask, say: (text: string) => void): Promise<Answer | null> {
  const choices = [...(canBe("allow", call) ? ["[a]llow", "[d]eny"] : []), ...(canBe("result", call) ? ["[r]esult"] : []), "[l]eave it"]
  for (;;) {
    const said = await ask(`  ${choices.join(", ")}? `)
    if (said === null) return null
    const word = said.trim().toLowerCase()
    if (word === "") continue
    // Nothing is guessed: what a person approves they have named.
    if (canBe("allow", call) && (word === "a" || word === "allow")) return { is: "allow" }
    if (canBe("deny", call) && (word === "d" || word === "deny")) {
      const reason = await ask("  why (told to the model, may be empty): ")
      return reason === null ? null : { is: "deny", reason: reason.trim() === "" ? null : reason.trim() }
    }
    if (canBe("result", call) && (word === "r" || word === "result")) {
      const text = await ask("  its result: ")
      return text === null ? null : { is: "result", text, isError: false }
    }
    if (word === "l" || word === "leave") return null
    say(`  ${JSON.stringify(said.trim())} is none of them.`)
  }
}

/** A person can be asked here: they read stderr and type on stdin. */
export function isPersonHere(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY
}

/** Asks on stderr, so that stdout stays data. */
export async function withPerson<T>(use: (ask: Ask) => Promise<T>): Promise<T> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  const closed = new Promise<null>((resolve) => terminal.once("close", () => resolve(null)))
  try {
    return await use((question) => Promise.race([terminal.question(question), closed]))
  } finally {
    terminal.close()
  }
}
