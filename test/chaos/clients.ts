import { setTimeout as sleep } from "node:timers/promises"
import { type LogRecord, partitionOf } from "@reins/log"
import { decodeRecord } from "@reins/log/codec"
import { type Admin, Kafka, logLevel, Partitioners, type Producer } from "kafkajs"
import { Random } from "../simulation/random.ts"
import { deleteSession } from "./deletions.ts"
import { answerTo, type PlannedSession } from "./sessions.ts"
import type { Watch } from "./watch.ts"
import { partitions, type World } from "./world.ts"

/** A command as it is sent. */
type Message = Parameters<Producer["send"]>[0]["messages"][number]
export type Held = Parameters<typeof answerTo>[2]

const sendAgainMs = 300
/** How long people take to say something about what is held. */
const answerMaxMs = 2500

/** Everyone who is no part of Reins: programs that send commands by a plain Kafka client, and people who look at what is held. */
export class Clients {
  /** By session, ids of commands in the order of their acknowledgements. */
  readonly acknowledged: Map<string, string[]> = new Map()
  /** Commands of the plans that were acknowledged. */
  commands = 0
  readonly producer: Producer
  readonly admin: Admin
  /** Asks without trying again, so that what it is told is what the brokers said. */
  readonly #prober: Producer
  readonly #world: World
  readonly #watch: Watch
  readonly #people: Random
  readonly #deleters: Random
  readonly #answered = new Set<string>()
  readonly #answering: Promise<void>[] = []
  /** The command that was acknowledged last: sent once more, it changes nothing. */
  #known: Message | undefined

  private constructor(world: World, watch: Watch, seed: number) {
    const client = new Kafka({
      brokers: world.kafka.bootstrap.split(","),
      clientId: "stranger",
      logLevel: logLevel.NOTHING,
      retry: { retries: 3 },
    })
    this.producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    this.#prober = client.producer({ createPartitioner: Partitioners.DefaultPartitioner, retry: { retries: 0 } })
    this.admin = client.admin()
    this.#world = world
    this.#watch = watch
    this.#people = new Random(seed).fork("people")
    this.#deleters = new Random(seed).fork("deleters")
  }

  static async connect(world: World, watch: Watch, seed: number): Promise<Clients> {
    const clients = new Clients(world, watch, seed)
    await Promise.all([clients.producer.connect(), clients.#prober.connect(), clients.admin.connect()])
    return clients
  }

  async disconnect(): Promise<void> {
    await Promise.allSettled([this.producer.disconnect(), this.#prober.disconnect(), this.admin.disconnect()])
  }

  /** Each session is spoken to as planned. */
  async follow(plans: readonly PlannedSession[]): Promise<void> {
    await Promise.all(plans.map((plan) => this.#speak(plan)))
  }

  async #speak(plan: PlannedSession): Promise<void> {
    const { sessionId, startsAtMs, commands, traits } = plan
    await sleep(startsAtMs)
    for (const { afterMs, value, misplaced } of commands) {
      await sleep(afterMs)
      await this.say(value, misplaced)
      this.commands++
      this.#watch.commanded(sessionId, value.type)
    }
    if (traits.doomed) await deleteSession(plan, (value) => this.say(value), this.#watch, this.#deleters)
  }

  /** Resolves once it is acknowledged. */
  async say(value: { readonly sessionId: string; readonly commandId: string }, misplaced = false): Promise<void> {
    const { sessionId, commandId } = value
    const home = partitionOf(sessionId, partitions)
    const message = { key: sessionId, value: JSON.stringify(value), ...(misplaced ? { partition: (home + 1) % partitions } : {}) }
    await this.#send(message)
    this.#known = message
    this.acknowledged.set(sessionId, [...(this.acknowledged.get(sessionId) ?? []), commandId])
  }

  /** Until it is acknowledged; a copy that stands all the same is the same command. */
  async #send(message: Message): Promise<void> {
    for (;;) {
      try {
        await this.producer.send({ topic: this.#world.names.commands, acks: -1, timeout: 5000, messages: [message] })
        return
      } catch {
        await sleep(sendAgainMs)
      }
    }
  }

  /** Whether what is known already is taken once more. */
  async isTaken(): Promise<boolean> {
    const message = this.#known
    if (message === undefined) throw new Error("No command was acknowledged yet.")
    return await this.#prober.send({ topic: this.#world.names.commands, acks: -1, timeout: 3000, messages: [message] }).then(
      () => true,
      () => false,
    )
  }

  // --- people: whatever is held they look at, and after a while they say something

  saw(record: LogRecord): void {
    if (record.headers["type"] !== "tool-call.held" || record.value === null) return
    const decoded = decodeRecord(this.#world.codec, "sessions", record)
    if (!decoded.ok) return
    const said = decoded.said as unknown as Held & { readonly sessionId: string }
    this.answer(said.sessionId, said, this.#people.int(0, answerMaxMs))
  }

  answer(sessionId: string, held: Held, afterMs: number): void {
    if (this.#answered.has(held.eventId)) return
    this.#answered.add(held.eventId)
    this.#answering.push(
      sleep(afterMs).then(() => this.#send({ key: sessionId, value: JSON.stringify(answerTo(this.#people, sessionId, held)) })),
    )
  }

  /** When all that people wanted to say is acknowledged. */
  async answers(): Promise<void> {
    await Promise.all(this.#answering)
  }
}
