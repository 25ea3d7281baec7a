import assert from "node:assert/strict"
import { Agent, request } from "node:http"
import { describe, it } from "node:test"
import { stage } from "./stage.ts"

describe("a gateway that stops", () => {
  it("lets a request that runs end, closes its connection, and takes no other", async (t) => {
    const opened = await (await stage(t)).open()
    const agent = new Agent({ keepAlive: true })
    t.after(() => agent.destroy())
    opened.log.pause()
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    const body = '{"name":"A","model":"m"}'
    const sent = request(
      `${opened.url}/v1/agents`,
      { method: "POST", agent, headers: { "content-type": "application/json", "content-length": body.length } },
      (response) => {
        response.resume()
        response.once("close", () => resolve(response.statusCode))
      },
    )
    sent.once("error", reject)
    sent.end(body)
    // The request has to be there before the gateway stops.
    await new Promise((done) => setTimeout(done, 100))
    const stopped = opened.stop()
    await assert.rejects(fetch(`${opened.url}/v1/agents`))
    opened.log.resume()
    assert.equal(await promise, 200)
    await stopped
  })

  it("says so of a port that is taken, and leaves nothing running", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    await assert.rejects(world.open({ config: { ...opened.config, port: opened.port } }), { code: "EADDRINUSE" })
  })
})
