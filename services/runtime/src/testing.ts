import type { ToolDeclared } from "@reins/events"
import type { Session } from "@reins/session"
import type { Story } from "@reins/session/testing"
import type { Draft, Intent, View } from "./service.ts"

/** How a decision looks at a story: from which process, when, and what it knows beside the log. */
export interface Sight {
  /** Log time; the story's own unless said. */
  readonly now?: number
  readonly group?: string
  readonly instance?: string
  /** What is read back, where the story tells more: the rest is appended and on its way. */
  readonly settled?: Session
  readonly sessionsNext?: number
  /** Where records begin that a deletion has to erase. */
  readonly standing?: number
  /** Whether something of the session cannot be read. */
  readonly unread?: boolean
  /** Instances that have left their group. */
  readonly gone?: readonly string[]
  readonly declared?: readonly ToolDeclared[]
  /** Claims that were given up before they stood. */
  readonly givenUp?: readonly string[]
  /** Keys of effects that this process has begun. */
  readonly begun?: readonly string[]
}

/** The view of a story, for tests of decisions: everything in it is read back unless `settled` says otherwise. */
export function viewOf(story: Story, sight: Sight = {}): View {
  const { sessionId, session } = story
  return {
    sessionId,
    now: sight.now ?? story.now,
    group: sight.group ?? story.group,
    instance: sight.instance ?? story.instance,
    session,
    settled: sight.settled ?? session,
    unread: sight.unread ?? false,
    sessionsNext: sight.sessionsNext ?? story.records.length,
    standing: sight.standing ?? null,
    toolCall: (backend, toolUseId) => story.tools.get(backend)?.get(sessionId, toolUseId),
    openToolCalls: () =>
      [...story.tools].flatMap(([backend, fold]) => [...fold.openOf(sessionId)].map((call) => ({ backend, call, ahead: call }))),
    declaration: (backend, tool) => {
      const of = (name: string): ToolDeclared | undefined => sight.declared?.find((one) => one.backend === backend && one.tool === name)
      return of(tool) ?? of("*")
    },
    declarationsOf: (backend) => sight.declared?.filter((one) => one.backend === backend) ?? [],
    gone: (_group, instance) => sight.gone?.includes(instance) === true,
    givenUp: (claim) => sight.givenUp?.includes(claim) === true,
    begun: (key) => sight.begun?.includes(key) === true,
  }
}

/** The facts among the intents, in their order. */
export function saidIn(intents: readonly Intent<unknown>[]): readonly Draft["event"][] {
  return intents.flatMap((intent) => (intent.do === "append" ? [intent.event] : []))
}
