import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { agent, Story, tool, toolUse } from "@reins/session/testing"
import { OwnedPartition } from "../src/owned-partition.ts"
import { Spill } from "../src/spill.ts"

/** A process that has read what a story tells. */
function reading(story: Story): OwnedPartition {
  const owned = new OwnedPartition(0, new Spill().partition(), String)
  for (const { event, at } of story.records) owned.foldSession(event, at)
  for (const { backend, event, at } of story.toolRecords) owned.toolsFold(backend).apply(event, at)
  return owned
}

describe("a result that its session has not taken yet", () => {
  const refunding = (): Story =>
    new Story()
      .started(agent([tool("refund", { effect: "unsafe" })]))
      .requested()
      .responded([toolUse("toolu_1", "refund")])
      .dispatched("toolu_1")
      .sent("toolu_1")
      .claimed("toolu_1")
      .finished("toolu_1")

  it("is remembered however long the session is parked: forgotten, the call would be taken for one that never ran", () => {
    const parked = refunding().parked()
    assert.equal(parked.session.phase, "parked")
    assert.equal(reading(parked).awaits(parked.toolCall("toolu_1")), true)
  })

  it("need not be remembered once it is taken, or nobody waits any more", () => {
    for (const story of [
      refunding().completed("toolu_1"),
      refunding().interrupted(),
      refunding().ended(),
      refunding().outcomeUnknown("toolu_1"),
    ])
      assert.equal(reading(story).awaits(story.toolCall("toolu_1")), false)
    assert.equal(
      new OwnedPartition(0, new Spill().partition(), String).awaits(refunding().toolCall("toolu_1")),
      false,
      "a worker does not read sessions",
    )
  })
})
