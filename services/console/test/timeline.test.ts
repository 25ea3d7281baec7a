import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Placed } from "../app/api.ts"
import { Previews, Timeline } from "../app/timeline.ts"

function placed(id: string, offset: number, index = 0, queued = false): Placed {
  return {
    event: { id, type: "user.message", processed_at: queued ? null : "2026-01-01T00:00:00.000Z" },
    place: { partition: 2, offset, index },
  }
}

const ids = (timeline: Timeline): readonly string[] => timeline.events.map(({ event }) => event.id)

describe("a timeline", () => {
  it("is the same in whatever order pages and stream come (T1, T2)", () => {
    const all = [placed("a", 1), placed("b", 2, 0), placed("c", 2, 1), placed("d", 10)]
    const [a, b, c, d] = all as [Placed, Placed, Placed, Placed]
    for (const order of [
      [a, b, c, d],
      [d, c, b, a],
      [c, d, c, a, b, b],
    ]) {
      const timeline = new Timeline()
      for (const one of order) timeline.add([one])
      assert.deepEqual(timeline.events, all)
    }
  })

  it("puts what waits last, and where it is taken up once it is, whichever is heard first", () => {
    const waits = placed("m", 3, 0, true)
    const taken = placed("m", 7)
    const timeline = new Timeline()
    timeline.add([waits, placed("x", 5)])
    assert.deepEqual(ids(timeline), ["x", "m"])
    timeline.add([taken, placed("y", 8)])
    assert.deepEqual(ids(timeline), ["x", "m", "y"])
    // A page that was read before comes late.
    timeline.add([waits])
    assert.deepEqual(ids(timeline), ["x", "m", "y"])
    assert.equal(timeline.get("m"), taken)
  })

  it("knows the newest place, for taking a stream up again", () => {
    const timeline = new Timeline()
    assert.equal(timeline.newest, null)
    timeline.add([placed("b", 9, 1), placed("a", 9, 0), placed("c", 2)])
    assert.deepEqual(timeline.newest, { partition: 2, offset: 9, index: 1 })
  })
})

describe("previews", () => {
  const start = (id: string) => ({ type: "event_start", event: { id, type: "agent.message" } })
  const delta = (id: string, index: number, text: string) => ({
    type: "event_delta",
    event_id: id,
    delta: { type: "content_delta", index, content: { type: "text", text } },
  })

  it("grow by their fragments, by block, and go when the event is there", () => {
    const previews = new Previews()
    previews.push(start("m"))
    for (const one of [delta("m", 0, "Hel"), delta("m", 0, "lo"), delta("m", 1, " you"), delta("other", 0, "lost")]) previews.push(one)
    assert.deepEqual(previews.shown, [{ id: "m", type: "agent.message", text: "Hello you" }])
    previews.settle({ id: "m", type: "agent.message" })
    assert.deepEqual(previews.shown, [])
  })

  it("go with their request, where nothing comes of them", () => {
    const previews = new Previews()
    previews.push(start("m"))
    previews.settle({ id: "x", type: "agent.thinking" })
    assert.equal(previews.shown.length, 1)
    previews.settle({ id: "end", type: "span.model_request_end" })
    assert.deepEqual(previews.shown, [])
  })
})
