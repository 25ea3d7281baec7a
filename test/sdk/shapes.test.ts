import assert from "node:assert/strict"
import { readdirSync } from "node:fs"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import fc from "fast-check"
import { eventSamples, samples } from "./samples.ts"
import {
  check,
  declaredIn,
  expectExactShape,
  expectShape,
  isObject,
  type ObjectShape,
  type Shape,
  ShapeError,
  shapeOf,
  sourceOf,
} from "./shapes.ts"

/** What tier 1 answers with, and what it streams: section 7.1 of the wire spec. */
const tier1Events = [
  ["user.message", "user.interrupt", "user.tool_confirmation", "user.custom_tool_result"],
  ["agent.message", "agent.thinking", "agent.tool_use", "agent.tool_result", "agent.mcp_tool_use", "agent.mcp_tool_result"],
  ["agent.custom_tool_use", "agent.thread_context_compacted"],
  ["session.status_running", "session.status_idle", "session.status_rescheduled", "session.status_terminated"],
  ["session.error", "session.updated", "session.deleted", "session.usage"],
  ["session.thread_status_running", "session.thread_status_idle", "session.thread_status_rescheduled", "session.thread_status_terminated"],
  ["span.model_request_start", "span.model_request_end", "event_start", "event_delta"],
].flat()

const types = [...new Set(samples.map(({ type }) => type))]

/** A place in a value that the type says something about. */
interface Place {
  readonly pointer: string
  readonly holder: Record<string, unknown> | unknown[]
  readonly key: string | number
  readonly shape: Shape
  readonly required: boolean
}

function settled(shape: Shape, value: unknown): Shape {
  const fitting = flat(shape).find((member) => fits(member, value))
  assert.ok(fitting !== undefined, `nothing fits ${JSON.stringify(value)}`)
  return fitting
}

function flat(shape: Shape): readonly Shape[] {
  if (shape.kind === "later") return flat(shape.get())
  return shape.kind === "union" ? shape.members.flatMap(flat) : [shape]
}

/** Whether a value is of this kind, looking one level deep: enough to choose a member, and no use of the code under test. */
function fits(shape: Shape, value: unknown): boolean {
  switch (shape.kind) {
    case "anything":
      return true
    case "primitive":
      return shape.type === "null" ? value === null : typeof value === shape.type
    case "literal":
      return value === shape.value
    case "array":
      return Array.isArray(value)
    case "record":
      return isObject(value)
    case "object":
      return (
        isObject(value) &&
        [...shape.keys].every(([key, { required, shape: inner }]) => {
          const here = value[key]
          if (here === undefined) return !required
          const literals = flat(inner).filter((one) => one.kind === "literal")
          return literals.length < flat(inner).length || literals.some((one) => one.value === here)
        })
      )
    case "later":
    case "union":
      return flat(shape).some((member) => fits(member, value))
    default:
      throw new Error(`There is no shape ${String(shape satisfies never)}.`)
  }
}

/** Every place below a value, found by walking value and shape side by side. */
function placesOf(shape: Shape, value: unknown, pointer = ""): readonly Place[] {
  const here = settled(shape, value)
  if (here.kind === "array" && Array.isArray(value))
    return value.flatMap((item, i) => [
      { pointer: `${pointer}/${i}`, holder: value, key: i, shape: here.item, required: false },
      ...placesOf(here.item, item, `${pointer}/${i}`),
    ])
  if (here.kind === "record" && isObject(value))
    return Object.entries(value).map(([key]) => ({ pointer: `${pointer}/${key}`, holder: value, key, shape: here.value, required: false }))
  if (here.kind !== "object" || !isObject(value)) return []
  return [...here.keys].flatMap(([key, { required, shape: inner }]) => {
    if (value[key] === undefined) return []
    return [
      { pointer: `${pointer}/${key}`, holder: value, key, shape: inner, required },
      ...placesOf(inner, value[key], `${pointer}/${key}`),
    ]
  })
}

function problemsAt(type: string, value: unknown): readonly string[] {
  return check(type, value).problems.map(({ pointer }) => pointer)
}

/** A wrong one: an object where a primitive is wanted, a number where anything else is. */
function wrongFor(shape: Shape): unknown {
  const kinds = new Set(flat(shape).map((one) => (one.kind === "primitive" ? one.type : one.kind)))
  if (kinds.has("anything")) return undefined
  if (!kinds.has("number")) return 17.5
  return kinds.has("string") ? ["wrong"] : "wrong"
}

describe("the samples of tier 1", () => {
  it("are there for every event type and every kind of response", () => {
    assert.deepEqual([...new Set(eventSamples.map(({ type }) => type))].sort(), [...tier1Events].sort())
    assert.equal(types.length, 13)
  })

  for (const [i, { type, value }] of samples.entries()) {
    const what = isObject(value) && type.includes("Event") ? `${type} ${JSON.stringify(value["type"])}` : type
    it(`${i}: ${what} fits, and no longer when any key is missing, wrong or new`, () => {
      expectExactShape(type, value)
      const places = placesOf(shapeOf(type), value)
      let removed = 0
      for (const { pointer, required, shape } of places) {
        const copy = structuredClone(value)
        const place = placesOf(shapeOf(type), copy).find((one) => one.pointer === pointer)
        assert.ok(place !== undefined)
        const { holder, key } = place
        const before = (holder as Record<string | number, unknown>)[key]
        if (!Array.isArray(holder) && required) {
          delete holder[key]
          removed += 1
          const found = problemsAt(type, copy)
          assert.ok(found.includes(pointer), `${pointer} was removed, and the problems are at ${JSON.stringify(found)}`)
          assert.throws(
            () => expectShape(type, copy),
            (error) => error instanceof ShapeError && error.message.includes(pointer),
          )
        }
        const wrong = wrongFor(shape)
        if (wrong !== undefined) {
          ;(holder as Record<string | number, unknown>)[key] = wrong
          const found = problemsAt(type, copy)
          assert.ok(
            found.some((problem) => problem === pointer || problem.startsWith(`${pointer}/`)),
            `${pointer} was ${JSON.stringify(wrong)}, and the problems are at ${JSON.stringify(found)}`,
          )
        }
        ;(holder as Record<string | number, unknown>)[key] = before
        expectExactShape(type, copy)
      }
      if (type !== "BetaManagedAgentsSendSessionEvents") assert.ok(removed > 0, "nothing was removed, so nothing was proved")
      const stranger = { ...(value as object), stranger: 1 }
      assert.deepEqual(check(type, stranger), { problems: [], unknownKeys: ["/stranger"] })
      assert.throws(() => expectExactShape(type, stranger), /\/stranger/)
    })
  }
})

/** Any value of a shape, optional keys there or not. */
function arbitraryOf(shape: Shape): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case "later":
      return arbitraryOf(shape.get())
    case "anything":
      return fc.jsonValue({ maxDepth: 1 })
    case "primitive":
      switch (shape.type) {
        case "string":
          return fc.string()
        case "number":
          return fc.double({ noNaN: true, noDefaultInfinity: true })
        case "boolean":
          return fc.boolean()
        case "null":
          return fc.constant(null)
        default:
          throw new Error(`There is no primitive ${String(shape.type satisfies never)}.`)
      }
    case "literal":
      return fc.constant(shape.value)
    case "array":
      return fc.array(arbitraryOf(shape.item), { maxLength: 2 })
    case "record":
      return fc.dictionary(fc.string(), arbitraryOf(shape.value), { maxKeys: 2 })
    case "object":
      return arbitraryObject(shape)
    case "union":
      return fc.oneof(...shape.members.map(arbitraryOf))
    default:
      throw new Error(`There is no shape ${String(shape satisfies never)}.`)
  }
}

function arbitraryObject(shape: ObjectShape): fc.Arbitrary<unknown> {
  const keys = [...shape.keys]
  return fc.record(Object.fromEntries(keys.map(([key, { shape: inner }]) => [key, arbitraryOf(inner)])), {
    requiredKeys: keys.filter(([, { required }]) => required).map(([key]) => key),
  })
}

describe("a validator", () => {
  for (const type of types) {
    it(`takes whatever ${type} may be, and refuses it without one of its required keys`, () => {
      fc.assert(
        fc.property(arbitraryOf(shapeOf(type)), fc.nat(), (value, chosen) => {
          assert.deepEqual(check(type, value), { problems: [], unknownKeys: [] })
          const keys = placesOf(shapeOf(type), value).filter(({ required, holder }) => required && !Array.isArray(holder))
          const place = keys[chosen % Math.max(1, keys.length)]
          if (place === undefined || Array.isArray(place.holder)) return
          delete place.holder[place.key]
          assert.ok(problemsAt(type, value).length > 0, `${place.pointer} is not missed`)
        }),
        { numRuns: 60 },
      )
    })
  }

  it("names the member of a union by its type, and says what types there are", () => {
    const idle = { id: "sevt_1", type: "session.status_idle", stop_reason: { type: "tired" }, stop_details: null, processed_at: "now" }
    const { problems } = check("BetaManagedAgentsSessionEvent", idle)
    assert.equal(problems.length, 1)
    assert.equal(problems[0]?.pointer, "/stop_reason/type")
    assert.match(problems[0]?.what ?? "", /"tired".*"end_turn"/)
  })

  it("lets the arguments of a tool and the keys of a schema be anything, and metadata be strings only", () => {
    const use = { id: "sevt_1", type: "agent.custom_tool_use", name: "t", input: { any: [{ thing: null }] }, processed_at: "now" }
    expectExactShape("BetaManagedAgentsSessionEvent", use)
    const schema = { type: "object", additionalProperties: false, $defs: {} }
    expectExactShape("BetaManagedAgentsCustomTool", { type: "custom", name: "t", description: "d", input_schema: schema })
    const environment = samples.find(({ type }) => type === "BetaEnvironment")?.value as object
    assert.deepEqual(problemsAt("BetaEnvironment", { ...environment, metadata: { n: 1 } }), ["/metadata/n"])
  })

  it("takes any model's name, though the type lists some", () => {
    expectExactShape("BetaManagedAgentsModelConfig", { id: "local/llama" })
    assert.deepEqual(problemsAt("BetaManagedAgentsModelConfig", { id: 7 }), ["/id"])
  })

  it("says where a value that is no object stands", () => {
    for (const value of [null, undefined, 7, "text", []]) assert.deepEqual(problemsAt("BetaManagedAgentsSession", value), [""])
  })

  it("throws for a name that the SDK does not export, and for a type that it does not understand", () => {
    assert.throws(() => check("BetaManagedAgentsNothing", {}), /no type BetaManagedAgentsNothing/)
    assert.throws(() => check("keyof BetaEnvironment", {}), /not understood/)
  })
})

// The declarations are written by a generator, one property a line, so a reader that knows nothing of syntax trees can check the one that does.
describe("the compiled shapes, against the text of the declarations", () => {
  const interfaces = new Map<
    string,
    { readonly path: string; readonly required: readonly string[]; readonly optional: readonly string[] }
  >()
  const sdk = fileURLToPath(new URL(".", import.meta.resolve("@anthropic-ai/sdk")))
  const folders = ["agents", "environments", "sessions"]
  const paths = folders.flatMap((folder) =>
    readdirSync(`${sdk}resources/beta/${folder}`)
      // The work queue is of a later tier, and not all of its types are exported.
      .filter((name) => /^(agents|environments|sessions|events|versions|resources)\.d\.ts$/.test(name))
      .map((name) => `resources/beta/${folder}/${name}`),
  )
  for (const path of paths) {
    for (const [, name = "", body = ""] of sourceOf(path).matchAll(/^export interface (\w+) \{\n([\s\S]*?)^\}/gm)) {
      const properties = [...body.matchAll(/^ {4}(?:(\w+)|'([^']+)')(\?)?: /gm)]
      const named = (optional: boolean): string[] =>
        properties.filter(([, , , mark]) => (mark === "?") === optional).map(([, plain, quoted]) => plain ?? quoted ?? "")
      interfaces.set(name, { path, required: named(false), optional: named(true) })
    }
  }

  it(`know the required and the optional keys of every interface of agents, environments and sessions`, () => {
    assert.ok(interfaces.size > 200, `only ${interfaces.size} interfaces were found`)
    for (const [name, { path, required, optional }] of interfaces) {
      if (declaredIn(name) !== path) continue
      const shape = shapeOf(name)
      const object = shape.kind === "later" ? shape.get() : shape
      assert.equal(object.kind, "object", name)
      if (object.kind !== "object") continue
      const keys = (wanted: boolean): string[] => [...object.keys].filter(([, key]) => key.required === wanted).map(([key]) => key)
      assert.deepEqual(keys(true).sort(), [...required].sort(), name)
      assert.deepEqual(keys(false).sort(), [...optional].sort(), name)
    }
  })
})
