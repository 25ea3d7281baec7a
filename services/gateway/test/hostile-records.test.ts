import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEvent } from "@reins/events"
import { LogUnavailableError, partitionOf, type SchemaRegistry } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { sha256Hex } from "@reins/session"
import { agent, fact, Story, text, tool, toolUse } from "@reins/session/testing"
import { type Opened, stage } from "./stage.ts"

let offset = 0

function start(sessionId: string, more: object = {}): SessionEvent {
  const command = { partition: partitionOf(sessionId, 2), offset: offset++ }
  const ids = { sessionId, eventId: `evt_${sessionId}`, commandId: `cmd_${sessionId}`, command }
  return fact("session.started", { ...ids, agent: agent(), input: null, ...more })
}

async function post(opened: Opened, key: string, body: object): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(`${opened.url}/reins/v1/commands`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": key },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  })
  return { status: response.status, body: await response.json() }
}

describe("what anyone may have written into the log", () => {
  it("shows a session whose profile is no agent, and goes on", async (t) => {
    const world = await stage(t)
    const failures: Error[] = []
    const opened = await world.open({ failed: (error) => failures.push(error) })
    const profiles = ["{}", '{"id":{},"version":[]}', '{"id":"agent_1","version":1.5}', '{"id":"agent_1","version":null}']
    for (const [index, profile] of profiles.entries()) await world.say(start(`sesn_bad${index}`, { profile }))
    await world.say(start("sesn_good"))
    const listed: string[] = []
    for await (const session of opened.client().beta.sessions.list()) listed.push(session.id)
    assert.deepEqual(failures, [])
    assert.deepEqual(listed.sort(), ["sesn_bad0", "sesn_bad1", "sesn_bad2", "sesn_bad3", "sesn_good"])
  })

  it("answers a command with what became of it, and never with what another session made of the same id", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys", limits: { answerTimeoutMs: 500 } })
    const other = await world.key("other", "two")
    await world.say(start("sesn_acme", { tenant: "acme", commandId: "1" }))
    await world.say(start("sesn_other", { tenant: "other" }))
    // Nobody runs here who would hear it: whoever says that it was done speaks of something else.
    const answer = await post(opened, other, { type: "session.end", sessionId: "sesn_other", commandId: "1" })
    assert.equal(answer.status, 503, JSON.stringify(answer.body))
  })

  it("binds a confirmation to the arguments that it was given for", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ limits: { answerTimeoutMs: 300 } })
    const story = new Story().beside("sesn_asking")
    story
      .started(agent([tool("refund", { permission: "always_ask" })]), { input: JSON.stringify([text("Refund, please")]) })
      .requested()
      .responded([toolUse("toolu_1", "refund", { cents: 4200, id: "17" })])
    for (const { event } of story.records) await world.say(event)
    const { events } = opened.client().beta.sessions
    const [asks] = (await events.list("sesn_asking", { types: ["agent.tool_use"] })).data
    // Nobody runs here who would answer.
    await assert.rejects(async () => {
      await events.send("sesn_asking", { events: [{ type: "user.tool_confirmation", tool_use_id: asks?.id ?? "", result: "allow" }] })
    }, /503/)
    const published: unknown[] = []
    for await (const records of world.admin.replay("t.commands", partitionOf("sesn_asking", 2), 0))
      for (const { value } of records)
        published.push((JSON.parse(Buffer.from(value ?? []).toString()) as { argumentsHash?: unknown }).argumentsHash)
    assert.deepEqual(published, [sha256Hex('{"cents":4200,"id":"17"}')])
  })

  it("waits for the registry where it is away, and goes on", async (t) => {
    const world = await stage(t)
    const failures: Error[] = []
    let refusals = 0
    const registry = new Proxy<SchemaRegistry>(world.broker.registry, {
      get: (target, name: keyof SchemaRegistry) => {
        if (name === "schema" && refusals < 2)
          return async () => {
            refusals++
            throw new LogUnavailableError("The registry is away.")
          }
        const value = target[name]
        return typeof value === "function" ? value.bind(target) : value
      },
    })
    // It has met no schema, as one that is older than who writes.
    const opened = await world.open({ codec: Codec.reader(registry), failed: (error) => failures.push(error) })
    await world.say(start("sesn_late"))
    const listed = await opened.client().beta.sessions.list()
    assert.deepEqual([failures, refusals, listed.data.map(({ id }) => id)], [[], 2, ["sesn_late"]])
  })
})
