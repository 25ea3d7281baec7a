import assert from "node:assert/strict"
import { request } from "node:http"
import { describe, it } from "node:test"
import { type ErrorBody, type Opened, refused, stage } from "./stage.ts"

async function ask(opened: Opened, headers: Record<string, string>): Promise<{ readonly status: number; readonly body: ErrorBody }> {
  const response = await fetch(`${opened.url}/v1/agents`, { headers })
  return { status: response.status, body: (await response.json()) as ErrorBody }
}

describe("API keys", () => {
  it("B1: let in who has one, in either header; nobody else, and nothing of a wrong one is repeated", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys" })
    const key = await world.key("acme", "one")
    assert.equal((await ask(opened, { authorization: `Bearer ${key}` })).status, 200)
    assert.equal((await ask(opened, { "x-api-key": key })).status, 200)
    for (const headers of [
      {},
      { "x-api-key": "" },
      { "x-api-key": `${key}x` },
      { "x-api-key": key.slice(0, -1) },
      { authorization: "Bearer rk_secret_but_wrong" },
      { authorization: `Basic ${Buffer.from(`${key}:`).toString("base64")}` },
      { authorization: "Bearer " },
      { authorization: key },
    ]) {
      const { status, body } = await ask(opened, headers)
      assert.equal(status, 401, JSON.stringify(headers))
      assert.equal(body.error.type, "authentication_error")
      assert.ok(!JSON.stringify(body).includes("rk_secret"))
    }
    // What is not there is not told to a stranger either.
    assert.equal((await fetch(`${opened.url}/v1/nothing`)).status, 401)
  })

  it("B2: two that differ are refused, the same twice is one", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys" })
    const key = await world.key("acme", "one")
    const other = await world.key("acme", "two")
    const both = await ask(opened, { authorization: `Bearer ${key}`, "x-api-key": other })
    assert.equal(both.status, 400)
    assert.match(both.body.error.message, /they differ/)
    assert.equal((await ask(opened, { authorization: `Bearer ${key}`, "x-api-key": key })).status, 200)
  })

  it("are known to every gateway the moment they stand, and to none once they are revoked", async (t) => {
    const world = await stage(t)
    const gateways = [await world.open({ access: "keys" }), await world.open({ access: "keys" })]
    const key = await world.key("acme", "one")
    for (const gateway of gateways) assert.equal((await ask(gateway, { "x-api-key": key })).status, 200)
    await world.revoke("acme", "one")
    for (const gateway of gateways) {
      for (let turn = 0; (await ask(gateway, { "x-api-key": key })).status === 200; turn++)
        assert.ok(turn < 1000, "a revoked key goes on working")
    }
    // Nor can it be made to work again.
    await world.key("acme", "one")
    assert.equal((await ask(gateways[0] as Opened, { "x-api-key": key })).status, 401)
  })

  it("make the tenant: what is another's is not there", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys" })
    const ours = opened.client({ apiKey: await world.key("acme", "one") })
    const same = opened.client({ apiKey: await world.key("acme", "two") })
    const theirs = opened.client({ apiKey: await world.key("other", "three") })
    const agent = await ours.beta.agents.create({ name: "A", model: "m" })
    const environment = await ours.beta.environments.create({ name: "prod" })
    assert.deepEqual(await same.beta.agents.retrieve(agent.id), agent)
    for (const call of [
      () => theirs.beta.agents.retrieve(agent.id),
      () => theirs.beta.agents.update(agent.id, { name: "B" }),
      () => theirs.beta.agents.archive(agent.id),
      () => theirs.beta.agents.versions.list(agent.id),
      () => theirs.beta.environments.retrieve(environment.id),
      () => theirs.beta.environments.update(environment.id, { name: "B" }),
      () => theirs.beta.environments.archive(environment.id),
      () => theirs.beta.environments.delete(environment.id),
    ])
      await refused(call(), 404, /not found/)
    assert.deepEqual((await theirs.beta.agents.list({ include_archived: true })).data, [])
    assert.deepEqual((await theirs.beta.environments.list()).data, [])
    // Names are each tenant's own.
    await theirs.beta.environments.create({ name: "prod" })
    assert.deepEqual(await ours.beta.agents.retrieve(agent.id), agent)
    assert.deepEqual(await ours.beta.environments.retrieve(environment.id), environment)
  })

  it("are not asked for by a gateway that is called by a name of this machine, and no other name gets in without", async (t) => {
    const world = await stage(t)
    const [open, keyed] = [await world.open(), await world.open({ access: "keys" })]
    const called = async (gateway: Opened, host: string, key = "any"): Promise<number | undefined> => {
      const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
      const sent = request(`${gateway.url}/v1/agents`, { headers: { host, "x-api-key": key } }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
      sent.once("error", reject)
      sent.end()
      return await promise
    }
    for (const host of ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"])
      assert.equal(await called(open, host), 200, host)
    for (const host of [
      "attacker.example",
      "attacker.example:80",
      "127.0.0.1.attacker.example",
      "localhost.attacker.example",
      "10.0.0.1",
      "[::2]",
    ])
      assert.equal(await called(open, host), 403, host)
    assert.equal(await called(keyed, "gateway.example", await world.key("acme", "one")), 200)
  })

  it("are not asked for where the gateway is open: whoever reaches it is the default tenant", async (t) => {
    const opened = await (await stage(t)).open()
    const headers: readonly Record<string, string>[] = [{}, { "x-api-key": "anything" }, { authorization: "Basic eDp5" }]
    for (const one of headers) assert.equal((await ask(opened, one)).status, 200)
  })
})
