import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import type { Log } from "@reins/log"
import { type ErrorBody, type Opened, type Stage, stage } from "./stage.ts"

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: BetaManagedAgentsAgent & ErrorBody
}

async function create(opened: Opened, headers: Readonly<Record<string, string>>, name = "A", path = "/v1/agents"): Promise<Answer> {
  const response = await fetch(`${opened.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ name, model: "m" }),
  })
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer["body"] }
}

async function count(opened: Opened): Promise<number> {
  return (await opened.client().beta.agents.list({ limit: 1000 })).data.length
}

/** How many saves stand in the log, whatever became of them. */
async function saves({ admin }: Stage): Promise<number> {
  return (await admin.bounds("t.agents"))[0]?.end ?? 0
}

/** The same log, whose answers take a while: requests that come meanwhile all wait for it. */
function farAway(log: Log): Log {
  return new Proxy(log, {
    get: (target, name: keyof Log) => {
      if (name === "bounds")
        return async (topic: string) => {
          await new Promise((resolve) => setTimeout(resolve, 300))
          return await target.bounds(topic)
        }
      const value = target[name]
      return typeof value === "function" ? value.bind(target) : value
    },
  })
}

const retry = { "x-stainless-retry-count": "1" }

describe("an Idempotency-Key", () => {
  it("B10: makes one effect of all requests that carry it, through whichever gateway they come", async (t) => {
    const world = await stage(t)
    const [one, two] = [await world.open(), await world.open()]
    const first = await create(one, { "idempotency-key": "k" })
    assert.equal(first.status, 200)
    await one.client().beta.agents.update(first.body.id, { name: "B" })
    // The answer is that of the first time, also after the agent has changed.
    for (const gateway of [one, two, await world.open()])
      assert.deepEqual((await create(gateway, { "idempotency-key": "k" })).body, first.body)
    assert.equal(await count(one), 1)
    assert.notEqual((await create(one, { "idempotency-key": "l" })).body.id, first.body.id)
  })

  it("B11: is refused with another body, and is another one on another path", async (t) => {
    const world = await stage(t)
    const [one, two] = [await world.open(), await world.open()]
    const first = await create(one, { "idempotency-key": "k" })
    for (const gateway of [one, two]) {
      const other = await create(gateway, { "idempotency-key": "k" }, "B")
      assert.equal(other.status, 422)
      assert.match(other.body.error.message, /used with another body/)
    }
    const updated = await create(two, { "idempotency-key": "k" }, "B", `/v1/agents/${first.body.id}`)
    assert.equal(updated.body.version, 2)
    assert.equal(await count(two), 1)
  })

  it("B12: is 409 with a time to try again while the first request is under way", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    opened.log.pause()
    const first = create(opened, { "idempotency-key": "k" })
    let second: Answer
    // Whichever of the two comes first is under way until the log goes on.
    do {
      const asked = create(opened, { "idempotency-key": "k" })
      second = await Promise.race([asked, first])
    } while (second.status !== 409)
    assert.equal(second.headers.get("retry-after"), "1")
    assert.equal(second.headers.get("x-should-retry"), null)
    opened.log.resume()
    assert.equal((await first).status, 200)
    assert.deepEqual((await create(opened, { "idempotency-key": "k" })).body, (await first).body)
    assert.equal(await count(opened), 1)
  })

  it("has 1 to 255 characters", async (t) => {
    const opened = await (await stage(t)).open()
    assert.equal((await create(opened, { "idempotency-key": "x".repeat(256) })).status, 400)
    assert.equal(await count(opened), 0)
  })
})

describe("a retry of the SDK", () => {
  it("is the request that it repeats, through whichever gateway; a deliberate repetition is not", async (t) => {
    const world = await stage(t)
    const [one, two] = [await world.open(), await world.open()]
    const first = await create(one, {})
    for (const gateway of [one, two, await world.open()]) assert.deepEqual((await create(gateway, retry)).body, first.body)
    assert.equal(await count(one), 1)
    const again = await create(two, {})
    assert.notEqual(again.body.id, first.body.id)
    // The newest of the two is the one whose answer can have been lost.
    assert.equal((await create(one, retry)).body.id, again.body.id)
    assert.equal(await count(one), 2)
  })

  it("is one of the same body, path and credential alone", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    await create(opened, { "x-api-key": "a" })
    await create(opened, { "x-api-key": "a", ...retry }, "B")
    await create(opened, { "x-api-key": "b", ...retry })
    assert.equal(await count(opened), 3)
  })

  it("joins the first try while that is under way", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    opened.log.pause()
    const first = create(opened, {})
    // Until the first try has reached the gateway, a retry would be the first to come.
    await new Promise((resolve) => setTimeout(resolve, 50))
    const second = create(opened, retry)
    await new Promise((resolve) => setTimeout(resolve, 50))
    opened.log.resume()
    assert.deepEqual((await second).body, (await first).body)
    assert.equal(await saves(world), 1)
  })

  it("is one of several that look for the first try at once, and find none", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ log: farAway(world.broker.connect()) })
    // All of them wait for the question that follows this one's.
    const before = fetch(`${opened.url}/v1/agents`)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const answers = await Promise.all(Array.from({ length: 8 }, () => create(opened, retry)))
    assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1)
    assert.equal((await before).status, 200)
    assert.equal(await saves(world), 1)
  })

  for (const fate of ["landed", "lost", "late"] as const) {
    it(`makes one agent of a save whose acknowledgement was lost and which was ${fate}`, async (t) => {
      const world = await stage(t)
      const opened = await world.open({ limits: { answerTimeoutMs: 300 } })
      opened.log.loseNextAck(fate)
      const first = await create(opened, {})
      // What landed is read, so that the answer is there although the acknowledgement is not.
      assert.equal(first.status, fate === "landed" ? 200 : 503)
      const second = await create(opened, retry)
      assert.equal(second.status, 200)
      opened.log.landLate()
      assert.equal(await count(opened), 1)
      assert.equal((await opened.client().beta.agents.list()).data[0]?.id, second.body.id)
    })
  }

  it("of a deletion that was done is done", async (t) => {
    const world = await stage(t)
    const [one, two] = [await world.open(), await world.open()]
    const { id } = await one.client().beta.environments.create({ name: "prod" })
    const remove = (gateway: Opened, headers: Readonly<Record<string, string>>): Promise<Response> =>
      fetch(`${gateway.url}/v1/environments/${id}`, { method: "DELETE", headers })
    assert.equal((await remove(one, {})).status, 200)
    assert.deepEqual(await (await remove(two, retry)).json(), { id, type: "environment_deleted" })
    assert.equal((await remove(two, {})).status, 404)
  })

  it("of an update that was done is the version that it made", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    const { id } = (await create(opened, {})).body
    const second = await create(opened, {}, "B", `/v1/agents/${id}`)
    await create(opened, {}, "C", `/v1/agents/${id}`)
    assert.deepEqual((await create(opened, retry, "B", `/v1/agents/${id}`)).body, second.body)
    assert.equal((await opened.client().beta.agents.retrieve(id)).version, 3)
  })
})
