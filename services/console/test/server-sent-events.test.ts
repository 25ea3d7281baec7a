import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { FrameParser } from "../app/server-sent-events.ts"

const stream = `: open\n\nevent: agent.message\nid: 2.17.0\ndata: {"a":1}\n\n: keep-alive\n\nevent: event_delta\ndata: one\ndata:two\n\nretry: 1000\n\n`
const frames = [
  { event: "agent.message", id: "2.17.0", data: '{"a":1}' },
  { event: "event_delta", id: "2.17.0", data: "one\ntwo" },
]

describe("a stream of server-sent events", () => {
  it("is read whole, and comments are nothing", () => {
    assert.deepEqual(new FrameParser().push(stream), frames)
  })

  it("is read the same wherever it is cut, with every kind of line end", () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const text = `${stream.replaceAll("\n", end)}event: last`
      for (let cut = 0; cut <= text.length; cut++) {
        const parser = new FrameParser()
        assert.deepEqual([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))], frames, `${JSON.stringify(end)} at ${cut}`)
      }
      const parser = new FrameParser()
      assert.deepEqual(
        text.split("").flatMap((char) => parser.push(char)),
        frames,
        `${JSON.stringify(end)} by characters`,
      )
    }
  })

  it("says nothing of a frame that is not finished", () => {
    const parser = new FrameParser()
    assert.deepEqual(parser.push("event: a\ndata: 1\n"), [])
    assert.deepEqual(parser.push("\n"), [{ event: "a", id: "", data: "1" }])
  })
})
