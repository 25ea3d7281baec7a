import { once } from "node:events"
import { connect, type Socket } from "node:net"
import process from "node:process"

// A client on raw sockets: what a load generator costs itself must be small beside what it measures, and the two cores are shared.

/** Milliseconds that mean the same in every process of this machine. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

export interface Answer {
  readonly status: number
  readonly body: string
}

/** Many credentials, so that the limit of requests a second of each is never what is measured. */
let requests = 0

export function requestText(method: string, path: string, body?: unknown): string {
  const json = body === undefined ? "" : JSON.stringify(body)
  const content = body === undefined ? "" : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(json)}\r\n`
  return `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: k${requests++ % 500}\r\n${content}\r\n${json}`
}

/** One keep-alive connection that has one request under way at a time. */
export class Connection {
  readonly #socket: Socket
  #chunks: Buffer[] = []
  #length = 0
  /** Bytes of the answer that is coming, as soon as its head is there. */
  #wanted = Number.POSITIVE_INFINITY
  #headLength = 0
  #status = 0
  #resolve: ((answer: Answer) => void) | undefined
  #reject: ((error: Error) => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on("data", (chunk: Buffer) => this.#read(chunk))
    socket.on("error", (error) => this.#reject?.(error))
    socket.on("close", () => this.#reject?.(new Error("The server closed a connection under a request.")))
  }

  static async open(url: string): Promise<Connection> {
    return new Connection(await openSocket(url))
  }

  ask(request: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
      this.#socket.write(request)
    })
  }

  close(): void {
    this.#reject = undefined
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    if (this.#wanted === Number.POSITIVE_INFINITY) this.#head()
    if (this.#length < this.#wanted) return
    const body = Buffer.concat(this.#chunks).toString("utf8", this.#headLength, this.#wanted)
    this.#chunks = []
    this.#length = 0
    this.#wanted = Number.POSITIVE_INFINITY
    this.#resolve?.({ status: this.#status, body })
  }

  #head(): void {
    const text = (this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)).toString("latin1")
    const end = text.indexOf("\r\n\r\n")
    if (end < 0) return
    this.#status = Number(text.slice(9, 12))
    this.#headLength = end + 4
    const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end + 2))?.[1]
    if (length === undefined) this.#reject?.(new Error(`An answer without content-length: ${text.slice(0, 300)}`))
    else this.#wanted = this.#headLength + Number(length)
  }
}

/** One request on a connection of its own. Throws unless it is answered with 200. */
export async function askOnce<T>(url: string, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${url}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
  return JSON.parse(text) as T
}

export interface Frame {
  readonly type: string
  /** `partition.offset` of its record, as in the frame's id; null without one. */
  readonly record: string | null
  readonly text: string
  readonly atMs: number
}

/** One open stream. It only notes what came when; what it was is looked at when nothing is measured. */
export class OpenStream {
  /** When the latest bytes of any stream came. */
  static lastMs = 0
  readonly socket: Socket
  closed = false
  #came: { readonly atMs: number; readonly chunk: Buffer }[] = []
  #rest = ""

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on("data", (chunk: Buffer) => {
      OpenStream.lastMs = nowMs()
      this.#came.push({ atMs: OpenStream.lastMs, chunk })
    })
    socket.on("error", () => undefined)
    socket.on("close", () => {
      this.closed = true
    })
  }

  /** Resolves with the first bytes: from then on nothing is missed. */
  static async open(url: string, path: string): Promise<OpenStream> {
    const socket = await openSocket(url)
    const stream = new OpenStream(socket)
    socket.write(requestText("GET", path))
    const [head] = (await once(socket, "data")) as [Buffer]
    if (!head.toString("latin1").startsWith("HTTP/1.1 200 ")) throw new Error(`No stream: ${head.toString()}`)
    return stream
  }

  /** The frames that have become whole since this was asked last. */
  take(): readonly Frame[] {
    const frames: Frame[] = []
    for (const { atMs, chunk } of this.#came) {
      this.#rest += chunk.toString("latin1")
      for (;;) {
        const start = this.#rest.indexOf("event: ")
        const end = start < 0 ? -1 : this.#rest.indexOf("\n\n", start)
        if (end < 0) break
        const text = this.#rest.slice(start, end + 2)
        this.#rest = this.#rest.slice(end + 2)
        frames.push({
          type: text.slice(7, text.indexOf("\n")),
          record: /^event: .*\nid: (\d+\.\d+)\.\d+\n/.exec(text)?.[1] ?? null,
          text,
          atMs,
        })
      }
    }
    this.#came = []
    return frames
  }

  close(): void {
    this.socket.destroy()
  }
}

async function openSocket(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), noDelay: true })
  await once(socket, "connect")
  return socket
}

/** The value below which this share of them lies. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
