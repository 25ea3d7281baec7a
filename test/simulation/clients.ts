import { type Log, partitionOf } from "@reins/log"
import type { Faults } from "./faults.ts"
import type { Random } from "./random.ts"
import { type RefCall, type RefSession, waitsFor } from "./reference.ts"
import { clientTools, toolsOf } from "./tools.ts"
import type { VirtualTime } from "./virtual-time.ts"

/** A command whose client has its acknowledgement. */
export interface Acknowledged {
  readonly commandId: string
  readonly sender: string
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
  /** The session as everyone may read it in the log. */
  look(sessionId: string): RefSession | undefined
}

/** Tools as a client names them: some are asked about each time, some are held where nobody knows what became of a call. */
function toolsFor(random: Random, asks: number, holds: number): Record<string, unknown> {
  const set = (): Record<string, unknown> => ({
    ...(random.chance(asks) ? { permission: "always_ask" } : {}),
    ...(random.chance(holds) ? { onUnknown: "hold" } : {}),
  })
  const asServer = random.chance(0.2)
  const own = Object.keys(toolsOf).filter((backend) => !(asServer && backend === "second"))
  const tools: unknown[] = own.flatMap((backend) => (toolsOf[backend] ?? []).map(([name]) => ({ name, backend, ...set() })))
  if (random.chance(asks > 0 ? 0.7 : 0.2))
    for (const name of clientTools)
      tools.push({
        name,
        backend: "client",
        inputSchema: { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false },
      })
  return { tools, ...(asServer ? { toolsets: [{ backend: "second", server: "orders", ...set() }] } : {}) }
}

/** The agent that a client asks for. */
function agentOf(random: Random, asks: number, holds: number): Record<string, unknown> {
  return {
    model: "simulated",
    system: "You are simulated.",
    maxTokens: 100,
    // Small enough for a conversation of a few turns to outgrow it.
    ...(random.chance(0.4) ? { contextTokens: random.int(1000, 2500) } : {}),
    ...toolsFor(random, asks, holds),
    limits: random.chance(0.3) ? { turns: random.int(1, 6), toolCalls: random.int(0, 5), outputTokens: random.int(50, 400) } : {},
  }
}

type Send = (command: Record<string, unknown>, id?: string) => void

interface Sender {
  readonly name: string
  readonly send: Send
  /** How many it has sent. */
  count(): number
  acknowledged(): Promise<unknown>
}

/** Someone who sends commands about one session, one at a time, as a client that waits for each acknowledgement. */
function sender(world: ClientWorld, sessionId: string, name: string): Sender {
  const { time, random, faults, partitions } = world
  const home = partitionOf(sessionId, partitions)
  const sent: Promise<void>[] = []
  let commands = 0
  let order = 0
  let before: Promise<unknown> = Promise.resolve()
  const send: Send = (command, id = `${sessionId}-${name}${++commands}`) => {
    const astray = random.chance(0.06)
    const named = random.chance(0.92)
    const partition = astray ? random.int(0, partitions - 1) : home
    const value = Buffer.from(JSON.stringify({ ...command, ...(named ? { commandId: id } : {}), sessionId }))
    const at = partition === home ? order++ : null
    const append = {
      topic: world.topic,
      partition,
      key: () => sessionId,
      value,
      headers: { session: sessionId },
      certainty: "always",
    } as const
    const first = async (): Promise<void> => {
      const placed = await world.log.append(append)
      const commandId = named ? id : `cmd_${world.topic}-${partition}-${placed.offset}`
      world.acknowledged({ commandId, sender: `${sessionId}-${name}`, partition, offset: placed.offset, order: at })
    }
    before = before.then(first)
    sent.push(before as Promise<void>)
    if (faults.strikes("command-again", 0.3)) {
      // The client did not hear and asks again later, or someone replays its topic.
      const afterMs = random.int(1, 3000)
      const again = async (): Promise<void> => {
        await time.sleep(afterMs)
        await world.log.append(append)
      }
      sent.push(before.then(again))
    }
  }
  return { name, send, count: () => commands, acknowledged: () => Promise.all(sent) }
}

/** Plans everything that people do to one session: say, interrupt, end, repeat themselves, get it wrong. Resolves when all is acknowledged. */
export async function client(world: ClientWorld, sessionId: string): Promise<void> {
  const { time, random } = world
  const { send, count, acknowledged } = sender(world, sessionId, "c")
  // In more than half of the sessions nobody has to be asked, so that these are as busy as they can be.
  const asks = random.chance(0.4) ? random.next() : 0
  const holds = random.pick([0, 0, 0.5, 1])
  const pause = async (): Promise<void> => time.sleep((random.next() ** 2 * world.lastsMs) / 5)
  const update = (): void => {
    const changes = {
      ...(random.chance(0.6) ? { title: random.chance(0.9) ? `Title ${count()}` : null } : {}),
      ...(random.chance(0.4) ? { metadata: { n: `${count()}` } } : {}),
    }
    send({ type: "session.update", changes, ...(random.chance(0.5) ? { agent: toolsFor(random, asks, holds) } : {}) })
  }
  await time.sleep(random.next() * world.lastsMs * 0.3)
  if (random.chance(0.05)) send({ type: "message.send", content: "Too early." })
  const agent = random.chance(0.04) ? { ...agentOf(random, asks, holds), maxTokens: 0 } : agentOf(random, asks, holds)
  send({ type: "session.start", agent, ...(random.chance(0.6) ? { input: "Begin." } : {}), ...(random.chance(0.2) ? { title: "T" } : {}) })
  const answering = answer(world, sessionId)
  for (let said = random.int(1, 6); said > 0; said--) {
    await pause()
    send({ type: "message.send", content: `Message ${count()} to ${sessionId}.` })
    if (random.chance(0.3)) {
      await time.sleep(random.int(1, 900))
      send({ type: "session.interrupt" })
      if (random.chance(0.15)) {
        // What was under way then comes to an end after the deletion.
        await time.sleep(random.int(10, 500))
        send({ type: random.pick(["session.delete", "session.archive"]) })
      }
    }
    if (random.chance(0.08))
      send({ type: "message.send", content: "Said again under the same id." }, `${sessionId}-c${random.int(1, count())}`)
    if (random.chance(0.05)) send({ type: "message.send", content: 17 })
    if (random.chance(0.03)) send({ type: "session.fly" })
    if (random.chance(0.06)) send({ type: "session.resume" })
    if (random.chance(0.2)) {
      await time.sleep(random.int(0, 1500))
      update()
    }
    // Refused wherever the session is running.
    if (random.chance(0.06)) send({ type: random.pick(["session.delete", "session.archive"]) })
  }
  await pause()
  const closings = random.pick([[], [], [], ["end"], ["end"], ["archive"], ["delete"], ["end", "delete"], ["archive", "delete"]])
  for (const closing of closings) {
    send({ type: `session.${closing}` })
    if (random.chance(0.3)) send({ type: "message.send", content: "Too late." })
    if (random.chance(0.2)) update()
    if (random.chance(0.2)) send({ type: "session.start", agent, input: "Again." })
    await time.sleep(random.int(0, 2000))
  }
  await Promise.all([acknowledged(), answering])
}

/**
 * Those who are asked, and the session's client that runs its own tools: they allow, deny and give results, as soon as the call can be
 * seen or much later; and they get it wrong in every way.
 */
async function answer(world: ClientWorld, sessionId: string): Promise<void> {
  const { time, random } = world
  const { send, count, acknowledged } = sender(world, sessionId, "a")
  const everyMs = random.pick([60, 300, 1000]) * Math.max(1, world.lastsMs / 25_000)
  const saidAt = new Map<string, number>()
  const past: string[] = ["toolu_nosuch"]
  while (time.now < world.lastsMs) {
    await time.sleep(Math.ceil(random.next() * 2 * everyMs))
    const session = world.look(sessionId)
    if (session === undefined) continue
    for (const call of session.calls) {
      const reason = waitsFor(session, call)
      const asked = `${call.id}/${call.hold?.id ?? "early"}`
      // Once said it is waited for a while, in case it counted.
      if (reason === null || random.chance(0.4) || time.now - (saidAt.get(asked) ?? Number.NEGATIVE_INFINITY) < 1500) continue
      saidAt.set(asked, time.now)
      if (random.chance(0.06)) send(answerOf(random, { ...call, id: random.pick(past) }, reason, count()))
      if (random.chance(0.06)) send(answerOf(random, call, random.pick(["approval", "client"]), count()))
      if (random.chance(0.06)) send({ ...approval(random, call, "allow"), argumentsHash: random.pick(["", call.hash.replace(/./g, "0")]) })
      if (random.chance(0.04)) send({ type: random.pick(["session.interrupt", "session.archive", "session.delete", "session.end"]) })
      if (random.chance(0.1)) send({ type: "message.send", content: "While you wait." })
      send(answerOf(random, call, reason, count()))
      if (random.chance(0.15)) {
        if (random.chance(0.5)) await time.sleep(random.int(1, 2000))
        send(answerOf(random, call, reason, count()))
      }
      past.push(call.id)
    }
    if (past.length > 1 && random.chance(0.03)) send({ type: "approval.give", toolUseId: random.pick(past), decision: "allow" })
  }
  await acknowledged()
}

/** What someone says who means it. */
export function answerOf(
  random: Random,
  call: RefCall,
  reason: "approval" | "client" | "outcome_unknown",
  n: number,
): Record<string, unknown> {
  const gives = reason === "client" || (reason === "outcome_unknown" && random.chance(0.4))
  if (!gives) return approval(random, call, random.chance(0.75) ? "allow" : "deny")
  const content = `Given for ${call.id}, ${n}.`
  return {
    type: "result.give",
    toolUseId: call.id,
    ...(random.chance(0.9) ? { content: random.chance(0.5) ? content : [{ type: "text", text: content }] } : {}),
    ...(random.chance(0.15) ? { isError: true } : {}),
  }
}

function approval(random: Random, call: RefCall, decision: "allow" | "deny"): Record<string, unknown> {
  return {
    type: "approval.give",
    toolUseId: call.id,
    decision,
    ...(random.chance(0.5) ? { argumentsHash: call.hash } : {}),
    ...(decision === "deny" && random.chance(0.5) ? { message: `Not ${call.id}.` } : {}),
  }
}
