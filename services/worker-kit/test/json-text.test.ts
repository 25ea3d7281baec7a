import assert from "node:assert/strict"
import { test } from "node:test"
import { jsonText } from "../src/json-text.ts"

const megabyte = 1024 * 1024

test("what fits is the text that JSON makes of it", () => {
  for (const value of [
    { a: [1, null, undefined, "x", { b: true }], c: undefined, d: new Date(0), e: new Map() },
    ["a", [], {}, "\ud800", 1.5e300, Number.NaN],
    Buffer.from("abc"),
    { bytes: Buffer.from("abc"), typed: new Uint8Array([1, 2]), view: new DataView(new ArrayBuffer(4)) },
    "text",
    42,
    null,
    true,
    undefined,
    () => 1,
    { toJSON: () => ({ small: 1 }), large: "x".repeat(megabyte) },
    Object.assign(Buffer.alloc(megabyte), { toJSON: () => "a megabyte" }),
  ])
    assert.equal(jsonText(value, 1000), JSON.stringify(value))
})

test("no value that fits is said to be too long", () => {
  for (const value of [
    "",
    "x",
    [],
    {},
    [[], {}, ""],
    [1, 2, 3],
    { a: 1 },
    Buffer.from([0, 0, 0]),
    [Buffer.from([0]), Buffer.from([0])],
    new Uint8Array(3),
    [null, undefined],
  ]) {
    const text = JSON.stringify(value)
    assert.equal(jsonText(value, text.length), text)
  }
})

test("what is far too long is told by its length, and never made", () => {
  const text = "x".repeat(400 * megabyte)
  const bytes = Buffer.alloc(100 * megabyte)
  const shared = "x".repeat(megabyte)
  for (const value of [
    text,
    [text, text],
    { deep: [{ text, again: text }] },
    bytes,
    { deep: [{ bytes }] },
    new Float64Array(100 * megabyte),
    Array.from({ length: 100_000 }, () => shared),
    Object.assign([], { length: 1e9 }),
  ]) {
    const before = process.memoryUsage().rss
    const said = jsonText(value, 1000)
    assert.ok(typeof said === "object" && said.atLeast > 1000)
    assert.ok(process.memoryUsage().rss - before < 200 * megabyte)
  }
})

test("what JSON cannot say is an error, as of JSON itself", () => {
  const circle: Record<string, unknown> = {}
  circle["circle"] = circle
  for (const value of [circle, { big: 1n }]) assert.throws(() => jsonText(value, 1000), TypeError)
})
