import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { createServer, request as httpRequest, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { after, before, describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { sharedKafka, skipWithoutKafka, startKafka } from "@reins/infra/kafka"
import { partitionOf } from "@reins/log"
import type { SessionSummary } from "@reins/session"
import { type Admin, Kafka, logLevel, Partitioners, type Producer } from "kafkajs"
import { Bench, type Environment, recordsOf, type Started, sample, until } from "./harness.ts"

// What an operator can get wrong around a process on Kafka, and what the process tells of itself while it runs. The runner gives the
// broker: REINS_TEST_KAFKA.

const skip = await skipWithoutKafka()
const partitions = 4

/** A registry behind a door that can be shut. */
class Door {
  readonly #to: string
  readonly #server: Server
  #open = true

  constructor(to: string) {
    this.#to = to
    this.#server = createServer((request, response) => {
      if (!this.#open) {
        request.socket.destroy()
        return
      }
      const { method, headers, url } = request
      const onward = httpRequest(`${this.#to.replace(/\/$/, "")}${url}`, { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      onward.on("error", () => response.destroy())
      request.pipe(onward)
    })
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  shut(): void {
    this.#open = false
    this.#server.closeAllConnections()
  }

  reopen(): void {
    this.#open = true
  }

  async stop(): Promise<void> {
    this.shut()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
}

describe("a process on Kafka", { skip, timeout: 240_000 }, () => {
  const bench = new Bench()
  let broker: Readonly<Record<string, string>>
  let kafka: Kafka
  let admin: Admin
  let producer: Producer

  before(async () => {
    const address = await sharedKafka()
    broker = address.env
    kafka = new Kafka({ brokers: address.bootstrap.split(","), clientId: "stranger", logLevel: logLevel.NOTHING })
    admin = kafka.admin()
    producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await Promise.all([admin.connect(), producer.connect()])
  })
  after(async () => {
    await Promise.all([admin.disconnect(), producer.disconnect()])
    await bench.close()
  })

  const fresh = (): { readonly env: Environment; readonly names: ReturnType<typeof topicNames> } => {
    const prefix = `ops-${randomBytes(4).toString("hex")}`
    return { env: { ...broker, REINS_TOPIC_PREFIX: prefix, REINS_PARTITIONS: String(partitions) }, names: topicNames(prefix) }
  }

  const command = (names: ReturnType<typeof topicNames>, sessionId: string, value: object): Promise<unknown> =>
    producer.send({ topic: names.commands, messages: [{ key: sessionId, value: JSON.stringify(value) }] })

  /** An id whose sessions live on this partition. */
  const sessionOn = (partition: number, name: string): string => {
    for (let n = 0; ; n++) if (partitionOf(`sesn_${name}${n}`, partitions) === partition) return `sesn_${name}${n}`
  }

  const shown = async (sessionId: string, env: Environment): Promise<SessionSummary | undefined> => {
    const { code, stdout } = await bench.run(["sessions", "show", sessionId, "--json"], env)
    return code === 0 ? (JSON.parse(stdout) as SessionSummary) : undefined
  }

  const isIdle = (sessionId: string, env: Environment): Promise<unknown> =>
    until(async () => (await shown(sessionId, env))?.status === "idle", `${sessionId} is idle`)

  it("does not start where its topics are missing, or are others than it needs, and says how to mend it", async () => {
    const none = fresh()
    const missing = await bench.run(["up"], none.env)
    assert.equal(missing.code, 2)
    assert.match(missing.stderr, /is missing in .*reins topics apply/)

    const three = fresh()
    await admin.createTopics({
      topics: [{ topic: three.names.sessions, numPartitions: 3, configEntries: [{ name: "cleanup.policy", value: "compact" }] }],
    })
    const keeps = fresh()
    await admin.createTopics({ topics: [{ topic: keeps.names.sessions, numPartitions: partitions }] })
    const four = fresh()
    assert.equal((await bench.run(["topics", "apply"], four.env)).code, 0)
    for (const [args, env, says] of [
      [["topics", "apply"], three.env, /has 3 partitions, and Reins is set to 4.*REINS_PARTITIONS=3/],
      [["up", "intake"], { ...four.env, REINS_PARTITIONS: "5" }, /has 4 partitions, and Reins is set to 5.*REINS_PARTITIONS=4/],
    ] as const) {
      const count = await bench.run(args, env)
      assert.equal(count.code, 2, count.stderr)
      assert.match(count.stderr, says)
    }
    const policy = await bench.run(["topics", "apply"], keeps.env)
    assert.equal(policy.code, 2, policy.stderr)
    assert.match(policy.stderr, /cleanup policy "delete".*needs "compact"/)
  })

  it("does not start without its registry, and names it", async () => {
    const { env } = fresh()
    const { code, stderr } = await bench.run(["topics", "apply"], { ...env, SCHEMA_REGISTRY_URL: "http://127.0.0.1:1/apis" })
    assert.equal(code, 5, stderr)
    assert.match(stderr, /SCHEMA_REGISTRY_URL/)
    assert.match(stderr, /127\.0\.0\.1:1/)
  })

  it("goes on while its registry is away; a record in an unknown schema waits for it and stops no other partition", () =>
    bench.telling(async () => {
      const { env: direct, names } = fresh()
      const door = new Door(broker["SCHEMA_REGISTRY_URL"] as string)
      const env = { ...direct, SCHEMA_REGISTRY_URL: await door.start() }
      try {
        assert.equal((await bench.run(["topics", "apply"], env)).code, 0)
        const up = await bench.reins(["up"], env).ready()
        door.shut()
        const [home, elsewhere] = [sessionOn(0, "home"), sessionOn(1, "elsewhere")]
        await command(names, home, { type: "session.start", agent: { model: "m" }, input: "Hello" })
        await isIdle(home, direct)

        const bogus = Buffer.from([0, 0x7f, 0xff, 0xff, 0xf1, 1])
        await producer.send({ topic: names.commands, messages: [{ key: home, value: bogus, partition: 0 }] })
        await until(() => up.stderr.includes("The schema registry cannot be asked"), "the operator is told")
        await command(names, home, { type: "message.send", content: "And now?" })
        await command(names, elsewhere, { type: "session.start", agent: { model: "m" }, input: "Hello" })
        await isIdle(elsewhere, direct)
        assert.equal((await shown(home, direct))?.turns, 1, "what stands behind the record waits with it")

        door.reopen()
        await until(async () => (await shown(home, direct))?.turns === 2, "the message behind it is answered")
        assert.match(up.stderr, /put into the dead letters: .*7fff|put into the dead letters: .*2147483633/)
        up.kill("SIGTERM")
        assert.equal((await up.ended).code, 0)
      } finally {
        await door.stop()
      }
    }))

  it("is not ready while its broker is away, also where it is a gateway alone; it lives on, and is ready once the broker is back", () =>
    bench.telling(async () => {
      const own = await startKafka({ registry: false })
      try {
        const env = { ...fresh().env, ...own.env, SCHEMA_REGISTRY_URL: broker["SCHEMA_REGISTRY_URL"] as string }
        assert.equal((await bench.run(["topics", "apply"], env)).code, 0)
        const processes = await Promise.all(["gateway", "intake"].map((name) => bench.reins(["up", name], env).ready()))
        await own.brokers[0]?.kill()
        const says = [/^the log has not answered for \d+ s\n$/, /^not known to be a member of its group\n$/]
        for (const [index, up] of processes.entries()) {
          await until(async () => (await up.get("/readyz")).status === 503, `${up.name} is not ready any more`)
          assert.match((await up.get("/readyz")).text, says[index] as RegExp)
          assert.equal((await up.get("/livez")).status, 200)
        }
        await own.brokers[0]?.restart()
        for (const up of processes) {
          await up.ready()
          up.kill("SIGKILL")
        }
      } finally {
        await own.stop()
      }
    }))

  it("tells whether it lives, whether it is ready, and what it does; and finishes what it has begun when it must end", () =>
    bench.telling(async () => {
      const { env, names } = fresh()
      assert.equal((await bench.run(["topics", "apply"], env)).code, 0)
      const up: Started = await bench.reins(["up"], env).ready()
      assert.deepEqual(await up.get("/livez"), { status: 200, text: "alive\n" })
      assert.equal((await up.get("/nowhere")).status, 404)

      const sessionId = sessionOn(2, "watched")
      const agent = { name: "watched", model: "claude-sonnet-5-5", tools: ["echo", "wait"].map((name) => ({ name, backend: "function" })) }
      await command(names, sessionId, { type: "session.start", sessionId, agent, input: '[[turns 3: call echo {"n":"$i"}]]' })
      await isIdle(sessionId, env)
      await producer.send({ topic: names.commands, messages: [{ key: "nobody", value: "hello" }] })

      let text = ""
      const metric = (name: string, labels: Readonly<Record<string, string>> = {}): number | undefined => sample(text, name, labels)
      await until(async () => {
        text = (await up.get("/metrics")).text
        return metric("reins_sessions", { status: "idle" }) === 1 && metric("reins_dead_letters_total", { reason: "bad_framing" }) === 1
      }, "the metrics tell of the session and of the dead letter")
      assert.equal(metric("reins_build_info", { version: "0.1.0" }), 1)
      assert.equal(metric("reins_events_appended_total", { topic: names.sessions, event_type: "model.requested" }), 4)
      assert.equal(metric("reins_events_appended_total", { topic: names.tools("function"), event_type: "tool-call.finished" }), 3)
      assert.ok((metric("reins_events_folded_total", { topic: names.sessions, verdict: "accepted" }) ?? 0) >= 16)
      assert.equal(metric("reins_dead_letters_total", { service: "intake", reason: "bad_framing" }), 1)
      assert.equal(metric("reins_inflight", { service: "llm-invoker" }), 0)
      assert.equal(metric("reins_event_handle_seconds_count", { service: "llm-invoker" }), 4)
      assert.equal(
        metric("gen_ai_client_token_usage_count", {
          gen_ai_operation_name: "chat",
          gen_ai_token_type: "output",
          gen_ai_request_model: "claude-sonnet-5-5",
        }),
        4,
      )
      assert.ok((metric("reins_rebalances_total") ?? 0) >= partitions)
      assert.equal(metric("reins_replay_seconds_count"), partitions)
      assert.ok((metric("process_cpu_seconds_total") ?? 0) > 0)
      // A label that names a session would make a series of every one.
      assert.ok(!text.includes(sessionId) && !text.includes("toolu_"))
      assert.ok(text.split("\n").filter((line) => !line.startsWith("#")).length < 2000)

      const late = sessionOn(3, "late")
      await command(names, late, { type: "session.start", sessionId: late, agent, input: '[[call wait {"ms":3000}]]' })
      await until(async () => {
        text = (await up.get("/metrics")).text
        return metric("reins_inflight", { service: "tool-workers/function" }) === 1
      }, "a tool runs")
      up.kill("SIGTERM")
      await until(async () => (await up.get("/readyz")).status === 503, "it is not ready any more")
      assert.equal((await up.get("/livez")).status, 200)
      const { code, signal } = await up.ended
      assert.deepEqual({ code, signal }, { code: 0, signal: null })
      const events = recordsOf((await bench.run(["events", late, "--jsonl"], env)).stdout)
      assert.ok(
        events.some(({ type, value }) => type === "tool-call.finished" && value.outcome === "completed"),
        "what had begun was finished and said",
      )
    }))
})
