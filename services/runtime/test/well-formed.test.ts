import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { stateDigest } from "@reins/session"
import { agent, fact, Story, tool, toolUse } from "@reins/session/testing"
import { wellFormed } from "../src/well-formed.ts"

describe("a fact with half of a surrogate pair", () => {
  let codec: Codec
  before(async () => {
    codec = await Codec.open(new MemoryBroker().registry)
  })

  it("is mended before it is sent, so that it folds as it will be read", () => {
    const cut = "Refunded 💸".slice(0, -1)
    const called = (): Story =>
      new Story()
        .started(agent([tool("refund")]))
        .requested()
        .responded([toolUse("toolu_1", "refund")])
        .dispatched("toolu_1")
    const said = wellFormed(called().draft((story) => story.failed("toolu_1", { message: cut, retryAfterMs: null })))
    const decoded = codec.decode(codec.encode("sessions", said))
    assert.ok(decoded.ok)
    const folded = called().tell(said)
    const read = called().tell(decoded.said as never)
    assert.deepEqual([folded.verdict, read.verdict], ["accepted", "accepted"])
    assert.equal(stateDigest(folded.session), stateDigest(read.session))
    assert.equal("message" in said && said.message, "Refunded \ufffd")
  })

  it("is mended at any depth, and everything else is left as it is", () => {
    const whole = fact("session.started", { agent: agent([tool("add", { description: "💸" })]) })
    assert.equal(wellFormed(whole), whole)
    const broken = fact("session.started", { agent: agent([tool("add", { description: "\ud83d" }), tool("two")]) })
    const mended = wellFormed(broken)
    assert.equal(mended.agent.tools[0]?.description, "\ufffd")
    assert.equal(mended.agent.tools[1], broken.agent.tools[1])
    assert.equal(broken.agent.tools[0]?.description, "\ud83d")
  })
})
