import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { AppendRejectedError, type LogRecord } from "@reins/log"
import type { ConfigResourceTypes } from "kafkajs"
import { type Environment, until } from "./harness.ts"
import { HostedWorld } from "./hosted-world.ts"

// What anyone may write onto the topics of Reins, on both logs: the sender or the operator finds a clear sentence, the partition goes on,
// nothing that was acknowledged is lost. The runner gives the broker: REINS_TEST_KAFKA.

/** A JSON object that nests so deep. */
const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`
const bytes = (text: string): Uint8Array => Buffer.from(text)
const framed = (schema: number, body: Uint8Array = new Uint8Array()): Uint8Array => {
  const head = Buffer.alloc(5)
  head.writeInt32BE(schema, 1)
  return Buffer.concat([head, body])
}
/** A schema id that no registry has given out. */
const nobodys = 0x7fff_fff0

const declaration = {
  type: "tool.declared",
  backend: "function",
  tool: "x",
  description: null,
  inputSchema: '{"type":"object"}',
  effect: "pure",
  timeoutMs: 1000,
  sideEffects: null,
  claims: true,
  encoding: "avro",
} as const

const logs: readonly (readonly [name: string, skip: string | false, env: () => Promise<Environment>])[] = [
  ["on SQLite", false, async () => ({})],
  ["on Kafka", await skipWithoutKafka(), async () => (await sharedKafka()).env],
]

for (const [where, skip, envOf] of logs) {
  describe(`bad records ${where}`, { skip, timeout: 240_000 }, () => {
    let world: HostedWorld

    before(async () => {
      world = await HostedWorld.start(await envOf())
    })
    after(() => world.stop())

    /** Writes each, then sees that they lie in the dead letters, untouched, once each, with their reason and place, and that life goes on. */
    async function buried(
      topic: string,
      partition: number,
      bad: readonly { readonly value: Uint8Array | null; readonly key: string | null; readonly reason: string; readonly says: RegExp }[],
    ): Promise<void> {
      const offsets: number[] = []
      for (const { value, key } of bad) offsets.push(await world.write(topic, partition, value, key, { "x-sender": "me" }))
      await world.checkHealthy(partition)
      const letterOf = (letters: readonly LogRecord[], offset: number): readonly LogRecord[] =>
        letters.filter(
          ({ headers }) =>
            headers["dlq.topic"] === topic && headers["dlq.partition"] === String(partition) && headers["dlq.offset"] === String(offset),
        )
      const letters = await until(async () => {
        const all = await world.deadLetters()
        return offsets.every((offset) => letterOf(all, offset).length > 0) && all
      }, "the records are in the dead letters")
      for (const [index, { value, key, reason, says }] of bad.entries()) {
        const own = letterOf(letters, offsets[index] as number)
        assert.equal(own.length, 1, `${reason}: once`)
        const [letter] = own as [LogRecord]
        assert.deepEqual(letter.value === null ? null : Buffer.from(letter.value), value === null ? null : Buffer.from(value))
        assert.equal(letter.key, key)
        assert.equal(letter.headers["dlq.reason"], reason, letter.headers["dlq.message"])
        assert.match(letter.headers["dlq.message"] as string, says)
        assert.equal(letter.headers["x-sender"], "me")
        assert.ok((letter.headers["dlq.service"] ?? "") !== "")
      }
    }

    it("nobody can read a command: it goes to the dead letters", async () => {
      const { commands } = world.names
      const foreign = await world.foreignSchema("SessionDreamOf", "reins.commands")
      const event = world.host.codec.encode("sessions", {
        type: "interrupt.received",
        eventId: "evt_x",
        sessionId: "sesn_x",
        tenant: "default",
        at: 1,
        by: "me",
        causedBy: null,
        traceparent: null,
        commandId: "c",
        command: { partition: 0, offset: 0 },
      })
      const start = world.host.codec.encode("commands", { type: "session.end", commandId: "c", sessionId: "sesn_x" })
      await buried(commands, 1, [
        { value: bytes('{"type":"session.start",'), key: "sesn_a", reason: "undecodable", says: /JSON/ },
        { value: Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x7d]), key: "sesn_a", reason: "undecodable", says: /JSON/ },
        { value: bytes("hello"), key: "sesn_a", reason: "bad_framing", says: /0x00/ },
        { value: bytes('[{"type":"session.end"}]'), key: "sesn_a", reason: "bad_framing", says: /0x00/ },
        { value: bytes(""), key: "sesn_a", reason: "bad_framing", says: /0x00/ },
        { value: null, key: "sesn_a", reason: "null_value", says: /value/ },
        { value: framed(nobodys), key: "sesn_a", reason: "unknown_schema", says: /schema/ },
        { value: framed(foreign, bytes("\u0002a")), key: "sesn_a", reason: "unknown_type", says: /SessionDreamOf/ },
        { value: start.subarray(0, 7), key: "sesn_a", reason: "undecodable", says: /SessionEnd/ },
        { value: event, key: "sesn_a", reason: "wrong_topic", says: /InterruptReceived/ },
        { value: bytes('{"type":"session.end"}'), key: null, reason: "no_session_id", says: /sessionId/ },
        { value: bytes('{"type":"session.end","sessionId":"two words"}'), key: null, reason: "no_session_id", says: /sessionId/ },
      ])
    })

    it("nobody can read a record of the session log, or of a tool's topic: it goes to the dead letters", async () => {
      const { sessions } = world.names
      const foreign = await world.foreignSchema("SessionDreamt", "reins.sessions")
      const command = world.host.codec.encode("commands", { type: "session.end", commandId: "c", sessionId: "sesn_x" })
      await buried(sessions, 2, [
        { value: bytes("hello"), key: "sesn_a/1", reason: "bad_framing", says: /0x00/ },
        { value: bytes('{"type":"session.ended"}'), key: "sesn_a/2", reason: "bad_framing", says: /0x00/ },
        { value: framed(nobodys), key: "sesn_a/3", reason: "unknown_schema", says: /no schema/ },
        { value: framed(foreign, bytes("\u0002a")), key: "sesn_a/4", reason: "unknown_type", says: /SessionDreamt/ },
        { value: command, key: "sesn_a/5", reason: "wrong_topic", says: /SessionEnd/ },
      ])
      // Without a key it does not even get there: a compacted topic takes none.
      await assert.rejects(world.write(sessions, 2, command, null), AppendRejectedError)
      await buried(world.names.tools("function"), 2, [
        { value: bytes("hello"), key: "sesn_a/1", reason: "bad_framing", says: /0x00/ },
        { value: bytes('{"type":"tool-call.finished"'), key: "sesn_a/2", reason: "undecodable", says: /JSON/ },
        { value: bytes('{"type":"tool-call.dreamt"}'), key: "sesn_a/3", reason: "unknown_type", says: /tool-call\.dreamt/ },
        { value: bytes('{"type":"tool-call.finished","toolUseId":7}'), key: "sesn_a/4", reason: "invalid", says: /\/\w+: / },
        { value: bytes("{}"), key: null, reason: "null_key", says: /needs a key/ },
        { value: framed(nobodys), key: "sesn_a/6", reason: "unknown_schema", says: /no schema/ },
      ])
    })

    it("a record without a value, and facts about sessions and calls that nobody knows, change nothing", async () => {
      const { sessions, declarations } = world.names
      const before = (await world.deadLetters()).length
      await world.write(sessions, 3, null, "sesn_a/1")
      await world.write(world.names.tools("function"), 3, null, "sesn_a/1")
      const ghost = { sessionId: "sesn_ghost", toolUseId: "toolu_ghost", attempt: 1 }
      await world.write(
        world.names.tools("function"),
        3,
        JSON.stringify({ type: "tool-call.finished", ...ghost, content: "boo" }),
        "sesn_ghost/1",
      )
      const envelope = { eventId: "evt_g", tenant: "default", at: 1, by: "me", causedBy: null, traceparent: null }
      const completed = { type: "tool-call.completed", ...envelope, ...ghost, content: '"boo"', isError: false }
      await world.write(sessions, 3, world.host.codec.encode("sessions", completed), "sesn_ghost/2", { session: "sesn_ghost" })
      await world.write(declarations, 0, "hello", "function/add")
      await world.write(declarations, 0, framed(nobodys), "function/add")
      await world.write(declarations, 0, null, "nobody/nothing")
      await world.checkHealthy(3)
      assert.equal((await world.read("sesn_ghost")).session.phase, "absent")
      assert.equal((await world.deadLetters()).length, before)
    })

    it("a session whose log breaks a rule is parked, and its neighbours go on", async () => {
      const sessionId = world.newSession(3)
      const started = {
        type: "session.started",
        eventId: "evt_1",
        sessionId,
        tenant: "default",
        at: 1,
        by: "me",
        causedBy: null,
        traceparent: null,
        commandId: "c1",
        command: { partition: 0, offset: 1_000_000 },
        agent: {
          name: "n",
          model: "m",
          system: null,
          maxTokens: 1,
          tools: [],
          params: "this is not JSON",
          limits: { turns: 1, toolCalls: 1, outputTokens: 1, wallClockMs: 1 },
        },
        input: '[{"type":"text","text":"hi"}]',
      }
      await world.write(world.names.sessions, 3, world.host.codec.encode("sessions", started), `${sessionId}/1`, { session: sessionId })
      const [parked] = await world.said(sessionId, "session.parked")
      assert.match(parked?.["message"] as string, /agent\.params/)
      await world.checkHealthy(3)
    })

    it("a command that cannot be done is rejected where its sender finds it by its id", async () => {
      const partition = 0
      const ended = world.newSession(partition)
      await world.startSession(ended, "Hello")
      await world.said(ended, "session.idled")
      await world.command(ended, { type: "session.end", sessionId: ended })
      await world.said(ended, "session.ended")

      const tool = { name: "t", backend: "http", http: { method: "GET", url: "http://127.0.0.1:1/" } }
      const schema = (inputSchema: unknown): object => ({ model: "m", tools: [{ ...tool, inputSchema }] })
      const start = (agent: unknown): object => ({ type: "session.start", agent, input: "hi" })
      const deepText = `${"[".repeat(20_000)}"x"${"]".repeat(20_000)}`
      const deepSchema = `${'{"properties":{"a":'.repeat(20_000)}{}${"}}".repeat(20_000)}`
      const cases: readonly (readonly [what: string, command: object | string, code: string, says: RegExp])[] = [
        ["unknown command", { type: "session.dream" }, "unknown_command", /There are: session\.start/],
        ["no type", {}, "unknown_command", /There is no command null/],
        ["__proto__", '{"type":"session.end","__proto__":{"sessionId":"x"}}', "session_unknown", /There is no session/],
        ["unknown session", { type: "message.send", content: "hi" }, "session_unknown", /Start it with session\.start/],
        ["unknown session, interrupt", { type: "session.interrupt" }, "session_unknown", /There is no session/],
        ["no content", { type: "message.send" }, "invalid_command", /\/content/],
        ["agent is missing", { type: "session.start" }, "invalid_command", /\/agent/],
        ["agent is a number", start(7), "invalid_agent", /agent/],
        ["agent without a model", start({ name: "n" }), "invalid_agent", /agent\/model/],
        ["unknown field", start({ model: "m", modell: "x" }), "invalid_agent", /modell/],
        [
          "two tools of one name",
          start({
            model: "m",
            tools: [
              { name: "echo", backend: "function" },
              { name: "echo", backend: "function" },
            ],
          }),
          "invalid_agent",
          /agent\/tools\/1\/name: there are two tools of the name echo/,
        ],
        [
          "bad tool name",
          start({ model: "m", tools: [{ name: "e c h o", backend: "function" }] }),
          "invalid_agent",
          /agent\/tools\/0\/name/,
        ],
        ["undeclared tool", start({ model: "m", tools: [{ name: "x", backend: "nobody" }] }), "invalid_agent", /no worker has declared/],
        ["http without a URL", start({ model: "m", tools: [{ name: "x", backend: "http" }] }), "invalid_agent", /agent\/tools\/0\/http/],
        [
          "schema does not compile",
          start(schema({ type: "object", properties: { a: { type: "nonsense" } } })),
          "invalid_agent",
          /does not compile/,
        ],
        ["schema of no object", start(schema({ type: "string" })), "invalid_agent", /"type": "object"/],
        [
          "remote $ref",
          start(schema({ type: "object", properties: { a: { $ref: "http://127.0.0.1:1/schema.json" } } })),
          "invalid_agent",
          /does not compile.*can't resolve reference/,
        ],
        [
          "schema too deep",
          `{"type":"session.start","agent":{"model":"m","tools":[{"name":"t","backend":"http","inputSchema":${deepSchema}}]}}`,
          "invalid_command",
          /deep/,
        ],
        [
          "schema a bit too deep",
          start(schema(JSON.parse(`{"type":"object","properties":{"a":${nested(40)}}}`))),
          "invalid_agent",
          /deeper/,
        ],
        ["params too deep", start({ model: "m", params: { metadata: JSON.parse(nested(126)) as unknown } }), "invalid_command", /deep/],
        ["schema too long", start(schema({ type: "object", description: "x".repeat(70_000) })), "invalid_agent", /at most 65536/],
        ["own field in params", start({ model: "m", params: { max_tokens: 3 } }), "invalid_agent", /agent\.maxTokens/],
        ["input of no content", { ...start({ model: "m" }), input: [{ text: "no type" }] }, "invalid_command", /\/input/],
        ["empty input", { ...start({ model: "m" }), input: [] }, "invalid_command", /\/input/],
        [
          "input too deep",
          `{"type":"session.start","agent":{"model":"m"},"input":[{"type":"text","text":"x","deep":${deepText}}]}`,
          "invalid_command",
          /deep|stack/,
        ],
        // With a blob store it is none (blobs.test.ts); how much is too long there is intake's own test.
        ...(world.host.log.blobs === undefined
          ? ([["input too long", { ...start({ model: "m" }), input: "x".repeat(600_000) }, "content_too_large", /at most 524288/]] as const)
          : []),
      ]
      const sent: { what: string; sessionId: string; code: string; says: RegExp }[] = []
      for (const [what, command, code, says] of cases) {
        const sessionId = world.newSession(partition)
        const text = typeof command === "string" ? command : JSON.stringify(command)
        await world.write(
          world.names.commands,
          partition,
          text
            .replace(/^\{/, `{"commandId":"cmd ${what}","sessionId":"${sessionId}"${text === "{}" ? "" : ","}`)
            .replace(/"cmd [^"]*"/, (id) => id.replaceAll(/[^\w"]/g, "_")),
          sessionId,
        )
        sent.push({ what, sessionId, code, says })
      }
      await world.checkHealthy(partition)
      for (const { what, sessionId, code, says } of sent) {
        const rejected = await world.rejection(sessionId, `cmd_${what.replaceAll(/\W/g, "_")}`)
        assert.equal(rejected.code, code, `${what}: ${rejected.message}`)
        assert.match(rejected.message, says, what)
        assert.equal((await world.read(sessionId)).session.phase, "absent", `${what} started nothing`)
      }

      for (const [commandId, command, code] of [
        ["late", { type: "message.send", content: "hi" }, "session_ended"],
        ["again", { type: "session.start", agent: { model: "m" } }, "session_exists"],
        ["resume", { type: "session.resume" }, "session_ended"],
        ["x".repeat(201), { type: "session.end" }, "invalid_command"],
      ] as const) {
        await world.command(ended, { ...command, commandId, sessionId: ended })
        assert.equal((await world.rejection(ended, commandId.slice(0, 200))).code, code)
      }
      await world.write(
        world.names.commands,
        partition,
        JSON.stringify({ type: "session.end", commandId: "keyed", sessionId: ended }),
        "another",
      )
      assert.equal((await world.rejection(ended, "keyed")).code, "key_mismatch")
      await world.checkHealthy(partition)
    })

    it("a command that becomes more than the log takes is rejected, too", async () => {
      const partition = 1
      const tools = Array.from({ length: 30 }, (_, n) => ({ name: `big${n}`, backend: "function" }))
      const inputSchema = JSON.stringify({ type: "object", description: "x".repeat(60_000) })
      for (const { name, backend } of tools) {
        const declared = { ...declaration, backend, tool: name, inputSchema }
        await world.write(world.names.declarations, 0, world.host.codec.encode("declarations", declared), `${backend}/${name}`)
      }
      await until(() => world.host.loop.declared.some(({ tool }) => tool === "big29"), "the tools are declared")
      const sessionId = world.newSession(partition)
      await world.command(sessionId, { type: "session.start", commandId: "big", sessionId, agent: { model: "m", tools } })
      assert.equal((await world.rejection(sessionId, "big")).code, "agent_too_large")

      // Whoever runs the broker may have set it a smaller limit than Reins knows of.
      const { kafka: broker } = world.config
      if (broker !== null) {
        // Only now: Reins wants to be the first to load it, to mend it.
        const { Kafka, logLevel } = await import("kafkajs")
        const kafka = new Kafka({ brokers: [...broker.brokers], logLevel: logLevel.NOTHING })
        const admin = kafka.admin()
        await admin.connect()
        const limit = async (value: string): Promise<void> => {
          // What is not named goes back to the broker's default.
          const configEntries = [
            { name: "max.message.bytes", value },
            { name: "cleanup.policy", value: "compact" },
            { name: "message.timestamp.type", value: "LogAppendTime" },
          ]
          // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- Node finds no such name in the CommonJS module.
          const aTopic = 2 as ConfigResourceTypes.TOPIC
          const resources = [{ type: aTopic, name: world.names.sessions, configEntries }]
          await admin.alterConfigs({ validateOnly: false, resources })
        }
        await limit("20000")
        await world.command(sessionId, {
          type: "session.start",
          commandId: "long",
          sessionId,
          agent: { model: "m" },
          input: "x".repeat(100_000),
        })
        const rejected = await world.rejection(sessionId, "long")
        assert.equal(rejected.code, "refused_by_log")
        assert.match(rejected.message, /session\.started/)
        await world.command(sessionId, { type: "session.start", commandId: "short", sessionId, agent: { model: "m" }, input: "Hello" })
        await world.said(sessionId, "session.idled")
        await limit("1048588")
        await admin.disconnect()
      }
      await world.checkHealthy(partition)
    })

    it("what need not be said may be left out, and what is said twice has one effect", async () => {
      const partition = 2
      // No key, no sessionId, no commandId: all three follow from where it stands.
      const offset = await world.write(
        world.names.commands,
        partition,
        '{"type":"session.start","agent":{"model":"m"},"input":"Hello"}',
        null,
      )
      const sessionId = `sesn_${world.names.commands}-${partition}-${offset}`
      assert.equal((await world.said(sessionId, "session.idled")).length, 1)

      const twice = world.newSession(partition)
      const start = { type: "session.start", commandId: "once", sessionId: twice, agent: { model: "m" }, input: "Hello" }
      for (let n = 0; n < 3; n++) await world.command(twice, start)
      await world.said(twice, "session.idled")
      for (let n = 0; n < 2; n++)
        await world.command(twice, { type: "message.send", commandId: "more", sessionId: twice, content: "And now?" })
      await until(async () => (await world.said(twice, "session.idled")).length === 2, "the message is answered")
      await world.checkHealthy(partition)
      const { records } = await world.read(twice)
      assert.deepEqual(
        records.map(({ type }) => type).filter((type) => !type.startsWith("model.")),
        ["session.started", "session.idled", "message.received", "session.idled"],
      )
    })

    it("a backend that is declared and has no topic keeps nobody from starting, and nothing is buried twice", async () => {
      const declared = { ...declaration, backend: "nowhere" }
      await world.write(world.names.declarations, 0, world.host.codec.encode("declarations", declared), "nowhere/x")
      await world.checkHealthy(0)
      const before = (await world.deadLetters()).length
      await world.restart()
      for (const partition of [0, 1, 2, 3]) await world.checkHealthy(partition)
      assert.equal((await world.deadLetters()).length, before)
      assert.deepEqual(world.failures, [])
    })
  })
}
