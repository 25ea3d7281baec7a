import { fork } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { type SessionEvent, topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import { sharedKafka } from "@reins/infra/kafka"
import { type Log, partitionOf } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { newInstance, openLog, readConfig, topicSettings } from "@reins/runtime"
import { absent, evolve, type Session } from "@reins/session"
import { agent, Story, text, tool, toolUse } from "@reins/session/testing"
import { instantModel } from "./workload.ts"

// How small recovery and memory stay: `npm run bench -- bounded [--only NAME] [--json]`. A log is filled, then a process of its own takes it over
// from nothing: without snapshots, and again from the snapshots that it wrote. Method and table: README.md.

interface Scale {
  readonly name: string
  readonly log: "embedded" | "kafka"
  readonly partitions: number
  /** Sessions at rest, with eight records each. */
  readonly sessions: number
  /** Whether the process hosts a gateway too. */
  readonly gateway?: true
}

const scales: readonly Scale[] = [
  { name: "100,000 idle sessions, embedded", log: "embedded", partitions: 4, sessions: 100_000 },
  { name: "100,000 idle sessions and a gateway, embedded", log: "embedded", partitions: 4, sessions: 100_000, gateway: true },
  { name: "100,000 events in a partition", log: "kafka", partitions: 1, sessions: 12_500 },
  { name: "1,000,000 events in a partition", log: "kafka", partitions: 1, sessions: 125_000 },
  { name: "1,000,000 events in 8 partitions", log: "kafka", partitions: 8, sessions: 125_000 },
]

/** What a process that took a log over says. */
interface TakenOver {
  /** From the start of the process to its first decision on a session that waits for one. */
  readonly firstDecisionMs: number
  /** From the assignment of the last partition to that. */
  readonly sinceAssignedMs: number
  /** From the start of the process until its gateway shows everything; null without one. */
  readonly shownMs: number | null
  readonly rssMb: number
  readonly heapMb: number
}

const waiting = "sesn_waiting"

if (process.argv[2] === "role") await role()
else await main()

/** In a child: takes everything over and says when it decided first; then writes snapshots until it is told to end. */
async function role(): Promise<void> {
  const config = readConfig(process.env)
  const names = topicNames(config.prefix)
  let assignedAt = 0
  const decided = Promise.withResolvers<number>()
  const running = await startHost({
    config,
    services: ["intake", "llm-invoker", "tool-router", "eraser"],
    model: instantModel(0),
    ...(process.env["BENCH_GATEWAY"] === undefined ? {} : { gateway: "open" }),
    observe: ({ event, live }) => {
      if (live && event.type === "model.requested" && event.sessionId === waiting) decided.resolve(performance.now())
    },
    failed: (error) => {
      process.stderr.write(`${error.stack}\n`)
      process.exit(1)
    },
  })
  const looking = setInterval(() => {
    if (assignedAt === 0 && running.loop.partitions.length === config.partitions) assignedAt = performance.now()
  }, 1)
  const at = await decided.promise
  clearInterval(looking)
  while (running.port > 0 && !(await fetch(`http://127.0.0.1:${running.port}/readyz`).catch(() => null))?.ok) await sleep(50)
  const shownMs = running.port > 0 ? Math.round(performance.now()) : null
  // What garbage the start has left is not what it takes to stand there.
  await sleep(2000)
  global.gc?.()
  const { rss, heapUsed } = process.memoryUsage()
  const said: TakenOver = {
    firstDecisionMs: Math.round(at),
    sinceAssignedMs: Math.round(at - assignedAt),
    shownMs,
    rssMb: Math.round(rss / 2 ** 20),
    heapMb: Math.round(heapUsed / 2 ** 20),
  }
  process.send?.(said)
  process.on("message", () => {
    const untilCovered = async (): Promise<void> => {
      // Snapshots are written while it runs; the last commit tells from where a successor reads.
      let before = -1
      for (;;) {
        const ends = (await running.log.bounds(names.snapshots)).reduce((sum, { end }) => sum + end, 0)
        if (ends === before) break
        before = ends
        await sleep(5000)
      }
      process.send?.("covered")
    }
    void untilCovered()
  })
}

/** A session of one turn with a tool: the records that every session of a log is a copy of. */
function template(): readonly SessionEvent[] {
  const work = tool("work", { description: "Does what it is told, and says what came of it.", effect: "idempotent" })
  const other = tool("look", { description: "Looks something up.", effect: "pure" })
  const story = new Story()
    .started({ ...agent([work, other]), system: JSON.stringify("You help. ".repeat(40)) })
    .requested()
    .responded([text("I shall see to it."), toolUse("toolu_0", "work", { n: 1, padding: "x".repeat(300) })])
    .dispatched("toolu_0")
    .completed("toolu_0", "y".repeat(300))
    .requested()
    .responded([text("It is done. ".repeat(20))])
    .idled()
  return story.records.map(({ event }) => event)
}

/** Fills the log: the records of all sessions interleaved as if they had run at the same time. Returns how many. */
async function fill(log: Log, codec: Codec, topic: string, scale: Scale): Promise<number> {
  const events = template()
  const lot = 500
  let count = 0
  for (let from = 0; from < scale.sessions; from += lot) {
    const ids = Array.from({ length: Math.min(lot, scale.sessions - from) }, (_, index) => `sesn_${from + index}`)
    const placed: Promise<unknown>[] = []
    for (const event of events) {
      for (const sessionId of ids) {
        const suffix = sessionId.slice(5)
        const own = JSON.parse(JSON.stringify(event).replaceAll('"evt_', `"evt_${suffix}_`)) as SessionEvent
        const said = {
          ...own,
          sessionId,
          ...("commandId" in own ? { commandId: `start-${suffix}`, command: { partition: 999, offset: count } } : {}),
        } as SessionEvent
        const key = `${sessionId}/${count++}`
        placed.push(
          log.append({
            topic,
            partition: partitionOf(sessionId, scale.partitions),
            key: () => key,
            value: codec.encode("sessions", said),
            headers: { type: said.type, session: sessionId },
            certainty: "always",
          }),
        )
      }
    }
    await Promise.all(placed)
  }
  return count
}

interface Measured {
  readonly name: string
  readonly events: number
  readonly snapshots: boolean
  readonly taken: TakenOver
}

async function measure(scale: Scale): Promise<readonly Measured[]> {
  const dir = mkdtempSync(join(tmpdir(), "reins-bounded-"))
  const kafka = scale.log === "kafka" ? await sharedKafka({ registry: true }) : null
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ...(kafka === null ? {} : { KAFKA_BROKERS: kafka.bootstrap, SCHEMA_REGISTRY_URL: kafka.registryUrl }),
    REINS_DATA: dir,
    REINS_STATE: dir,
    REINS_PARTITIONS: String(scale.partitions),
    REINS_TOPIC_PREFIX: `bounded-${process.pid}-${scale.sessions}-${scale.partitions}`,
    REINS_LOG_LEVEL: process.env["REINS_LOG_LEVEL"] ?? "warn",
    ...(scale.gateway === true ? { BENCH_GATEWAY: "1", REINS_PORT: "0" } : {}),
  }
  const config = readConfig(env)
  const names = topicNames(config.prefix)
  const command = async (log: Log, value: object): Promise<void> => {
    await log.append({
      topic: names.commands,
      partition: partitionOf(waiting, scale.partitions),
      key: () => waiting,
      value: Buffer.from(JSON.stringify({ sessionId: waiting, ...value })),
      headers: {},
      certainty: "always",
    })
  }
  const opened = await openLog(config, newInstance("fill"))
  await opened.log.applyTopics(topicSettings(config.prefix, config.partitions))
  const events = await fill(opened.log, opened.codec, names.sessions, scale)
  await command(opened.log, { type: "session.start", agent: { model: "bench" }, input: "Go." })
  await opened.log.close()
  const found: Measured[] = []
  try {
    const first = await takeOver(env, true)
    found.push({ name: scale.name, events, snapshots: false, taken: first })
    for (let run = 0; run < 3; run++) {
      const again = await openLog(config, newInstance("command"))
      await command(again.log, { type: "message.send", content: `And again, ${run}.` })
      await again.log.close()
      found.push({ name: scale.name, events, snapshots: true, taken: await takeOver(env, false) })
    }
    return found
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** How the image runs Node. */
function imageFlags(): readonly string[] {
  const image = readFileSync(new URL("../../infra/images/Dockerfile", import.meta.url), "utf8")
  const [, command] = /^ENTRYPOINT (\[.*\])$/m.exec(image) ?? []
  return (JSON.parse(command as string) as string[]).filter((word) => word.startsWith("--"))
}

async function takeOver(env: NodeJS.ProcessEnv, untilCovered: boolean): Promise<TakenOver> {
  const child = fork(fileURLToPath(import.meta.url), ["role"], {
    env,
    execArgv: [...imageFlags(), "--expose-gc", "--disable-warning=ExperimentalWarning", "--disable-warning=TimeoutNegativeWarning"],
  })
  const heard = async (): Promise<unknown> => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    child.once("message", resolve)
    child.once("exit", (code) => reject(new Error(`The process that took over ended with ${code}.`)))
    return promise
  }
  const taken = (await heard()) as TakenOver
  if (untilCovered) {
    child.send("cover")
    await heard()
    // One more commit.
    await sleep(3000)
  }
  const gone = new Promise((resolve) => child.once("exit", resolve))
  child.removeAllListeners("message")
  child.kill("SIGKILL")
  await gone
  return taken
}

interface LongSession {
  readonly events: number
  readonly replayMs: number
  readonly tenthUs: number
  readonly lastUs: number
  readonly tenthBytes: number
  readonly lastBytes: number
}

/** A session of 10,000 events: how long its replay takes, and what an event costs at its beginning and at its end. */
function longSession(): LongSession {
  const work = tool("work", { effect: "idempotent" })
  const story = new Story().started(agent([work], { limits: { ...agent().limits, turns: 1_000_000 } })).requested()
  for (let n = 0; story.records.length < 10_000; n++)
    story
      .responded([toolUse(`toolu_${n}`, "work", { n, padding: "x".repeat(300) })])
      .dispatched(`toolu_${n}`)
      .completed(`toolu_${n}`, "y".repeat(300))
      .requested()
  const records = story.records
  const began = performance.now()
  const states: Session[] = [absent]
  for (const { event, at } of records) states.push(evolve(states.at(-1) as Session, event, at).session)
  const replayMs = performance.now() - began
  const cost = (from: number): number => {
    const rounds = 400
    const start = performance.now()
    for (let round = 0; round < rounds; round++) {
      // A fresh state each time: what was said last is remembered by the state that it was said to.
      let state: Session = { ...(states[from] as Session) }
      for (let index = from; index < from + 4; index++) {
        const record = records[index]
        if (record !== undefined) state = evolve(state, record.event, record.at).session
      }
    }
    return ((performance.now() - start) / rounds / 4) * 1000
  }
  cost(8)
  const size = (index: number): number => Buffer.byteLength(JSON.stringify(records[index]?.event))
  return {
    events: records.length,
    replayMs: Math.round(replayMs),
    tenthUs: Number(cost(8).toFixed(1)),
    lastUs: Number(cost(9996).toFixed(1)),
    tenthBytes: size(10),
    lastBytes: size(9998),
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    allowPositionals: true,
    options: { only: { type: "string" }, json: { type: "boolean", default: false } },
  })
  const long = longSession()
  process.stderr.write(
    `a session of ${long.events} events: folded in ${long.replayMs} ms; an event ${long.tenthUs} µs at the 10th, ${long.lastUs} µs at the last; ${long.tenthBytes} and ${long.lastBytes} bytes\n`,
  )
  const rows: Measured[] = []
  for (const scale of scales.filter(({ name }) => values.only === undefined || name.includes(values.only))) {
    for (const row of await measure(scale)) {
      rows.push(row)
      const { firstDecisionMs, sinceAssignedMs, shownMs, rssMb, heapMb } = row.taken
      process.stderr.write(
        `${row.name.padEnd(34)} ${String(row.events).padStart(8)} events ${row.snapshots ? "from snapshots" : "without       "}  first decision ${firstDecisionMs} ms after the start, ${sinceAssignedMs} ms after the assignment${shownMs === null ? "" : `, all shown after ${shownMs} ms`}; RSS ${rssMb} MB, heap ${heapMb} MB\n`,
      )
    }
  }
  if (values.json) process.stdout.write(`${JSON.stringify({ long, rows }, null, 2)}\n`)
  process.exit(0)
}
