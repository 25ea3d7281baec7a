import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { newInstance, openLog, readConfig, topicSettings } from "@reins/runtime"
import { askOnce, Connection, type Frame, nowMs, OpenStream, quantile, requestText } from "./api-client.ts"
import type { Shot } from "./api-floor.ts"
import { Asked, type Stamp, type Usage } from "./api-process.ts"

export interface Broker {
  readonly bootstrap: string
  readonly registryUrl: string
}

/** One line of the API's table. */
export interface ApiRow {
  readonly log: "embedded" | "kafka"
  readonly what: string
  readonly clients: number
  readonly perSecond?: number
  readonly p50Ms?: number
  readonly p99Ms?: number
  /** CPU of the acting processes per request. */
  readonly cpuMs?: number
  /** Of the floor's requests a second. */
  readonly ratio?: number
  readonly p50Ratio?: number
  /** What else is to be known of it, by name. */
  readonly more?: Readonly<Record<string, number | boolean>>
}

interface Events {
  readonly data: readonly { readonly type: string }[]
}

const sessionsCount = 200
/** As long as no answer may take: whatever takes longer has gone wrong. */
const patienceMs = 60_000
const words = "x".repeat(200)
const role = new URL("api-role.ts", import.meta.url)
const hosted = ["intake", "llm-invoker", "tool-router"]

/** The gateway in a process of its own (embedded: with the services that share its log), apart from whoever asks. */
class World {
  readonly log: "embedded" | "kafka"
  readonly #gateway: Asked
  /** Whoever appends to `sessions`: the gateway's own process where it is embedded. */
  readonly #services: Asked
  /** For the data of what runs; goes with it. */
  readonly dir: string
  readonly url: string
  readonly sessions: readonly string[]

  private constructor(log: "embedded" | "kafka", gateway: Asked, services: Asked, dir: string, url: string, sessions: readonly string[]) {
    this.log = log
    this.#gateway = gateway
    this.#services = services
    this.dir = dir
    this.url = url
    this.sessions = sessions
  }

  static async start(broker: Broker | null): Promise<World> {
    const dir = mkdtempSync(join(tmpdir(), "reins-bench-"))
    // Nothing of the developer's own settings reaches what is measured.
    const own = Object.entries(process.env).filter(([name]) => !/^(REINS|KAFKA|SCHEMA_REGISTRY|ANTHROPIC)_/.test(name))
    const env = {
      ...Object.fromEntries(own),
      REINS_DATA: dir,
      REINS_LOG_LEVEL: "error",
      REINS_DRAIN_MS: "0",
      REINS_HOST: "127.0.0.1",
      REINS_PORT: "0",
      REINS_TOPIC_PREFIX: `bench-${randomBytes(4).toString("hex")}`,
      ...(broker === null ? {} : { KAFKA_BROKERS: broker.bootstrap, SCHEMA_REGISTRY_URL: broker.registryUrl, REINS_PARTITIONS: "8" }),
    }
    if (broker !== null) {
      const config = readConfig(env)
      const { log } = await openLog(config, newInstance("bench"))
      await log.applyTopics(topicSettings(config.prefix, config.partitions, ["http", "function"]))
      await log.close()
    }
    const gateway = new Asked(role, ["gateway", ...(broker === null ? hosted : [])], env)
    const services = broker === null ? gateway : new Asked(role, ["services", ...hosted], env)
    await Promise.all([gateway.ready(), services.ready()])
    const url = `http://127.0.0.1:${await gateway.ask<number>("port")}`
    while ((await fetch(`${url}/readyz`)).status !== 200) await sleep(20)
    const agent = await askOnce<{ id: string }>(url, "POST", "/v1/agents", { name: "bench", model: "bench" })
    const environment = await askOnce<{ id: string }>(url, "POST", "/v1/environments", { name: "bench" })
    const sessions: string[] = []
    const body = { agent: agent.id, environment_id: environment.id }
    while (sessions.length < sessionsCount) {
      const made = await Promise.all(Array.from({ length: 20 }, () => askOnce<{ id: string }>(url, "POST", "/v1/sessions", body)))
      sessions.push(...made.map(({ id }) => id))
    }
    return new World(broker === null ? "embedded" : "kafka", gateway, services, dir, url, sessions)
  }

  session(index: number): string {
    return this.sessions[index % this.sessions.length] as string
  }

  async send(session: string, texts: readonly string[] = [words]): Promise<void> {
    await askOnce(this.url, "POST", `/v1/sessions/${session}/events`, { events: texts.map(message) })
  }

  async events(session: string, query: string): Promise<Events> {
    return await askOnce<Events>(this.url, "GET", `/v1/sessions/${session}/events?${query}`)
  }

  async stamps(): Promise<ReadonlyMap<string, Stamp>> {
    return new Map(await this.#services.ask<[string, Stamp][]>("stamps"))
  }

  /** Of the process that serves the API. */
  async gatewayUsage(): Promise<Usage> {
    return await this.#gateway.ask<Usage>("usage")
  }

  async cpuMs(): Promise<number> {
    const { cpuMs } = await this.gatewayUsage()
    return this.#services === this.#gateway ? cpuMs : cpuMs + (await this.#services.ask<Usage>("usage")).cpuMs
  }

  async stop(): Promise<void> {
    await Promise.all([this.#gateway.stop(), this.#services.stop()])
    rmSync(this.dir, { recursive: true, force: true })
  }
}

function message(text: string): object {
  return { type: "user.message", content: [{ type: "text", text }] }
}

// --- requests

interface Load {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly lastBody: string
}

/** So many clients, each with one request under way at a time, for so long. */
async function load(url: string, clients: number, durationMs: number, request: () => string): Promise<Load> {
  const connections = await Promise.all(Array.from({ length: clients }, () => Connection.open(url)))
  const took: number[] = []
  let lastBody = ""
  const warmMs = nowMs() + durationMs / 5
  const endMs = warmMs + durationMs
  const run = async (connection: Connection): Promise<void> => {
    for (;;) {
      const began = nowMs()
      if (began >= endMs) return
      const { status, body } = await connection.ask(request())
      if (status !== 200) throw new Error(`Answered ${status}: ${body.slice(0, 300)}`)
      lastBody = body
      if (began >= warmMs) took.push(nowMs() - began)
    }
  }
  try {
    await Promise.all(connections.map(run))
  } finally {
    for (const connection of connections) connection.close()
  }
  took.sort((a, b) => a - b)
  return { perSecond: took.length / (durationMs / 1000), p50Ms: quantile(took, 0.5), p99Ms: quantile(took, 0.99), lastBody }
}

function middle<T>(runs: readonly T[], by: (run: T) => number): T {
  return [...runs].sort((a, b) => by(a) - by(b))[runs.length >> 1] as T
}

interface Plan {
  readonly times: number
  readonly durationMs: number
  readonly messages: number
  readonly keepAlivesMs: number
}

async function requests(world: World, floor: Asked, plan: Plan, add: (row: ApiRow) => void): Promise<void> {
  const floorUrl = `http://127.0.0.1:${await floor.ask<number>("port")}`
  const long = world.session(0)
  while ((await world.events(long, "limit=100")).data.length < 100) {
    await world.send(long)
    await idle(world, long)
  }
  let next = 1
  const shapes: readonly (readonly [string, () => string])[] = [
    ["send", () => requestText("POST", `/v1/sessions/${world.session(next++ % sessionsCount || 1)}/events`, { events: [message(words)] })],
    ["events.list of 100", () => requestText("GET", `/v1/sessions/${long}/events?limit=100`)],
    ["sessions.retrieve", () => requestText("GET", `/v1/sessions/${world.session(next++)}`)],
  ]
  for (const [what, request] of shapes) {
    for (const clients of [1, 16, 64]) {
      const ours: (Load & { readonly cpuMs: number })[] = []
      const floors: Load[] = []
      // Floor and Reins take turns, so that both see the same moods of the machine.
      for (let time = 0; time < plan.times; time++) {
        const before = await world.cpuMs()
        const measured = await load(world.url, clients, plan.durationMs, request)
        const made = (measured.perSecond * plan.durationMs * 1.2) / 1000
        // What was sent is worked off before anything else is measured; its CPU is that of the requests that caused it.
        if (what === "send") await allIdle(world)
        ours.push({ ...measured, cpuMs: ((await world.cpuMs()) - before) / made })
        await floor.ask("body", measured.lastBody)
        floors.push(await load(floorUrl, clients, plan.durationMs, request))
      }
      const [reins, raw] = [middle(ours, (run) => run.perSecond), middle(floors, (run) => run.perSecond)]
      add({
        log: world.log,
        what,
        clients,
        perSecond: Math.round(reins.perSecond),
        p50Ms: reins.p50Ms,
        p99Ms: reins.p99Ms,
        cpuMs: reins.cpuMs,
        ratio: reins.perSecond / raw.perSecond,
        p50Ratio: reins.p50Ms / raw.p50Ms,
      })
    }
  }
}

async function idle(world: World, session: string): Promise<void> {
  const endMs = nowMs() + patienceMs
  while ((await askOnce<{ status: string }>(world.url, "GET", `/v1/sessions/${session}`)).status !== "idle") {
    if (nowMs() > endMs) throw new Error(`${session} does not become idle.`)
    await sleep(5)
  }
}

async function allIdle(world: World): Promise<void> {
  const endMs = nowMs() + patienceMs
  while ((await askOnce<Events>(world.url, "GET", "/v1/sessions?statuses[]=running&limit=1")).data.length > 0) {
    if (nowMs() > endMs) throw new Error("What was sent is not worked off.")
    await sleep(20)
  }
}

// --- streams

interface Stage {
  readonly url: string
  /** The path of each stream, and which of the sessions (or whatever stands for one) it shows. */
  readonly streams: readonly { readonly path: string; readonly key: number }[]
  readonly keys: number
  /** Sets one turn of that session going. */
  readonly turn: (key: number) => Promise<void>
  readonly stamps: () => Promise<ReadonlyMap<string, Stamp>>
}

interface Latencies {
  /** From the append to the client, sorted. */
  readonly given: readonly number[]
  /** From when the record stood. */
  readonly stood: readonly number[]
  /** From the append to a bare follower in the process that appended. */
  readonly heard: readonly number[]
  /** One turn, to be told again by the floor. */
  readonly sample: readonly Shot[]
}

/** Turn after turn, each when the one before it has reached all streams of its session: what is measured is latency, not a queue. */
async function latencies(stage: Stage, turns: number): Promise<Latencies> {
  const open: { readonly stream: OpenStream; readonly key: number }[] = []
  try {
    for (let at = 0; at < stage.streams.length; at += 50) {
      const some = stage.streams.slice(at, at + 50)
      const streams = await Promise.all(some.map(({ path }) => OpenStream.open(stage.url, path)))
      open.push(...streams.map((stream, index) => ({ stream, key: some[index]?.key ?? 0 })))
    }
    // The first turns find code that has not run yet.
    const warm = Math.min(stage.keys, 10)
    const frames: Frame[] = []
    let last: readonly Frame[] = []
    for (let turn = 0; turn < warm + turns; turn++) {
      const key = turn % stage.keys
      const told = await oneTurn(
        open.filter((one) => one.key === key).map(({ stream }) => stream),
        () => stage.turn(key),
      )
      if (turn === warm - 1) await stage.stamps()
      if (turn < warm) continue
      for (const one of told) frames.push(...one)
      last = told[0] ?? []
    }
    return gauged(frames, last, await stage.stamps())
  } finally {
    for (const { stream } of open) stream.close()
  }
}

async function oneTurn(streams: readonly OpenStream[], begin: () => Promise<void>): Promise<readonly (readonly Frame[])[]> {
  const told: Frame[][] = streams.map(() => [])
  const began = nowMs()
  await begin()
  for (;;) {
    await sleep(3)
    if (nowMs() - began > patienceMs) throw new Error("A turn did not reach its streams.")
    // Looked at only in the quiet behind a turn: looking takes time from those that are still to come.
    if (OpenStream.lastMs < began || nowMs() - OpenStream.lastMs < 10) continue
    for (const [index, stream] of streams.entries()) told[index]?.push(...stream.take())
    if (told.every((frames) => frames.at(-1)?.type === "session.status_idle")) return told
  }
}

function gauged(frames: readonly Frame[], last: readonly Frame[], stamps: ReadonlyMap<string, Stamp>): Latencies {
  const given: number[] = []
  const stood: number[] = []
  for (const { record, atMs } of frames) {
    const stamp = record === null ? undefined : stamps.get(record)
    if (stamp?.givenMs === undefined || stamp.stoodMs === undefined) continue
    given.push(atMs - stamp.givenMs)
    stood.push(atMs - stamp.stoodMs)
  }
  if (given.length < frames.length / 2)
    throw new Error(`Of ${frames.length} frames only ${given.length} are of a record that was seen being appended.`)
  const heard = [...stamps.values()].flatMap(({ givenMs, heardMs }) =>
    givenMs === undefined || heardMs === undefined ? [] : [heardMs - givenMs],
  )
  for (const list of [given, stood, heard]) list.sort((a, b) => a - b)
  return { given, stood, heard, sample: sampleOf(last, stamps) }
}

function sampleOf(frames: readonly Frame[], stamps: ReadonlyMap<string, Stamp>): readonly Shot[] {
  const shots: { afterMs: number; frames: { type: string; data: string }[] }[] = []
  let first: number | undefined
  let before: string | null = null
  for (const { record, type, text } of frames) {
    const stoodMs = record === null ? undefined : stamps.get(record)?.stoodMs
    if (stoodMs === undefined) continue
    first ??= stoodMs
    if (record !== before) shots.push({ afterMs: stoodMs - first, frames: [] })
    before = record
    shots.at(-1)?.frames.push({ type, data: text.trimEnd().slice(text.indexOf("\ndata: ") + 1) })
  }
  return shots
}

function streamPath(session: string): string {
  return `/v1/sessions/${session}/events/stream`
}

function stageOf(world: World, streams: number, sessions: number): Stage {
  return {
    url: world.url,
    keys: sessions,
    streams: Array.from({ length: streams }, (_, index) => ({ key: index % sessions, path: streamPath(world.session(index % sessions)) })),
    turn: (key) => world.send(world.session(key)),
    stamps: () => world.stamps(),
  }
}

async function streams(world: World, floor: Asked, plan: Plan, add: (row: ApiRow) => void): Promise<void> {
  const floorUrl = `http://127.0.0.1:${await floor.ask<number>("port")}`
  const shapes = [
    [1, 1],
    [100, 100],
    [1000, 100],
    [1000, 1],
  ] as const
  for (const [count, sessions] of shapes) {
    const turns = sessions === 1 && count > 1 ? Math.ceil(plan.messages / 4) : plan.messages
    const ours: Latencies[] = []
    const floors: Latencies[] = []
    for (let time = 0; time < plan.times; time++) {
      const measured = await latencies(stageOf(world, count, sessions), turns)
      ours.push(measured)
      floors.push(
        await latencies(
          {
            url: floorUrl,
            keys: sessions,
            streams: Array.from({ length: count }, (_, index) => ({ key: index % sessions, path: `/stream/${index % sessions}` })),
            turn: (key) => floor.ask("turn", { key: String(key), turn: measured.sample }),
            stamps: async () => new Map(await floor.ask<[string, Stamp][]>("stamps")),
          },
          turns,
        ),
      )
    }
    const [reins, raw] = [middle(ours, ({ given }) => quantile(given, 0.5)), middle(floors, ({ given }) => quantile(given, 0.5))]
    const [p50Ms, heardP50Ms, fanOutP50Ms] = [quantile(reins.given, 0.5), quantile(reins.heard, 0.5), quantile(raw.given, 0.5)]
    add({
      log: world.log,
      what: `append to client, over ${sessions} session${sessions === 1 ? "" : "s"}`,
      clients: count,
      p50Ms,
      p99Ms: quantile(reins.given, 0.99),
      p50Ratio: p50Ms / (heardP50Ms + fanOutP50Ms),
      more: {
        stoodP50Ms: quantile(reins.stood, 0.5),
        stoodP99Ms: quantile(reins.stood, 0.99),
        heardP50Ms,
        heardP99Ms: quantile(reins.heard, 0.99),
        fanOutP50Ms,
        fanOutP99Ms: quantile(raw.given, 0.99),
      },
    })
  }
}

// --- many streams, and one that does not read

const manyStreams = 2000
const fatTurns = 6
/** A batch of fat messages is told twice, as queued and as taken: about 4 MB a turn. */
const fat = Array.from({ length: 20 }, () => "y".repeat(100_000))

async function many(world: World, plan: Plan, add: (row: ApiRow) => void): Promise<void> {
  const freshMb = (await world.gatewayUsage()).rssMb
  const open: OpenStream[] = []
  const fatSession = world.session(sessionsCount - 1)
  try {
    for (let at = 0; at < manyStreams; at += 50)
      open.push(
        ...(await Promise.all(
          Array.from({ length: 50 }, (_, index) => OpenStream.open(world.url, streamPath(world.session((at + index) % 100)))),
        )),
      )
    await sleep(plan.keepAlivesMs)
    const openMb = (await world.gatewayUsage()).rssMb
    const stage = stageOf(world, 100, 100)
    const calm = await latencies(stage, plan.messages)
    const flowedMb = (await world.gatewayUsage()).rssMb
    const beside = await withFat(world, fatSession, stage, plan, [])
    const stalled = await OpenStream.open(world.url, streamPath(fatSession))
    stalled.socket.pause()
    const slowed = await withFat(world, fatSession, stage, plan, [stalled])
    const { rssMb: afterMb } = await world.gatewayUsage()
    for (const [what, measured, got] of [
      ["append to client, beside 2,000 streams", calm, 0],
      ["the same, fat messages elsewhere", beside.measured, beside.got],
      ["the same, and one client there never reads", slowed.measured, slowed.got],
    ] as const)
      add({
        log: world.log,
        what,
        clients: 100,
        p50Ms: quantile(measured.given, 0.5),
        p99Ms: quantile(measured.given, 0.99),
        more: { stoodP50Ms: quantile(measured.stood, 0.5), fatFramesOfReader: got },
      })
    add({
      log: world.log,
      what: "memory of the gateway's process",
      clients: manyStreams,
      more: {
        freshMb: Math.round(freshMb),
        openMb: Math.round(openMb),
        flowedMb: Math.round(flowedMb),
        afterFatMb: Math.round(afterMb),
        closed: open.filter((stream) => stream.closed).length,
        evicted: slowed.evicted,
      },
    })
  } finally {
    for (const stream of open) stream.close()
  }
}

interface WithFat {
  readonly measured: Latencies
  /** Frames that one who reads was given of the session with the fat messages. */
  readonly got: number
  readonly evicted: boolean
}

/** Latency of a hundred streams while fat messages flow in a session that others watch, be it without reading. */
async function withFat(world: World, session: string, stage: Stage, plan: Plan, stalled: readonly OpenStream[]): Promise<WithFat> {
  const reader = await OpenStream.open(world.url, streamPath(session))
  const flow = async (): Promise<void> => {
    for (let turn = 0; turn < fatTurns; turn++) {
      await world.send(session, fat)
      await idle(world, session)
    }
  }
  const [measured] = await Promise.all([latencies(stage, plan.messages), flow()])
  while (nowMs() - OpenStream.lastMs < 200) await sleep(20)
  const got = reader.take().length
  reader.close()
  // What the network held is read now; behind it stands the end, if the gateway has let go.
  for (const one of stalled) one.socket.resume()
  const endMs = nowMs() + 5000
  while (stalled.some((one) => !one.closed) && nowMs() < endMs) await sleep(20)
  const evicted = stalled.every((one) => one.closed)
  for (const one of stalled) one.close()
  return { measured, got, evicted }
}

/** Every figure of the API on one log. */
export async function api(broker: Broker | null, quick: boolean, add: (row: ApiRow) => void): Promise<void> {
  const plan: Plan = quick
    ? { times: 1, durationMs: 1000, messages: 100, keepAlivesMs: 9000 }
    : { times: 3, durationMs: 2000, messages: 200, keepAlivesMs: 17_000 }
  const world = await World.start(broker)
  const floorArgs =
    broker === null ? ["sqlite", join(world.dir, "floor.db")] : ["kafka", broker.bootstrap, `floor-${randomBytes(4).toString("hex")}`]
  const floor = await new Asked(new URL("api-floor.ts", import.meta.url), floorArgs, process.env).ready()
  try {
    await many(world, plan, add)
    await streams(world, floor, plan, add)
    await requests(world, floor, plan, add)
  } finally {
    await floor.stop()
    await world.stop()
  }
}
