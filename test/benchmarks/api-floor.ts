import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import process from "node:process"
import { DatabaseSync } from "node:sqlite"
import KafkaJs from "kafkajs"
import { nowMs } from "./api-client.ts"
import { answerQuestions } from "./api-process.ts"

// The floor of the API, with nothing of Reins: a bare server that answers the same bytes; for a send after two durable appends in a chain,
// and two more behind the answer, as the turn takes them; for streams a bare fan-out of the same frames at the same distances in time.
// `api-floor.ts sqlite FILE` or `api-floor.ts kafka BROKER TOPIC`.

/** What one record of a turn became, and how long after the first one it stood. */
export interface Shot {
  readonly afterMs: number
  readonly frames: readonly { readonly type: string; readonly data: string }[]
}

const [kind, place = "", topic = ""] = process.argv.slice(2)
/** Records of the appends of one send: the command; the fact, and the model request that is decided on it; the response; the end of the turn. */
const chain = [1, 2, 1, 1] as const
const answeredAfter = 2
const record = "x".repeat(500)

type Write = (records: readonly string[]) => Promise<void>

/** One transaction, synced to disk. It waits for what all sockets that are ready now have to say, as ours does. */
function sqlite(file: string): Write {
  const db = new DatabaseSync(file)
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE records (value TEXT)")
  const insert = db.prepare("INSERT INTO records VALUES (?)")
  return async (records) => {
    db.exec("BEGIN")
    for (const one of records) insert.run(one)
    db.exec("COMMIT")
  }
}

async function kafka(broker: string): Promise<Write> {
  const client = new KafkaJs.Kafka({ clientId: "floor", brokers: [broker], logLevel: KafkaJs.logLevel.NOTHING })
  const admin = client.admin()
  await admin.connect()
  await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: 8 }] })
  await admin.disconnect()
  const producer = client.producer({ createPartitioner: KafkaJs.Partitioners.DefaultPartitioner })
  await producer.connect()
  return async (records) => {
    await producer.send({ topic, acks: -1, messages: records.map((value, index) => ({ partition: index % 8, value })) })
  }
}

/** Group commit: one write in flight, the rest collects. */
class Appender {
  readonly #write: Write
  #waiting: { readonly records: readonly string[]; readonly done: () => void }[] = []
  #busy = false

  constructor(write: Write) {
    this.#write = write
  }

  append(count: number): Promise<void> {
    return new Promise((done) => {
      this.#waiting.push({ records: Array.from({ length: count }, () => record), done })
      if (this.#busy) return
      this.#busy = true
      setImmediate(() => void this.#flush())
    })
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const taken = this.#waiting
      this.#waiting = []
      await this.#write(taken.flatMap(({ records }) => records))
      for (const { done } of taken) done()
      await new Promise((next) => setImmediate(next))
    }
    this.#busy = false
  }
}

const appender = new Appender(kind === "kafka" ? await kafka(place) : sqlite(place))
let body = ""
const open = new Map<string, Set<ServerResponse>>()
const sent: [string, { readonly givenMs: number; readonly stoodMs: number }][] = []
let shots = 0

const server = createServer((request, response) => {
  const stream = /^\/stream\/(\d+)/.exec(request.url ?? "")?.[1]
  if (stream !== undefined) {
    const responses = open.get(stream) ?? new Set()
    open.set(stream, responses.add(response))
    response.once("close", () => responses.delete(response))
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" })
    response.write(": open\n\n")
    return
  }
  const answer = (): void => {
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body)
  }
  const chunks: Buffer[] = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    if (request.method === "GET") return answer()
    JSON.parse(Buffer.concat(chunks).toString())
    void send(answer)
  })
})

async function send(answer: () => void): Promise<void> {
  for (const [index, count] of chain.entries()) {
    if (index === answeredAfter) answer()
    await appender.append(count)
  }
}

function shoot(key: string, { frames }: Shot): void {
  const number = shots++
  const at = nowMs()
  sent.push([`0.${number}`, { givenMs: at, stoodMs: at }])
  for (const [index, { type, data }] of frames.entries()) {
    const frame = `event: ${type}\nid: 0.${number}.${index}\n${data}\n\n`
    for (const response of open.get(key) ?? []) response.write(frame)
  }
}

server.listen(0, "127.0.0.1", () => {
  answerQuestions({
    port: () => (server.address() as AddressInfo).port,
    body: (given: string) => {
      body = given
    },
    turn: ({ key, turn }: { key: string; turn: readonly Shot[] }) => {
      for (const shot of turn) setTimeout(() => shoot(key, shot), shot.afterMs)
    },
    stamps: () => sent.splice(0),
  })
})
