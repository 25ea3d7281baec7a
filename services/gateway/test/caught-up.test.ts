import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Log } from "@reins/log"
import { stage } from "./stage.ts"

describe("a read of what cannot be read", () => {
  it("is told so in time, wherever it comes from", async (t) => {
    const world = await stage(t)
    const log = world.broker.connect()
    let hidden = 0
    const ahead = new Proxy<Log>(log, {
      get: (target, name: keyof Log) => {
        if (name === "bounds")
          return async (topic: string) =>
            (await target.bounds(topic)).map((one) => (topic === "t.sessions" ? { ...one, end: one.end + hidden } : one))
        const value = target[name]
        return typeof value === "function" ? value.bind(target) : value
      },
    })
    const opened = await world.open({ log: ahead, limits: { answerTimeoutMs: 200 } })
    const ask = async (path: string, method = "GET", body?: object): Promise<number> => {
      const headers = { "content-type": "application/json", "x-stainless-retry-count": "1" }
      const signal = AbortSignal.timeout(20_000)
      const sent = body === undefined ? {} : { body: JSON.stringify(body) }
      const response = await fetch(`${opened.url}${path}`, { method, headers, signal, ...sent })
      await response.body?.cancel()
      return response.status
    }
    assert.equal(await ask("/v1/sessions"), 200)
    // Records that stand and never come: a reader that is stuck, a tail that was erased.
    hidden = 1
    for (const path of ["/v1/sessions", "/v1/sessions/sesn_a/events/stream", "/reins/v1/sessions"]) assert.equal(await ask(path), 503, path)
    assert.equal(await ask("/reins/v1/commands", "POST", { type: "session.end", sessionId: "sesn_a" }), 503)
    hidden = 0
    assert.equal(await ask("/v1/sessions"), 200)
  })
})
