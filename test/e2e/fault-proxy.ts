import { connect, createServer, type Server, type Socket } from "node:net"
import type { SocketFactory } from "@reins/log/kafka"

/** The kinds of request that tests tell apart, by Kafka's own numbers. */
export const api = { produce: 0, fetch: 1, offsetCommit: 8, joinGroup: 11, heartbeat: 12 } as const

/** What happens to one request; its connection is closed for the client in every case, so that the outcome is unknown at once. */
export type Fault =
  /** The broker carries it out; the answer is lost. */
  | { readonly kind: "answer-lost" }
  /** It never reaches the broker. */
  | { readonly kind: "request-lost" }
  /** It reaches the broker after the client has given it up. */
  | { readonly kind: "request-late"; readonly afterMs: number }

interface Expected {
  readonly apiKey: number
  readonly fault: Fault
  readonly happened: () => void
}

/**
 * A proxy between one client and the brokers that knows where a request begins and of what kind it is. The client's
 * connections come to it through `socketFactory`, whatever address the brokers advertise.
 */
export class FaultProxy {
  /** How many requests of each kind were seen. */
  readonly requests: Map<number, number> = new Map()
  /** Produce requests that were told of too few replicas: those that were written nowhere, and those that stand all the same. */
  readonly starved: { refused: number; written: number } = { refused: 0, written: 0 }
  readonly #expected: Expected[] = []
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  #severed = false
  #starving = false
  #frozen = false

  private constructor() {
    this.#server = createServer((client) => this.#accept(client))
  }

  static async start(): Promise<FaultProxy> {
    const proxy = new FaultProxy()
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve))
    return proxy
  }

  /** The first bytes on a connection to the proxy say where it should go. */
  readonly socketFactory: SocketFactory = ({ host, port, onConnect }) => {
    const address = this.#server.address()
    const socket = connect({ host: "127.0.0.1", port: address !== null && typeof address === "object" ? address.port : 0 }, () => {
      socket.write(`${host}:${port}\n`)
      onConnect()
    })
    socket.setNoDelay(true)
    return socket
  }

  /** The next request of this kind meets this fault; resolves when it has. */
  next(apiKey: number, fault: Fault): Promise<void> {
    return new Promise((resolve) => {
      this.#expected.push({ apiKey, fault, happened: resolve })
    })
  }

  /**
   * From now on, or no longer, produce requests are answered as by a leader with fewer replicas in sync than its topic asks for: in turn
   * before it wrote anything, and after, when the others were lost meanwhile.
   */
  starve(starving: boolean): void {
    this.#starving = starving
  }

  /** Ends every connection and lets no new one through: what a killed process is to the brokers. */
  sever(): void {
    this.#severed = true
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Lets connections through again. */
  mend(): void {
    this.#severed = false
  }

  /** Connections stay, and nothing moves on them: what a broker that hangs is to its clients. */
  freeze(): void {
    this.#frozen = true
    for (const socket of this.#sockets) socket.pause()
  }

  thaw(): void {
    this.#frozen = false
    for (const socket of this.#sockets) socket.resume()
  }

  async stop(): Promise<void> {
    this.sever()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on("close", () => this.#sockets.delete(socket))
    socket.on("error", () => socket.destroy())
    socket.setNoDelay(true)
    if (this.#frozen) socket.pause()
  }

  #accept(client: Socket): void {
    if (this.#severed) {
      client.destroy()
      return
    }
    this.#track(client)
    let head = Buffer.alloc(0)
    const readTarget = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf(10)
      if (end < 0 && head.length < targetMax) return
      client.off("data", readTarget)
      const [, host, port] = /^([\w.-]+):(\d{1,5})$/.exec(head.toString("latin1", 0, Math.max(0, end))) ?? []
      // A client of a broker that stood on this port before us.
      if (host === undefined) client.destroy()
      else this.#relay(client, host, Number(port), head.subarray(end + 1))
    }
    client.on("data", readTarget)
  }

  #relay(client: Socket, host: string, port: number, first: Buffer): void {
    const broker = connect({ host, port })
    this.#track(broker)
    /** Answers that the client must not get, by correlation id. */
    const withheld = new Map<number, Expected>()
    /** Answers that the client gets with an error in the place of what was written. */
    const spoiled = new Set<number>()
    let keepBroker = false
    client.on("close", () => {
      if (!keepBroker) broker.destroy()
    })
    broker.on("close", () => client.destroy())

    const requests = frames((frame) => {
      const apiKey = frame.readInt16BE(4)
      this.requests.set(apiKey, (this.requests.get(apiKey) ?? 0) + 1)
      if (this.#starving && apiKey === api.produce && frame.readInt16BE(6) === produceVersion) {
        if (this.starved.refused <= this.starved.written) {
          this.starved.refused++
          client.write(refusal(frame))
        } else {
          this.starved.written++
          spoiled.add(frame.readInt32BE(8))
          broker.write(frame)
        }
        return
      }
      const index = this.#expected.findIndex((one) => one.apiKey === apiKey)
      const [expected] = index < 0 ? [] : this.#expected.splice(index, 1)
      if (expected === undefined) {
        broker.write(frame)
        return
      }
      const { fault } = expected
      if (fault.kind === "answer-lost") {
        withheld.set(frame.readInt32BE(8), expected)
        broker.write(frame)
        return
      }
      if (fault.kind === "request-late") {
        keepBroker = true
        setTimeout(() => broker.write(frame, () => setTimeout(() => broker.end(), 1000)), fault.afterMs)
      }
      client.destroy()
      expected.happened()
    })
    const answers = frames((frame) => {
      const correlationId = frame.readInt32BE(4)
      const expected = withheld.get(correlationId)
      if (expected === undefined) {
        if (spoiled.delete(correlationId)) spoil(frame)
        client.write(frame)
        return
      }
      client.destroy()
      expected.happened()
    })
    client.on("data", requests)
    broker.on("data", answers)
    if (first.length > 0) requests(first)
  }
}

/** What says where a connection should go is shorter, in bytes. */
const targetMax = 300

/** The one version of Produce that our client speaks; its place in the frames is known here. */
const produceVersion = 7
const notEnoughReplicas = 19
const notEnoughReplicasAfterAppend = 20
/** Of a partition in the answer: number, error, base offset, time, start of the log. */
const answeredSize = 4 + 2 + 8 + 8 + 8

/** What a leader with too few replicas in sync answers to this produce request. */
function refusal(request: Buffer): Buffer {
  // Length, kind, version, correlation id, client's name; then transaction, acks, timeout.
  let at = 12
  const text = (): Buffer => {
    const length = Math.max(0, request.readInt16BE(at))
    at += 2 + length
    return request.subarray(at - length, at)
  }
  const number = (): number => {
    at += 4
    return request.readInt32BE(at - 4)
  }
  const parts: Buffer[] = []
  const say = (size: number, write: (part: Buffer) => void): void => {
    const part = Buffer.alloc(size)
    write(part)
    parts.push(part)
  }
  text()
  text()
  at += 2 + 4
  const topics = number()
  say(8, (part) => {
    part.writeInt32BE(request.readInt32BE(8))
    part.writeInt32BE(topics, 4)
  })
  for (let topic = 0; topic < topics; topic++) {
    const name = text()
    const partitions = number()
    say(2 + name.length + 4, (part) => {
      part.writeInt16BE(name.length)
      name.copy(part, 2)
      part.writeInt32BE(partitions, 2 + name.length)
    })
    for (let index = 0; index < partitions; index++) {
      const partition = number()
      const size = number()
      at += size
      say(answeredSize, (part) => {
        part.fill(0xff)
        part.writeInt32BE(partition)
        part.writeInt16BE(notEnoughReplicas, 4)
      })
    }
  }
  // Nobody is asked to slow down.
  say(4, () => undefined)
  const body = Buffer.concat(parts)
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length)
  return Buffer.concat([length, body])
}

/** Makes of an answer that tells where records stand one that says that too few replicas have them. */
function spoil(answer: Buffer): void {
  let at = 8
  const topics = answer.readInt32BE(at)
  at += 4
  for (let topic = 0; topic < topics; topic++) {
    at += 2 + answer.readInt16BE(at)
    const partitions = answer.readInt32BE(at)
    at += 4
    for (let index = 0; index < partitions; index++) {
      answer.writeInt16BE(notEnoughReplicasAfterAppend, at + 4)
      answer.fill(0xff, at + 6, at + answeredSize)
      at += answeredSize
    }
  }
}

/** Cuts a stream into Kafka's frames: a length of four bytes, then as much. */
function frames(each: (frame: Buffer) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= 4) {
      const size = 4 + rest.readInt32BE(0)
      if (rest.length < size) return
      const frame = rest.subarray(0, size)
      rest = rest.subarray(size)
      each(frame)
    }
  }
}
