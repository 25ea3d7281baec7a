import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { avroOf, type Definition, definitions, type ToolEvent } from "@reins/events"
import avsc from "avsc"
import fc from "fast-check"
import type { LogRecord, SchemaRegistry } from "../src/index.ts"
import { MemoryBroker } from "../src/memory.ts"
import { Codec, type Decoded, decodeRecord, encodeToolJson, isJson, type Said } from "../src/registry/codec.ts"

let registry: SchemaRegistry
let codec: Codec
before(async () => {
  registry = new MemoryBroker().registry
  codec = await Codec.open(registry)
})

function definitionOf(recordName: string): Definition {
  const definition = definitions.find((one) => one.recordName === recordName)
  assert.ok(definition !== undefined)
  return definition
}

function record(value: Uint8Array | string, fields: Partial<LogRecord> = {}): LogRecord {
  const bytes = typeof value === "string" ? Buffer.from(value) : value
  return {
    topic: "reins.tools.python",
    partition: 1,
    offset: 17,
    timestamp: 1_795_000_000_000,
    key: "sesn_my1/k1",
    value: bytes,
    headers: {},
    ...fields,
  }
}

function said(decoded: Decoded): Said {
  assert.ok(decoded.ok, JSON.stringify(decoded))
  // Plain: what avsc gives back are objects of classes of its own.
  return JSON.parse(JSON.stringify(decoded.said)) as Said
}

function unreadable(decoded: Decoded): string {
  assert.ok(!decoded.ok && "reason" in decoded, JSON.stringify(decoded))
  assert.ok(decoded.message.length > 0)
  return decoded.reason
}

/** Confluent's framing around a payload. */
function framed(id: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeInt32BE(id, 1)
  return Buffer.concat([head, payload])
}

describe("the codec", () => {
  it("writes Confluent's wire format: 0x00, the schema's id, and Avro as any other client reads it", async () => {
    for (const definition of definitions) {
      const value = Buffer.from(codec.encode(definition.family, definition.example))
      assert.equal(value[0], 0)
      const schema = JSON.parse((await registry.schema(value.readInt32BE(1))) ?? "null") as { namespace: string; name: string }
      assert.equal(`${schema.namespace}.${schema.name}`, definition.recordName)
      const { type, ...given } = definition.example as Record<string, unknown>
      // What an example leaves out is written as null.
      const fields = { ...Object.fromEntries(Object.keys(definition.schema.shape).map((name) => [name, null])), ...given }
      const read = avsc.Type.forSchema(schema as unknown as avsc.Schema).fromBuffer(value.subarray(5)) as object
      assert.deepEqual(JSON.parse(JSON.stringify(read)), fields)
      assert.deepEqual(said(codec.decode(value)), { ...fields, type })
    }
  })

  it("registers a few schemas at a time: a fleet that starts is no crowd before its registry", async () => {
    let asked = 0
    let most = 0
    const crowded: SchemaRegistry = {
      register: async (subject, schema) => {
        most = Math.max(most, ++asked)
        await new Promise((resolve) => setImmediate(resolve))
        asked--
        return registry.register(subject, schema)
      },
      schema: (id) => registry.schema(id),
    }
    const opened = await Codec.open(crowded)
    assert.ok(most > 1 && most <= 4, `${most} at a time`)
    for (const { family, example } of definitions) assert.ok(opened.encode(family, example).length > 5)
  })

  it("reads what stands anywhere in a buffer, and gives every record a value of its own", () => {
    const { example, family } = definitionOf("reins.sessions.MessageReceived")
    const value = codec.encode(family, example)
    const inside = Buffer.concat([Buffer.from("before"), value, Buffer.from("behind")]).subarray(6, 6 + value.length)
    assert.deepEqual(said(codec.decode(inside)), example)
    const other = codec.encode(family, { ...example, sessionId: "sesn_other" })
    assert.deepEqual(said(codec.decode(value)), example)
    assert.notEqual(value.buffer === other.buffer && value.byteOffset === other.byteOffset, true)
  })

  it("tells a programmer which field does not fit", () => {
    const { example, family } = definitionOf("reins.sessions.MessageReceived")
    assert.throws(() => codec.encode(family, { ...example, content: 5 }), /MessageReceived\/content: /)
    assert.throws(() => codec.encode(family, { type: "message.sent" }), /There is no message.sent among the sessions/)
    assert.throws(() => codec.encode("tools", example), TypeError)
  })
})

describe("a record of another version", () => {
  /** The form that a writer of another version registered. */
  async function written(
    recordName: string,
    change: (fields: { name: string; type: unknown; default?: unknown }[]) => unknown[],
    values: object,
  ) {
    const form = avroOf(definitionOf(recordName)) as { fields: { name: string; type: unknown }[] }
    const schema = { ...form, fields: change(form.fields) }
    const id = await registry.register(recordName, JSON.stringify(schema))
    const value = framed(
      id,
      avsc.Type.forSchema(schema as unknown as avsc.Schema).toBuffer({ ...definitionOf(recordName).example, ...values }),
    )
    assert.deepEqual(codec.decode(value), { ok: false, unknownSchema: id })
    await codec.learn(id)
    return codec.decode(value)
  }

  it("of an earlier one, without a field that is nullable now, reads as null there", async () => {
    const { example } = definitionOf("reins.sessions.ModelFailed")
    const decoded = await written("reins.sessions.ModelFailed", (fields) => fields.filter(({ name }) => name !== "requestId"), {})
    assert.deepEqual(said(decoded), { ...example, requestId: null })
  })

  it("of an earlier one, deep in an array, reads as null there", async () => {
    const { example } = definitionOf("reins.sessions.SessionStarted") as unknown as { example: { agent: { tools: object[] } } & Said }
    const older = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.filter((item) => (item as { name?: unknown })?.name !== "sideEffects").map(older)
      if (typeof value !== "object" || value === null) return value
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, older(item)]))
    }
    const decoded = await written("reins.sessions.SessionStarted", (fields) => older(fields) as unknown[], {})
    assert.deepEqual(said(decoded), {
      ...example,
      agent: { ...example.agent, tools: example.agent.tools.map((tool) => ({ ...tool, sideEffects: null })) },
    })
  })

  it("of a later one, with a field that we do not know, reads without it", async () => {
    const { example } = definitionOf("reins.sessions.MessageReceived")
    const later = { name: "mood", type: ["null", "string"], default: null }
    assert.deepEqual(said(await written("reins.sessions.MessageReceived", (fields) => [...fields, later], { mood: "kind" })), example)
  })

  it("that breaks ours cannot be read, and says so", async () => {
    const broken = await written("reins.sessions.SessionEnded", (fields) => fields.filter(({ name }) => name !== "commandId"), {})
    assert.equal(unreadable(broken), "undecodable")
  })

  it("of an event that we do not know is of an unknown type", async () => {
    const id = await registry.register(
      "reins.sessions.SessionTeleported",
      '{"type":"record","namespace":"reins.sessions","name":"SessionTeleported","fields":[]}',
    )
    await codec.learn(id)
    assert.equal(unreadable(codec.decode(framed(id, Buffer.alloc(0)))), "unknown_type")
    const number = await registry.register("a number", '"long"')
    await codec.learn(number)
    assert.equal(unreadable(codec.decode(framed(number, Buffer.from([2])))), "unknown_type")
  })

  it("whose schema nobody knows is of an unknown schema, once the registry was asked", async () => {
    const value = framed(99_999, Buffer.from([1]))
    assert.deepEqual(codec.decode(value), { ok: false, unknownSchema: 99_999 })
    await codec.learn(99_999)
    assert.equal(unreadable(codec.decode(value)), "unknown_schema")
  })

  it("whose schema is no schema cannot be read", async () => {
    const id = await registry.register("nonsense", '{"type":"nonsense"}')
    await codec.learn(id)
    assert.equal(unreadable(codec.decode(framed(id, Buffer.alloc(0)))), "undecodable")
  })

  it("is read by a codec that writes nothing and has met no schema", async () => {
    const { example, family } = definitionOf("reins.sessions.MessageReceived")
    const reader = Codec.reader(registry)
    const value = codec.encode(family, example)
    const first = reader.decode(value)
    assert.ok(!first.ok && "unknownSchema" in first)
    await reader.learn(first.unknownSchema)
    assert.deepEqual(said(reader.decode(value)), example)
  })
})

describe("a record on its topic", () => {
  it("needs a key, and belongs to the family of its topic", () => {
    const { example, family } = definitionOf("reins.sessions.MessageReceived")
    const value = codec.encode(family, example)
    assert.equal(unreadable(decodeRecord(codec, "sessions", record(value, { key: null }))), "null_key")
    assert.equal(unreadable(decodeRecord(codec, "tools", record(value))), "wrong_topic")
    assert.deepEqual(said(decodeRecord(codec, "sessions", record(value))), example)
  })

  it("is JSON only where a worker may write it", () => {
    const { example, family } = definitionOf("reins.sessions.MessageReceived")
    assert.ok(isJson(Buffer.from(JSON.stringify(example))))
    assert.equal(unreadable(decodeRecord(codec, family, record(JSON.stringify(example)))), "bad_framing")
  })
})

describe("a worker's JSON", () => {
  const finished = { type: "tool-call.finished", sessionId: "sesn_my1", toolUseId: "toolu_1", attempt: 1 }
  const read = (fields: object): Said => said(decodeRecord(codec, "tools", record(JSON.stringify({ ...finished, ...fields }))))

  it("may be as short as the result", () => {
    assert.deepEqual(read({ content: "17" }), {
      ...finished,
      eventId: "reins.tools.python/1/17",
      tenant: "default",
      at: 1_795_000_000_000,
      by: "worker",
      causedBy: null,
      traceparent: null,
      claim: null,
      outcome: "completed",
      content: '"17"',
      isError: false,
      kind: null,
      message: null,
      effect: "done",
      retryAfterMs: null,
    })
  })

  it("may hold any JSON as its result: text and blocks as they are, the rest as text of JSON", () => {
    assert.equal(read({ content: [{ type: "text", text: "17" }] })["content"], '[{"type":"text","text":"17"}]')
    assert.equal(read({ content: { total: 17 } })["content"], JSON.stringify('{"total":17}'))
    assert.equal(read({ content: 17 })["content"], '"17"')
    assert.equal(read({ content: "" })["content"], '""')
    assert.equal(read({ outcome: "failed", kind: "unavailable", retryAfterMs: 400, effect: "none" })["content"], null)
  })

  it("that does not fit is told which field", () => {
    for (const [fields, message] of [
      [{ toolUseId: 5 }, /^\/toolUseId: /],
      [{ attempt: -1 }, /^\/attempt: /],
      [{ attempt: 1.5 }, /^\/attempt: /],
      [{ outcome: "perhaps" }, /^\/outcome: /],
      [{ sessionId: "" }, /^\/sessionId: /],
      [{ retryAfterMs: Number.MAX_SAFE_INTEGER }, /^\/retryAfterMs: /],
    ] as const) {
      const decoded = decodeRecord(codec, "tools", record(JSON.stringify({ ...finished, ...fields })))
      assert.equal(unreadable(decoded), "invalid")
      assert.match(!decoded.ok && "message" in decoded ? decoded.message : "", message)
    }
    assert.equal(unreadable(decodeRecord(codec, "tools", record("{"))), "undecodable")
    assert.equal(unreadable(decodeRecord(codec, "tools", record('{"type":"tool-call.done"}'))), "unknown_type")
    assert.equal(unreadable(decodeRecord(codec, "tools", record('{"type":"message.received"}'))), "unknown_type")
    const deep = `{"type":"tool-call.finished","content":${"[".repeat(50_000)}${"]".repeat(50_000)}}`
    assert.equal(unreadable(decodeRecord(codec, "tools", record(deep))), "undecodable")
  })

  it("may declare a tool, on the safe side in what it leaves out", () => {
    const declaration = { type: "tool.declared", backend: "python", tool: "train", inputSchema: { type: "object", required: ["n"] } }
    const decoded = decodeRecord(
      codec,
      "declarations",
      record(JSON.stringify(declaration), { topic: "reins.tool-declarations", key: "python/train" }),
    )
    assert.partialDeepStrictEqual(said(decoded), {
      tool: "train",
      inputSchema: '{"required":["n"],"type":"object"}',
      effect: "unsafe",
      claims: false,
      encoding: "json",
    })
  })

  it("is what a dispatch is where its backend reads JSON: plain arguments, and the same fact when it is read back", () => {
    const { example } = definitionOf("reins.tools.ToolCallDispatched")
    for (const args of ['{"n":1}', '{"b":[1,null],"ü":"\\ud83d\\ude00"}', "{}"]) {
      const event = { ...example, arguments: args, settings: null } as unknown as ToolEvent
      const value = encodeToolJson(event)
      assert.ok(isJson(value))
      assert.deepEqual((JSON.parse(Buffer.from(value).toString()) as Said)["arguments"], JSON.parse(args))
      const back = said(decodeRecord(codec, "tools", record(value)))
      assert.deepEqual({ ...back, arguments: JSON.parse(back["arguments"] as string) }, { ...event, arguments: JSON.parse(args) })
    }
  })
})

describe("garbage", () => {
  const settled = (decoded: Decoded): boolean => decoded.ok || "unknownSchema" in decoded || decoded.message.length > 0

  it("never throws, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...definitions.map(({ family }) => family)), (bytes, family) => {
        assert.ok(settled(codec.decode(bytes)))
        assert.ok(settled(decodeRecord(codec, family, record(bytes))))
        assert.ok(settled(decodeRecord(codec, family, record(framed((bytes[0] ?? 0) % 40, bytes)))))
      }),
      { numRuns: 500 },
    )
  })

  it("never throws, however a good record was damaged", () => {
    const good = definitions.map(({ family, example }) => ({ family, value: codec.encode(family, example) }))
    fc.assert(
      fc.property(
        fc.constantFrom(...good),
        fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }),
        fc.option(fc.nat()),
        ({ family, value }, changes, cut) => {
          const bytes = Buffer.from(value)
          // The schema's id stays: what is damaged is what it describes.
          for (const [at, byte] of changes) bytes[5 + (at % Math.max(1, bytes.length - 5))] = byte
          assert.ok(settled(decodeRecord(codec, family, record(cut === null ? bytes : bytes.subarray(0, cut % bytes.length)))))
        },
      ),
      { numRuns: 2000 },
    )
  })

  it("that claims to be a list of billions is refused at once: in the first block of the list and in a later one", () => {
    const { example, family } = definitionOf("reins.sessions.SessionStarted") as unknown as {
      example: { agent: object } & Said
      family: "sessions"
    }
    const none = Buffer.from(codec.encode(family, { ...example, agent: { ...example.agent, tools: [] } }))
    const one = Buffer.from(codec.encode(family, example))
    // The list ends with a block of none; maxTokens, 1024, stands right before an empty one.
    const empty = none.indexOf(Buffer.from([0x80, 0x10, 0x00])) + 2
    const tail = none.subarray(empty + 1)
    const end = one.length - tail.length - 1
    assert.deepEqual([none[empty], one[end]], [0, 0])
    const billions = avsc.Type.forSchema("long").toBuffer(2 ** 31 - 1)
    for (const value of [
      // Cut off there: past the end of its bytes avsc reads zeros, and zeros are a tool.
      Buffer.concat([none.subarray(0, empty), billions]),
      Buffer.concat([one.subarray(0, end), billions]),
      Buffer.concat([none.subarray(0, empty), billions, tail]),
      Buffer.concat([none.subarray(0, empty), avsc.Type.forSchema("long").toBuffer(-(2 ** 31)), Buffer.from([0]), tail]),
    ])
      assert.equal(unreadable(codec.decode(value)), "undecodable")
  })
})
