import { fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { availableParallelism, loadavg } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { startKafka } from "@reins/infra/kafka"
import { type Following, type LogRecord, partitionOf } from "@reins/log"
import { decodeRecord } from "@reins/log/codec"
// Before kafkajs: what it mends there is mended as it loads.
// oxlint-disable-next-line import/no-unassigned-import -- The import is the mending.
import "@reins/log/kafka"
import { newInstance, openLog, readConfig, readDeadLetters } from "@reins/runtime"
import { isStarted, statusOf } from "@reins/session"
import { AssignerProtocol, Kafka, logLevel, Partitioners, type Producer } from "kafkajs"
import { api, type Fault, FaultProxy } from "../e2e/fault-proxy.ts"
import { Bench, type Environment, linesOf, sample } from "../e2e/harness.ts"
import type { LedgerLine, ToolFaultLine } from "../fixtures/ledger-tools.ts"
import { startOrders } from "../fixtures/orders.ts"
import type { JournalLine } from "../scenarios/long-session.ts"
import { Random } from "../simulation/random.ts"
import { Door } from "./door.ts"
import { Fleet, type Member, type Role } from "./fleet.ts"
import { type ModelFaultLine, modelFaultKinds } from "./model.ts"
import { type Account, addAccount, emptyAccount, judge } from "./oracle.ts"
import { readWholeLog, type WholeLog } from "./read-log.ts"
import { readAgain, type SecondReading, settledIn } from "./second-reading.ts"
import { answerTo, chaosAgent, ledgered, planSessions } from "./sessions.ts"

export interface ChaosOptions {
  readonly seed: number
  /** How long faults happen. */
  readonly faultsMs: number
  readonly sessions: number
  readonly brokers: 1 | 3
  /** Every service a process of its own, or those that do little together, so that two instances of each fit two cores. */
  readonly apart: boolean
  /** Within this everything must have come to rest after the last fault. */
  readonly settleMs: number
  readonly say: (line: string) => void
}

export interface ChaosReport {
  readonly seed: number
  /** Faults injected while work was running, by kind. */
  readonly faults: Readonly<Record<string, number>>
  /** Kinds that should have happened and did not. */
  readonly missing: readonly string[]
  readonly account: Account
  readonly sessions: number
  readonly commands: number
  readonly byOutcome: Readonly<Record<string, number>>
  /** Acknowledged and not in the log. */
  readonly lost: number
  readonly recoveryMs: { readonly p50: number; readonly p95: number; readonly max: number; readonly measured: number }
  readonly settledMs: number
  /** From the brokers' being back after each total outage to the next accepted record. */
  readonly outagesMs: readonly number[]
  /** Answers of the proxy that too few replicas are in sync: where nothing was written, and where it stands all the same. */
  readonly starved: { readonly refused: number; readonly written: number }
  readonly deadLetters: { readonly poisoned: number; readonly buried: number; readonly twice: number }
  readonly requestsRebuilt: number
  readonly surprises: readonly string[]
  readonly breaches: readonly string[]
  readonly load: readonly number[]
}

const faultKinds = [
  "kill",
  "freeze",
  "drain",
  "rebalance",
  "broker-kill",
  "broker-pause",
  "under-replicated",
  "registry-down",
  "total-outage",
  "poison",
] as const
type FaultKind = (typeof faultKinds)[number]
/** What the scheduler shuffles and deals, again and again; every second time with a total outage, after which all takes a while to come back. */
const deck: readonly FaultKind[] = [
  "kill",
  "kill",
  "kill",
  "freeze",
  "freeze",
  "drain",
  "rebalance",
  "broker-kill",
  "broker-pause",
  "under-replicated",
  "registry-down",
  "poison",
]
const lossKinds = ["answer-lost", "request-lost", "request-late"] as const

const sessionTimeoutMs = 6000
const toolTimeoutMs = 15_000
const partitions = 8
/** How often it is looked whether everything is at rest; each look reads the whole log. */
const lookEveryMs = 1000
/** How long a fault waits for work. */
const workMs = 10_000
/** How long too few replicas are in sync at most, until both kinds of answer were given. */
const starvingMaxMs = 15_000
/** How long a kill waits for its victim to have something in hand. */
const aimMs = 2000
const skewMs = 2 * 3_600_000
/** How long the registry is away at least, and at most until a process has missed it while others went on. */
const registryAwayMs = 3000
const registryAwayMaxMs = 30_000
/** Without a record of its role for so long, nobody needed the killed one. */
const recoveryMaxMs = 60_000

const classes = fileURLToPath(new URL("./classes.ts", import.meta.url))
const inside = new URL("./inside.ts", import.meta.url).href

const rolesApart: readonly Role[] = [
  { name: "intake", args: ["up", "intake"], services: ["intake"] },
  { name: "llm-invoker", args: ["up", "llm-invoker"], services: ["llm-invoker"] },
  { name: "tool-router", args: ["up", "tool-router"], services: ["tool-router"] },
  { name: "tool-workers/function", args: ["up", "tool-workers/function"], services: ["tool-workers/function"] },
  { name: "tool-workers/http", args: ["up", "tool-workers/http"], services: ["tool-workers/http"] },
  { name: "tool-workers/classes", args: ["worker", classes], services: ["tool-workers/classes"] },
]
const rolesTogether: readonly Role[] = [
  { name: "intake+tool-router", args: ["up", "intake", "tool-router"], services: ["intake", "tool-router"] },
  { name: "llm-invoker", args: ["up", "llm-invoker"], services: ["llm-invoker"] },
  {
    name: "tool-workers/function+tool-workers/http",
    args: ["up", "tool-workers/function", "tool-workers/http"],
    services: ["tool-workers/function", "tool-workers/http"],
  },
  { name: "tool-workers/classes", args: ["worker", classes], services: ["tool-workers/classes"] },
]

interface Kill {
  readonly at: number
  readonly role: Role
  readonly partitions: readonly number[]
}

/** A command as it is sent. */
type Message = Parameters<Producer["send"]>[0]["messages"][number]

interface Poison {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

/** Runs the whole of Reins as processes on a Kafka of its own, harms all of it by the seed's schedule, lets it settle, and judges what stands. */
export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const bench = new Bench()
  const closing: (() => unknown)[] = [() => bench.close()]
  try {
    return await run(options, bench, closing)
  } finally {
    for (const close of closing.reverse()) await Promise.resolve(close()).catch(() => undefined)
  }
}

async function run(options: ChaosOptions, bench: Bench, closing: (() => unknown)[]): Promise<ChaosReport> {
  const { seed, say } = options
  const random = new Random(seed).fork("schedule")
  const loadBefore = loadavg()[0] ?? 0
  const roles = options.apart ? rolesApart : rolesTogether
  say(`seed ${seed}, ${options.brokers} broker(s), load ${loadBefore.toFixed(1)} on ${availableParallelism()} cores`)

  // --- the world
  const kafka = await startKafka({ brokers: options.brokers })
  closing.push(() => kafka.stop())
  const proxy = await FaultProxy.start()
  closing.push(() => proxy.stop())
  const proxyPort = await portOf(proxy, kafka.brokers[0]?.port ?? 0)
  const ledger = bench.path("effects.jsonl")
  const door = await Door.before(new URL(kafka.registryUrl ?? ""))
  closing.push(() => door.stop())
  const orders = await startOrders(ledger)
  closing.push(() => orders.close())
  const model = await startModel(bench, seed)
  closing.push(() => model.kill())
  const prefix = `chaos-${randomBytes(4).toString("hex")}`
  const names = topicNames(prefix)
  const base: Environment = {
    ...kafka.env,
    REINS_TOPIC_PREFIX: prefix,
    REINS_PARTITIONS: String(partitions),
    REINS_LOG_LEVEL: "warn",
    ANTHROPIC_BASE_URL: model.url,
    ANTHROPIC_API_KEY: "no-key-is-needed",
    LEDGER_FILE: ledger,
    LEDGER_DELAY_MS: "400",
    TOOL_TIMEOUT_MS: String(toolTimeoutMs),
  }
  const applied = await bench.run(["topics", "apply"], base)
  if (applied.code !== 0) throw new Error(applied.stderr)
  const fleet = new Fleet(bench, ({ proxied, skewMs: skew }) => ({
    ...base,
    SCHEMA_REGISTRY_URL: throughDoor(kafka.registryUrl, door),
    NODE_OPTIONS: `--import=${inside}`,
    ...(proxied ? { CHAOS_PROXY: `${proxyPort}:${kafka.brokers.map(({ port }) => port).join(",")}` } : {}),
    ...(skew === 0 ? {} : { CHAOS_SKEW_MS: String(skew) }),
  }))
  for (const role of roles) for (const proxied of [true, false]) fleet.start(role, { proxied, skewMs: 0 })
  await fleet.heal()
  say(`${fleet.members.size} processes: two each of ${roles.map(({ name }) => name).join(", ")}`)

  // --- the watch: what a stranger sees of the sessions
  const config = readConfig(base)
  const { log, codec } = await openLog(config, newInstance("watch"))
  closing.push(() => log.close())
  const watch = new Watch()
  let following: Following | undefined
  const follow = async (): Promise<void> => {
    following = await log.follow({
      instance: "watch",
      topics: [names.sessions],
      records: (_topic, _partition, records) => {
        for (const record of records) {
          watch.saw(record.headers["session"], record.headers["type"])
          if (record.headers["type"] === "tool-call.held") hold(record)
        }
      },
      failed: () => void followAgain(),
    })
  }
  const followAgain = async (): Promise<void> => {
    for (;;) {
      try {
        return await follow()
      } catch {
        await sleep(500)
      }
    }
  }
  await follow()
  closing.push(() => following?.stop())

  // --- people: whatever is held they look at, and after a while they say something
  const people = new Random(seed).fork("people")
  const answered = new Set<string>()
  const answering: Promise<void>[] = []
  let tellPeople: ((value: { readonly sessionId: string }) => Promise<void>) | undefined
  const answer = (sessionId: string, held: Parameters<typeof answerTo>[2], afterMs: number): void => {
    if (answered.has(held.eventId)) return
    answered.add(held.eventId)
    answering.push(sleep(afterMs).then(() => tellPeople?.(answerTo(people, sessionId, held))))
  }
  const hold = (record: LogRecord): void => {
    const decoded = record.value === null ? null : decodeRecord(codec, "sessions", record)
    const said = decoded?.ok === true ? (decoded.said as unknown as { sessionId: string } & Parameters<typeof answerTo>[2]) : undefined
    if (said !== undefined) answer(said.sessionId, said, people.int(0, 2500))
  }

  // --- the client
  const client = new Kafka({ brokers: kafka.bootstrap.split(","), clientId: "stranger", logLevel: logLevel.NOTHING, retry: { retries: 3 } })
  const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  const admin = client.admin()
  await producer.connect()
  await admin.connect()
  closing.push(
    () => producer.disconnect(),
    () => admin.disconnect(),
  )
  /** Asks without trying again, so that what it is told is what the brokers said. */
  const prober = client.producer({ createPartitioner: Partitioners.DefaultPartitioner, retry: { retries: 0 } })
  await prober.connect()
  closing.push(() => prober.disconnect())
  const acknowledged = new Map<string, string[]>()
  /** The command that was acknowledged last: sent once more, it changes nothing. */
  let known: Message | undefined
  const plans = planSessions(new Random(seed).fork("sessions"), {
    sessions: options.sessions,
    spreadMs: Math.floor(options.faultsMs * 0.85),
    prefix: String(seed),
    agentOf: (asks) => chaosAgent(orders.url, toolTimeoutMs, asks),
  })
  let commands = 0
  let unreachable = 0
  /** Until it is acknowledged; a copy that stands all the same is the same command. */
  const send = async (message: Message): Promise<void> => {
    for (;;) {
      try {
        await producer.send({ topic: names.commands, acks: -1, timeout: 5000, messages: [message] })
        return
      } catch {
        unreachable++
        await sleep(300)
      }
    }
  }
  tellPeople = (value) => send({ key: value.sessionId, value: JSON.stringify(value) })
  const began = Date.now()
  const clients = plans.map(async ({ sessionId, startsAtMs, commands: wanted }) => {
    await sleep(startsAtMs)
    for (const { afterMs, value, misplaced } of wanted) {
      await sleep(afterMs)
      const home = partitionOf(sessionId, partitions)
      const message = {
        key: sessionId,
        value: JSON.stringify(value),
        ...(misplaced ? { partition: (home + 1) % partitions } : {}),
      }
      await send(message)
      commands++
      known = message
      watch.commanded(sessionId, value.type)
      acknowledged.set(sessionId, [...(acknowledged.get(sessionId) ?? []), value.commandId])
    }
  })

  // --- the faults
  const faults = new Map<string, number>()
  const kills: Kill[] = []
  const poisons: Poison[] = []
  const breaches: string[] = []
  const background = new Set<Promise<unknown>>()
  /** How often brokers were harmed, and how many harms are going on. */
  let brokerTroubles = 0
  let brokerTroublesNow = 0
  const troubled = async (work: () => Promise<unknown>): Promise<void> => {
    brokerTroubles++
    brokerTroublesNow++
    try {
      await work()
    } finally {
      brokerTroublesNow--
    }
  }
  const backAgain: number[] = []
  const endsAt = began + options.faultsMs
  const inject = (kind: string): void => {
    if (watch.running > 0) faults.set(kind, (faults.get(kind) ?? 0) + 1)
  }
  const aside = (work: Promise<unknown>): void => {
    const kept = work.catch((error: unknown) => void breaches.push(`chaos itself: ${String(error)}`)).finally(() => background.delete(kept))
    background.add(kept)
  }
  const partitionsOf = async (member: Member): Promise<readonly number[]> => {
    const group = `${prefix}.${member.role.services.toSorted().join("+")}`
    const described = await Promise.race([admin.describeGroups([group]), sleep(1500).then(() => null)]).catch(() => null)
    const own = described?.groups[0]?.members.find(({ clientId }) => clientId === member.started.instance)
    if (own === undefined || own.memberAssignment.length === 0) return []
    const assigned = AssignerProtocol.MemberAssignment.decode(own.memberAssignment)?.assignment ?? {}
    return [...new Set(Object.values(assigned).flat())]
  }
  let restarts = 0
  const anew = (member: Member): void => {
    // Every second one of those that come after lives in another time.
    const skewed = restarts++ % 2 === 0
    const skew = skewed ? random.pick([-skewMs, skewMs]) : 0
    fleet.start(member.role, { proxied: member.proxied, skewMs: skew })
    if (skewed) inject("clock-skew")
  }
  let killed = random.int(0, roles.length - 1)
  /** F8 on one broker, told by the proxy: Kafka asks no topic for more replicas than it has, so a real one cannot be had there. */
  const tooFewSaid = async (): Promise<void> => {
    const { refused, written } = proxy.starved
    const both = (): boolean => proxy.starved.refused > refused && proxy.starved.written > written
    const until = Date.now() + starvingMaxMs
    proxy.starve(true)
    await sleep(random.int(2000, 5000))
    while (!both() && Date.now() < until) await sleep(50)
    proxy.starve(false)
    if (both()) inject("under-replicated")
  }
  /** F8 on three: two are gone. What the third acknowledged now would stand on one disk only. */
  const tooFewLeft = async (): Promise<void> => {
    const dead = shuffled(random, kafka.brokers).slice(1)
    await Promise.all(dead.map((broker) => broker.kill("SIGKILL")))
    try {
      if (await isTaken()) breaches.push("F8: one broker of three acknowledged a command")
      else inject("under-replicated")
      await sleep(random.int(1000, 4000))
    } finally {
      await Promise.all(dead.map((broker) => broker.restart()))
    }
  }
  /** Sends what is known already once more. */
  const isTaken = async (): Promise<boolean> => {
    const message = known
    if (message === undefined) throw new Error("No command was acknowledged yet.")
    return await prober.send({ topic: names.commands, acks: -1, timeout: 3000, messages: [message] }).then(
      () => true,
      () => false,
    )
  }
  const strike: Readonly<Record<FaultKind, () => Promise<void>>> = {
    kill: async () => {
      const victim = await withWork(fleet.sound(), roles[killed++ % roles.length] as Role)
      if (victim === undefined) return
      const owned = await partitionsOf(victim)
      victim.leaving = true
      kills.push({ at: Date.now(), role: victim.role, partitions: owned })
      victim.started.kill("SIGKILL")
      inject("kill")
      aside(sleep(random.int(0, 3000)).then(() => anew(victim)))
    },
    freeze: async () => {
      const sound = fleet.sound()
      if (sound.length === 0) return
      const victim = random.pick(sound)
      fleet.freeze(victim)
      inject("freeze")
      aside(sleep(sessionTimeoutMs + random.int(1000, 4000)).then(() => fleet.thaw(victim)))
    },
    drain: async () => {
      const sound = fleet.sound()
      if (sound.length === 0) return
      const victim = random.pick(sound)
      victim.leaving = true
      victim.started.kill("SIGTERM")
      inject("drain")
      const [calm, troubles] = [brokerTroublesNow === 0, brokerTroubles]
      aside(
        Promise.race([victim.started.ended, sleep(60_000).then(() => null)]).then((ended) => {
          if (ended === null) {
            breaches.push(`F3: ${victim.role.name} did not drain within a minute`)
            victim.started.kill("SIGKILL")
          } else if (ended.code !== 0 && calm && brokerTroubles === troubles)
            breaches.push(`F3: ${victim.role.name} drained with ${ended.code ?? ended.signal}: ${ended.stderr.slice(-500)}`)
          anew(victim)
        }),
      )
    },
    rebalance: async () => {
      const role = random.pick(roles)
      const guest = fleet.start(role, { proxied: false, skewMs: 0 })
      inject("rebalance")
      aside(
        sleep(random.int(5000, 9000)).then(() => {
          guest.leaving = true
          guest.started.kill("SIGTERM")
        }),
      )
    },
    "broker-kill": async () => {
      const broker = random.pick(kafka.brokers)
      inject("broker-kill")
      await troubled(async () => {
        await broker.kill("SIGKILL")
        await sleep(random.int(200, 1500))
        await broker.restart()
      })
    },
    "broker-pause": async () => {
      const broker = random.pick(kafka.brokers)
      inject("broker-pause")
      await troubled(async () => {
        await broker.kill("SIGSTOP")
        await sleep(random.int(1000, 5000))
        await broker.kill("SIGCONT")
      })
    },
    "under-replicated": () => troubled(options.brokers === 1 ? tooFewSaid : tooFewLeft),
    "registry-down": async () => {
      const [seen, turnedAway] = [watch.records, door.turnedAway]
      const until = Date.now() + registryAwayMaxMs
      if (random.chance(0.5)) door.shut()
      else door.hold()
      // Whoever starts now needs the registry; whoever runs goes on with the schemas that it knows.
      const victim = await withWork(fleet.sound(), roles[killed++ % roles.length] as Role)
      if (victim !== undefined) {
        victim.leaving = true
        victim.started.kill("SIGKILL")
        anew(victim)
      }
      const both = (): boolean => watch.records > seen && door.turnedAway > turnedAway
      await sleep(registryAwayMs)
      while (!both() && Date.now() < until) await sleep(100)
      if (both()) inject("registry-down")
      door.reopen()
    },
    "total-outage": () =>
      troubled(async () => {
        inject("total-outage")
        door.shut()
        const all = [...fleet.members]
        const supervised = all.filter(({ leaving }) => !leaving)
        for (const member of all) {
          member.leaving = true
          member.started.kill("SIGKILL")
        }
        await Promise.all([...kafka.brokers.map((broker) => broker.kill("SIGKILL")), ...all.map(({ started }) => started.ended)])
        await sleep(random.int(500, 2500))
        // In any order: who comes before what it needs is started again until that is there.
        const brokers: Promise<void>[] = []
        const back = [
          ...kafka.brokers.map((broker) => () => void brokers.push(broker.restart())),
          ...supervised.map((member) => () => anew(member)),
          () => door.reopen(),
        ]
        for (const start of shuffled(random, back)) {
          start()
          await sleep(random.int(0, 400))
        }
        await Promise.all(brokers)
        backAgain.push(Date.now())
      }),
    poison: async () => {
      const topic = random.pick([names.commands, names.sessions, names.tools("classes")])
      const partition = random.int(0, partitions - 1)
      const value = random.pick([Buffer.from([0, 0, 0, 0, 1, 255, 255, 255]), Buffer.from("{nothing"), Buffer.from([7, 7, 7])])
      try {
        const [placed] = await producer.send({
          topic,
          acks: -1,
          messages: [{ key: `poison/${poisons.length}/${Date.now()}`, value, partition }],
        })
        if (placed?.baseOffset === undefined) return
        poisons.push({ topic, partition, offset: Number(placed.baseOffset) })
        inject("poison")
      } catch {
        // The brokers were away; another one comes.
      }
    },
  }

  const losses = (async () => {
    while (Date.now() < endsAt) {
      await sleep(random.int(600, 2000))
      const kind = random.pick(lossKinds)
      const fault: Fault = kind === "request-late" ? { kind, afterMs: random.int(200, 2500) } : { kind }
      const happened = await Promise.race([proxy.next(api.produce, fault).then(() => true), sleep(10_000).then(() => false)])
      if (happened) inject(kind)
    }
  })()
  const struck = (async () => {
    const meanGapMs = Math.max(900, Math.min(2500, options.faultsMs / 22))
    let dealt: FaultKind[] = []
    let decks = 0
    await sleep(1500)
    // Each kind at least once, however slow the machine is.
    while (Date.now() < endsAt || (decks === 1 && dealt.length > 0)) {
      if (dealt.length === 0) {
        dealt = shuffled(random, decks++ % 2 === 0 ? [...deck, "total-outage"] : deck)
      }
      const kind = dealt.shift() as FaultKind
      // A fault while nothing runs would prove nothing.
      for (const until = Date.now() + workMs; watch.running === 0 && Date.now() < until; ) await sleep(50)
      await strike[kind]().catch((error: unknown) => breaches.push(`chaos itself, ${kind}: ${String(error)}`))
      await sleep(Math.min(3 * meanGapMs, -Math.log(1 - random.next()) * meanGapMs))
    }
  })()
  const talk = setInterval(() => {
    say(
      `${((Date.now() - began) / 1000).toFixed(0)} s: ${watch.started} sessions, ${watch.running} running, faults ${[...faults].map(([kind, count]) => `${kind} ${count}`).join(", ")}`,
    )
  }, 15_000)
  await Promise.all([losses, struck])
  model.wellFromNowOn()
  const faultsOver = Date.now()
  say(`The last fault was injected after ${((faultsOver - began) / 1000).toFixed(0)} s; ${watch.running} sessions run.`)
  while (background.size > 0) await Promise.all(background)
  say("What was under way is over.")
  if (!(await fleet.heal())) {
    breaches.push("P7: a process did not become ready after the last fault")
    say(await fleet.story())
  } else say("All processes are ready.")
  await Promise.all([...clients, ...answering])
  say("All commands are acknowledged.")

  // --- settling
  let settled = false
  for (const endsBy = Date.now() + options.settleMs; !settled && Date.now() < endsBy; await sleep(lookEveryMs)) {
    const now = await readWholeLog(log, codec, prefix).catch(() => undefined)
    settled = now !== undefined && plans.every(({ sessionId }) => atRest(now, sessionId))
    // Who followed had lost sight of these for a while.
    for (const [sessionId, session] of now?.sessions ?? []) {
      if (session.phase !== "awaiting-tools") continue
      for (const { toolUseId, state } of session.calls) if (state.is === "held") answer(sessionId, { ...state, toolUseId }, 0)
    }
    if (now === undefined || !settled) continue
    const second = readAgain(now, prefix)
    settled = plans.every(({ sessionId }) => settledIn(second, sessionId))
  }
  clearInterval(talk)
  if (!settled) say(await fleet.story())
  const settledMs = Date.now() - faultsOver
  for (const { name, code, signal } of await fleet.stop()) breaches.push(`F3: at the end ${name} drained with ${code ?? signal}`)

  // --- the verdict
  const whole = await readWholeLog(log, codec, prefix)
  const again = await readWholeLog(log, codec, prefix)
  // Whom the fold lets through is judged by the reference; where the two differ one of them is wrong.
  const second = readAgain(whole, prefix)
  for (const difference of second.differing) breaches.push(`I13: ${difference}`)
  for (const { sessionId } of plans) {
    if (!atRest(whole, sessionId)) breaches.push(`I2: ${sessionId} is ${statusIn(whole, sessionId)} ${settledMs} ms after the last fault`)
    if (!settledIn(second, sessionId))
      breaches.push(`I2: by the reference ${sessionId} is ${second.sessions.get(sessionId)?.phase ?? "absent"} and not at rest`)
  }
  const account = emptyAccount()
  const effects = byKey(linesOf<LedgerLine>(ledger), ({ sessionId }) => sessionId)
  const journal = byKey(linesOf<JournalLine>(bench.path("journal.jsonl")), ({ sha256 }) => sha256)
  const byOutcome: Record<string, number> = {}
  for (const { sessionId } of plans) {
    const records = second.records.get(sessionId) ?? []
    const judgement = judge({
      sessionId,
      records,
      effects: effects.get(sessionId) ?? [],
      journal,
      acknowledged: acknowledged.get(sessionId) ?? [],
      ledgered,
    })
    addAccount(account, judgement)
    breaches.push(...judgement.breaches)
    const outcome = statusIn(whole, sessionId)
    byOutcome[outcome] = (byOutcome[outcome] ?? 0) + 1
    if (outcome.startsWith("parked")) breaches.push(`P8: ${sessionId} is ${outcome}`)
    // Who speaks to a session that waits is told so; an answer may come after an interrupt or an end.
    for (const { type, verdict, value } of records)
      if (type === "command.rejected" && verdict === "accepted" && !refusedToWaiting.has(value.code))
        breaches.push(`I1: ${sessionId}: ${value.commandId} was rejected: ${value.message}`)
    if (whole.digests.get(sessionId) !== again.digests.get(sessionId)) breaches.push(`I13: two readers come to two states of ${sessionId}`)
  }
  for (const [sessionId] of effects) if (!whole.sessions.has(sessionId)) breaches.push(`I7: effects of ${sessionId}, which is no session`)
  breaches.push(...whole.requestsDiffering.map((request) => `I13: ${request} is rebuilt otherwise`))
  breaches.push(
    ...(await replayed(
      bench,
      base,
      plans.slice(0, 3).map(({ sessionId }) => sessionId),
      whole,
    )),
  )
  const letters = await readDeadLetters(log, names)
  const buried = poisons.map(
    ({ topic, partition, offset }) =>
      letters.filter((letter) => letter.topic === topic && letter.partition === partition && letter.originalOffset === offset).length,
  )
  for (const [index, count] of buried.entries())
    if (count === 0) breaches.push(`I25: the poison ${JSON.stringify(poisons[index])} is not among the dead letters`)

  for (const { kind, at } of linesOf<ModelFaultLine>(bench.path("model-faults.jsonl")))
    if (at <= faultsOver) faults.set(kind, (faults.get(kind) ?? 0) + 1)
  for (const { fault, at } of linesOf<ToolFaultLine>(`${ledger}.faults`))
    if (at <= faultsOver) faults.set(`tool-${fault}`, (faults.get(`tool-${fault}`) ?? 0) + 1)
  for (const what of ["held", "allowed", "denied", "given"] as const)
    if (account[what] === 0) breaches.push(`chaos itself: nothing was ${what}, so this run proves nothing about it`)
  const expected = [...faultKinds, ...lossKinds, "clock-skew", ...modelFaultKinds, "tool-hang", "tool-throw-before", "tool-throw-after"]
  const recovery = recoveries(kills, second)
  return {
    seed,
    faults: Object.fromEntries([...faults].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    missing: expected.filter((kind) => (faults.get(kind) ?? 0) === 0),
    account,
    sessions: plans.length,
    commands,
    byOutcome,
    lost: breaches.filter((text) => text.includes("I1: ")).length,
    recoveryMs: { p50: percentile(recovery, 50), p95: percentile(recovery, 95), max: percentile(recovery, 100), measured: recovery.length },
    settledMs,
    starved: proxy.starved,
    outagesMs: backAgain.map((at) => Math.max(0, firstAccepted(second, at) - at)),
    deadLetters: {
      poisoned: poisons.length,
      buried: buried.filter((count) => count > 0).length,
      twice: buried.filter((count) => count > 1).length,
    },
    requestsRebuilt: whole.requestsRebuilt,
    surprises: counted(
      fleet.surprises.map(({ name, code, signal, stderr }) => `${name} ended by itself (${code ?? signal}): ${lastLine(stderr)}`),
    ),
    breaches,
    load: [loadBefore, loadavg()[0] ?? 0],
  }
}

/** Codes of refusals that are as they should be where people are asked and others speak at the same time. */
const refusedToWaiting: ReadonlySet<string> = new Set(["action_required", "call_unknown", "call_not_held", "session_ended"])

/** One of this role, if it can be in the middle of an effect; else whoever is sound. */
async function withWork(sound: readonly Member[], role: Role): Promise<Member | undefined> {
  const own = sound.filter((member) => member.role === role)
  const end = performance.now() + aimMs
  while (own.length > 0 && performance.now() < end) {
    for (const member of own) {
      const { text } = await member.started.get("/metrics").catch(() => ({ text: "" }))
      if (role.services.some((service) => (sample(text, "reins_inflight", { service }) ?? 0) > 0)) return member
    }
    await sleep(20)
  }
  return own[0] ?? sound[0]
}

/** Where the proxy listens: it tells by the connections that it hands out. */
function portOf(proxy: FaultProxy, brokerPort: number): Promise<number> {
  return new Promise((resolve) => {
    const socket = proxy.socketFactory({
      host: "127.0.0.1",
      port: brokerPort,
      ssl: undefined,
      onConnect: () => {
        resolve(socket.remotePort ?? 0)
        socket.destroy()
      },
    })
  })
}

/** What a stranger can tell from the headers alone: which sessions are under way. */
class Watch {
  readonly #running = new Set<string>()
  readonly #started = new Set<string>()
  readonly #ended = new Set<string>()

  get running(): number {
    return this.#running.size
  }

  /** Records seen so far. */
  records = 0

  get started(): number {
    return this.#started.size
  }

  commanded(sessionId: string, type: string): void {
    if (type === "session.start" && !this.#started.has(sessionId)) this.#running.add(sessionId)
  }

  saw(sessionId: string | undefined, type: string | undefined): void {
    if (sessionId === undefined || type === undefined) return
    this.records++
    this.#started.add(sessionId)
    if (type === "session.ended") this.#ended.add(sessionId)
    // What comes after an end is somebody's who does not know of it yet.
    if (this.#ended.has(sessionId) || type === "session.idled" || type === "session.parked") this.#running.delete(sessionId)
    else if (type === "session.started" || type === "message.received" || type === "model.requested" || type === "tool-call.dispatched")
      this.#running.add(sessionId)
  }
}

function statusIn(whole: WholeLog, sessionId: string): string {
  const session = whole.sessions.get(sessionId)
  if (session === undefined || !isStarted(session)) return session?.phase ?? "absent"
  const status = statusOf(session)
  return session.phase === "idle" ? `${status} ${session.reason}` : session.phase === "parked" ? `parked ${session.message}` : status
}

function atRest(whole: WholeLog, sessionId: string): boolean {
  return /^(idle|ended|parked)/.test(statusIn(whole, sessionId))
}

async function startModel(bench: Bench, seed: number): Promise<{ url: string; wellFromNowOn: () => void; kill: () => void }> {
  const child = fork(
    fileURLToPath(new URL("./model.ts", import.meta.url)),
    [bench.path("journal.jsonl"), bench.path("model-faults.jsonl"), String(seed), "10", "8000"],
    { execArgv: ["--disable-warning=ExperimentalWarning"], stdio: ["ignore", "inherit", "inherit", "ipc"] },
  )
  const url = await new Promise<string>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { url: string }).url))
    child.once("exit", (code) => reject(new Error(`The model did not start: ${code}.`)))
  })
  return { url, wellFromNowOn: () => void child.send("well"), kill: () => void child.kill("SIGKILL") }
}

/** I13 once more, by the command line: an ended process's reading of the log comes to the same state and the same bytes. */
async function replayed(bench: Bench, env: Environment, sessionIds: readonly string[], whole: WholeLog): Promise<readonly string[]> {
  const breaches: string[] = []
  for (const sessionId of sessionIds) {
    const { code, stdout, stderr } = await bench.run(["replay", sessionId, "--check"], env)
    if (code !== 0) breaches.push(`I13: reins replay ${sessionId} --check ends with ${code}: ${stdout}${stderr}`)
    else if (!stdout.includes(`State digest ${whole.digests.get(sessionId)}`))
      breaches.push(`I13: reins replay ${sessionId} comes to another state`)
  }
  return breaches
}

/** From each kill to the next accepted record that its role says in each partition that the killed one had. */
function recoveries(kills: readonly Kill[], second: SecondReading): readonly number[] {
  const said = new Map<string, number[]>()
  for (const records of second.records.values()) {
    for (const { partition, timestamp, verdict, value } of records) {
      if (verdict !== "accepted") continue
      const place = `${String(value.by).split("@")[0]}/${partition}`
      const times = said.get(place)
      if (times === undefined) said.set(place, [timestamp])
      else times.push(timestamp)
    }
  }
  const found: number[] = []
  for (const { at, role, partitions: owned } of kills) {
    for (const partition of owned) {
      const next = Math.min(...role.services.flatMap((service) => (said.get(`${service}/${partition}`) ?? []).filter((time) => time > at)))
      if (next - at <= recoveryMaxMs) found.push(next - at)
    }
  }
  return found.sort((a, b) => a - b)
}

/** When the first record after this was accepted on the session log. */
function firstAccepted({ records }: SecondReading, at: number): number {
  let first = Number.POSITIVE_INFINITY
  for (const own of records.values())
    for (const { timestamp, verdict } of own) if (verdict === "accepted" && timestamp >= at) first = Math.min(first, timestamp)
  return first
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? ""
}

/** Each line once, with how often it came. */
function counted(lines: readonly string[]): readonly string[] {
  return [...byKey(lines, (line) => line)].map(([line, same]) => (same.length > 1 ? `${line} (${same.length} times)` : line))
}

/** The registry's address as processes behind the door know it. */
function throughDoor(registryUrl: string | undefined, door: Door): string {
  const url = new URL(registryUrl ?? "")
  url.port = String(door.port)
  return url.href
}

function percentile(sorted: readonly number[], percent: number): number {
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0
}

function byKey<T>(lines: readonly T[], keyOf: (line: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>()
  for (const line of lines) {
    const known = found.get(keyOf(line))
    if (known === undefined) found.set(keyOf(line), [line])
    else known.push(line)
  }
  return found
}

function shuffled<T>(random: Random, given: readonly T[]): T[] {
  const left = [...given]
  return given.map(() => left.splice(random.int(0, left.length - 1), 1)[0] as T)
}

/** The report as people read it. */
export function told(report: ChaosReport): string {
  const { account, recoveryMs, deadLetters } = report
  const list = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ")
  const lines = [
    `seed ${report.seed}; load ${report.load.map((load) => load.toFixed(1)).join(" → ")}`,
    `faults while work was running: ${list(report.faults)}`,
    `sessions ${report.sessions} (${list(report.byOutcome)}), commands acknowledged ${report.commands}, lost ${report.lost}`,
    `turns ${account.turns}, calls ${account.calls}, effects ${account.effects}, unknown ${account.unknown}`,
    `held ${account.held}, allowed ${account.allowed}, denied ${account.denied}, results of clients and people ${account.given}`,
    `run again by class: ${list(account.reruns)}; extra model calls ${account.extraModelCalls}; takeovers ${account.takeovers}`,
    `records late ${account.late}, superseded ${account.superseded}, duplicate ${account.duplicate}; requests rebuilt ${report.requestsRebuilt}`,
    `time to recover, kill → next accepted record of the role in a partition: p50 ${recoveryMs.p50} ms, p95 ${recoveryMs.p95} ms, max ${recoveryMs.max} ms (${recoveryMs.measured} measured)`,
    `settled ${report.settledMs} ms after the last fault; poison ${deadLetters.poisoned}, in the dead letters ${deadLetters.buried}, twice ${deadLetters.twice}`,
    `writes told of too few replicas: ${report.starved.refused} refused, ${report.starved.written} that stand`,
    `total outages: ${report.outagesMs.map((ms) => `${ms} ms`).join(", ") || "none"} from the brokers' return to the next accepted record`,
    ...report.surprises.map((text) => `by itself: ${text}`),
    ...(report.missing.length > 0 ? [`NOT INJECTED: ${report.missing.join(", ")}`] : []),
    ...report.breaches.map((text) => `BREACH ${text}`),
    report.breaches.length === 0 && report.missing.length === 0 ? "Everything held." : "It did NOT hold.",
  ]
  return lines.join("\n")
}
