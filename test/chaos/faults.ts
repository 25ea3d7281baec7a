import { setTimeout as sleep } from "node:timers/promises"
import { AssignerProtocol } from "kafkajs"
import { api, type Fault } from "../e2e/fault-proxy.ts"
import { sample } from "../e2e/harness.ts"
import { Random } from "../simulation/random.ts"
import type { Clients } from "./clients.ts"
import type { Member, Role } from "./fleet.ts"
import type { Watch } from "./watch.ts"
import { partitions, type World } from "./world.ts"

// What harms a run, and when: the seed's schedule.

export const faultKinds = [
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
  "blobs-away",
] as const
type FaultKind = (typeof faultKinds)[number]
/** These wait for a deletion, and not for the scheduler. */
export const eraserKinds = ["eraser-kill", "eraser-freeze"] as const
/** How often a kind is in the deck, where that is not once. A total outage is dealt every second time, after which all takes a while to come back. */
const timesInDeck: Partial<Readonly<Record<FaultKind, number>>> = { kill: 3, freeze: 2, "total-outage": 0 }
/** What the scheduler shuffles and deals, again and again. */
const deck: readonly FaultKind[] = faultKinds.flatMap((kind) => Array.from({ length: timesInDeck[kind] ?? 1 }, () => kind))
export const lossKinds = ["answer-lost", "request-lost", "request-late"] as const

const sessionTimeoutMs = 6000
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
const drainMaxMs = 60_000
/** How long the folder of blobs is away at least, and at most until a process has missed it. */
const blobsAwayMs = 1000
const blobsAwayMaxMs = 15_000
/** How long a fault waits for a deletion, once the time for faults is over. */
const deletionMaxMs = 10_000
/** How long a fault waits for processes to harm. */
const soundMs = 60_000

export interface Kill {
  readonly at: number
  readonly role: Role
  readonly partitions: readonly number[]
}

export interface Poison {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export class Faults {
  /** Those that happened while work was running, by kind. */
  readonly counts: Map<string, number> = new Map()
  readonly kills: Kill[] = []
  readonly poisons: Poison[] = []
  readonly breaches: string[] = []
  /** When every eraser was killed, each time at the moment of a deletion. */
  readonly erasersKilled: number[] = []
  /** When the brokers were back after each total outage. */
  readonly backAgain: number[] = []
  readonly #world: World
  readonly #watch: Watch
  readonly #clients: Clients
  readonly #random: Random
  readonly #forMs: number
  readonly #background = new Set<Promise<unknown>>()
  /** How often brokers were harmed, and how many harms are going on. */
  #brokerTroubles = 0
  #brokerTroublesNow = 0
  #restarts = 0
  #killed: number

  constructor(world: World, watch: Watch, clients: Clients, options: { readonly seed: number; readonly forMs: number }) {
    this.#world = world
    this.#watch = watch
    this.#clients = clients
    this.#random = new Random(options.seed).fork("schedule")
    this.#forMs = options.forMs
    this.#killed = this.#random.int(0, world.roles.length - 1)
  }

  /** Resolves after the last one. */
  async inject(): Promise<void> {
    const endsAt = Date.now() + this.#forMs
    await Promise.all([this.#lose(endsAt), this.#strike(endsAt), this.#harmErasers(endsAt)])
  }

  /** When what they set in motion is over. */
  async over(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background)
  }

  told(): string {
    return [...this.counts].map(([kind, count]) => `${kind} ${count}`).join(", ")
  }

  // --- the schedule

  async #lose(endsAt: number): Promise<void> {
    const random = this.#random
    while (Date.now() < endsAt) {
      await sleep(random.int(600, 2000))
      const kind = random.pick(lossKinds)
      const fault: Fault = kind === "request-late" ? { kind, afterMs: random.int(200, 2500) } : { kind }
      const next = this.#world.proxy.next(api.produce, fault).then(() => true)
      if (await Promise.race([next, sleep(10_000).then(() => false)])) this.#happened(kind)
    }
  }

  async #strike(endsAt: number): Promise<void> {
    const meanGapMs = Math.max(900, Math.min(2500, this.#forMs / 22))
    let dealt: FaultKind[] = []
    let decks = 0
    await sleep(1500)
    // Each kind at least once, however slow the machine is.
    while (Date.now() < endsAt || (decks === 1 && dealt.length > 0)) {
      if (dealt.length === 0) dealt = shuffled(this.#random, decks++ % 2 === 0 ? [...deck, "total-outage"] : deck)
      const kind = dealt.shift() as FaultKind
      // A fault while nothing runs would prove nothing; and who has just begun anew cannot be harmed yet.
      for (const until = Date.now() + workMs; this.#watch.running === 0 && Date.now() < until; ) await sleep(50)
      for (const until = Date.now() + soundMs; !this.#isSound() && Date.now() < until; ) await sleep(50)
      await this.#strikes[kind]().catch((error: unknown) => this.breaches.push(`chaos itself, ${kind}: ${String(error)}`))
      await sleep(Math.min(3 * meanGapMs, -Math.log(1 - this.#random.next()) * meanGapMs))
    }
  }

  readonly #strikes: Readonly<Record<FaultKind, () => Promise<void>>> = {
    kill: () => this.#kill(),
    freeze: async () => this.#freeze(),
    drain: async () => this.#drain(),
    rebalance: async () => this.#rebalance(),
    "broker-kill": () => this.#killBroker(),
    "broker-pause": () => this.#pauseBroker(),
    "under-replicated": () => this.#troubled(() => (this.#world.kafka.brokers.length === 1 ? this.#tooFewSaid() : this.#tooFewLeft())),
    "registry-down": () => this.#takeRegistryAway(),
    "total-outage": () => this.#troubled(() => this.#endEverything()),
    poison: () => this.#poison(),
    "blobs-away": () => this.#takeBlobsAway(),
  }

  /** Every role has someone. */
  #isSound(): boolean {
    const sound = this.#world.fleet.sound()
    return this.#world.roles.every((role) => sound.some((member) => member.role === role))
  }

  /** In turn, each time at the moment of a deletion, when there is something to erase. */
  async #harmErasers(endsAt: number): Promise<void> {
    for (let turn = 0; Date.now() < endsAt || turn < eraserKinds.length; ) {
      for (let left = this.#random.int(1, 4); left > 0; left--) {
        const next = this.#watch.nextDeletion().then(() => true)
        if (!(await Promise.race([next, sleep(deletionMaxMs).then(() => false)])) && Date.now() >= endsAt) return
      }
      if (await (turn % 2 === 0 ? this.#killErasers() : this.#freezeEraser())) turn++
    }
  }

  #happened(kind: string): void {
    if (this.#watch.running > 0) this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }

  #aside(work: Promise<unknown>): void {
    const kept = work
      .catch((error: unknown) => void this.breaches.push(`chaos itself: ${String(error)}`))
      .finally(() => this.#background.delete(kept))
    this.#background.add(kept)
  }

  // --- processes

  async #kill(): Promise<void> {
    const victim = await this.#victim()
    if (victim === undefined) return
    const owned = await this.#partitionsOf(victim)
    victim.leaving = true
    this.kills.push({ at: Date.now(), role: victim.role, partitions: owned })
    victim.started.kill("SIGKILL")
    this.#happened("kill")
    this.#aside(sleep(this.#random.int(0, 3000)).then(() => this.#anew(victim)))
  }

  #freeze(): void {
    const { fleet } = this.#world
    const sound = fleet.sound()
    if (sound.length === 0) return
    const victim = this.#random.pick(sound)
    fleet.freeze(victim)
    this.#happened("freeze")
    this.#aside(sleep(sessionTimeoutMs + this.#random.int(1000, 4000)).then(() => fleet.thaw(victim)))
  }

  #drain(): void {
    const sound = this.#world.fleet.sound()
    if (sound.length === 0) return
    const victim = this.#random.pick(sound)
    victim.leaving = true
    victim.started.kill("SIGTERM")
    this.#happened("drain")
    const [calm, troubles] = [this.#brokerTroublesNow === 0, this.#brokerTroubles]
    this.#aside(
      Promise.race([victim.started.ended, sleep(drainMaxMs).then(() => null)]).then((ended) => {
        if (ended === null) {
          this.breaches.push(`F3: ${victim.role.name} did not drain within a minute`)
          victim.started.kill("SIGKILL")
        } else if (ended.code !== 0 && calm && this.#brokerTroubles === troubles)
          this.breaches.push(`F3: ${victim.role.name} drained with ${ended.code ?? ended.signal}: ${ended.stderr.slice(-500)}`)
        this.#anew(victim)
      }),
    )
  }

  #rebalance(): void {
    const { fleet, roles } = this.#world
    const guest = fleet.start(this.#random.pick(roles), { proxied: false, skewMs: 0 })
    this.#happened("rebalance")
    this.#aside(
      sleep(this.#random.int(5000, 9000)).then(() => {
        guest.leaving = true
        guest.started.kill("SIGTERM")
      }),
    )
  }

  /** All of them: what they have begun is left to those who come after. False where there was none. */
  async #killErasers(): Promise<boolean> {
    const victims = this.#erasers()
    if (victims.length === 0) return false
    for (const victim of victims) {
      victim.leaving = true
      victim.started.kill("SIGKILL")
    }
    this.erasersKilled.push(Date.now())
    this.#happened("eraser-kill")
    await sleep(this.#random.int(0, 3000))
    for (const victim of victims) this.#anew(victim)
    return true
  }

  /** One of them, for so long that another takes over what it has begun, and it finds that out when it wakes. */
  async #freezeEraser(): Promise<boolean> {
    const erasers = this.#erasers()
    if (erasers.length === 0) return false
    const victim = this.#random.pick(erasers)
    this.#world.fleet.freeze(victim)
    this.#happened("eraser-freeze")
    await sleep(sessionTimeoutMs + this.#random.int(1000, 4000))
    this.#world.fleet.thaw(victim)
    return true
  }

  #erasers(): readonly Member[] {
    return this.#world.fleet.sound().filter(({ role }) => role.services.includes("eraser"))
  }

  /** The roles in turn. */
  #victim(): Promise<Member | undefined> {
    const { fleet, roles } = this.#world
    return withWork(fleet.sound(), roles[this.#killed++ % roles.length] as Role)
  }

  #anew(member: Member): void {
    // Every second one of those that come after lives in another time.
    const skewed = this.#restarts++ % 2 === 0
    const skew = skewed ? this.#random.pick([-skewMs, skewMs]) : 0
    this.#world.fleet.start(member.role, { proxied: member.proxied, skewMs: skew })
    if (skewed) this.#happened("clock-skew")
  }

  async #partitionsOf(member: Member): Promise<readonly number[]> {
    const group = `${this.#world.prefix}.${member.role.services.toSorted().join("+")}`
    const asked = this.#clients.admin.describeGroups([group])
    const described = await Promise.race([asked, sleep(1500).then(() => null)]).catch(() => null)
    const own = described?.groups[0]?.members.find(({ clientId }) => clientId === member.started.instance)
    if (own === undefined || own.memberAssignment.length === 0) return []
    const assigned = AssignerProtocol.MemberAssignment.decode(own.memberAssignment)?.assignment ?? {}
    return [...new Set(Object.values(assigned).flat())]
  }

  // --- brokers

  async #troubled(work: () => Promise<unknown>): Promise<void> {
    this.#brokerTroubles++
    this.#brokerTroublesNow++
    try {
      await work()
    } finally {
      this.#brokerTroublesNow--
    }
  }

  async #killBroker(): Promise<void> {
    const broker = this.#random.pick(this.#world.kafka.brokers)
    this.#happened("broker-kill")
    await this.#troubled(async () => {
      await broker.kill("SIGKILL")
      await sleep(this.#random.int(200, 1500))
      await broker.restart()
    })
  }

  async #pauseBroker(): Promise<void> {
    const broker = this.#random.pick(this.#world.kafka.brokers)
    this.#happened("broker-pause")
    await this.#troubled(async () => {
      await broker.kill("SIGSTOP")
      await sleep(this.#random.int(1000, 5000))
      await broker.kill("SIGCONT")
    })
  }

  /** F8 on one broker, told by the proxy: Kafka asks no topic for more replicas than it has, so a real one cannot be had there. */
  async #tooFewSaid(): Promise<void> {
    const { proxy } = this.#world
    const { refused, written } = proxy.starved
    const both = (): boolean => proxy.starved.refused > refused && proxy.starved.written > written
    const until = Date.now() + starvingMaxMs
    proxy.starve(true)
    await sleep(this.#random.int(2000, 5000))
    while (!both() && Date.now() < until) await sleep(50)
    proxy.starve(false)
    if (both()) this.#happened("under-replicated")
  }

  /** F8 on three: two are gone. What the third acknowledged now would stand on one disk only. */
  async #tooFewLeft(): Promise<void> {
    const dead = shuffled(this.#random, this.#world.kafka.brokers).slice(1)
    await Promise.all(dead.map((broker) => broker.kill("SIGKILL")))
    try {
      if (await this.#clients.isTaken()) this.breaches.push("F8: one broker of three acknowledged a command")
      else this.#happened("under-replicated")
      await sleep(this.#random.int(1000, 4000))
    } finally {
      await Promise.all(dead.map((broker) => broker.restart()))
    }
  }

  async #takeRegistryAway(): Promise<void> {
    const { door } = this.#world
    const [seen, turnedAway] = [this.#watch.records, door.turnedAway]
    const until = Date.now() + registryAwayMaxMs
    if (this.#random.chance(0.5)) door.shut()
    else door.hold()
    // Whoever starts now needs the registry; whoever runs goes on with the schemas that it knows.
    const victim = await this.#victim()
    if (victim !== undefined) {
      victim.leaving = true
      victim.started.kill("SIGKILL")
      this.#anew(victim)
    }
    const both = (): boolean => this.#watch.records > seen && door.turnedAway > turnedAway
    await sleep(registryAwayMs)
    while (!both() && Date.now() < until) await sleep(100)
    if (both()) this.#happened("registry-down")
    door.reopen()
  }

  async #takeBlobsAway(): Promise<void> {
    const { blobs, fleet } = this.#world
    const complaints = (): number =>
      fleet.everyone.reduce((sum, { stderr }) => sum + stderr.split("The blob store does not answer").length - 1, 0)
    const before = complaints()
    const until = Date.now() + blobsAwayMaxMs
    blobs.takeAway()
    await sleep(blobsAwayMs)
    while (complaints() === before && Date.now() < until) await sleep(100)
    if (complaints() > before) this.#happened("blobs-away")
    blobs.giveBack()
  }

  async #endEverything(): Promise<void> {
    const { fleet, kafka, door } = this.#world
    this.#happened("total-outage")
    door.shut()
    const all = [...fleet.members]
    const supervised = all.filter(({ leaving }) => !leaving)
    for (const member of all) {
      member.leaving = true
      member.started.kill("SIGKILL")
    }
    await Promise.all([...kafka.brokers.map((broker) => broker.kill("SIGKILL")), ...all.map(({ started }) => started.ended)])
    await sleep(this.#random.int(500, 2500))
    // In any order: who comes before what it needs is started again until that is there.
    const brokers: Promise<void>[] = []
    const back = [
      ...kafka.brokers.map((broker) => () => void brokers.push(broker.restart())),
      ...supervised.map((member) => () => this.#anew(member)),
      () => door.reopen(),
    ]
    for (const start of shuffled(this.#random, back)) {
      start()
      await sleep(this.#random.int(0, 400))
    }
    await Promise.all(brokers)
    this.backAgain.push(Date.now())
  }

  async #poison(): Promise<void> {
    const { names } = this.#world
    const topic = this.#random.pick([names.commands, names.sessions, names.tools("classes")])
    const partition = this.#random.int(0, partitions - 1)
    const value = this.#random.pick([Buffer.from([0, 0, 0, 0, 1, 255, 255, 255]), Buffer.from("{nothing"), Buffer.from([7, 7, 7])])
    try {
      const [placed] = await this.#clients.producer.send({
        topic,
        acks: -1,
        messages: [{ key: `poison/${this.poisons.length}/${Date.now()}`, value, partition }],
      })
      if (placed?.baseOffset === undefined) return
      this.poisons.push({ topic, partition, offset: Number(placed.baseOffset) })
      this.#happened("poison")
    } catch {
      // The brokers were away; another one comes.
    }
  }
}

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

function shuffled<T>(random: Random, given: readonly T[]): T[] {
  const left = [...given]
  return given.map(() => left.splice(random.int(0, left.length - 1), 1)[0] as T)
}
