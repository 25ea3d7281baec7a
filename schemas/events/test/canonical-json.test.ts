import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import { canonicalJson } from "../src/index.ts"

describe("canonical JSON (RFC 8785)", () => {
  it("is the example of the RFC, section 3.2.2", () => {
    const value = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    )
    assert.equal(
      canonicalJson(value),
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    )
  })

  it("sorts keys by UTF-16 code units, section 3.2.3", () => {
    const value = { "€": 1, "\r": 2, \ufb33: 3, "1": 4, "😀": 5, "\u0080": 6, ö: 7 }
    assert.deepEqual(Object.values(JSON.parse(canonicalJson(value)) as object).length, 7)
    assert.equal(canonicalJson(value), '{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"😀":5,"\ufb33":3}')
  })

  it("means the same as what it was made from, and is the same however that was ordered", () => {
    const shuffled = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(shuffled)
      if (typeof value !== "object" || value === null) return value
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, item]) => [key, shuffled(item)]),
      )
    }
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = canonicalJson(value)
        assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)))
        assert.equal(canonicalJson(shuffled(value)), text)
        assert.equal(canonicalJson(JSON.parse(text)), text)
      }),
      { numRuns: 200 },
    )
  })

  it("leaves out what is undefined and refuses what JSON cannot say", () => {
    assert.equal(canonicalJson({ a: undefined, b: [undefined] }), '{"b":[null]}')
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1n, () => 1, Symbol("x"), undefined])
      assert.throws(() => canonicalJson(value), TypeError)
  })
})
