import type { HeldReason } from "@reins/events"
import { callEventId, isStarted, type Session, sha256Hex } from "@reins/session"
import { CliError } from "./fail.ts"
import type { CommandGiven } from "./harness.ts"
import { clean } from "./render.ts"

/** A call that waits for someone, as a person is to see it before deciding. */
export interface WaitingCall {
  readonly sessionId: string
  readonly agent: string
  readonly toolUseId: string
  /** What the API calls it. */
  readonly eventId: string
  /** The eventId of its `tool-call.held`. */
  readonly heldBy: string
  readonly tool: string
  readonly reason: HeldReason
  /** Canonical JSON: exactly what would be run. */
  readonly arguments: string
  /** Of these arguments: an answer is bound to what was shown. */
  readonly argumentsHash: string
  readonly message: string | null
}

export function waitingCalls(session: Session): readonly WaitingCall[] {
  if (!isStarted(session) || session.phase !== "awaiting-tools") return []
  const { sessionId, agent } = session
  return session.calls.flatMap(({ toolUseId, tool, input, state }) =>
    state.is === "held"
      ? [
          {
            sessionId,
            agent: agent.name,
            toolUseId,
            eventId: callEventId(session, toolUseId),
            heldBy: state.eventId,
            tool,
            reason: state.reason,
            arguments: input,
            argumentsHash: sha256Hex(input),
            message: state.message,
          },
        ]
      : [],
  )
}

export type Answer =
  | { readonly is: "allow" }
  | { readonly is: "deny"; readonly reason: string | null }
  | { readonly is: "result"; readonly text: string; readonly isError: boolean }

/** Whether this answer is one that a call of this kind can be given. */
export function canBe(answer: Answer["is"], { reason }: WaitingCall): boolean {
  return answer === "result" ? reason !== "approval" : reason !== "client"
}

/** The call that is meant: by its id, or by the API's id of it; without one, the only one that waits for such an answer. Throws a CliError saying what there is. */
export function callMeant(
  waiting: readonly WaitingCall[],
  given: string | undefined,
  answer: Answer["is"],
  sessionId: string,
): WaitingCall {
  if (given !== undefined) {
    const call = waiting.find(({ toolUseId, eventId }) => toolUseId === given || eventId === given)
    if (call === undefined) throw new CliError(3, `No call ${clean(given)} waits in the session ${sessionId}. ${whatWaits(waiting)}`)
    if (!canBe(answer, call)) throw new CliError(2, `The call ${clean(call.toolUseId)} ${needs(call)}: \`${answer}\` is no answer to it.`)
    return call
  }
  const fitting = waiting.filter((call) => canBe(answer, call))
  const [only] = fitting
  if (only === undefined)
    throw new CliError(waiting.length === 0 ? 3 : 2, `No call of the session ${sessionId} waits for \`${answer}\`. ${whatWaits(waiting)}`)
  if (fitting.length > 1) throw new CliError(2, `${fitting.length} calls wait: say which one is meant. ${whatWaits(fitting)}`)
  return only
}

function whatWaits(waiting: readonly WaitingCall[]): string {
  if (waiting.length === 0) return "Nothing waits there."
  return `There wait: ${waiting.map(({ toolUseId, tool }) => `${clean(toolUseId)} (${clean(tool)})`).join(", ")}.`
}

/** The command that gives this answer to what was shown. */
export function commandOf({ sessionId, toolUseId, argumentsHash }: WaitingCall, answer: Answer): CommandGiven {
  switch (answer.is) {
    case "allow":
      return { type: "approval.give", sessionId, toolUseId, decision: "allow", argumentsHash }
    case "deny": {
      const reason = answer.reason === null ? {} : { message: answer.reason }
      return { type: "approval.give", sessionId, toolUseId, decision: "deny", argumentsHash, ...reason }
    }
    case "result": {
      const content = answer.text === "" ? {} : { content: [{ type: "text", text: answer.text }] }
      return { type: "result.give", sessionId, toolUseId, isError: answer.isError, ...content }
    }
    default:
      return answer satisfies never
  }
}

/** What a call needs, for a person. */
export function needs({ reason }: WaitingCall): string {
  switch (reason) {
    case "approval":
      return "waits for an approval"
    case "client":
      return "is run by the client, which gives its result"
    case "outcome_unknown":
      return "may have run: say what became of it, or allow it to run again"
    default:
      return reason satisfies never
  }
}

/**
 * A call as it is to be decided on: the tool, and the arguments whole. Marks that turn the direction of writing or show as nothing are
 * escaped as JSON escapes them, so that what is read is what is run.
 */
export function shownCall({ toolUseId, tool, arguments: input, message }: WaitingCall): string {
  return `${clean(toolUseId)}  ${clean(tool)}(${exact(input)})${message === null ? "" : `  ${clean(message)}`}`
}

/** Format marks, halves of surrogate pairs, separators of lines, and letters that show as nothing. */
const misleading = /[\p{DI}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

function exact(json: string): string {
  return clean(json).replace(misleading, (mark) =>
    Array.from({ length: mark.length }, (_, index) => `\\u${mark.charCodeAt(index).toString(16).padStart(4, "0")}`).join(""),
  )
}

/** What waits and, for each call, the commands that answer it. */
export function nextCommands(waiting: readonly WaitingCall[]): string {
  return waiting
    .map((call) => {
      const target = `${shellWord(call.sessionId)} ${shellWord(call.toolUseId)}`
      const commands = [
        ...(canBe("allow", call) ? [`npx reins sessions allow ${target}`, `npx reins sessions deny ${target} --reason "…"`] : []),
        ...(canBe("result", call) ? [`npx reins sessions result ${target} "…"`] : []),
      ]
      return [`  ${shownCall(call)}  ${needs(call)}`, ...commands.map((command) => `    ${command}`)].join("\n")
    })
    .join("\n")
}

/** The ids of calls come from models: in a command that a person copies, none of it may mean anything to a shell. */
function shellWord(text: string): string {
  return /^[\w.:-]+$/.test(text) && !text.startsWith("-") ? text : `'${clean(text).replaceAll("'", "'\\''")}'`
}
