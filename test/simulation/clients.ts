import { type Log, partitionOf } from "@reins/log"
import type { Faults } from "./faults.ts"
import type { Random } from "./random.ts"
import { toolsOf } from "./tools.ts"
import type { VirtualTime } from "./virtual-time.ts"

/** A command whose client has its acknowledgement. */
export interface Acknowledged {
  readonly commandId: string
  readonly sessionId: string
  readonly partition: number
  readonly offset: number
  /** In the order in which its client sent it; null where that order cannot be asked of us (it was sent astray). */
  readonly order: number | null
}

export interface ClientWorld {
  readonly time: VirtualTime
  readonly random: Random
  readonly faults: Faults
  readonly log: Log
  readonly topic: string
  readonly partitions: number
  /** How long their stories last, in milliseconds. */
  readonly lastsMs: number
  acknowledged(command: Acknowledged): void
}

/** The agent that a client asks for. */
function agentOf(random: Random): Record<string, unknown> {
  const backends = Object.keys(toolsOf)
  return {
    model: "simulated",
    system: "You are simulated.",
    maxTokens: 100,
    tools: backends.flatMap((backend) => (toolsOf[backend] ?? []).map(([name]) => ({ name, backend }))),
    limits: random.chance(0.3) ? { turns: random.int(1, 6), toolCalls: random.int(0, 5), outputTokens: random.int(50, 400) } : {},
  }
}

/** Plans everything that people do to one session: say, interrupt, end, repeat themselves, get it wrong. Resolves when all is acknowledged. */
export async function client(world: ClientWorld, sessionId: string): Promise<void> {
  const { time, random, faults, partitions } = world
  const home = partitionOf(sessionId, partitions)
  const sent: Promise<void>[] = []
  let commands = 0
  let order = 0
  /** One at a time, as a client that waits for each acknowledgement. */
  let before: Promise<unknown> = Promise.resolve()
  const send = (command: Record<string, unknown>, id = `${sessionId}-c${++commands}`, mangled?: string): void => {
    const astray = random.chance(0.06)
    const named = random.chance(0.92) || mangled !== undefined
    const partition = astray ? random.int(0, partitions - 1) : home
    const body = { ...command, ...(named ? { commandId: id } : {}), sessionId }
    const value = Buffer.from(mangled ?? JSON.stringify(body))
    const at = partition === home ? order++ : null
    const append = async (): Promise<void> => {
      const placed = await world.log.append({
        topic: world.topic,
        partition,
        key: () => sessionId,
        value,
        headers: {},
        certainty: "always",
      })
      const commandId = named ? id : `cmd_${world.topic}-${partition}-${placed.offset}`
      world.acknowledged({ commandId, sessionId, partition, offset: placed.offset, order: at })
    }
    before = before.then(append)
    sent.push(before as Promise<void>)
    if (faults.strikes("command-again", 0.3)) {
      // The client did not hear and asks again later, or someone replays its topic.
      const afterMs = random.int(1, 3000)
      sent.push(
        before
          .then(() => time.sleep(afterMs))
          .then(async () => {
            await world.log.append({ topic: world.topic, partition, key: () => sessionId, value, headers: {}, certainty: "always" })
          }),
      )
    }
  }
  const pause = async (): Promise<void> => time.sleep((random.next() ** 2 * world.lastsMs) / 5)
  await time.sleep(random.next() * world.lastsMs * 0.3)
  if (random.chance(0.05)) send({ type: "message.send", content: "Too early." })
  const agent = random.chance(0.04) ? { ...agentOf(random), maxTokens: 0 } : agentOf(random)
  send({ type: "session.start", agent, ...(random.chance(0.6) ? { input: "Begin." } : {}) })
  for (let said = random.int(1, 6); said > 0; said--) {
    await pause()
    send({ type: "message.send", content: `Message ${commands} to ${sessionId}.` })
    if (random.chance(0.3)) {
      await time.sleep(random.int(1, 900))
      send({ type: "session.interrupt" })
    }
    if (random.chance(0.08))
      send({ type: "message.send", content: "Said again under the same id." }, `${sessionId}-c${random.int(1, commands)}`)
    if (random.chance(0.05)) send({ type: "message.send", content: 17 })
    if (random.chance(0.03)) send({ type: "session.fly" })
    if (random.chance(0.06)) send({ type: "session.resume" })
  }
  if (random.chance(0.35)) {
    await pause()
    send({ type: "session.end" })
    if (random.chance(0.3)) send({ type: "message.send", content: "Too late." })
  }
  await Promise.all(sent)
}
