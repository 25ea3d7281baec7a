import { randomBytes } from "node:crypto"
import process from "node:process"
import { fileURLToPath } from "node:url"
import KafkaJs from "kafkajs"
import { Actors, readyToStop } from "./actors.ts"
import { type Figures, Stopwatch } from "./workload.ts"

/**
 * The raw floor: the appends of a turn with one `unsafe` tool in the same order, with bare kafkajs and nothing of Reins: no schema, no
 * fold, no model, no check; what Kafka and its client cost by themselves. One letter a record:
 * u user, q requested, r responded, t dispatched, T dispatched to the backend, c claimed, F finished, d completed.
 */
interface Said {
  readonly session: number
  readonly turn: number
  readonly letter: string
}

type Topic = "sessions" | "tools"

const partitions = 8
const padding = "x".repeat(400)

/** What follows from a record once it is read back; `chained` follows in the same batch. */
const next: Readonly<Record<string, readonly (readonly [Topic, string])[]>> = {
  u: [["sessions", "q"]],
  d: [["sessions", "q"]],
  q: [["sessions", "r"]],
  r: [["sessions", "t"]],
  t: [["tools", "T"]],
  T: [["tools", "c"]],
  c: [["tools", "F"]],
  F: [["sessions", "d"]],
}
const roles: Readonly<Record<string, string>> = { "llm-invoker": "udq", "tool-router": "rtF", worker: "Tc" }
/** Decisions that need nothing from outside leave in one batch with what they were decided on. */
const chain: Readonly<Record<string, string>> = { d: "q", r: "t", T: "c" }

function client(id: string): KafkaJs.Kafka {
  return new KafkaJs.Kafka({ clientId: id, brokers: [process.env["FLOOR_BROKER"] as string], logLevel: KafkaJs.logLevel.NOTHING })
}

/** Group commit as in Reins: one send in flight, the rest collects. */
class Batcher {
  readonly #producer: KafkaJs.Producer
  readonly #topic: string
  readonly #placed: (topic: Topic, partition: number, base: number, said: readonly Said[]) => void
  #queue: [Topic, Said][] = []
  #busy = false

  constructor(
    producer: KafkaJs.Producer,
    topic: string,
    placed: (topic: Topic, partition: number, base: number, said: readonly Said[]) => void,
  ) {
    this.#producer = producer
    this.#topic = topic
    this.#placed = placed
  }

  append(topic: Topic, said: Said): void {
    this.#queue.push([topic, said])
    if (!this.#busy) void this.#flush()
  }

  async #flush(): Promise<void> {
    this.#busy = true
    await Promise.resolve()
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, 500)
      const lanes = new Map<string, { topic: Topic; partition: number; said: Said[] }>()
      for (const [topic, said] of batch) {
        const partition = said.session % partitions
        const id = `${topic}${partition}`
        const lane = lanes.get(id) ?? { topic, partition, said: [] }
        lane.said.push(said)
        lanes.set(id, lane)
      }
      const messages = (topic: Topic): KafkaJs.Message[] =>
        batch
          .filter(([of]) => of === topic)
          .map(([, said]) => ({
            key: `${said.session}/${said.turn}${said.letter}`,
            value: JSON.stringify({ ...said, padding }),
            partition: said.session % partitions,
          }))
      const topicMessages = (["sessions", "tools"] as const)
        .map((topic) => ({ topic: this.#topic + topic, messages: messages(topic) }))
        .filter((one) => one.messages.length > 0)
      const answers = await this.#producer.sendBatch({ acks: -1, topicMessages })
      for (const { topicName, partition, baseOffset } of answers) {
        const topic = topicName.endsWith("tools") ? "tools" : "sessions"
        this.#placed(topic, partition, Number(baseOffset), lanes.get(`${topic}${partition}`)?.said ?? [])
      }
    }
    this.#busy = false
  }
}

/** One process: acts on the letters of its roles as it reads them back; alone in its group it also takes them at the acknowledgement. */
async function act(base: string, letters: string, hosted: boolean, turnBegan: (said: Said) => void): Promise<Batcher> {
  const kafka = client(`floor-${letters}`)
  const producer = kafka.producer({ retry: { retries: 0 } })
  await producer.connect()
  const positions = new Map<string, number>()
  const react = (said: Said): void => {
    if (said.letter === "q") turnBegan(said)
    if (!letters.includes(said.letter)) return
    for (const [topic, letter] of next[said.letter] ?? []) say(topic, { ...said, letter, turn: letter === "q" ? said.turn + 1 : said.turn })
  }
  const say = (topic: Topic, said: Said): void => {
    batcher.append(topic, said)
    const chained = chain[said.letter]
    if (chained !== undefined && letters.includes(said.letter))
      batcher.append(topic, { ...said, letter: chained, turn: chained === "q" ? said.turn + 1 : said.turn })
  }
  const heard = (topic: Topic, partition: number, offset: number, said: Said): void => {
    const id = `${topic}${partition}`
    if (offset < (positions.get(id) ?? 0)) return
    positions.set(id, offset + 1)
    if (letters.includes(said.letter) && chain[said.letter] !== undefined && ownChain(said.letter)) {
      if (said.letter === "q") turnBegan(said)
      return
    }
    react(said)
  }
  // What this process says itself it has chained already.
  const ownChain = (letter: string): boolean =>
    Object.entries(next).some(([from, to]) => letters.includes(from) && to.some(([, said]) => said === letter))
  const batcher = new Batcher(producer, base, (topic, partition, offset, said) => {
    if (!hosted || (positions.get(`${topic}${partition}`) ?? 0) !== offset) return
    said.forEach((one, index) => heard(topic, partition, offset + index, one))
  })
  const consumer = kafka.consumer({ groupId: `${base}${letters}`, maxWaitTimeInMs: 200, sessionTimeout: 30_000 })
  await consumer.connect()
  await consumer.subscribe({ topics: [`${base}sessions`, `${base}tools`], fromBeginning: true })
  const joined = new Promise<void>((resolve) => void consumer.on(consumer.events.GROUP_JOIN, () => resolve()))
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 4,
    eachBatch: async ({ batch }) => {
      const topic: Topic = batch.topic.endsWith("tools") ? "tools" : "sessions"
      for (const message of batch.messages) heard(topic, batch.partition, Number(message.offset), JSON.parse(String(message.value)) as Said)
    },
  })
  await joined
  return batcher
}

/** Measures the floor of a shape: all roles in one process, or each in a process and group of its own. */
async function floor(shape: "hosted" | "apart", sessions: number, turns: number, bootstrap: string): Promise<Figures> {
  const env = { ...process.env, FLOOR_BROKER: bootstrap }
  process.env["FLOOR_BROKER"] = bootstrap
  const base = `floor-${randomBytes(4).toString("hex")}-`
  const admin = client("floor-admin").admin()
  await admin.connect()
  await admin.createTopics({
    waitForLeaders: false,
    topics: [
      { topic: `${base}sessions`, numPartitions: partitions },
      { topic: `${base}tools`, numPartitions: partitions },
    ],
  })
  // kafkajs's own wait fails where the metadata are a moment behind.
  await new Promise((resolve) => setTimeout(resolve, 1000))
  const actors = new Actors()
  try {
    for (const role of shape === "hosted" ? ["hosted"] : Object.keys(roles)) {
      actors.start(fileURLToPath(import.meta.url), [base, role], env)
    }
    await actors.ready()
    const watch = new Stopwatch(sessions, turns)
    const driver = await act(base, "", false, (said) => watch.turn(String(said.session), said.turn))
    watch.begin()
    for (let session = 0; session < sessions; session++) driver.append("sessions", { session, turn: 0, letter: "u" })
    await watch.finished
    const figures = watch.figures()
    const cpuMs = await actors.stop()
    return { ...figures, cpuMsPerTurn: Number((cpuMs / sessions / turns).toFixed(3)) }
  } finally {
    actors.kill()
    await admin.deleteTopics({ topics: [`${base}sessions`, `${base}tools`] }).catch(() => undefined)
    await admin.disconnect()
  }
}

// Its own program, as bare kafkajs must not share a process with ours, which patches it: `floor.ts SHAPE SESSIONS TURNS BOOTSTRAP` measures
// and prints; as a child it plays one role.
const [first, second, ...more] = process.argv.slice(2) as [string, string, ...string[]]
if (process.send !== undefined) {
  await act(first, second === "hosted" ? Object.values(roles).join("") : (roles[second] as string), second === "hosted", () => undefined)
  readyToStop()
} else {
  process.stdout.write(`${JSON.stringify(await floor(first as "hosted" | "apart", Number(second), Number(more[0]), more[1] as string))}\n`)
  process.exit(0)
}
