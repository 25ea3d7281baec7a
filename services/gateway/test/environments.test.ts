import assert from "node:assert/strict"
import { describe, it, type TestContext } from "node:test"
import Anthropic from "@anthropic-ai/sdk"
import type { Agent, SessionEventOf } from "@reins/events"
import { refused, type Stage, stage } from "./stage.ts"

async function open(t: TestContext): Promise<Anthropic> {
  return (await (await stage(t)).open()).client()
}

const noPackages = { type: "packages", apt: [], cargo: [], gem: [], go: [], npm: [], pip: [] }

/** A session of this environment, as intake would say that it started. */
async function startSession(world: Stage, environmentId: string): Promise<void> {
  const agent: Agent = {
    name: "A",
    model: "m",
    system: null,
    maxTokens: 100,
    tools: [],
    params: "{}",
    limits: { turns: 1, toolCalls: 1, outputTokens: 1, wallClockMs: 1 },
  }
  const started: SessionEventOf<"session.started"> = {
    type: "session.started",
    eventId: "evt_1",
    sessionId: "sesn_1",
    tenant: "default",
    at: 0,
    by: "intake@test",
    causedBy: null,
    traceparent: null,
    commandId: "command-1",
    command: { partition: 0, offset: 0 },
    agent,
    input: null,
    title: null,
    metadata: null,
    environmentId,
    profile: null,
  }
  await world.say(started)
}

describe("environments", () => {
  it("are made with every default written out", async (t) => {
    const client = await open(t)
    const made = await client.beta.environments.create({ name: "prod" })
    const { id, created_at: created, ...rest } = made
    assert.match(id, /^env_[1-9A-HJ-NP-Za-km-z]{24}$/)
    assert.deepEqual(rest, {
      type: "environment",
      name: "prod",
      description: null,
      config: { type: "cloud", networking: { type: "unrestricted" }, packages: noPackages },
      metadata: {},
      scope: "organization",
      updated_at: created,
      archived_at: null,
    })
    assert.deepEqual(await client.beta.environments.retrieve(id), made)
    const own = await client.beta.environments.create({
      name: "own",
      config: { type: "self_hosted" },
      description: "",
      metadata: { a: "1" },
    })
    assert.deepEqual(own.config, { type: "self_hosted" })
    assert.equal(own.description, "")
  })

  it("keep what an update leaves out; their type stays", async (t) => {
    const client = await open(t)
    const { id } = await client.beta.environments.create({
      name: "prod",
      description: "Before.",
      metadata: { a: "1", b: "2", c: "3" },
      config: {
        type: "cloud",
        networking: { type: "limited", allowed_hosts: ["example.com"], allow_package_managers: true },
        packages: { pip: ["requests"] },
      },
    })
    const changed = await client.beta.environments.update(id, {
      description: null,
      metadata: { a: null, b: "", d: "4" },
      config: { type: "cloud", networking: { type: "limited", allow_mcp_servers: true }, packages: { npm: ["zod"] } },
    })
    assert.equal(changed.description, null)
    assert.deepEqual(changed.metadata, { c: "3", d: "4" })
    assert.deepEqual(changed.config, {
      type: "cloud",
      networking: { type: "limited", allowed_hosts: ["example.com"], allow_mcp_servers: true, allow_package_managers: true },
      packages: { ...noPackages, pip: ["requests"], npm: ["zod"] },
    })
    assert.deepEqual(await client.beta.environments.update(id, { name: "prod" }), changed)
    await assert.rejects(
      async () => await client.beta.environments.update(id, { config: { type: "self_hosted" } }),
      (error) => {
        assert.ok(error instanceof Anthropic.BadRequestError)
        assert.deepEqual((error.error as { error: { details: unknown } }).error.details, { error_code: "invalid_config_type_change" })
        return true
      },
    )
    assert.deepEqual(await client.beta.environments.retrieve(id), changed)
  })

  it("have names of their own while they are in use", async (t) => {
    const world = await stage(t)
    const clients = [(await world.open()).client(), (await world.open()).client()]
    const made = await Promise.allSettled(clients.map((client) => client.beta.environments.create({ name: "prod" })))
    assert.deepEqual(made.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"])
    for (const one of made) if (one.status === "rejected") assert.equal((one.reason as { status?: number }).status, 409)
    const client = clients[0] as Anthropic
    const [first] = (await client.beta.environments.list()).data
    const other = await client.beta.environments.create({ name: "other" })
    await refused(client.beta.environments.update(other.id, { name: "prod" }), 409, /of the name prod already/)
    await client.beta.environments.archive(first?.id ?? "")
    assert.equal((await client.beta.environments.update(other.id, { name: "prod" })).name, "prod")
  })

  it("are archived once and for all", async (t) => {
    const client = await open(t)
    const { id } = await client.beta.environments.create({ name: "prod" })
    const archived = await client.beta.environments.archive(id)
    assert.ok(archived.archived_at !== null)
    assert.deepEqual(await client.beta.environments.archive(id), archived)
    await refused(client.beta.environments.update(id, { name: "b" }), 400, /archived/)
    assert.deepEqual((await client.beta.environments.list()).data, [])
    assert.deepEqual((await client.beta.environments.list({ include_archived: true })).data, [archived])
  })

  it("are deleted, unless a session refers to them", async (t) => {
    const world = await stage(t)
    const client = (await world.open()).client()
    const { id } = await client.beta.environments.create({ name: "prod" })
    const used = await client.beta.environments.create({ name: "used" })
    await startSession(world, used.id)
    assert.deepEqual(await client.beta.environments.delete(id), { id, type: "environment_deleted" })
    await refused(client.beta.environments.retrieve(id), 404, /environment not found/)
    await refused(client.beta.environments.delete(id), 404, /environment not found/)
    await refused(client.beta.environments.delete(used.id), 409, /Sessions of this environment exist/)
    assert.deepEqual(
      (await client.beta.environments.list({ include_archived: true })).data.map((one) => one.id),
      [used.id],
    )
    // Its name is free again.
    await client.beta.environments.create({ name: "prod" })
  })

  it("are listed page by page", async (t) => {
    const client = await open(t)
    for (let n = 0; n < 5; n++) await client.beta.environments.create({ name: `e${n}` })
    const pages: number[] = []
    const names = new Set<string>()
    for await (const page of (await client.beta.environments.list({ limit: 2 })).iterPages()) {
      pages.push(page.data.length)
      for (const { name } of page.data) names.add(name)
    }
    assert.deepEqual(pages, [2, 2, 1])
    assert.equal(names.size, 5)
  })

  const wrong: readonly (readonly [string, Record<string, unknown>, RegExp])[] = [
    ["no name", { name: undefined }, /name: /],
    ["an unknown field", { region: "eu" }, /Unrecognized key: "region"/],
    ["an unknown config", { config: { type: "lambda" } }, /config\/type/],
    ["a field of another config", { config: { type: "self_hosted", packages: {} } }, /config: Unrecognized key: "packages"/],
    ["a scope of one person", { scope: "account" }, /scope: must be organization/],
    ["too much metadata", { metadata: { a: "x".repeat(513) } }, /metadata\/a: /],
    [
      "packages that nobody may fetch",
      { config: { type: "cloud", networking: { type: "limited" }, packages: { apt: ["jq"] } } },
      /config\/packages: .*allow_package_managers/,
    ],
  ]
  it("are refused where they make no sense, and leave nothing behind", async (t) => {
    const client = await open(t)
    for (const [what, fields, says] of wrong) {
      await t.test(what, async () => {
        await refused(client.beta.environments.create({ name: "prod", ...fields }), 400, says)
        assert.deepEqual((await client.beta.environments.list()).data, [])
      })
    }
  })
})
