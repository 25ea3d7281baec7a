import assert from "node:assert/strict"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { describe, it, type TestContext } from "node:test"
import { type FollowOptions, type Log, partitionOf } from "@reins/log"
import { agent, fact } from "@reins/session/testing"
import { Streams } from "../src/sessions/stream.ts"
import { type ErrorBody, type Opened, stage } from "./stage.ts"

const mib = 1024 * 1024
/** What a stream may leave unread before its client is let go. */
const unreadMax = 4 * mib
const sessionId = "sesn_watched"

/** A client on a bare socket, which asks for a path and then does with the answer what it likes. */
async function asking(t: TestContext, port: number, path: string): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1" })
  t.after(() => socket.destroy())
  socket.on("error", () => undefined)
  await once(socket, "connect")
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  return socket
}

/** A stream that is open: its first bytes have come. With `reads: false` not one more is read until it is resumed. */
async function watching(t: TestContext, opened: Opened, { reads }: { readonly reads: boolean }): Promise<Watched> {
  const socket = await asking(t, opened.port, `/v1/sessions/${sessionId}/events/stream`)
  const [head] = (await once(socket, "data")) as [Buffer]
  assert.match(head.toString(), /^HTTP\/1\.1 200 /)
  if (!reads) socket.pause()
  return new Watched(socket)
}

class Watched {
  readonly socket: Socket
  /** The digits that the messages which have come carry, in their order. */
  readonly numbers: number[] = []
  bytes = 0
  closed = false
  #rest = ""

  constructor(socket: Socket) {
    this.socket = socket
    socket.on("data", (chunk: Buffer) => {
      this.bytes += chunk.length
      this.#rest += chunk.toString("latin1")
      const marks = [...this.#rest.matchAll(/<<(\d+)>>/g)]
      for (const [, number] of marks) this.numbers.push(Number(number))
      // A mark may be cut in two by the network.
      const read = marks.at(-1)
      this.#rest = this.#rest.slice(Math.max(read === undefined ? 0 : read.index + read[0].length, this.#rest.length - 20))
    })
    socket.on("close", () => {
      this.closed = true
    })
  }

  async has(count: number): Promise<void> {
    await until(() => this.numbers.length >= count, `${count} messages`)
  }
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await holds())) {
    assert.ok(performance.now() < end, `Waited in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function messageOf(number: number, bytes: number): ReturnType<typeof fact> {
  const text = `<<${number}>>${"x".repeat(bytes)}`
  const ids = { eventId: `evt_${number}`, commandId: `command-${number}`, command: { partition: 0, offset: number } }
  return fact("message.received", { ...ids, sessionId, tenant: "default", content: JSON.stringify([{ type: "text", text }]) })
}

describe("a client that never reads its stream", () => {
  it("is let go; another stream of the session gets every frame once, and the session goes on", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    await world.say(fact("session.started", { sessionId, tenant: "default", agent: agent(), input: null }))
    await until(() => opened.ready(), "the gateway is ready")
    const [reader, stalled] = [await watching(t, opened, { reads: true }), await watching(t, opened, { reads: false })]
    // Far above what the network holds between two sockets of one machine, and the gateway beside it.
    const messages = 64
    const messageBytes = 512 * 1024
    for (let number = 0; number < messages; number++) {
      await world.say(messageOf(number, messageBytes))
      await reader.has(number + 1)
    }
    const all = Array.from({ length: messages }, (_, number) => number)
    assert.deepEqual(reader.numbers, all)
    assert.equal(reader.closed, false)

    // What the network held is all that the other one ever gets.
    stalled.socket.resume()
    await until(() => stalled.closed, "the gateway has closed the stream")
    assert.ok(stalled.bytes < messages * messageBytes - unreadMax, `${stalled.bytes} bytes came`)
    assert.deepEqual(stalled.numbers, all.slice(0, stalled.numbers.length))

    await world.say(messageOf(messages, 10))
    await reader.has(messages + 1)
    const again = await watching(t, opened, { reads: true })
    await world.say(messageOf(messages + 1, 10))
    await Promise.all([reader.has(messages + 2), again.has(1)])
    assert.deepEqual(again.numbers, [messages + 1])
    const listed: string[] = []
    for await (const event of opened.client().beta.sessions.events.list(sessionId, { types: ["user.message"] })) listed.push(event.id)
    assert.equal(new Set(listed).size, messages + 2)
  })
})

describe("what a gateway follows", () => {
  // A follower on Kafka polls its other partitions meanwhile, and comes back to this one a poll later.
  it("is read at once: no partition of sessions is kept busy", async (t) => {
    const world = await stage(t)
    const log = world.broker.connect()
    const answers: unknown[] = []
    const watched = new Proxy<Log>(log, {
      get: (target, name: keyof Log) => {
        if (name === "follow")
          return (options: FollowOptions) =>
            target.follow({
              ...options,
              records: (topic, partition, records) => {
                const answer = options.records(topic, partition, records)
                if (topic === "t.sessions") answers.push(answer)
                return answer
              },
            })
        const value = target[name]
        return typeof value === "function" ? value.bind(target) : value
      },
    })
    const opened = await world.open({ log: watched })
    await world.say(fact("session.started", { sessionId, tenant: "default", agent: agent(), input: null }))
    const stream = await watching(t, opened, { reads: true })
    await world.say(messageOf(0, 10))
    await stream.has(1)
    assert.deepEqual(new Set(answers), new Set([undefined]))
  })
})

interface Streaming {
  readonly streams: Streams
  readonly counts: { readonly open: number; readonly evicted: number }
  readonly port: number
  /** The next request that comes. */
  next(): Promise<ServerResponse>
}

describe("the streams of a gateway", () => {
  /** Streams over a server of their own, so that what is kept for each client can be looked at. */
  async function streaming(t: TestContext): Promise<Streaming> {
    const counts = { open: 0, evicted: 0 }
    const streams = new Streams({
      perCredentialMax: 10,
      counted: (count) => {
        counts.open = count
      },
      evicted: () => counts.evicted++,
    })
    const arrivals: ServerResponse[] = []
    const server = createServer((_request, response) => arrivals.push(response))
    t.after(() => {
      streams.close()
      server.closeAllConnections()
      server.close()
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    return {
      streams,
      counts,
      port: (server.address() as AddressInfo).port,
      next: async () => {
        await until(() => arrivals.length > 0, "a request")
        return arrivals.shift() as ServerResponse
      },
    }
  }
  it("keep no more for a client that does not read than they may", async (t) => {
    const { streams, counts, port, next } = await streaming(t)
    const socket = await asking(t, port, "/")
    const response = await next()
    let closed = 0
    const stream = streams.open("me", response, {}, () => closed++)
    await once(socket, "data")
    socket.pause()
    assert.equal(counts.open, 1)
    const frame = `data: ${"x".repeat(100_000)}\n\n`
    let keptMax = 0
    for (let frames = 0; counts.evicted === 0; frames++) {
      assert.ok(frames < 5000, "It was never let go.")
      stream.write(frame)
      keptMax = Math.max(keptMax, response.writableLength)
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.ok(keptMax > unreadMax && keptMax < unreadMax + 2 * frame.length, `${keptMax} bytes were kept`)
    await until(() => closed > 0, "its end is told")
    // Whatever is written to it from now on is nothing.
    stream.write(frame)
    stream.end("")
    assert.deepEqual({ closed, ...counts }, { closed: 1, evicted: 1, open: 0 })
  })

  it("let a client go on that reads late but reads", async (t) => {
    const { streams, counts, port, next } = await streaming(t)
    const socket = await asking(t, port, "/")
    const response = await next()
    const stream = streams.open("me", response, {}, () => undefined)
    await once(socket, "data")
    const frame = `data: ${"x".repeat(100_000)}\n\n`
    let came = 0
    socket.on("data", (chunk: Buffer) => {
      came += chunk.length
    })
    for (let round = 1; round <= 20; round++) {
      socket.pause()
      for (let frames = 0; frames < 30; frames++) stream.write(frame)
      socket.resume()
      await until(() => came >= round * 30 * frame.length, "all frames")
    }
    assert.deepEqual(counts, { evicted: 0, open: 1 })
  })

  it("hold on to nothing of a client that has gone before its stream was open", async (t) => {
    const { streams, counts, port, next } = await streaming(t)
    const socket = await asking(t, port, "/")
    const response = await next()
    socket.destroy()
    await once(response, "close")
    let closed = 0
    streams.open("me", response, {}, () => closed++).write("data: x\n\n")
    assert.deepEqual({ closed, open: counts.open }, { closed: 1, open: 0 })
  })
})

describe("a key that has as many streams open as it may", () => {
  it("is told so and when to try again, and gets another where one has ended; other keys are not concerned", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys", limits: { streamsPerCredential: 2 } })
    await world.say(fact("session.started", { sessionId, tenant: "default", agent: agent(), input: null }))
    const [full, other] = [await world.key("default", "full"), await world.key("default", "other")]
    const ask = async (key: string): Promise<{ readonly response: Response; readonly end: () => void }> => {
      const abort = new AbortController()
      t.after(() => abort.abort())
      const url = `${opened.url}/v1/sessions/${sessionId}/events/stream`
      return { response: await fetch(url, { headers: { "x-api-key": key }, signal: abort.signal }), end: () => abort.abort() }
    }
    const [first, second] = [await ask(full), await ask(full)]
    assert.deepEqual([first.response.status, second.response.status], [200, 200])

    const { response } = await ask(full)
    assert.equal(response.status, 429)
    assert.equal(response.headers.get("retry-after"), "8")
    const { error } = (await response.json()) as ErrorBody
    assert.equal(error.type, "rate_limit_error")
    assert.match(error.message, /^This key has 2 event streams open/)
    // What is no stream goes on, and so does who has another key.
    const shown = await fetch(`${opened.url}/v1/sessions/${sessionId}`, { headers: { "x-api-key": full } })
    assert.equal(shown.status, 200)
    assert.equal((await ask(other)).response.status, 200)

    first.end()
    await until(async () => (await opened.metrics.sseClients.get()).values[0]?.value === 2, "the gateway has heard of the end")
    assert.equal((await ask(full)).response.status, 200)
    assert.equal((await ask(full)).response.status, 429)
  })
})

describe("a client that comes back with Last-Event-ID", () => {
  /** Frames of the stream until nothing more is missing, over as many connections as it takes. */
  async function resumed(url: string, from: string, enough: (ids: readonly string[]) => boolean): Promise<readonly string[]> {
    const seen: string[] = []
    let last = from
    for (let tries = 0; tries < 40 && !enough(seen); tries++) {
      const abort = new AbortController()
      const timer = setTimeout(() => abort.abort(), 10_000)
      try {
        const response = await fetch(`${url}/v1/sessions/${sessionId}/events/stream`, {
          headers: { "last-event-id": last },
          signal: abort.signal,
        })
        let rest = ""
        for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
          rest += chunk
          const frames = rest.split("\n\n")
          rest = frames.pop() ?? ""
          for (const frame of frames) {
            const id = /^id: (.*)$/m.exec(frame)?.[1]
            if (id === undefined) continue
            last = id
            seen.push((JSON.parse(/^data: (.*)$/m.exec(frame)?.[1] ?? "{}") as { id: string }).id)
          }
          if (enough(seen)) break
        }
      } catch {
        // Cut off: it comes back.
      } finally {
        clearTimeout(timer)
        abort.abort()
      }
    }
    return seen
  }

  it("gets all that it has missed, however much that is, once each", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    await world.say(fact("session.started", { sessionId, tenant: "default", agent: agent(), input: null }))
    const messages = 24
    for (let number = 0; number < messages; number++) await world.say(messageOf(number, 512 * 1024))
    const listed: string[] = []
    for await (const event of opened.client().beta.sessions.events.list(sessionId, { types: ["user.message"] })) listed.push(event.id)
    assert.equal(listed.length, messages)
    const shown = (ids: readonly string[]): readonly string[] => ids.filter((id) => listed.includes(id))
    const seen = await resumed(opened.url, `${partitionOf(sessionId, 2)}.0.0`, (ids) => shown(ids).length >= messages)
    assert.deepEqual(shown(seen), listed)
  })
})
