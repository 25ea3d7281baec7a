import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type SessionEvent, type SessionEventOf, topicNames } from "@reins/events"
import type { Commit, LogRecord } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { Story } from "@reins/session/testing"
import { pino } from "pino"
import { serveHealth } from "../src/health.ts"
import { Loop, type Observed } from "../src/loop.ts"
import { Metrics } from "../src/metrics.ts"
import { buriedTo } from "../src/offsets.ts"
import type { AnyService } from "../src/service.ts"
import { topicSettings } from "../src/topics.ts"

const topics = topicNames("t")
const lost = (): Promise<never> => Promise.reject(new Error("Nobody answered."))

const burying: AnyService = {
  name: "burying",
  contract: { reads: ["commands", "sessions"], says: [], buries: ["commands", "sessions"], needsDeclarations: false },
}

async function stage(partitions = 1): Promise<{
  broker: MemoryBroker
  admin: MemoryLog
  codec: Codec
  start(instance: string, log: MemoryLog, service: AnyService, observe?: (record: Observed) => void): Promise<Loop>
}> {
  const broker = new MemoryBroker()
  const admin = broker.connect()
  await admin.applyTopics(topicSettings("t", partitions, []))
  const codec = await Codec.open(broker.registry)
  const start = async (instance: string, log: MemoryLog, service: AnyService, observe?: (record: Observed) => void): Promise<Loop> => {
    const loop = new Loop({
      log,
      codec,
      services: [service],
      prefix: "t",
      partitions,
      group: "t.burying",
      instance,
      backends: [],
      metrics: new Metrics("test"),
      logger: pino({ level: "silent" }),
      failed: (error) => assert.fail(error),
      commitIntervalMs: 1,
      ...(observe === undefined ? {} : { observe }),
    })
    await loop.start()
    return loop
  }
  return { broker, admin, codec, start }
}

function rejected(offset: number): SessionEventOf<"command.rejected"> {
  return {
    type: "command.rejected",
    eventId: `evt_${offset}`,
    sessionId: "s",
    tenant: "default",
    at: 0,
    by: "intake@test",
    causedBy: null,
    traceparent: null,
    commandId: `command-${offset}`,
    command: { partition: 0, offset },
    commandType: "session.end",
    code: "session_unknown",
    message: "There is none.",
  }
}

async function standing(log: MemoryLog, topic: string, partition = 0): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const stretch of log.replay(topic, partition, 0)) records.push(...stretch)
  return records
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 10_000; turn++) {
    if (await holds()) return
    await new Promise<void>((resolve) => setTimeout(resolve, 1))
  }
  assert.fail("It never came true.")
}

/** What a client commits from now on. */
function commitsOf(log: MemoryLog): Commit[] {
  const commits: Commit[] = []
  const follow = log.follow.bind(log)
  log.follow = async (options) => {
    const following = await follow(options)
    const commit = following.commit.bind(following)
    following.commit = async (some) => {
      commits.push(...some)
      return commit(some)
    }
    return following
  }
  return commits
}

/** Waits until a client has committed that every unreadable record of `topic` below `offset` is buried. */
async function untilBuried(commits: readonly Commit[], topic: string, offset: number): Promise<void> {
  await until(() => commits.some((commit) => commit.topic === topic && buriedTo(commit.note) === offset))
}

async function buried(log: MemoryLog): Promise<readonly string[]> {
  return (await standing(log, topics.deadLetters)).map(({ headers }) => `${headers["dlq.topic"]}/${headers["dlq.offset"]}`)
}

/** Whose letters land but are never acknowledged. */
function deafToLetters(broker: MemoryBroker): MemoryLog {
  return broker.connect((batches, write) => {
    const outcomes = write(batches)
    return batches.some(({ topic }) => topic === topics.deadLetters) ? new Promise(() => {}) : Promise.resolve(outcomes)
  })
}

describe("a record that nobody can read", () => {
  it("has one dead letter though its process died between writing it and committing that it did", async () => {
    const { broker, admin, start } = await stage()
    broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("more of it") })
    const dying = deafToLetters(broker)
    const first = await start("first", dying, burying)
    await until(async () => (await buried(admin)).length === 2)
    // The next letter is not written: the process dies before.
    const third = broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison that nobody has buried") })
    dying.kill()
    dying.expire()
    await first.stop()
    const heir = broker.connect()
    const commits = commitsOf(heir)
    const second = await start("second", heir, burying)
    await untilBuried(commits, topics.sessions, third + 1)
    assert.deepEqual(
      await buried(admin),
      [0, 1, third].map((offset) => `${topics.sessions}/${offset}`),
    )
    await second.stop()
  })

  it("has one dead letter also where many others were buried since", async () => {
    const { broker, admin, codec, start } = await stage()
    const poison = broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    const dying = deafToLetters(broker)
    const first = await start("first", dying, burying)
    await until(async () => (await buried(admin)).length === 1)
    dying.kill()
    dying.expire()
    await first.stop()
    for (let n = 0; n < 1000; n++)
      broker.inject(topics.deadLetters, 0, { value: codec.encode("sessions", rejected(n)), headers: { "dlq.topic": "another" } })
    const heir = broker.connect()
    const commits = commitsOf(heir)
    const second = await start("second", heir, burying)
    await untilBuried(commits, topics.sessions, poison + 1)
    assert.equal((await buried(admin)).filter((one) => one === `${topics.sessions}/${poison}`).length, 1)
    await second.stop()
  })

  it("has one dead letter though the log's word that it stands was lost", async () => {
    const { broker, admin, start } = await stage()
    const poison = broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    let written = 0
    const log = broker.connect(async (batches, write) => {
      const outcomes = write(batches)
      if (batches.some(({ topic }) => topic === topics.deadLetters) && written++ === 0) return lost()
      return outcomes
    })
    const commits = commitsOf(log)
    const loop = await start("first", log, burying)
    await untilBuried(commits, topics.sessions, poison + 1)
    assert.deepEqual(await buried(admin), [`${topics.sessions}/${poison}`])
    await loop.stop()
  })

  it("is buried in the end though nothing of the first tries landed", async () => {
    const { broker, admin, start } = await stage()
    const poison = broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    let tries = 0
    const log = broker.connect(async (batches, write) => {
      if (batches.some(({ topic }) => topic === topics.deadLetters) && tries++ < 2) return lost()
      return write(batches)
    })
    const commits = commitsOf(log)
    const loop = await start("first", log, burying)
    await untilBuried(commits, topics.sessions, poison + 1)
    assert.deepEqual(await buried(admin), [`${topics.sessions}/${poison}`])
    await loop.stop()
  })

  it("costs no look at the dead letters where nobody else can have buried it", async () => {
    const { broker, admin, start } = await stage()
    const log = broker.connect()
    const commits = commitsOf(log)
    const loop = await start("first", log, burying)
    await until(() => loop.ready() && loop.partitions.length === 1)
    let looks = 0
    const bounds = log.bounds.bind(log)
    log.bounds = (topic) => {
      looks++
      return bounds(topic)
    }
    const poison = broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    await untilBuried(commits, topics.sessions, poison + 1)
    assert.deepEqual(await buried(admin), [`${topics.sessions}/${poison}`])
    assert.equal(looks, 0)
    await loop.stop()
  })

  it("is buried by the successor of a process that died before its dead letter stood", async () => {
    const { broker, admin, start } = await stage()
    broker.inject(topics.sessions, 0, { key: "k", value: Buffer.from("poison") })
    let tries = 0
    const dying = broker.connect((batches, write) => {
      if (batches.some(({ topic }) => topic === topics.deadLetters)) tries++
      else return Promise.resolve(write(batches))
      return lost()
    })
    const first = await start("first", dying, burying)
    await until(() => tries > 0 && first.ready())
    // Long enough for its commits: each would have said that the record is dealt with.
    const triesThen = tries
    await until(() => tries > triesThen)
    dying.kill()
    dying.expire()
    await first.stop()
    const second = await start("second", broker.connect(), burying)
    await until(async () => (await standing(admin, topics.deadLetters)).length > 0)
    const [letter] = await standing(admin, topics.deadLetters)
    assert.equal(letter?.headers["dlq.offset"], "0")
    await second.stop()
  })
})

describe("a command that nobody can read", () => {
  it("has one dead letter though its process died between writing it and committing that it did", async () => {
    const { broker, admin, start } = await stage()
    const hearing: AnyService = {
      name: "hearing",
      contract: { reads: ["commands", "sessions"], says: [], buries: ["commands"], needsDeclarations: false },
      hear: () => ({ judged: "bury", reason: "undecodable", message: "It is poison." }),
    }
    const poison = broker.inject(topics.commands, 0, { key: "s", value: Buffer.from("poison") })
    const dying = deafToLetters(broker)
    const first = await start("first", dying, hearing)
    await until(async () => (await buried(admin)).length === 1)
    dying.kill()
    dying.expire()
    await first.stop()
    const heir = broker.connect()
    const commits = commitsOf(heir)
    const second = await start("second", heir, hearing)
    await untilBuried(commits, topics.commands, poison + 1)
    assert.deepEqual(await buried(admin), [`${topics.commands}/${poison}`])
    await second.stop()
  })

  it("is buried by the successor of a process that read it while it drained", async () => {
    const { broker, admin, codec, start } = await stage()
    const hearing: AnyService = {
      name: "hearing",
      contract: { reads: ["commands", "sessions"], says: [], buries: ["commands"], needsDeclarations: false },
      hear: () => ({ judged: "bury", reason: "undecodable", message: "It is poison." }),
    }
    let running = false
    const busy: AnyService = {
      ...hearing,
      decide: ({ sessionId }) => [{ do: "perform", key: "k", work: null, stoppedBy: sessionId }],
      perform: async () => {
        running = true
        return new Promise(() => {})
      },
    }
    broker.inject(topics.sessions, 0, { key: "s/1", value: codec.encode("sessions", rejected(0)) })
    const dying = broker.connect()
    const first = await start("first", dying, busy)
    await until(() => running)
    const drained = first.drain(60_000)
    broker.inject(topics.commands, 0, { key: "s", value: Buffer.from("poison") })
    // Its offsets are committed while it drains, and say how far it has judged.
    await new Promise((resolve) => setTimeout(resolve, 50))
    dying.kill()
    dying.expire()
    await first.stop()
    const second = await start("second", broker.connect(), hearing)
    await until(async () => (await standing(admin, topics.deadLetters)).length > 0)
    await second.stop()
    void drained
  })
})

describe("a command on the partition of another session", () => {
  it("is sent on by the successor of a process that died after it had answered a newer one", async () => {
    const { broker, admin, start } = await stage()
    const hearing: AnyService = {
      name: "hearing",
      contract: { reads: ["commands", "sessions"], says: ["command.rejected"], buries: ["commands"], needsDeclarations: false },
      hear: (record) =>
        record.key === "astray"
          ? { judged: "forward", partition: 0, headers: { sent: "on" }, key: "home" }
          : record.headers["sent"] === "on"
            ? { judged: "known" }
            : {
                judged: "answer",
                sessionId: "s",
                tenant: "default",
                traceparent: null,
                event: rejected(record.offset),
              },
    }
    broker.inject(topics.commands, 0, { key: "astray", value: Buffer.from("{}") })
    broker.inject(topics.commands, 0, { key: "s", value: Buffer.from("{}") })
    const dying = broker.connect((batches, write) => {
      const home = batches.filter(({ topic }) => topic === topics.sessions)
      if (home.length > 0) write(home)
      return lost()
    })
    const first = await start("first", dying, hearing)
    await until(async () => (await standing(admin, topics.sessions)).length > 0)
    dying.kill()
    dying.expire()
    await first.stop()
    const second = await start("second", broker.connect(), hearing)
    await until(async () => (await standing(admin, topics.commands)).some(({ headers }) => headers["sent"] === "on"))
    await second.stop()
  })

  it("is sent on though its sender loses the partition that it goes to meanwhile", async () => {
    const { broker, admin, start } = await stage(2)
    const hearing: AnyService = {
      name: "hearing",
      contract: { reads: ["commands", "sessions"], says: [], buries: ["commands"], needsDeclarations: false },
      hear: (record) =>
        record.partition === 0 ? { judged: "forward", partition: 1, headers: { sent: "on" }, key: "home" } : { judged: "known" },
    }
    let tries = 0
    let isOpen = false
    const log = broker.connect((batches, write) => {
      if (isOpen) return Promise.resolve(write(batches))
      tries++
      return lost()
    })
    const first = await start("first", log, hearing)
    await until(() => first.ready() && first.partitions.length === 2)
    broker.inject(topics.commands, 0, { key: "astray", value: Buffer.from("{}") })
    await until(() => tries > 0)
    const second = await start("second", broker.connect(), hearing)
    await until(() => second.partitions.includes(1))
    isOpen = true
    await until(async () => (await standing(admin, topics.commands, 1)).some(({ headers }) => headers["sent"] === "on"))
    await first.stop()
    await second.stop()
  })
})

describe("a decision that lost", () => {
  it("is taken anew though it was read before it was acknowledged", async () => {
    const { broker, codec, start } = await stage()
    let said = 0
    const deciding: AnyService = {
      name: "deciding",
      contract: { reads: ["sessions"], says: ["session.idled"], buries: [], needsDeclarations: false },
      decide: ({ session }) => {
        // No session idles that was never started: the fold refuses it.
        if (session.phase !== "absent" || said === 2) return []
        said++
        return [{ do: "append", key: "k", on: "sessions", event: { type: "session.idled", turn: 1, reason: "end_turn", message: null } }]
      },
    }
    broker.inject(topics.sessions, 0, { key: "s/1", value: codec.encode("sessions", rejected(0)) })
    const answers: (() => void)[] = []
    const log = broker.connect((batches, write) => {
      const outcomes = write(batches)
      return new Promise((resolve) => answers.push(() => resolve(outcomes)))
    })
    let superseded = 0
    const loop = await start("first", log, deciding, ({ verdict }) => {
      if (verdict === "superseded") superseded++
    })
    await until(() => superseded === 1)
    said = 1
    for (const answer of answers.splice(0)) answer()
    await until(() => said === 2)
    await loop.stop()
  })
})

describe("a claim that lands after its own giving up", () => {
  it("is known to be given up for whoever decides on it, and no other claim is", async () => {
    const { broker, codec, start } = await stage()
    const story = new Story("s").started().requested()
    const [started, claim] = story.records.map(({ event }) => event) as [SessionEvent, SessionEvent]
    const given = story.draft((s) => s.modelFailed({ kind: "given_up", claim: claim.eventId }))
    const seen: (readonly [string, boolean, boolean])[] = []
    const looking: AnyService = {
      name: "looking",
      contract: { reads: ["sessions"], says: [], buries: [], needsDeclarations: false },
      decide: (view) => {
        seen.push([view.session.phase, view.givenUp(claim.eventId), view.givenUp("evt_another")])
        return []
      },
    }
    const loop = await start("heir", broker.connect(), looking)
    for (const event of [started, given, claim])
      broker.inject(topics.sessions, 0, { key: `s/${event.eventId}`, value: codec.encode("sessions", event) })
    await until(() => seen.some(([phase]) => phase === "awaiting-model"))
    assert.deepEqual(seen.at(-1), ["awaiting-model", true, false])
    await loop.stop()
  })
})

describe("an effect that waits for a free place", () => {
  // Found by the simulation: a pure call ran again although its result, from the owner before, had been read while it waited.
  it("is begun only if it is still wanted when there is one, and again once it is wanted again", async () => {
    const { broker, admin, codec, start } = await stage()
    const say = (sessionId: string, offset: number): number =>
      broker.inject(topics.sessions, 0, {
        key: `${sessionId}/${offset}`,
        value: codec.encode("sessions", { ...rejected(offset), sessionId }),
        headers: { session: sessionId },
      })
    const wanted = new Set(["a", "b"])
    const asked: string[] = []
    const begun: string[] = []
    let free = (): void => {}
    const service: AnyService = {
      name: "one at a time",
      contract: { reads: ["sessions"], says: [], buries: [], needsDeclarations: false },
      concurrency: 1,
      decide: ({ sessionId }) => {
        asked.push(sessionId)
        return wanted.has(sessionId) ? [{ do: "perform", key: sessionId, work: sessionId, stoppedBy: sessionId }] : []
      },
      perform: async (sessionId: string) => {
        begun.push(sessionId)
        if (sessionId === "a")
          await new Promise<void>((resolve) => {
            free = resolve
          })
        return []
      },
    }
    const loop = await start("one", broker.connect(), service)
    say("a", 1)
    await until(() => begun.length === 1)
    say("b", 2)
    await until(() => asked.includes("b"))
    wanted.delete("b")
    const before = asked.length
    free()
    await until(() => asked.length >= before + 2)
    const meanwhile = [...begun]
    wanted.add("b")
    say("b", 3)
    await until(() => begun.length === 2)
    await loop.stop()
    assert.deepEqual([meanwhile, begun], [["a"], ["a", "b"]])
    await admin.close()
  })
})

describe("a member of the group", () => {
  it("is not ready before it was told its share, and is ready with a share of nothing", async () => {
    const { broker, start } = await stage()
    const owner = broker.connect()
    const first = await start("first", owner, burying)
    await until(() => first.ready() && first.partitions.length === 1)
    // A member that does not answer holds the sharing out up.
    owner.pause()
    const second = await start("second", broker.connect(), burying)
    const health = await serveHealth({
      host: "127.0.0.1",
      port: 0,
      unready: () => second.unready(),
      alive: () => true,
      metrics: new Metrics("test"),
    })
    const readyz = async (): Promise<number> => (await fetch(`http://127.0.0.1:${health.port}/readyz`)).status
    for (let look = 0; look < 10; look++) assert.equal(await readyz(), 503)
    owner.resume()
    await until(async () => (await readyz()) === 200)
    assert.deepEqual([first.partitions, second.partitions], [[0], []])
    await first.stop()
    await until(() => second.partitions.length === 1 && second.ready())
    await health.stop()
    await second.stop()
  })

  it("is not ready before it knows the declared tools, also with a share of nothing", async () => {
    const { broker, start } = await stage()
    const first = await start("first", broker.connect(), burying)
    await until(() => first.ready() && first.partitions.length === 1)
    const log = broker.connect()
    let tell: (() => void) | undefined
    const follow = log.follow.bind(log)
    log.follow = (options) => {
      const { caughtUp } = options
      if (options.group !== undefined || caughtUp === undefined) return follow(options)
      return follow({
        ...options,
        caughtUp: (topic, partition) => {
          tell = () => caughtUp(topic, partition)
        },
      })
    }
    const second = await start("second", log, { ...burying, contract: { ...burying.contract, needsDeclarations: true } })
    await until(async () => tell !== undefined && (await log.members("t.burying"))?.size === 2)
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.equal(second.ready(), false)
    tell?.()
    await until(() => second.ready())
    assert.deepEqual(second.partitions, [])
    await first.stop()
    await second.stop()
  })
})
