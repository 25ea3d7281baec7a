import { setTimeout as sleep } from "node:timers/promises"
import type { Random } from "../simulation/random.ts"
import type { PlannedSession } from "./sessions.ts"
import { canaryOf } from "./traits.ts"
import type { Watch } from "./watch.ts"

/** How long it is waited for a deletion before it is asked for again: one that runs is refused. */
const askAgainMs = 2500
/** At most this often: whoever cannot be deleted until then is found to be there. */
const asksMax = 100
/** Some rest for so long that their snapshot is written. */
const restMs = { min: 2000, max: 12_000 }

type Say = (value: {
  readonly type: string
  readonly commandId: string
  readonly sessionId: string
  readonly [field: string]: unknown
}) => Promise<void>

/** Has a session deleted, as any client would, and speaks to it once more when it is. */
export async function deleteSession(
  { sessionId, traits, commands }: PlannedSession,
  say: Say,
  watch: Watch,
  random: Random,
): Promise<void> {
  let count = 0
  const command = (type: string, more: object = {}): Promise<void> =>
    say({ type, commandId: `${sessionId}-deletion-${count++}`, sessionId, ...more })
  // Who waits for people would be kept until they have answered.
  if (traits.asks || random.chance(0.3)) await command("session.end")
  await sleep(random.int(restMs.min, restMs.max))
  for (let asks = 0; asks < asksMax && !watch.isDeleted(sessionId); asks++) {
    await command("session.delete")
    for (const until = Date.now() + askAgainMs; Date.now() < until && !watch.isDeleted(sessionId); ) await sleep(20)
  }
  await sleep(random.int(0, 1000))
  await command("message.send", { content: `Are you still there? ${canaryOf(sessionId)}` })
  if (random.chance(0.5)) await command("session.start", { ...commands[0]?.value, commandId: `${sessionId}-deletion-${count}` })
}
