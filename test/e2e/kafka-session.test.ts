import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { partitionOf } from "@reins/log"
import type { SessionSummary } from "@reins/session"
import { type Admin, AssignerProtocol, Kafka, logLevel, Partitioners, type Producer } from "kafkajs"
import type { LedgerLine } from "../fixtures/ledger.ts"
import { type Orders, startOrders } from "../fixtures/orders.ts"
import { type Counted, checkLongSession, longSessionAgent, longSessionPrompt } from "../scenarios/long-session.ts"
import { Bench, type Environment, linesOf, type ModelProcess, recordsOf, type Started, until } from "./harness.ts"

// The whole of Reins on a real broker, every service a process of its own, driven by a Kafka client that knows nothing of Reins.
// The runner gives the broker: REINS_TEST_KAFKA.

const skip = await skipWithoutKafka()

const partitions = 4
const turns = 10
const ledgerTools = fileURLToPath(new URL("../fixtures/ledger.ts", import.meta.url))
const roles: readonly (readonly string[])[] = [
  ["up", "intake"],
  ["up", "llm-invoker"],
  ["up", "tool-router"],
  ["up", "tool-workers/function"],
  ["up", "tool-workers/http"],
  ["worker", ledgerTools],
]

describe("separate processes on Kafka", { skip, timeout: 300_000 }, () => {
  const bench = new Bench()
  const prefix = `e2e-${randomBytes(4).toString("hex")}`
  const names = topicNames(prefix)
  /** By role: the processes that serve it. */
  const fleet = new Map<string, Started[]>()
  /** By session: the types of its records on `sessions`, as a stranger reads them from the headers. */
  const seen = new Map<string, string[]>()
  let orders: Orders
  let model: ModelProcess
  let env: Environment
  let kafka: Kafka
  let producer: Producer
  let admin: Admin
  const closing: (() => Promise<unknown>)[] = []

  before(async () => {
    const { bootstrap, env: broker } = await sharedKafka()
    orders = await startOrders(bench.path("effects.jsonl"))
    model = await bench.model({ latencyMs: 20 })
    env = {
      ...broker,
      REINS_TOPIC_PREFIX: prefix,
      REINS_PARTITIONS: String(partitions),
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "no-key-is-needed",
      LEDGER_FILE: bench.path("effects.jsonl"),
      LEDGER_DELAY_MS: "150",
    }
    const applied = await bench.run(["topics", "apply"], env)
    assert.equal(applied.code, 0, applied.stderr)
    await bench.telling(async () => {
      await Promise.all(roles.map((role) => join(role)))
    })

    kafka = new Kafka({ brokers: bootstrap.split(","), clientId: "stranger", logLevel: logLevel.NOTHING })
    producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    closing.push(() => producer.disconnect())
    const consumer = kafka.consumer({ groupId: `${prefix}-stranger` })
    admin = kafka.admin()
    await admin.connect()
    closing.push(() => admin.disconnect())
    await consumer.connect()
    closing.push(() => consumer.disconnect())
    await consumer.subscribe({ topic: names.sessions, fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ message }) => {
        const sessionId = String(message.headers?.["session"])
        seen.set(sessionId, [...(seen.get(sessionId) ?? []), String(message.headers?.["type"])])
      },
    })
  })

  after(async () => {
    await Promise.all(closing.map((close) => close()))
    await bench.close()
    await orders.close()
  })

  /** One more instance of a role. */
  async function join(role: readonly string[]): Promise<Started> {
    const name = role.at(-1) as string
    const started = bench.reins(role, env)
    fleet.set(name, [...(fleet.get(name) ?? []), started])
    return started.ready()
  }

  /** Publishes a command as anyone would; where `partition` is given, onto that one whatever the key. */
  async function publish(sessionId: string, value: object, partition?: number): Promise<void> {
    await producer.send({
      topic: names.commands,
      messages: [{ key: sessionId, value: JSON.stringify(value), ...(partition === undefined ? {} : { partition }) }],
    })
  }

  async function startSessions(wave: string): Promise<readonly string[]> {
    // Two on every partition, so that instances really share and sessions really are neighbours.
    const sessionIds: string[] = []
    const each = new Map<number, number>()
    for (let n = 0; sessionIds.length < 2 * partitions; n++) {
      const sessionId = `sesn_${wave}_${n}`
      const home = partitionOf(sessionId, partitions)
      if ((each.get(home) ?? 0) >= 2) continue
      each.set(home, (each.get(home) ?? 0) + 1)
      sessionIds.push(sessionId)
    }
    for (const [index, sessionId] of sessionIds.entries()) {
      const start = {
        type: "session.start",
        commandId: `start-${sessionId}`,
        sessionId,
        agent: longSessionAgent(orders.url),
        input: [{ type: "text", text: longSessionPrompt(sessionId, turns) }],
      }
      // The first one lands where no session of its key lives.
      await publish(sessionId, start, index === 0 ? (partitionOf(sessionId, partitions) + 1) % partitions : undefined)
    }
    return sessionIds
  }

  const count = (sessionId: string, type: string): number => (seen.get(sessionId) ?? []).filter((one) => one === type).length
  const ledger = (): readonly LedgerLine[] => linesOf<LedgerLine>(bench.path("effects.jsonl"))

  /** Ends the sessions once they are idle, and holds each to the invariants. */
  async function checkToTheEnd(sessionIds: readonly string[]): Promise<Counted> {
    await until(() => sessionIds.every((sessionId) => count(sessionId, "session.idled") >= 1), "every session is idle", 120_000)
    for (const sessionId of sessionIds) await publish(sessionId, { type: "session.end", sessionId })
    await until(() => sessionIds.every((sessionId) => count(sessionId, "session.ended") >= 1), "every session has ended")
    const total = { unknownOutcomes: 0, extraModelCalls: 0, takeovers: 0 }
    await Promise.all(
      sessionIds.map(async (sessionId) => {
        const events = await bench.run(["events", sessionId, "--jsonl"], env)
        assert.equal(events.code, 0, events.stderr)
        const witnesses = { sessionId, turns, records: recordsOf(events.stdout), ledger: ledger(), journal: model.journal(), killed: true }
        const { unknownOutcomes, extraModelCalls, takeovers } = checkLongSession(witnesses)
        total.unknownOutcomes += unknownOutcomes
        total.extraModelCalls += extraModelCalls
        total.takeovers += takeovers
      }),
    )
    // Rebuilt from the log, the first of them by two readers: they come to the same state and the same bytes.
    const [one] = sessionIds as [string]
    const rebuilt = await Promise.all([
      bench.run(["replay", one, "--check"], env),
      bench.run(["replay", sessionIds.at(-1) as string, "--check"], env),
    ])
    for (const { code, stdout, stderr } of rebuilt) {
      assert.equal(code, 0, stdout + stderr)
      assert.match(stdout, new RegExp(`^${turns + 1 + (stdout.match(/attempt/g)?.length ?? 0)} requests rebuilt, 0 differ`, "m"))
    }
    const shown = await Promise.all([
      bench.run(["sessions", "show", one, "--json"], env),
      bench.run(["sessions", "show", one, "--json"], env),
    ])
    const [digest, again] = shown.map(({ stdout }) => (JSON.parse(stdout) as SessionSummary).digest)
    assert.match(digest as string, /^[0-9a-f]{64}$/)
    assert.equal(digest, again)
    assert.match(rebuilt[0].stdout, new RegExp(`State digest ${digest}`))
    const list = JSON.parse((await bench.run(["sessions", "list", "--json"], env)).stdout) as SessionSummary[]
    for (const sessionId of sessionIds) assert.equal(list.find((one) => one.sessionId === sessionId)?.status, "ended")
    return total
  }

  /** Whether every live instance of a role owns partitions, by the broker's own account. */
  async function sharedOut(name: string): Promise<boolean> {
    const instances = (fleet.get(name) ?? []).filter(({ over }) => !over).map(({ instance }) => instance)
    const group = `${prefix}.${name === ledgerTools ? "tool-workers/ledger" : name}`
    const { groups } = await admin.describeGroups([group])
    const owning = (groups[0]?.members ?? [])
      .filter(({ memberAssignment }) => {
        const assignment = memberAssignment.length === 0 ? null : AssignerProtocol.MemberAssignment.decode(memberAssignment)
        return Object.values(assignment?.assignment ?? {}).some((owned) => owned.length > 0)
      })
      .map(({ clientId }) => clientId)
    return instances.every((instance) => owning.includes(instance)) && owning.length === instances.length
  }

  it("a second instance of every service takes partitions, a worker is killed with calls in flight, and every session ends", () =>
    bench.telling(async () => {
      const sessionIds = await startSessions("worker")
      await until(() => sessionIds.every((sessionId) => count(sessionId, "model.responded") >= 2), "every session is under way")
      // What is left of the sessions waits for the second instances, so that they do come in the middle.
      model.hold(7)
      await Promise.all(roles.map((role) => join(role)))
      for (const role of roles) {
        const name = role.at(-1) as string
        await until(() => sharedOut(name), `both instances of ${name} have partitions`)
      }
      const victim = (fleet.get(ledgerTools) as Started[])[0] as Started
      const rang = ledger().filter(({ pid }) => pid === victim.pid).length
      model.hold(null)
      await until(() => {
        const last = ledger()
          .slice(rang)
          .findLast(({ pid, tool }) => pid === victim.pid && tool === "ring")
        if (last === undefined || Date.now() - last.at > 75) return false
        victim.kill("SIGKILL")
        return true
      }, "the worker is in the middle of a call")
      const counted = await checkToTheEnd(sessionIds)
      assert.ok(counted.unknownOutcomes >= 1, "a bell had rung when its worker died")
      assert.ok(counted.takeovers >= 1, "a keyed call was taken over")
    }))

  it("an invoker is killed with calls in flight, then a router and an intake, and every session ends", () =>
    bench.telling(async () => {
      const sessionIds = await startSessions("invoker")
      model.hold(4)
      const asked = (): readonly string[] =>
        sessionIds.filter((sessionId) => model.journal().some(({ body }) => body.includes(`${sessionId}.`) && turnOf(body) === 4))
      await until(() => asked().length === sessionIds.length, "every session waits for the model")
      const [victim] = fleet.get("llm-invoker") as [Started]
      victim.kill("SIGKILL")
      const rang = ledger().length
      model.hold(null)
      // The sessions of the other instance go on at once; in the middle of their calls one router and one intake die, too.
      await until(() => ledger().length > rang, "a tool runs again")
      for (const name of ["tool-router", "intake"]) (fleet.get(name) as [Started])[0].kill("SIGKILL")
      const counted = await checkToTheEnd(sessionIds)
      assert.ok(counted.extraModelCalls >= 1, "a call that died was made again")
      assert.ok(counted.extraModelCalls < sessionIds.length, "the calls of the other instance were not")
      assert.equal(counted.unknownOutcomes, 0)
    }))

  it("what is left drains at SIGTERM and ends with 0", () =>
    bench.telling(async () => {
      const left = [...fleet.values()].flat().filter(({ over }) => !over)
      assert.equal(left.length, 2 * roles.length - 4)
      for (const one of left) one.kill("SIGTERM")
      for (const one of left) {
        const { code, signal } = await one.ended
        assert.deepEqual({ code, signal }, { code: 0, signal: null }, `${one.name} drains`)
      }
    }))
})

/** Which turn a request is for. */
function turnOf(body: string): number {
  return (JSON.parse(body) as { messages: { role: string }[] }).messages.filter(({ role }) => role === "assistant").length + 1
}
