import { readFile } from "node:fs/promises"
import { SessionReader } from "@reins/runtime"
import { isStarted } from "@reins/session"
import { CliError } from "./fail.ts"
import type { Harness } from "./harness.ts"
import { configured, notFound } from "./open.ts"
import { commanding, type RunOptions } from "./run.ts"
import { type Answer, callMeant, commandOf, shownCall, type WaitingCall, waitingCalls } from "./waiting-calls.ts"

export function allow(sessionId: string, call: string | undefined, options: RunOptions): Promise<void> {
  return answer(sessionId, call, { is: "allow" }, options)
}

export function deny(sessionId: string, call: string | undefined, options: RunOptions & { readonly reason?: string }): Promise<void> {
  return answer(sessionId, call, { is: "deny", reason: options.reason ?? null }, options)
}

/** `result SESSION [CALL] TEXT`: the call may be left out, the text may not. */
export async function result(
  sessionId: string,
  first: string,
  second: string | undefined,
  options: RunOptions & { readonly error?: boolean },
): Promise<void> {
  const text = await textGiven(second ?? first)
  await answer(sessionId, second === undefined ? undefined : first, { is: "result", text, isError: options.error === true }, options)
}

async function textGiven(given: string): Promise<string> {
  if (!given.startsWith("@")) return given
  try {
    return await readFile(given.slice(1), "utf8")
  } catch (error) {
    throw new CliError(2, `The result's file cannot be read: ${(error as Error).message}.`)
  }
}

/** Answers a held call, says what exactly was answered, and shows what follows. */
async function answer(sessionId: string, call: string | undefined, given: Answer, options: RunOptions): Promise<void> {
  await commanding(options, async (harness, shown) => {
    const meant = callMeant(await waitingIn(harness, sessionId), call, given.is, sessionId)
    shown.aside(`${given.is}: ${shownCall(meant)}`)
    return commandOf(meant, given)
  })
}

async function waitingIn({ log, codec }: Harness, sessionId: string): Promise<readonly WaitingCall[]> {
  const reader = await SessionReader.open(log, codec, configured().prefix, sessionId)
  await reader?.read({ tools: false })
  if (reader === null || !isStarted(reader.session)) throw notFound(sessionId)
  return waitingCalls(reader.session)
}
