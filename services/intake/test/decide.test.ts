import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { definitions, type Tool, type ToolDeclared } from "@reins/events"
import { type LogRecord, partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import type { Hearing, SessionDraft } from "@reins/runtime"
import { viewOf } from "@reins/runtime/testing"
import { holdOf, sha256Hex } from "@reins/session"
import { agent, fact, Story, text as textBlock, tool, toolUse } from "@reins/session/testing"
import { intakeLimits } from "../src/config.ts"
import { hear } from "../src/decide.ts"

const sessionId = "sesn_my1"
const partitions = 4
const home = partitionOf(sessionId, partitions)

function declared(backend: string, tool: string, fields: Partial<ToolDeclared> = {}): ToolDeclared {
  const example = definitions.find(({ type }) => type === "tool.declared")?.example as unknown as ToolDeclared
  return { ...example, backend, tool, ...fields }
}

const tools: readonly ToolDeclared[] = [
  declared("function", "add", { description: "Adds numbers.", effect: "pure", timeoutMs: 30_000 }),
  declared("http", "*", { inputSchema: "{}", effect: "unsafe" }),
  declared("python", "train", { encoding: "json", claims: false, effect: "keyed", sideEffects: "uses the GPU" }),
  declared("shell", "read", { description: "Reads a file.", effect: "pure", inputSchema: '{"type":"object","properties":{"path":{}}}' }),
  declared("shell", "write", { effect: "idempotent" }),
  declared("shell", "run", { effect: "unsafe", timeoutMs: 600_000 }),
]

let codec: Codec
before(async () => {
  codec = await Codec.open(new MemoryBroker().registry)
})

interface Given {
  readonly value?: Uint8Array | string | null
  readonly key?: string | null
  readonly partition?: number
  readonly offset?: number
  readonly headers?: Readonly<Record<string, string>>
}

function record({ value = "{}", key = sessionId, partition = home, offset = 7, headers = {} }: Given): LogRecord {
  const bytes = typeof value === "string" ? Buffer.from(value) : value
  return { topic: "reins.commands", partition, offset, timestamp: 1_795_000_000_000, key, value: bytes, headers }
}

/** What intake makes of a command, where this is the session it is for. */
function heard(command: unknown, at: Given = {}, story: Story = new Story(sessionId)): Hearing {
  return hear(record({ value: text(command), ...at }), () => viewOf(story, { declared: tools }), { codec, partitions })
}

function raw(value: Uint8Array | string | null, at: Given = {}): Hearing {
  return hear(record({ ...at, value }), () => viewOf(new Story(sessionId), { declared: tools }), { codec, partitions })
}

function answered(hearing: Hearing): SessionDraft & { readonly sessionId: string } {
  assert.ok(hearing.judged === "answer", JSON.stringify(hearing))
  return { ...hearing.event, sessionId: hearing.sessionId }
}

function rejected(hearing: Hearing): {
  readonly code: string
  readonly message: string
  readonly commandId: string
  readonly commandType: string
} {
  const event = answered(hearing)
  assert.ok(event.type === "command.rejected", JSON.stringify(event))
  return event
}

const start = (fields: object = {}, tool?: object): object => ({
  type: "session.start",
  commandId: "start-1",
  sessionId,
  agent: { model: "claude-sonnet-5-5", ...(tool === undefined ? {} : { tools: [tool] }), ...fields },
})
const send = (fields: object = {}): object => ({ type: "message.send", commandId: "send-1", sessionId, content: "Hello.", ...fields })
const running = (): Story => new Story(sessionId).started(agent())

describe("a session.start", () => {
  it("becomes a session whose agent is resolved, with its command's place", () => {
    const event = answered(
      heard({
        type: "session.start",
        commandId: "start-1",
        sessionId,
        agent: {
          name: "support",
          model: "claude-sonnet-5-5",
          system: "You help.",
          maxTokens: 1024,
          tools: [
            {
              name: "get_order",
              description: "Look an order up",
              backend: "http",
              effect: "pure",
              timeoutMs: 5000,
              inputSchema: { type: "object", properties: { id: { type: "string" } }, required: ["id"], additionalProperties: false },
              http: { method: "GET", url: "http://127.0.0.1:9100/orders/{id}" },
            },
            {
              name: "refund",
              backend: "http",
              sideEffects: "moves money back",
              inputSchema: { type: "object" },
              http: { method: "POST", url: "http://127.0.0.1:9100/orders/{id}/refund" },
            },
            { name: "add", backend: "function" },
            { name: "train", backend: "python" },
          ],
          params: { temperature: 0.2 },
          limits: { turns: 10 },
        },
        input: [{ type: "text", text: "Where is order 17?" }],
      }),
    )
    assert.ok(event.type === "session.started")
    assert.deepEqual(
      [event.commandId, event.command, event.input],
      ["start-1", { partition: home, offset: 7 }, '[{"text":"Where is order 17?","type":"text"}]'],
    )
    const { agent: resolved } = event
    assert.deepEqual(
      [resolved.system, resolved.params, resolved.limits.turns, resolved.limits.toolCalls],
      ['"You help."', '{"temperature":0.2}', 10, 200],
    )
    assert.partialDeepStrictEqual(resolved.tools, [
      {
        name: "get_order",
        effect: "pure",
        timeoutMs: 5000,
        settings: '{"method":"GET","url":"http://127.0.0.1:9100/orders/{id}"}',
        claims: true,
      },
      { name: "refund", effect: "unsafe", timeoutMs: intakeLimits.toolTimeoutMs, sideEffects: "moves money back" },
      { name: "add", description: "Adds numbers.", effect: "pure", timeoutMs: 30_000, settings: null, encoding: "avro" },
      { name: "train", effect: "keyed", claims: false, encoding: "json", sideEffects: "uses the GPU" },
    ])
    // The wire takes it, and the fold too.
    const story = new Story(sessionId)
    story.tell({ ...story.draft((s) => s.started()), ...event })
    assert.equal(story.verdict, "accepted")
    assert.ok(story.known.breach === null)
    assert.ok(codec.encode("sessions", { ...story.last }).length > 0)
  })

  it("may come as Avro", () => {
    const value = codec.encode("commands", {
      type: "session.start",
      commandId: null,
      sessionId: null,
      agent: '{"model":"m"}',
      input: '"Hello."',
    })
    const event = answered(raw(value))
    assert.ok(event.type === "session.started")
    assert.equal(event.input, '[{"text":"Hello.","type":"text"}]')
  })

  it("may leave its ids out: they follow from where it stood", () => {
    for (const partition of [0, 1, 2, 3]) {
      const hearing = heard({ type: "session.start", agent: { model: "m" } }, { key: null, partition })
      const own = `sesn_reins.commands-${partition}-7`
      if (partitionOf(own, partitions) === partition) {
        const event = answered(hearing)
        assert.deepEqual(["commandId" in event && event.commandId, event.sessionId], [`cmd_reins.commands-${partition}-7`, own])
        continue
      }
      assert.ok(hearing.judged === "forward")
      // What is sent on says in its headers which ids it was given.
      assert.deepEqual([hearing.partition, hearing.key], [partitionOf(own, partitions), own])
      const there = heard({ type: "session.start", agent: { model: "m" } }, { ...hearing, offset: 99 })
      const event = answered(there)
      assert.deepEqual(["commandId" in event && event.commandId, event.sessionId], [`cmd_reins.commands-${partition}-7`, own])
    }
  })

  it("takes the record's key for its session where the value names none", () => {
    assert.equal(answered(heard({ type: "session.start", agent: { model: "m" } })).sessionId, sessionId)
  })

  const faults: readonly (readonly [string, object, RegExp])[] = [
    ["no model", { model: undefined }, /^agent\/model: /],
    ["a model that is no text", { model: 5 }, /^agent\/model: /],
    ["a field that nobody knows", { modle: "m" }, /Unrecognized key: "modle"/],
    ["a field of the request that Reins writes itself", { params: { max_tokens: 5 } }, /^agent\/params\/max_tokens: .*agent\.maxTokens/],
    ["another such field", { params: { messages: [] } }, /^agent\/params\/messages: /],
    ["limits that are none", { limits: { turns: 0 } }, /^agent\/limits\/turns: /],
    ["an agent that nests without end", { params: { a: nested(5000) } }, /nests deeper than/],
  ]
  for (const [name, fields, message] of faults) {
    it(`with ${name} is rejected with the place of the fault`, () => {
      const { code, message: said, commandId, commandType } = rejected(heard(start(fields)))
      assert.match(code, /^invalid_(agent|command)$/)
      assert.match(said, message)
      assert.deepEqual([commandId, commandType], ["start-1", "session.start"])
    })
  }

  const toolFaults: readonly (readonly [string, object, RegExp])[] = [
    ["that no worker has declared", { name: "sing", backend: "function" }, /no worker has declared a tool sing on the backend function/],
    ["of a backend that nobody serves", { name: "sing", backend: "choir" }, /reins up tool-workers\/choir/],
    ["with a name that the model's wire refuses", { name: "sing a song", backend: "function" }, /^agent\/tools\/0\/name: /],
    ["of http without a url", { name: "get", backend: "http", inputSchema: { type: "object" } }, /^agent\/tools\/0\/http: /],
    ["of http without a schema", { name: "get", backend: "http", http: { url: "http://127.0.0.1/" } }, /^agent\/tools\/0\/inputSchema: /],
    [
      "with a schema that does not compile",
      { name: "add", backend: "function", inputSchema: { type: "object", properties: { a: { type: "nonsense" } } } },
      /does not compile/,
    ],
    ["with a schema of no object", { name: "add", backend: "function", inputSchema: { type: "array" } }, /"type": "object"/],
    [
      "with a remote reference, which is not fetched",
      { name: "add", backend: "function", inputSchema: { type: "object", properties: { a: { $ref: "http://127.0.0.1:1/schema.json" } } } },
      /does not compile: can't resolve reference/,
    ],
    ["with an asynchronous schema", { name: "add", backend: "function", inputSchema: { type: "object", $async: true } }, /\$async/],
    [
      "with a schema that nests too deep",
      { name: "add", backend: "function", inputSchema: { type: "object", default: nested(40) } },
      /nests deeper than 32/,
    ],
    [
      "with a schema that is too long",
      { name: "add", backend: "function", inputSchema: { type: "object", description: "x".repeat(70_000) } },
      /at most 65536 are compiled/,
    ],
    [
      "that is looser than its worker says",
      { name: "train", backend: "python", effect: "pure" },
      /^agent\/tools\/0\/effect: its worker declares train as keyed; an agent may be stricter, and pure is looser/,
    ],
    [
      "of http that cannot be asked whether it happened",
      { name: "get", backend: "http", effect: "queryable", inputSchema: { type: "object" }, http: { url: "http://127.0.0.1/" } },
      /declare it keyed or unsafe/,
    ],
    [
      "with a header that would be two",
      { name: "get", backend: "http", inputSchema: { type: "object" }, http: { url: "http://127.0.0.1/", headers: { a: "b\r\nc: d" } } },
      /headers/,
    ],
  ]
  for (const [name, given, message] of toolFaults) {
    it(`with a tool ${name} is rejected`, () => {
      const { code, message: said } = rejected(heard(start({}, given)))
      assert.equal(code, "invalid_agent")
      assert.match(said, message)
    })
  }

  it("may make a tool stricter than its worker says", () => {
    const event = answered(heard(start({ tools: [{ name: "add", backend: "function", effect: "unsafe" }] })))
    assert.equal(event.type === "session.started" && event.agent.tools[0]?.effect, "unsafe")
  })

  it("with two tools of one name is rejected, also over two backends", () => {
    const { code, message } = rejected(
      heard(
        start({
          tools: [
            { name: "add", backend: "function" },
            { name: "add", backend: "http", inputSchema: { type: "object" }, http: { url: "http://127.0.0.1/" } },
          ],
        }),
      ),
    )
    assert.deepEqual(
      [code, message],
      ["invalid_agent", "agent/tools/1/name: there are two tools of the name add; the other is agent/tools/0."],
    )
  })

  it("that is too large for a record is rejected by bytes, not by characters", () => {
    const description = "語".repeat(19_000)
    const many = Array.from({ length: 6 }, (_, n) => ({
      name: `get_${n}`,
      backend: "http",
      description,
      inputSchema: { type: "object" },
      http: { url: "http://127.0.0.1/" },
    }))
    assert.equal(rejected(heard(start({ tools: many }))).code, "agent_too_large")
    assert.equal(answered(heard(start({ tools: many.slice(0, 3) }))).type, "session.started")
    assert.equal(rejected(heard({ ...start(), input: "語".repeat(200_000) })).code, "content_too_large")
    // Where a blob store is configured, up to what that holds.
    const withBlobs = (bytes: number): Hearing =>
      hear(record({ value: text({ ...start(), input: "x".repeat(bytes) }) }), () => viewOf(new Story(sessionId), { declared: tools }), {
        codec,
        partitions,
        contentMax: intakeLimits.contentMaxWithBlobs,
      })
    assert.equal(answered(withBlobs(600_000)).type, "session.started")
    assert.equal(rejected(withBlobs(intakeLimits.contentMaxWithBlobs + 1)).code, "content_too_large")
  })

  it("of a session that exists is rejected", () => {
    assert.equal(rejected(heard({ ...start(), commandId: "start-2" }, {}, running())).code, "session_exists")
  })

  it("says nothing that a replay from UTF-8 would say otherwise", () => {
    const event = answered(heard(start({ name: "half \ud83d" }, { name: "add", backend: "function", description: "half \udc00" })))
    assert.ok(event.type === "session.started")
    assert.equal(event.agent.name, "half \ufffd")
    assert.equal(event.agent.tools[0]?.description, "half \ufffd")
  })
})

describe("the tools of an agent", () => {
  const resolved = (fields: object): readonly Tool[] => {
    const event = answered(heard(start(fields)))
    assert.ok(event.type === "session.started", JSON.stringify(event))
    return event.agent.tools
  }
  const fault = (fields: object): string => {
    const { code, message } = rejected(heard(start(fields)))
    assert.equal(code, "invalid_agent", message)
    return message
  }

  it("say whether a person is asked before they run, and after nobody knows what they did", () => {
    const [asks, allows, quiet] = resolved({
      tools: [
        { name: "add", backend: "function", permission: "always_ask", onUnknown: "hold" },
        { name: "run", backend: "shell", permission: "always_allow", onUnknown: "tell" },
        { name: "train", backend: "python" },
      ],
    })
    assert.partialDeepStrictEqual(asks, { name: "add", permission: "always_ask", onUnknown: "hold", server: null })
    assert.partialDeepStrictEqual(allows, { name: "run", permission: "always_allow", onUnknown: "tell" })
    // Of what was not said nothing is made up, and the wire says so as it will be read back.
    assert.partialDeepStrictEqual(quiet, { name: "train", permission: null, onUnknown: null, server: null })
    for (const wrong of [{ permission: "sometimes" }, { onUnknown: "panic" }])
      assert.match(
        rejected(heard(start({}, { name: "add", backend: "function", ...wrong }))).message,
        /agent\/tools\/0\/(permission|onUnknown): /,
      )
  })

  it("that the client runs itself need no worker, but a schema", () => {
    const [weather] = resolved({
      tools: [{ name: "weather", backend: "client", description: "Looks out.", inputSchema: { type: "object" } }],
    })
    assert.partialDeepStrictEqual(weather, {
      name: "weather",
      backend: "client",
      description: "Looks out.",
      inputSchema: '{"type":"object"}',
    })
    assert.match(fault({ tools: [{ name: "weather", backend: "client" }] }), /^agent\/tools\/0\/inputSchema: /)
    assert.match(
      fault({ tools: [{ name: "weather", backend: "client", inputSchema: { type: "array" } }] }),
      /^agent\/tools\/0\/inputSchema: /,
    )
  })

  it("that come as a set are all that the workers of a backend have declared, under the name of a server", () => {
    const set = resolved({ tools: [{ name: "add", backend: "function" }], toolsets: [{ backend: "shell", server: "files" }] })
    assert.deepEqual(
      set.map(({ name, backend, server, permission, onUnknown }) => [name, backend, server, permission, onUnknown]),
      [
        ["add", "function", null, null, null],
        ["read", "shell", "files", null, null],
        ["write", "shell", "files", null, null],
        ["run", "shell", "files", null, null],
      ],
    )
    assert.partialDeepStrictEqual(set[1], {
      description: "Reads a file.",
      effect: "pure",
      inputSchema: '{"properties":{"path":{}},"type":"object"}',
      claims: true,
    })
    assert.equal(set[3]?.timeoutMs, 600_000)
  })

  it("that come as a set are chosen and guarded together, and one by one where that is said", () => {
    const guarded = (fields: object): readonly (readonly [string, unknown, unknown])[] =>
      resolved({ toolsets: [{ backend: "shell", server: "files", ...fields }] }).map((one) => [one.name, one.permission, one.onUnknown])
    assert.deepEqual(
      guarded({ permission: "always_ask", onUnknown: "hold", tools: { read: { permission: "always_allow", onUnknown: "tell" } } }),
      [
        ["read", "always_allow", "tell"],
        ["write", "always_ask", "hold"],
        ["run", "always_ask", "hold"],
      ],
    )
    assert.deepEqual(guarded({ tools: { run: { enabled: false }, write: { permission: "always_ask" } } }), [
      ["read", null, null],
      ["write", "always_ask", null],
    ])
    assert.deepEqual(guarded({ enabled: false, tools: { read: { enabled: true }, write: { permission: "always_ask" } } }), [
      ["read", null, null],
    ])
    assert.deepEqual(guarded({ enabled: false }), [])
  })

  it("that come as a set are refused where the backend has none, or not that one", () => {
    assert.match(
      fault({ toolsets: [{ backend: "choir", server: "choir" }] }),
      /^agent\/toolsets\/0: no worker has declared a tool on the backend choir\. Start its worker/,
    )
    // It takes tools that an agent describes, and has none of its own.
    assert.match(fault({ toolsets: [{ backend: "http", server: "web" }] }), /^agent\/toolsets\/0: no worker has declared/)
    assert.match(fault({ toolsets: [{ backend: "client", server: "mine" }] }), /^agent\/toolsets\/0: no worker has declared/)
    assert.equal(
      fault({ toolsets: [{ backend: "shell", server: "files", tools: { erase: { enabled: false } } }] }),
      "agent/toolsets/0/tools/erase: the backend shell has no such tool. It has: read, write, run.",
    )
    assert.match(fault({ toolsets: [{ backend: "shell" }] }), /^agent\/toolsets\/0\/server: /)
    assert.match(fault({ toolsets: [{ backend: "shell", server: "files", colour: "red" }] }), /Unrecognized key: "colour"/)
    assert.match(
      fault({ toolsets: [{ backend: "shell", server: "files", tools: { read: { colour: "red" } } }] }),
      /Unrecognized key: "colour"/,
    )
  })

  it("have one name each, wherever they come from", () => {
    const twice = [{ backend: "shell", server: "files" }]
    assert.equal(
      fault({ tools: [{ name: "read", backend: "client", inputSchema: { type: "object" } }], toolsets: twice }),
      "agent/toolsets/0/name: there are two tools of the name read; the other is agent/tools/0.",
    )
    assert.match(fault({ toolsets: [...twice, ...twice] }), /two tools of the name read; the other is agent\/toolsets\/0/)
    // What is not taken is in nobody's way.
    resolved({
      tools: [{ name: "read", backend: "client", inputSchema: { type: "object" } }],
      toolsets: [{ ...twice[0], tools: { read: { enabled: false } } }],
    })
  })
})

describe("what a session.start says beside its agent", () => {
  const withIt = (fields: object): Hearing => heard({ ...start(), ...fields })

  it("is whose it is, and what it is called", () => {
    const hearing = withIt({
      tenant: "acme",
      title: "Order 17",
      metadata: { b: "2", a: "1" },
      environmentId: "env_1",
      profile: { name: "Coder", version: 3 },
    })
    assert.partialDeepStrictEqual(hearing, { judged: "answer", tenant: "acme" })
    const event = answered(hearing)
    assert.partialDeepStrictEqual(event, {
      title: "Order 17",
      metadata: '{"a":"1","b":"2"}',
      environmentId: "env_1",
      profile: '{"name":"Coder","version":3}',
    })
    const story = new Story(sessionId)
    story.tell({ ...story.draft((s) => s.started()), ...event, tenant: "acme" })
    assert.deepEqual(
      [story.known.tenant, story.known.profile],
      ["acme", { title: "Order 17", metadata: '{"a":"1","b":"2"}', environmentId: "env_1", agent: '{"name":"Coder","version":3}' }],
    )
  })

  it("is nobody's and nothing where it is left out, as JSON and as Avro", () => {
    const value = codec.encode("commands", { type: "session.start", commandId: null, sessionId: null, agent: '{"model":"m"}' })
    for (const hearing of [withIt({}), withIt({ tenant: null, title: null, metadata: null, profile: null }), raw(value)]) {
      assert.partialDeepStrictEqual(hearing, { tenant: "default" })
      assert.partialDeepStrictEqual(answered(hearing), { title: null, metadata: null, environmentId: null, profile: null })
    }
  })

  it("may come as Avro, where its JSON is text", () => {
    const value = codec.encode("commands", {
      type: "session.start",
      commandId: null,
      sessionId: null,
      agent: '{"model":"m"}',
      tenant: "acme",
      title: "Order 17",
      metadata: '{ "b": "2", "a": "1" }',
      profile: '{"name":"Coder"}',
    })
    const hearing = raw(value)
    assert.partialDeepStrictEqual(hearing, { tenant: "acme" })
    assert.partialDeepStrictEqual(answered(hearing), { title: "Order 17", metadata: '{"a":"1","b":"2"}', profile: '{"name":"Coder"}' })
    const broken = codec.encode("commands", {
      type: "session.start",
      commandId: null,
      sessionId: null,
      agent: '{"model":"m"}',
      metadata: "{",
    })
    assert.match(rejected(raw(broken)).message, /^\/metadata: not JSON/)
  })

  it("is rejected with the place where it is not what it has to be", () => {
    for (const [fields, message] of [
      [{ metadata: [] }, /^\/metadata: must be a JSON object/],
      [{ metadata: "x" }, /^\/metadata: must be a JSON object/],
      [{ profile: 7 }, /^\/profile: must be a JSON object/],
      [{ profile: { a: nested(5000) } }, /^\/profile: nests deeper/],
      [{ tenant: "" }, /^\/tenant: /],
      [{ tenant: "x".repeat(201) }, /^\/tenant: /],
      [{ tenant: 7 }, /^\/tenant: /],
      [{ title: "x".repeat(2001) }, /^\/title: /],
      [{ environmentId: 7 }, /^\/environmentId: /],
    ] as const) {
      const { code, message: said } = rejected(withIt(fields))
      assert.equal(code, "invalid_command", said)
      assert.match(said, message)
    }
  })

  it("has to fit into a record together with its agent", () => {
    const half = "x".repeat(140 * 1024)
    assert.equal(answered(withIt({ metadata: { half } })).type, "session.started")
    for (const fields of [
      { profile: { half }, metadata: { half } },
      { metadata: { half: half + half } },
      { profile: { half: half + half } },
    ])
      assert.match(rejected(withIt(fields)).code, /^(agent_too_large|invalid_command)$/)
  })

  it("is the session's for good: no later command moves it to another tenant", () => {
    const story = new Story(sessionId).started(agent(), { tenant: "acme" })
    assert.partialDeepStrictEqual(heard({ ...send(), tenant: "other" }, {}, story), { tenant: "acme" })
    const again = heard({ ...start(), commandId: "start-2", tenant: "other" }, {}, story)
    assert.partialDeepStrictEqual(again, { tenant: "acme" })
    assert.equal(rejected(again).code, "session_exists")
  })
})

const pay = tool("pay", { backend: "http", effect: "unsafe", permission: "always_ask" })
const weather = tool("weather", { backend: "client", effect: "unsafe", claims: false })

/** A session whose model asked for a payment (a) and for the client's weather (b). */
const called = (): Story =>
  new Story(sessionId)
    .started(agent([pay, weather]))
    .requested()
    .responded([toolUse("a", "pay", { cents: 5 }), toolUse("b", "weather")])

/** The same, with both held. */
function holding(): Story {
  const story = called()
  for (const [toolUseId, reason] of [
    ["a", "approval"],
    ["b", "client"],
  ] as const) {
    const { eventId, causedBy } = story.draft((s) => s.refused(toolUseId))
    const { tool: name, input } = story.call(toolUseId)
    const held = { eventId, sessionId, causedBy, toolUseId, tool: name, attempt: 0, reason, argumentsHash: sha256Hex(input) }
    story.tell(fact("tool-call.held", held))
    assert.equal(story.verdict, "accepted")
  }
  return story.idled("requires_action")
}

/** The fact, in the log of its session. */
function taken(story: Story, event: SessionDraft): Story {
  story.tell({ ...story.draft((s) => s.rejected()), ...event, command: { partition: 1, offset: story.records.length } } as never)
  assert.equal(story.verdict, "accepted", event.type)
  return story
}

describe("an approval.give", () => {
  const approve = (fields: object = {}): object => ({
    type: "approval.give",
    commandId: "approve-1",
    sessionId,
    toolUseId: "a",
    decision: "allow",
    ...fields,
  })

  it("becomes an approval of what is held, with what was decided on, and the fold takes it", () => {
    for (const begin of [called, holding]) {
      const story = begin()
      const event = answered(heard(approve(), {}, story))
      assert.partialDeepStrictEqual(event, {
        type: "approval.given",
        commandId: "approve-1",
        command: { partition: home, offset: 7 },
        toolUseId: "a",
        decision: "allow",
        message: null,
        argumentsHash: sha256Hex('{"cents":5}'),
        causedBy: holdOf(story.known, story.call("a")),
      })
      assert.equal(taken(story, event).call("a").approval !== undefined, true)
    }
    const story = holding()
    taken(story, answered(heard(approve({ decision: "deny", message: "Too much." }), {}, story)))
    const { state } = story.call("a")
    assert.ok(state.is === "done")
    assert.deepEqual([state.content, state.isError], ['"Too much."', true])
  })

  it("may come as Avro", () => {
    const value = codec.encode("commands", {
      type: "approval.give",
      commandId: "c",
      sessionId,
      toolUseId: "a",
      decision: "deny",
      message: "No.",
    })
    const event = answered(hear(record({ value }), () => viewOf(holding()), { codec, partitions }))
    assert.partialDeepStrictEqual(event, { type: "approval.given", commandId: "c", decision: "deny", message: "No." })
  })

  it("is refused for what does not wait for it, and for other arguments than are held", () => {
    const code = (fields: object, story: Story): string => rejected(heard(approve(fields), {}, story)).code
    assert.equal(code({}, new Story(sessionId)), "session_unknown")
    assert.equal(code({}, running()), "call_unknown")
    assert.equal(code({ toolUseId: "b" }, holding()), "call_not_held")
    assert.equal(code({}, holding().parked()), "session_parked")
    assert.equal(code({}, holding().ended()), "session_ended")
    assert.equal(code({ argumentsHash: sha256Hex('{"cents":500}') }, holding()), "approval_mismatch")
    assert.equal(answered(heard(approve({ argumentsHash: sha256Hex('{"cents":5}') }), {}, holding())).type, "approval.given")
    const story = holding()
    taken(story, answered(heard(approve(), {}, story)))
    assert.deepEqual(heard(approve(), { offset: 99 }, story), { judged: "known" })
    assert.equal(code({ commandId: "approve-2", decision: "deny" }, story), "call_not_held")
  })

  it("that is none is rejected with the place", () => {
    for (const [fields, place] of [
      [{ decision: "maybe" }, "/decision"],
      [{ decision: undefined }, "/decision"],
      [{ toolUseId: undefined }, "/toolUseId"],
      [{ toolUseId: "" }, "/toolUseId"],
      [{ message: "x".repeat(20_001) }, "/message"],
      [{ message: 7 }, "/message"],
    ] as const) {
      const { code, message } = rejected(heard(approve(fields), {}, holding()))
      assert.deepEqual([code, message.startsWith(`${place}: `)], ["invalid_command", true], message)
    }
  })
})

describe("a result.give", () => {
  const give = (fields: object = {}): object => ({
    type: "result.give",
    commandId: "result-1",
    sessionId,
    toolUseId: "b",
    content: "sunny",
    ...fields,
  })

  it("becomes the result of a call that is the client's: text, blocks, nothing, or an error", () => {
    for (const begin of [called, holding]) {
      for (const [fields, content, isError] of [
        [{}, '[{"text":"sunny","type":"text"}]', false],
        [{ content: [textBlock("sunny")], isError: false }, '[{"text":"sunny","type":"text"}]', false],
        [{ content: undefined }, "[]", false],
        [{ content: null, isError: true }, "[]", true],
      ] as const) {
        const story = begin()
        const event = answered(heard(give(fields), {}, story))
        const causedBy = holdOf(story.known, story.call("b"))
        assert.partialDeepStrictEqual(event, { type: "result.received", commandId: "result-1", toolUseId: "b", content, isError, causedBy })
        assert.deepEqual(taken(story, event).call("b").state, { is: "done", content, isError })
      }
    }
  })

  it("may come as Avro, where its content is text", () => {
    const value = codec.encode("commands", {
      type: "result.give",
      commandId: "c",
      sessionId,
      toolUseId: "b",
      content: '[{"type":"text","text":"sunny"}]',
    })
    const event = answered(hear(record({ value }), () => viewOf(holding()), { codec, partitions }))
    assert.partialDeepStrictEqual(event, { type: "result.received", content: '[{"text":"sunny","type":"text"}]', isError: false })
    const broken = codec.encode("commands", { type: "result.give", commandId: "c", sessionId, toolUseId: "b", content: "[" })
    assert.match(rejected(hear(record({ value: broken }), () => viewOf(holding()), { codec, partitions })).message, /^\/content: not JSON/)
  })

  it("is refused for what is not the client's, and heard where it comes twice", () => {
    assert.equal(rejected(heard(give({ toolUseId: "a" }), {}, holding())).code, "call_not_held")
    assert.equal(rejected(heard(give({ toolUseId: "z" }), {}, holding())).code, "call_unknown")
    assert.equal(rejected(heard(give(), {}, running())).code, "call_unknown")
    const story = holding()
    taken(story, answered(heard(give(), {}, story)))
    const { state } = story.call("b")
    taken(story, answered(heard(give({ commandId: "result-2", content: "rain" }), {}, story)))
    assert.equal(story.call("b").state, state)
  })

  it("that is none is rejected with the place", () => {
    for (const content of ["", [], [{}], 5]) assert.match(rejected(heard(give({ content }), {}, holding())).message, /^\/content/)
    assert.match(rejected(heard(give({ isError: "yes" }), {}, holding())).message, /^\/isError: /)
    assert.equal(rejected(heard(give({ content: "x".repeat(600_000) }), {}, holding())).code, "content_too_large")
  })
})

describe("a session.update", () => {
  const update = (fields: object = {}): object => ({
    type: "session.update",
    commandId: "update-1",
    sessionId,
    changes: { title: "Order 17" },
    ...fields,
  })
  const idle = (): Story =>
    running()
      .requested()
      .responded([textBlock("Done.")])
      .idled()

  it("becomes what changed, and the tools as resolved where they are to be others", () => {
    assert.partialDeepStrictEqual(answered(heard(update(), {}, running())), {
      type: "session.updated",
      commandId: "update-1",
      changes: '{"title":"Order 17"}',
      tools: null,
    })
    const story = idle()
    const event = answered(
      heard(
        update({
          changes: undefined,
          agent: {
            tools: [{ name: "add", backend: "function", permission: "always_ask" }],
            toolsets: [{ backend: "shell", server: "files" }],
          },
        }),
        {},
        story,
      ),
    )
    assert.ok(event.type === "session.updated")
    assert.equal(event.changes, "{}")
    taken(story, event)
    assert.deepEqual(
      story.known.agent.tools.map(({ name, permission, server }) => [name, permission, server]),
      [
        ["add", "always_ask", null],
        ["read", null, "files"],
        ["write", null, "files"],
        ["run", null, "files"],
      ],
    )
    taken(story, answered(heard(update({ commandId: "update-2", agent: {} }), {}, story)))
    assert.deepEqual(story.known.agent.tools, [])
  })

  it("may come as Avro, where its JSON is text", () => {
    const value = codec.encode("commands", {
      type: "session.update",
      commandId: "c",
      sessionId,
      changes: '{ "title": null }',
      agent: '{"tools":[]}',
    })
    const event = answered(hear(record({ value }), () => viewOf(idle()), { codec, partitions }))
    assert.partialDeepStrictEqual(event, { type: "session.updated", changes: '{"title":null}', tools: "[]" })
    assert.match(
      rejected(
        hear(
          record({ value: codec.encode("commands", { type: "session.update", commandId: "c", sessionId, agent: "{" }) }),
          () => viewOf(idle()),
          { codec, partitions },
        ),
      ).message,
      /^agent: /,
    )
  })

  it("changes no tools while a turn runs, and nothing where it is wrong", () => {
    assert.equal(rejected(heard(update({ agent: { tools: [] } }), {}, running())).code, "session_not_idle")
    assert.equal(rejected(heard(update({ agent: { tools: [] } }), {}, holding())).code, "session_not_idle")
    assert.equal(rejected(heard(update())).code, "session_unknown")
    for (const changes of ["x", [], 7])
      assert.match(rejected(heard(update({ changes }), {}, running())).message, /^\/changes: must be a JSON object/)
    assert.match(rejected(heard(update({ changes: { a: nested(5000) } }), {}, running())).message, /^\/changes: nests deeper/)
    const fault = (given: unknown): string => {
      const { code, message } = rejected(heard(update({ agent: given }), {}, idle()))
      assert.equal(code, "invalid_agent", message)
      return message
    }
    assert.match(fault({ tools: [{ name: "sing", backend: "choir" }] }), /^agent\/tools\/0: no worker/)
    assert.match(fault({ model: "another" }), /Unrecognized key: "model"/)
    assert.match(fault([]), /^agent/)
  })

  it("has to fit into a record", () => {
    const description = "語".repeat(19_000)
    const many = Array.from({ length: 6 }, (_, n) => ({
      name: `ask_${n}`,
      backend: "client",
      description,
      inputSchema: { type: "object" },
    }))
    assert.equal(rejected(heard(update({ agent: { tools: many } }), {}, idle())).code, "agent_too_large")
    assert.equal(rejected(heard(update({ changes: { title: "x".repeat(300_000) } }), {}, idle())).code, "invalid_command")
  })

  it("is taken of a session that has ended, and of none that is deleted", () => {
    assert.equal(answered(heard(update(), {}, running().ended())).type, "session.updated")
    const story = idle()
    taken(story, { type: "session.deleted" } as SessionDraft)
    assert.equal(rejected(heard(update(), {}, story)).code, "session_deleted")
  })
})

describe("a session.archive and a session.delete", () => {
  it("close a session that does not run, and the fold takes it", () => {
    for (const [type, fact, phase] of [
      ["session.archive", "session.archived", "ended"],
      ["session.delete", "session.deleted", "deleted"],
    ] as const) {
      for (const begin of [
        holding,
        () => holding().parked(),
        () => holding().ended(),
        () => new Story(sessionId).started(agent(), { input: null }),
      ]) {
        const story = begin()
        const event = answered(heard({ type, sessionId, commandId: "close-1" }, {}, story))
        assert.partialDeepStrictEqual(event, { type: fact, commandId: "close-1", command: { partition: home, offset: 7 } })
        assert.equal(taken(story, event).session.phase, phase)
        assert.deepEqual(heard({ type, sessionId, commandId: "close-1" }, { offset: 99 }, story), { judged: "known" })
      }
      const value = codec.encode("commands", { type, commandId: "c", sessionId })
      assert.equal(answered(hear(record({ value }), () => viewOf(holding()), { codec, partitions })).type, fact)
      assert.equal(rejected(heard({ type, sessionId }, {}, running())).code, "session_running")
      assert.equal(rejected(heard({ type, sessionId }, {}, called())).code, "session_running")
      assert.equal(rejected(heard({ type, sessionId })).code, "session_unknown")
    }
    const story = holding()
    const unused = (unchangedSince: number): ReturnType<typeof heard> =>
      heard({ type: "session.delete", sessionId, unchangedSince }, {}, story)
    assert.equal(answered(unused(story.now)).type, "session.deleted")
    assert.equal(rejected(unused(story.now - 1)).code, "session_changed")
  })

  it("leave nothing to be said to a session that is deleted, in its tenant's name", () => {
    const story = new Story(sessionId).started(agent(), { input: null, tenant: "acme" })
    taken(story, { type: "session.deleted", tenant: "acme" } as unknown as SessionDraft)
    for (const type of ["message.send", "session.interrupt", "session.end", "session.resume", "session.archive", "session.delete"]) {
      const hearing = heard({ ...send(), type }, {}, story)
      assert.partialDeepStrictEqual(hearing, { tenant: "acme" })
      assert.equal(rejected(hearing).code, "session_deleted", type)
    }
    assert.equal(rejected(heard({ ...start(), commandId: "again" }, {}, story)).code, "session_exists")
  })

  it("a message waits for no answer that is due", () => {
    assert.equal(rejected(heard(send(), {}, holding())).code, "action_required")
    assert.equal(answered(heard(send(), {}, called())).type, "message.received")
    assert.equal(answered(heard({ ...send(), type: "session.interrupt" }, {}, holding())).type, "interrupt.received")
  })
})

describe("a message.send", () => {
  it("becomes a message: text, or blocks as they were given", () => {
    const event = answered(heard(send(), {}, running()))
    assert.partialDeepStrictEqual(event, { type: "message.received", commandId: "send-1", content: '[{"text":"Hello.","type":"text"}]' })
    const blocks = answered(heard(send({ content: [{ type: "of a later version", b: 1.5, a: [null] }] }), {}, running()))
    assert.partialDeepStrictEqual(blocks, { content: '[{"a":[null],"b":1.5,"type":"of a later version"}]' })
  })

  it("without content, or with content that is none, is rejected with the place", () => {
    for (const content of [undefined, null, "", [], [{}], 5, { type: "text" }]) {
      const { code, message } = rejected(heard(send({ content }), {}, running()))
      assert.equal(code, "invalid_command", JSON.stringify(content))
      assert.match(message, /^\/content/)
    }
  })

  it("that nests without end is rejected, as JSON and as Avro", () => {
    assert.match(
      rejected(heard(send({ content: [{ type: "text", x: nested(20_000) }] }), {}, running())).message,
      /^\/content: nests deeper/,
    )
    const deep = `[{"type":"text","x":${"[".repeat(20_000)}${"]".repeat(20_000)}}]`
    const value = codec.encode("commands", { type: "message.send", commandId: "send-1", sessionId, content: deep })
    const hearing = hear(record({ value }), () => viewOf(running(), {}), { codec, partitions })
    assert.match(rejected(hearing).message, /^\/content: nests deeper/)
    const broken = codec.encode("commands", { type: "message.send", commandId: "send-1", sessionId, content: "[" })
    assert.match(
      rejected(hear(record({ value: broken }), () => viewOf(running(), {}), { codec, partitions })).message,
      /^\/content: not JSON/,
    )
  })
})

describe("a command to a session", () => {
  it("that nobody started, or that has ended, is rejected", () => {
    for (const type of ["message.send", "session.interrupt", "session.end", "session.resume"]) {
      assert.equal(rejected(heard({ ...send(), type })).code, "session_unknown", type)
      assert.equal(rejected(heard({ ...send(), type }, {}, running().ended())).code, "session_ended", type)
    }
  })

  it("becomes its fact", () => {
    for (const [type, fact] of [
      ["session.interrupt", "interrupt.received"],
      ["session.end", "session.ended"],
    ] as const)
      assert.equal(answered(heard({ type, sessionId }, {}, running())).type, fact)
    assert.equal(rejected(heard({ type: "session.resume", sessionId }, {}, running())).code, "session_not_parked")
    assert.equal(answered(heard({ type: "session.resume", sessionId }, {}, running().parked())).type, "session.resumed")
  })

  it("is heard once: a repeated commandId says nothing, whatever it asks for now", () => {
    const story = running().message("Hello.", { commandId: "send-1" })
    assert.deepEqual(heard(send(), { offset: 99 }, story), { judged: "known" })
    assert.deepEqual(heard({ ...send(), type: "session.end" }, { offset: 99 }, story), { judged: "known" })
    const refused = new Story(sessionId).rejected({ commandId: "send-1" })
    assert.deepEqual(heard(send(), { offset: 99 }, refused), { judged: "known" })
    assert.deepEqual(heard(start(), {}, new Story(sessionId).started(agent(), { commandId: "start-1" })), { judged: "known" })
  })

  it("carries its sender's trace, where it is one", () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert.partialDeepStrictEqual(heard(send(), { headers: { traceparent } }, running()), { traceparent, tenant: "default" })
    assert.partialDeepStrictEqual(heard(send(), { headers: { traceparent: "nonsense" } }, running()), { traceparent: null })
  })
})

describe("a command that stands on another partition", () => {
  it("is sent on unchanged, and judged at home as if it had come there", () => {
    const elsewhere = (home + 1) % partitions
    const hearing = heard(send({ commandId: undefined }), { partition: elsewhere, headers: { mine: "kept" } }, running())
    assert.deepEqual(hearing, {
      judged: "forward",
      partition: home,
      key: sessionId,
      headers: { mine: "kept", "reins-command-id": `cmd_reins.commands-${elsewhere}-7`, "reins-session-id": sessionId },
    })
    assert.ok(hearing.judged === "forward")
    const event = answered(heard(send({ commandId: undefined }), { ...hearing, offset: 1234 }, running()))
    assert.partialDeepStrictEqual(event, {
      type: "message.received",
      commandId: `cmd_reins.commands-${elsewhere}-7`,
      command: { partition: home, offset: 1234 },
    })
  })

  it("is sent on also where it is wrong, so that it is judged the same wherever it stood", () => {
    const elsewhere = (home + 1) % partitions
    const hearing = heard(send(), { partition: elsewhere, key: "sesn_other" }, running())
    assert.ok(hearing.judged === "forward")
    assert.equal(rejected(heard(send(), { ...hearing }, running())).code, "key_mismatch")
  })
})

describe("what is no command", () => {
  it("is rejected where its session is known: its sender finds it by commandId", () => {
    assert.match(
      rejected(heard({ type: "session.begin", commandId: "c", sessionId })).message,
      /There is no command "session.begin"\. There are: session\.start, /,
    )
    assert.equal(rejected(heard({ commandId: "c", sessionId })).code, "unknown_command")
    assert.equal(rejected(heard({ type: 5, sessionId })).code, "unknown_command")
    assert.equal(rejected(heard(send(), { key: "sesn_other" }, running())).code, "key_mismatch")
    assert.equal(rejected(heard(send({ commandId: "two words" }))).code, "invalid_command")
    assert.equal(rejected(heard(send({ commandId: "x".repeat(201) }))).code, "invalid_command")
    assert.equal(rejected(heard(send({ commandId: 5 }))).code, "invalid_command")
    assert.equal(rejected(heard(send({ sessionId: 5 }))).code, "invalid_command")
  })

  it("goes to the dead letters where nobody can be answered", () => {
    const reason = (hearing: Hearing): string => {
      assert.ok(hearing.judged === "bury", JSON.stringify(hearing))
      assert.match(hearing.message, /\.$|: /)
      return hearing.reason
    }
    assert.equal(reason(raw(null)), "null_value")
    assert.equal(reason(raw("{")), "undecodable")
    assert.equal(reason(raw(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]))), "undecodable")
    assert.equal(reason(raw("")), "bad_framing")
    assert.equal(reason(raw("[]")), "bad_framing")
    assert.equal(reason(raw("hello")), "bad_framing")
    assert.equal(reason(raw(Buffer.from([0, 0, 0, 1]))), "bad_framing")
    assert.equal(reason(raw(Buffer.from([0, 0x7f, 0xff, 0xff, 0xff, 1]))), "unknown_schema")
    assert.equal(reason(heard(send({ sessionId: undefined }), { key: null })), "no_session_id")
    assert.equal(reason(heard(send({ sessionId: "two words" }), { key: null })), "no_session_id")
    assert.equal(reason(heard(send({ sessionId: "größe" }), { key: null })), "no_session_id")
    const fact = codec.encode("sessions", { ...running().last })
    assert.equal(reason(raw(fact)), "wrong_topic")
    const cut = codec.encode("commands", { type: "session.end", commandId: "c", sessionId })
    assert.equal(reason(raw(cut.subarray(0, -1))), "undecodable")
  })

  it("never throws, whatever the bytes", () => {
    const good = [
      Buffer.from(JSON.stringify(start({}, { name: "add", backend: "function" }))),
      Buffer.from(codec.encode("commands", { type: "message.send", commandId: "c", sessionId, content: '"Hello."' })),
    ]
    // A small generator of its own, so that a failure is the same at every run.
    let seed = 17
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
      return seed % below
    }
    const judged = new Set<string>()
    for (let n = 0; n < 4000; n++) {
      const value = Buffer.from(good[n % 2] as Buffer)
      for (let change = random(4); change >= 0; change--) value[random(value.length)] = random(256)
      judged.add(raw(random(3) === 0 ? value.subarray(0, random(value.length)) : value).judged)
    }
    assert.ok(judged.has("bury") && judged.has("answer"))
    for (const text of [
      '{"__proto__":{"sessionId":"x"},"type":"session.end"}',
      '{"type":"session.start","agent":{"model":"m","params":{"__proto__":1}}}',
      '{"type":"constructor"}',
      '{"type":"__proto__"}',
      `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    ])
      assert.ok(["answer", "bury", "forward"].includes(raw(text).judged), text.slice(0, 50))
  })
})

describe("a command to a session of which something cannot be read", () => {
  it("is refused where it depends on what the session does, until it is parked", () => {
    const to = (fields: object, story: Story): string => {
      const value = text({ sessionId, ...fields })
      const event = answered(hear(record({ value }), () => viewOf(story, { unread: true }), { codec, partitions }))
      return event.type === "command.rejected" ? event.code : event.type
    }
    // What it looks like here is idle; it may run.
    for (const story of [() => new Story(sessionId).started(agent(), { input: null }), running]) {
      for (const type of ["session.archive", "session.delete", "session.update", "session.resume"])
        assert.equal(to({ type }, story()), "session_unread", type)
      assert.equal(to({ type: "result.give", toolUseId: "a" }, story()), "session_unread")
      assert.equal(to({ type: "message.send", content: "Hello" }, story()), "message.received")
      assert.equal(to({ type: "session.interrupt" }, story()), "interrupt.received")
      assert.equal(to({ type: "session.end" }, story()), "session.ended")
    }
    // Its start is among what cannot be read.
    for (const fields of [start(), { type: "message.send", content: "Hello" }])
      assert.equal(to(fields, new Story(sessionId)), "session_unread")
    assert.equal(to({ type: "session.delete" }, running().parked()), "session.deleted")
    assert.equal(to({ type: "session.resume" }, running().parked()), "session.resumed")
  })

  it("is not closed for good while it is being resumed: what it looks like then may be wrong", () => {
    const story = new Story(sessionId).started(agent(), { input: null }).parked()
    const settled = story.session
    story.resumed()
    for (const type of ["session.archive", "session.delete"]) {
      const value = text({ sessionId, type })
      const event = answered(hear(record({ value }), () => viewOf(story, { settled, unread: true }), { codec, partitions }))
      assert.equal(rejected({ judged: "answer", sessionId, tenant: "t", traceparent: null, event }).code, "session_unread")
    }
  })

  // Found by the simulation: the park was lost, the archival was not, and it closed a session that ran.
  it("is not closed for good on a park that is said and does not stand, which may be lost", () => {
    const story = running()
    const settled = story.session
    story.parked()
    for (const type of ["session.archive", "session.delete"])
      for (const [unread, code] of [
        [true, "session_unread"],
        [false, "session_running"],
      ] as const) {
        const value = text({ sessionId, type })
        const event = answered(hear(record({ value }), () => viewOf(story, { settled, unread }), { codec, partitions }))
        assert.equal(rejected({ judged: "answer", sessionId, tenant: "t", traceparent: null, event }).code, code)
      }
  })
})

function nested(depth: number): unknown {
  let value: unknown = 1
  for (let n = 0; n < depth; n++) value = [value]
  return value
}

/** JSON text of any depth: JSON.stringify has the stack for some thousand levels only. */
function text(value: unknown): string {
  if (Array.isArray(value)) {
    let open = 0
    let inner: unknown = value
    while (Array.isArray(inner) && inner.length === 1) {
      inner = inner[0]
      open++
    }
    return open > 100 ? `${"[".repeat(open)}${text(inner)}${"]".repeat(open)}` : `[${value.map(text).join(",")}]`
  }
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null"
  const fields = Object.entries(value).filter(([, item]) => item !== undefined)
  return `{${fields.map(([name, item]) => `${JSON.stringify(name)}:${text(item)}`).join(",")}}`
}
