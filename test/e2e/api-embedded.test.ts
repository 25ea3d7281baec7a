import assert from "node:assert/strict"
import process from "node:process"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import Anthropic from "@anthropic-ai/sdk"
import { loadOlderSdk } from "../sdk/older.ts"
import { story } from "../sdk/story.ts"
import type { Step } from "../sdk/teller.ts"
import { ApiWorld, ordersFile } from "./api-world.ts"
import { until } from "./harness.ts"
import { pythonWith } from "./python.ts"

// The whole story of tier 1, told to `reins dev` over a real socket by the SDKs as npm and PyPI have them.

const stepTimeoutMs = 180_000
/** By hand: a kill between all calls of every step, and not of a sample. */
const everyStep = process.env["REINS_TEST_EVERY_KILL"] === "1"

describe("the API, embedded", () => {
  let world: ApiWorld
  before(async () => {
    world = await ApiWorld.start({ gateway: ["dev", "--worker", ordersFile] })
  })
  after(() => world.stop())

  describe("by the SDK of today", () => {
    for (const [index, { name }] of names(undefined)) {
      it(name, { timeout: stepTimeoutMs }, () =>
        world.bench.telling(async () => story(world.client(), { effects: () => world.effects() })[index]?.run()),
      )
    }
  })

  const older = loadOlderSdk()
  describe("by an older SDK, which sends x-api-key and the version of 2023", { skip: older === null ? "not installed" : false }, () => {
    for (const [index, { name }] of names(older)) {
      it(name, { timeout: stepTimeoutMs }, () =>
        world.bench.telling(async () => {
          assert.ok(older !== null)
          const client = older.client({ apiKey: "any", baseURL: world.url })
          await story(client, { sdk: older.sdk, effects: () => world.effects() })[index]?.run()
        }),
      )
    }
  })

  it("goes on with the trace of its caller, in every record that follows", { timeout: stepTimeoutMs }, () =>
    world.bench.telling(async () => {
      const client = world.client()
      const agent = await client.beta.agents.create({ name: "traced", model: "claude-sonnet-5-5" })
      const environment = await client.beta.environments.create({ name: "traced" })
      const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
      const initial = [{ type: "user.message" as const, content: [{ type: "text" as const, text: "Hello." }] }]
      const params = { agent: agent.id, environment_id: environment.id, initial_events: initial }
      const session = await client.beta.sessions.create(params, { headers: { traceparent } })
      const records = await until(async () => {
        const all = await world.records(session.id)
        return all.some(({ type }) => type === "session.idled") ? all : null
      }, "the session rests")
      assert.ok(records.length > 3)
      for (const { type, value } of records) assert.equal(value["traceparent"], traceparent, type)
    }),
  )

  it("by the SDK for Python: agent, session, stream, custom tool, confirmation, list, archive, delete", {
    timeout: stepTimeoutMs,
  }, async (t) => {
    const python = pythonWith("anthropic==2.13.0", "anthropic")
    if ("missing" in python) {
      assert.notEqual(process.env["REINS_REQUIRE_KAFKA"], "1", python.missing)
      t.skip(`NOT TESTED, there is no Python with the anthropic package: ${python.missing}`)
      return
    }
    const script = fileURLToPath(new URL("../sdk/story.py", import.meta.url))
    const told = await world.bench.start("story.py", python.path, [script, world.url], {}).ended
    assert.equal(told.code, 0, `${told.stdout}\n${told.stderr}`)
  })
})

describe("the API, with keys and tenants", () => {
  let world: ApiWorld
  const keys = { ours: "", theirs: "" }
  before(async () => {
    world = await ApiWorld.start({ gateway: ["dev", "--worker", ordersFile] }, { REINS_API_AUTH: "keys" }, async (first) => {
      keys.ours = await first.keyOf("ours")
      keys.theirs = await first.keyOf("theirs")
    })
  })
  after(() => world.stop())

  const more = (nowhere: Anthropic): readonly { readonly name: string }[] => {
    const plain = new Set(story(nowhere).map(({ name }) => name))
    return story(nowhere, { unknownKey: nowhere, stranger: nowhere }).filter(({ name }) => !plain.has(name))
  }
  for (const { name } of more(new Anthropic({ baseURL: "http://127.0.0.1:9", apiKey: "none" }))) {
    it(name, { timeout: stepTimeoutMs }, () =>
      world.bench.telling(async () => {
        const unknownKey = world.client({ apiKey: "rk_nobody" })
        const stranger = world.client({ apiKey: keys.theirs })
        const steps = story(world.client({ apiKey: keys.ours }), { effects: () => world.effects(), unknownKey, stranger })
        const step = steps.find((one) => one.name === name)
        assert.ok(step !== undefined)
        await step.run()
      }),
    )
  }

  it("runs a whole session for who has a key", { timeout: stepTimeoutMs }, () =>
    world.bench.telling(async () => {
      const title = "what is asked about is held; one allow is one dispatch"
      const steps = story(world.client({ apiKey: keys.ours }), { effects: () => world.effects() })
      await steps.find(({ name }) => name === title)?.run()
    }),
  )
})

describe("the API, embedded, killed between calls", () => {
  let world: ApiWorld
  before(async () => {
    world = await ApiWorld.start({ gateway: ["dev", "--worker", ordersFile] })
  })
  after(() => world.stop())

  // I22: gateway, invoker, router and workers are one process here, so that all of them die at once.
  const sample = [
    "a turn is told on the stream in its order, and the resource agrees with its last word",
    "a custom tool is run by the client: asked for, waited for, answered, and not twice",
    "what is asked about is held; one allow is one dispatch",
    "both answers in one request are taken together",
    "an update says what changed and only that; the tools of an idle session can be exchanged",
  ]
  for (const title of everyStep
    ? names(undefined).flatMap(([, { name, ofOneConnection }]) => (ofOneConnection === true ? [] : [name]))
    : sample) {
    it(`${title}: the client sees the same, once each`, { timeout: 2 * stepTimeoutMs }, () =>
      world.bench.telling(async () => {
        let kills = 0
        let restarting = Promise.resolve()
        const between = async (call: string): Promise<void> => {
          // A stream that breaks off is opened again, and what it missed is listed: that is what follows a kill, not one more.
          if (!/\.(stream|list)$/.test(call)) {
            kills++
            restarting = restarting.then(() => world.killAndRestart("gateway"))
          }
          await restarting
        }
        const step = story(world.client({ maxRetries: 10 }), { effects: () => world.effects(), between }).find(({ name }) => name === title)
        assert.ok(step !== undefined, title)
        await step.run()
        assert.ok(kills > (everyStep ? 0 : 3), `${kills} kills`)
      }),
    )
  }
})

/** The names of the steps; a client that is never called is enough to know them. */
function names(older: ReturnType<typeof loadOlderSdk> | undefined): readonly (readonly [number, Step])[] {
  const nowhere = { baseURL: "http://127.0.0.1:9", apiKey: "none" }
  const client = older === null || older === undefined ? new Anthropic(nowhere) : older.client(nowhere)
  return [...story(client, older === null || older === undefined ? {} : { sdk: older.sdk }).entries()]
}
