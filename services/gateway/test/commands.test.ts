import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { agent, fact } from "@reins/session/testing"
import { type ErrorBody, stage } from "./stage.ts"

// What is accepted is answered by intake, which does not run here: test/e2e/cli-connect.test.ts has that part.

describe("POST /reins/v1/commands", () => {
  it("is for sessions of the caller's tenant: another's is not there, and nothing is published", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys", limits: { answerTimeoutMs: 500 } })
    const [acme, other] = [await world.key("acme", "one"), await world.key("other", "two")]
    const started = fact("session.started", { sessionId: "sesn_acme", tenant: "acme", agent: agent(), input: null })
    await world.say(started)
    const published = async (): Promise<number> => (await world.admin.bounds("t.commands")).reduce((all, { end }) => all + end, 0)
    const post = async (key: string, body: object): Promise<{ readonly status: number; readonly body: ErrorBody }> => {
      const response = await fetch(`${opened.url}/reins/v1/commands`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": key },
        body: JSON.stringify(body),
      })
      return { status: response.status, body: (await response.json()) as ErrorBody }
    }
    const end = { type: "session.end", sessionId: "sesn_acme" }
    assert.equal((await post("rk_wrong", end)).status, 401)
    for (const command of [end, { ...end, tenant: "acme" }, { ...end, sessionId: "sesn_none" }])
      assert.equal((await post(other, command)).status, 404, JSON.stringify(command))
    for (const command of [
      { ...end, type: "session.ended" },
      { type: "session.end" },
      { ...end, sessionId: "with a space" },
      { ...end, commandId: 7 },
    ])
      assert.equal((await post(acme, command)).status, 400, JSON.stringify(command))
    // What intake would refuse would be said into the log of the other tenant's session; an id of the API's could pass for its request.
    assert.equal((await post(other, { type: "session.start", sessionId: "sesn_acme", agent: {} })).status, 409)
    assert.equal((await post(acme, { ...end, commandId: "api_0123_0" })).status, 400)
    assert.equal(await published(), 0)
    // Nobody is there to hear it, so nobody says that it was done.
    assert.equal((await post(acme, end)).status, 503)
    assert.equal(await published(), 1)
    // A new session is the caller's, whatever the command says.
    assert.equal((await post(other, { type: "session.start", sessionId: "sesn_new", agent: {}, tenant: "acme" })).status, 503)
    const tenants: unknown[] = []
    for (const { partition } of await world.admin.bounds("t.commands"))
      for await (const records of world.admin.replay("t.commands", partition, 0))
        for (const { value, headers } of records)
          if (headers["session"] === "sesn_new")
            tenants.push((JSON.parse(new TextDecoder().decode(value ?? undefined)) as { tenant: unknown }).tenant)
    assert.deepEqual(tenants, ["other"])
  })

  it("of the owner of a folder is only for who has its token", async (t) => {
    const opened = await (await stage(t)).open()
    for (const authorization of ["", "Bearer ", "Bearer x", `Bearer ${"0".repeat(64)}`]) {
      const headers = { "content-type": "application/json", authorization }
      const response = await fetch(`${opened.url}/reins/owner/commands`, { method: "POST", headers, body: "{}" })
      assert.equal(response.status, 401, authorization)
    }
  })
})
