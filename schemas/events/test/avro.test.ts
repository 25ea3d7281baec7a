import assert from "node:assert/strict"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import avsc from "avsc"
import fc from "fast-check"
import { avroOf, type Definition, definitions } from "../src/index.ts"
import { asRead, recordOf } from "./arbitrary-record.ts"

const folder = new URL("../avro/", import.meta.url)

function typeOf(definition: Definition): avsc.Type {
  return avsc.Type.forSchema(avroOf(definition) as avsc.Schema)
}

/** Through Avro and back, checked by zod. */
function roundTrip(definition: Definition, record: object): unknown {
  const type = typeOf(definition)
  return { ...definition.schema.parse(type.fromBuffer(type.toBuffer(record))), type: definition.type }
}

/** What keeps readers of one form from reading what was written in the other, or null. */
function incompatibility(one: avsc.Type, other: avsc.Type): string | null {
  try {
    one.createResolver(other)
    other.createResolver(one)
    return null
  } catch (error) {
    return (error as Error).message
  }
}

describe("the Avro print of an event", () => {
  for (const definition of definitions) {
    it(`${definition.recordName} carries its example, and anything else that fits, through Avro and back unchanged`, () => {
      assert.deepEqual(roundTrip(definition, definition.example), asRead(definition, definition.example))
      fc.assert(
        fc.property(recordOf(definition), (record) => assert.deepEqual(roundTrip(definition, record), asRead(definition, record))),
        { numRuns: 15 },
      )
    })
  }

  it("gives every nullable field a default, so that later versions may add and drop it", () => {
    const missing: string[] = []
    const look = (schema: unknown, path: string): void => {
      if (Array.isArray(schema)) for (const branch of schema) look(branch, path)
      if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return
      const { type, fields, items } = schema as {
        type: unknown
        fields?: { name: string; type: unknown; default?: unknown }[]
        items?: unknown
      }
      if (type === "array") look(items, `${path}[]`)
      for (const field of fields ?? []) {
        if (Array.isArray(field.type) && field.default !== null) missing.push(`${path}.${field.name}`)
        look(field.type, `${path}.${field.name}`)
      }
    }
    for (const definition of definitions) look(avroOf(definition), definition.recordName)
    assert.deepEqual(missing, [])
  })

  it("uses Avro's own types: times, counts and choices are not strings", () => {
    const started = JSON.stringify(avroOf(definitions.find(({ type }) => type === "session.started") as Definition))
    assert.ok(started.includes('{"type":"long","logicalType":"timestamp-millis"}'))
    assert.ok(started.includes('"symbols":["pure","idempotent","keyed","queryable","unsafe"]'))
    assert.ok(started.includes('{"type":"string","content":"json"}'))
  })

  it("is committed as it is now, beside the earlier forms that it reads and that read it (FULL_TRANSITIVE)", () => {
    const earlier = new URL("earlier/", folder)
    const forms = [
      ...readdirSync(folder).map((name) => new URL(name, folder)),
      ...(existsSync(earlier) ? readdirSync(earlier).map((name) => new URL(name, earlier)) : []),
    ].filter(({ pathname }) => pathname.endsWith(".avsc"))
    assert.ok(forms.length >= definitions.length)
    for (const form of forms) {
      const schema = JSON.parse(readFileSync(form, "utf8")) as { namespace: string; name: string }
      const definition = definitions.find(({ recordName }) => recordName === `${schema.namespace}.${schema.name}`)
      assert.ok(definition !== undefined, `${fileURLToPath(form)}: no event has this name any more; the log may still hold it`)
      assert.equal(incompatibility(typeOf(definition), avsc.Type.forSchema(schema as unknown as avsc.Schema)), null, fileURLToPath(form))
    }
  })

  it("would be told apart from a form that breaks readers: the check can fail", () => {
    const definition = definitions.find(({ type }) => type === "message.received") as Definition
    const form = avroOf(definition) as { fields: { name: string; type: unknown; default?: unknown }[] }
    const changed = (fields: unknown): avsc.Type => avsc.Type.forSchema({ ...form, fields } as unknown as avsc.Schema)
    const now = typeOf(definition)
    assert.equal(incompatibility(now, changed([...form.fields, { name: "mood", type: ["null", "string"], default: null }])), null)
    assert.notEqual(incompatibility(now, changed([...form.fields, { name: "mood", type: "string" }])), null, "a field without a default")
    assert.notEqual(incompatibility(now, changed(form.fields.filter(({ name }) => name !== "content"))), null, "a field that others need")
    const retyped = form.fields.map((field) => (field.name === "content" ? { ...field, type: "long" } : field))
    assert.notEqual(incompatibility(now, changed(retyped)), null, "another type")
  })
})
