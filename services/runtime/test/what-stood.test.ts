import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { type Log, type LogRecord, LogUnavailableError } from "@reins/log"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { pino } from "pino"
import type { Clock } from "../src/clock.ts"
import { type CommandDesk, hearCommands } from "../src/hear-commands.ts"
import { Metrics } from "../src/metrics.ts"
import { OwnedPartition } from "../src/owned-partition.ts"
import type { AnyService, Draft } from "../src/service.ts"
import { Spill } from "../src/spill.ts"
import { topicSettings } from "../src/topics.ts"
import { WhatStood } from "../src/what-stood.ts"

const topics = topicNames("t")

/** A partition whose reader has read the commands, and of `sessions` less than there is. */
class Desk implements CommandDesk {
  readonly log: MemoryLog
  readonly metrics = new Metrics("test")
  readonly logger = pino({ level: "silent" })
  readonly owned = new OwnedPartition(0, new Spill().partition(), () => assert.fail("There are no snapshots."))
  readonly said: string[] = []
  /** Sessions that intake knows: what it has not read it refuses. */
  readonly known = new Set<string>()
  readonly #waits: { readonly at: number; readonly run: () => void }[] = []
  readonly #whatStood: WhatStood
  readonly #service: AnyService
  #now = 0
  #woken = Promise.withResolvers<void>()

  constructor(log: MemoryLog, ask: Pick<Log, "bounds"> = log) {
    this.log = log
    const clock: Clock = {
      wall: () => 0,
      monotonic: () => this.#now,
      after: (ms, run) => {
        this.#waits.push({ at: this.#now + ms, run })
        return () => undefined
      },
    }
    const wake = (): void => this.#woken.resolve()
    this.#whatStood = new WhatStood({ log: ask as Log, topics, clock, logger: this.logger, current: () => true, wake })
    this.#service = {
      name: "intake",
      contract: { reads: ["commands"], says: [], buries: ["commands"] },
      hear: ({ key, offset }: LogRecord) => {
        const command = { commandId: `c${offset}`, command: { partition: 0, offset } }
        const event = this.known.has(key as string)
          ? { type: "interrupt.received" as const, ...command }
          : { type: "command.rejected" as const, ...command, commandType: "session.interrupt", code: "session_unknown", message: "No." }
        return { judged: "answer", sessionId: key as string, tenant: "default", traceparent: null, event }
      },
    } as unknown as AnyService
  }

  static async open(sessionRecords: number, ask?: (log: MemoryLog) => Pick<Log, "bounds">): Promise<Desk> {
    const broker = new MemoryBroker()
    const log = broker.connect()
    await log.applyTopics(topicSettings("t", 1, []))
    for (let n = 0; n < sessionRecords; n++) broker.inject(topics.sessions, 0, { key: `k${n}`, value: Buffer.from("{}") })
    return new Desk(log, ask?.(log))
  }

  view(): never {
    throw new Error("It decides by what it knows.")
  }

  hasReadWhatStood(owned: OwnedPartition, command: LogRecord): boolean {
    return this.#whatStood.isRead(owned, command)
  }

  async append(_owned: OwnedPartition, sessionId: string, _key: string, { event }: Draft): Promise<number> {
    this.said.push(`${sessionId} ${event.type}`)
    return this.said.length - 1
  }

  unfolded(): void {
    // Nobody reads here what was said.
  }

  bury(): void {
    assert.fail("Nothing is buried.")
  }

  command(...sessionIds: readonly string[]): void {
    for (const key of sessionIds) {
      const offset = this.owned.next.get(topics.commands) ?? 0
      this.owned.commands.push({ topic: topics.commands, partition: 0, offset, timestamp: 0, key, value: null, headers: {} })
      this.owned.next.set(topics.commands, offset + 1)
    }
    this.hear()
  }

  /** The records below this offset are read. */
  read(to: number): void {
    this.owned.next.set(topics.sessions, to)
    this.hear()
  }

  hear(): void {
    hearCommands(this, this.owned, this.#service)
  }

  /** Hears again when it is woken. */
  async woken(): Promise<void> {
    await this.#woken.promise
    this.#woken = Promise.withResolvers()
    this.hear()
  }

  pass(ms: number): void {
    this.#now += ms
    for (const wait of this.#waits.splice(0)) {
      if (wait.at <= this.#now) wait.run()
      else this.#waits.push(wait)
    }
  }
}

describe("a command that would be refused", () => {
  it("waits until all is read that stood when it was read, and those behind it with it", async () => {
    const desk = await Desk.open(3)
    desk.known.add("sesn_b")
    desk.read(2)
    desk.command("sesn_a", "sesn_b")
    await desk.woken()
    assert.deepEqual(desk.said, [])
    // What its sender had read was the newest record.
    desk.known.add("sesn_a")
    desk.read(3)
    assert.deepEqual(desk.said, ["sesn_a interrupt.received", "sesn_b interrupt.received"])
    assert.deepEqual(desk.owned.commands, [])
  })

  it("is refused then, and one question serves all that was read before it", async () => {
    let asked = 0
    const desk = await Desk.open(3, (log) => ({
      bounds: (topic) => {
        asked++
        return log.bounds(topic)
      },
    }))
    desk.read(3)
    desk.command("sesn_a", "sesn_b", "sesn_c")
    await desk.woken()
    assert.equal(desk.said.length, 3)
    assert.equal(asked, 1)
    desk.command("sesn_d")
    assert.equal(desk.said.length, 3, "what is read later is asked about again")
    await desk.woken()
    assert.deepEqual(desk.said.at(-1), "sesn_d command.rejected")
    assert.equal(asked, 2)
  })

  it("holds nothing up that can be taken", async () => {
    const desk = await Desk.open(3, () => ({ bounds: () => assert.fail("Nobody has to ask.") }))
    desk.known.add("sesn_a")
    desk.command("sesn_a")
    assert.deepEqual(desk.said, ["sesn_a interrupt.received"])
  })

  it("waits for a log that does not answer, but not for an end that nobody can read", async () => {
    let answers = false
    const desk = await Desk.open(3, (log) => ({
      bounds: (topic) => (answers ? log.bounds(topic) : Promise.reject(new LogUnavailableError("away"))),
    }))
    desk.command("sesn_a")
    await new Promise((resolve) => setImmediate(resolve))
    answers = true
    desk.pass(1000)
    await desk.woken()
    await desk.woken()
    assert.deepEqual(desk.said, [])
    desk.pass(5000)
    await desk.woken()
    assert.deepEqual(desk.said, ["sesn_a command.rejected"])
  })
})
