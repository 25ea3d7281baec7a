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
  readonly #expected: Expected[] = []
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  #severed = false
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
      if (end < 0) return
      client.off("data", readTarget)
      const [host, port] = head.toString("utf8", 0, end).split(":") as [string, string]
      this.#relay(client, host, Number(port), head.subarray(end + 1))
    }
    client.on("data", readTarget)
  }

  #relay(client: Socket, host: string, port: number, first: Buffer): void {
    const broker = connect({ host, port })
    this.#track(broker)
    /** Answers that the client must not get, by correlation id. */
    const withheld = new Map<number, Expected>()
    let keepBroker = false
    client.on("close", () => {
      if (!keepBroker) broker.destroy()
    })
    broker.on("close", () => client.destroy())

    const requests = frames((frame) => {
      const apiKey = frame.readInt16BE(4)
      this.requests.set(apiKey, (this.requests.get(apiKey) ?? 0) + 1)
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
      const expected = withheld.get(frame.readInt32BE(4))
      if (expected === undefined) {
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
