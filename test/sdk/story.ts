// All of tier 1 of the Managed Agents API, driven by the unmodified SDK over a real socket. The server under it needs the model of
// `story-model.ts` and the backend `orders` of `orders.ts`; what else a harness may give is in `StoryContext`.
//
//   for (const { name, run } of story(client, context)) await it(name, run)

import type Anthropic from "@anthropic-ai/sdk"
import { agentSteps } from "./story-agents.ts"
import { compactionSteps } from "./story-compaction.ts"
import { environmentSteps } from "./story-environments.ts"
import { interruptSteps } from "./story-interrupts.ts"
import { listSteps } from "./story-lists.ts"
import { sessionSteps } from "./story-sessions.ts"
import { toolSteps } from "./story-tools.ts"
import { turnSteps } from "./story-turns.ts"
import { wireSteps } from "./story-wire.ts"
import { type Step, type StoryContext, Teller } from "./teller.ts"

export type { Step, StoryContext } from "./teller.ts"

/** The story, in the order in which it is best read; each step stands alone, so that any may be run by itself or in any order. */
export function story(client: Anthropic, context: StoryContext = {}): readonly Step[] {
  const teller = new Teller(client, context)
  return [agentSteps, environmentSteps, sessionSteps, turnSteps, compactionSteps, toolSteps, interruptSteps, listSteps, wireSteps].flatMap(
    (steps) => steps(teller).map((step) => teller.step(step)),
  )
}
