import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { argumentsFault } from "../src/index.ts"

const schema = (properties: object, more: object = {}): string => JSON.stringify({ type: "object", properties, ...more })

describe("the arguments of a call", () => {
  it("that fit have no fault", () => {
    assert.equal(argumentsFault(schema({ n: { type: "integer" } }), '{"n":5}'), null)
    assert.equal(argumentsFault("{}", '{"anything":[1,null]}'), null)
    assert.equal(argumentsFault("true", "7"), null)
  })

  it("are never coerced", () => {
    assert.equal(argumentsFault(schema({ n: { type: "integer" } }), '{"n":"5"}'), "/n must be integer")
    assert.equal(argumentsFault(schema({ b: { type: "boolean" } }), '{"b":"true"}'), "/b must be boolean")
    assert.equal(argumentsFault(schema({ s: { type: "string" } }), '{"s":5}'), "/s must be string")
    assert.equal(argumentsFault(schema({ a: { type: "array" } }), '{"a":1}'), "/a must be array")
    // A default is for who runs the tool; validating fills nothing in.
    assert.equal(argumentsFault(schema({ n: { default: 1 } }, { required: ["n"] }), "{}"), "/ must have required property 'n'")
  })

  it("may say an integer as 1.0, which it is in 2020-12", () => {
    assert.equal(argumentsFault(schema({ n: { type: "integer" } }), '{"n":1.0}'), null)
    assert.equal(argumentsFault(schema({ n: { type: "integer" } }), '{"n":1.5}'), "/n must be integer")
  })

  it("that do not fit are pointed at, with what would fit", () => {
    const nested = schema({ order: { type: "object", properties: { id: { enum: ["a", "b"] } }, additionalProperties: false } })
    assert.equal(argumentsFault(nested, '{"order":{"id":"c"}}'), '/order/id must be equal to one of the allowed values: ["a","b"]')
    assert.equal(argumentsFault(nested, '{"order":{"ide":"a"}}'), "/order must NOT have additional properties: ide")
  })

  it("are held to the words of 2020-12", () => {
    const closed = JSON.stringify({ type: "object", allOf: [{ properties: { a: {} } }], unevaluatedProperties: false })
    assert.equal(argumentsFault(closed, '{"a":1}'), null)
    assert.match(argumentsFault(closed, '{"b":1}') ?? "", /unevaluated/)
    const tuple = schema({ pair: { prefixItems: [{ type: "string" }, { type: "number" }], items: false } })
    assert.equal(argumentsFault(tuple, '{"pair":["a",1]}'), null)
    assert.match(argumentsFault(tuple, '{"pair":["a",1,2]}') ?? "", /^\/pair must NOT have more than 2 items/)
  })

  it("with a format are not judged by it: it is a note in 2020-12", () => {
    assert.equal(argumentsFault(schema({ at: { type: "string", format: "date" } }), '{"at":"soon"}'), null)
  })

  // The time limit itself is the runtime's to keep; that there is one is seen from the answer, since without it there would be none.
  it("are checked within a budget, against a pattern that backtracks", () => {
    const catastrophic = schema({ s: { type: "string", pattern: "^(a+)+$" } })
    assert.match(argumentsFault(catastrophic, JSON.stringify({ s: `${"a".repeat(60)}!` })) ?? "", /could not be checked within/)
    assert.equal(argumentsFault(catastrophic, '{"s":"aaa"}'), null)
    assert.match(argumentsFault(catastrophic, '{"s":"b"}') ?? "", /must match pattern/)
    const names = JSON.stringify({ type: "object", patternProperties: { "^(a+)+$": {} } })
    assert.match(argumentsFault(names, JSON.stringify({ [`${"a".repeat(60)}!`]: 1 })) ?? "", /could not be checked within/)
  })

  it("are checked within a budget, against references that fan out", () => {
    const steps = 60
    const $defs: Record<string, unknown> = { [`d${steps}`]: { type: "object" } }
    for (let n = 0; n < steps; n++) $defs[`d${n}`] = { allOf: [{ $ref: `#/$defs/d${n + 1}` }, { $ref: `#/$defs/d${n + 1}` }] }
    const fanning = JSON.stringify({ type: "object", $defs, allOf: [{ $ref: "#/$defs/d0" }] })
    assert.match(argumentsFault(fanning, "{}") ?? "", /could not be checked within/)
  })

  it("have a fault, and no exception, where the schema itself cannot be used", () => {
    for (const broken of [
      '{"type":"nonsense"}',
      "{",
      '{"$ref":"https://example.com/schema.json"}',
      '{"$ref":"#/$defs/missing"}',
      '{"pattern":"("}',
      '{"$async":true,"type":"object","required":["n"]}',
    ])
      assert.match(argumentsFault(broken, "{}") ?? "", /^the tool's schema cannot be used/, broken)
  })
})
