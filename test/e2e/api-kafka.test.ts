import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { after, before, describe, it } from "node:test"
import Anthropic from "@anthropic-ai/sdk"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { story } from "../sdk/story.ts"
import { ApiWorld, ordersFile } from "./api-world.ts"

// The same story on Kafka, every service a process of its own. Runs against REINS_TEST_KAFKA where a runner has started one.

const stepTimeoutMs = 180_000
/** By hand: a kill between all calls of every step, and not of a sample. */
const everyStep = process.env["REINS_TEST_EVERY_KILL"] === "1"
const skip = await skipWithoutKafka()
const steps = story(new Anthropic({ baseURL: "http://127.0.0.1:9", apiKey: "none" }))

describe("the API on Kafka", { skip }, () => {
  let world: ApiWorld
  before(async () => {
    const { env } = await sharedKafka()
    world = await ApiWorld.start(
      {
        intake: ["up", "intake"],
        "llm-invoker": ["up", "llm-invoker"],
        "tool-router": ["up", "tool-router"],
        orders: ["worker", ordersFile],
        gateway: ["up", "gateway"],
        "other-gateway": ["up", "gateway"],
      },
      { ...env, REINS_TOPIC_PREFIX: `api-${randomBytes(4).toString("hex")}`, REINS_PARTITIONS: "3", REINS_API_AUTH: "open" },
    )
  })
  after(() => world.stop())

  for (const [index, { name }] of steps.entries()) {
    it(name, { timeout: stepTimeoutMs }, () =>
      world.bench.telling(async () => story(world.client(), { effects: () => world.effects() })[index]?.run()),
    )
  }

  // R1: what was written through one is read through the other.
  describe("through two gateways by turns", () => {
    for (const [index, { name }] of steps.entries()) {
      it(name, { timeout: stepTimeoutMs }, () =>
        world.bench.telling(async () => story(world.alternatingClient(), { effects: () => world.effects() })[index]?.run()),
      )
    }
  })

  // I22: between any two calls one of these dies and comes back, in turn. A dead member's partitions wait for the group's session timeout.
  const dying = ["gateway", "llm-invoker", "tool-router"] as const
  const sample = [
    "what is asked about is held; one allow is one dispatch",
    "a custom tool is run by the client: asked for, waited for, answered, and not twice",
  ]
  for (const title of everyStep ? steps.flatMap(({ name, ofOneConnection }) => (ofOneConnection === true ? [] : [name])) : sample) {
    it(`${title}: the client sees the same, once each, while gateway, invoker and router are killed`, { timeout: 3 * stepTimeoutMs }, () =>
      world.bench.telling(async () => {
        let kills = 0
        let restarting = Promise.resolve()
        const between = async (call: string): Promise<void> => {
          if (!/\.(stream|list)$/.test(call)) {
            const victim = dying[kills++ % dying.length] as string
            restarting = restarting.then(() => world.killAndRestart(victim))
          }
          await restarting
        }
        const step = story(world.client({ maxRetries: 20 }), { effects: () => world.effects(), between, patienceMs: 120_000 }).find(
          ({ name }) => name === title,
        )
        assert.ok(step !== undefined, title)
        await step.run()
        assert.ok(kills >= (everyStep ? 1 : dying.length), `${kills} kills`)
      }),
    )
  }
})
