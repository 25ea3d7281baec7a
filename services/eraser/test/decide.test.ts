import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type Sight, viewOf } from "@reins/runtime/testing"
import { fact, Story, text } from "@reins/session/testing"
import { decide } from "../src/decide.ts"

const day = 86_400_000

function deleted(story: Story): Story {
  const { sessionId } = story
  return story.tell(fact("session.deleted", { sessionId, commandId: "delete", command: { partition: 0, offset: 1000 } }))
}

function idle(): Story {
  return new Story()
    .started()
    .requested()
    .responded([text("Hello.")])
    .idled()
}

function wants(story: Story, sight: Sight = {}, retentionMs: number | null = null): ReturnType<typeof decide> {
  return decide(viewOf(story, sight), { retentionMs })
}

describe("a deleted session", () => {
  it("is erased from where its records stand, and again if that was cut off", () => {
    const [intent, ...more] = wants(deleted(idle()), { standing: 3 })
    assert.deepEqual(more, [])
    assert.ok(intent?.do === "perform" && intent.again === true)
    assert.deepEqual(intent.work, { do: "erase", sessionId: "sesn_1", from: 3 })
  })

  it("of which nothing stands any more is left alone", () => {
    assert.deepEqual(wants(deleted(idle())), [])
  })

  it("is not erased before its deletion was read back: that cannot be taken back", () => {
    const story = idle()
    const settled = story.session
    assert.deepEqual(wants(deleted(story), { settled, standing: 0 }), [])
  })
})

describe("a session that nobody has deleted", () => {
  it("is never erased, whatever its phase", () => {
    for (const story of [new Story(), new Story().started(), idle(), idle().ended(), idle().message("More.").parked()])
      assert.deepEqual(wants(story, { standing: 0 }), [], story.session.phase)
  })

  it("is kept for ever where nothing else is said", () => {
    const story = idle()
    assert.deepEqual(wants(story, { now: story.now + 10_000 * day }), [])
  })

  it("is looked at again when it is due, by log time", () => {
    const story = idle()
    assert.deepEqual(wants(story, { now: story.now + day }, 30 * day), [{ do: "wake", at: story.now + 30 * day }])
  })

  it("is to be deleted once it has been idle, ended or parked for so long", () => {
    for (const story of [idle(), idle().ended(), idle().message("More.").parked()]) {
      const [intent] = wants(story, { now: story.now + 30 * day }, 30 * day)
      assert.ok(intent?.do === "perform", story.session.phase)
      const commandId = `retention/sesn_1/${story.now}`
      assert.deepEqual(intent.work, { do: "delete", sessionId: "sesn_1", commandId, unchangedSince: story.now })
    }
  })

  it("is not deleted while it runs, nor before it was started", () => {
    for (const story of [new Story(), new Story().started(), new Story().started().requested(), idle().message("More.")])
      assert.deepEqual(wants(story, { now: story.now + 300 * day }, 30 * day), [], story.session.phase)
  })

  it("is asked for by the same command as long as nothing is new in it, and by another after that", () => {
    const asked = (story: Story): unknown => {
      const [intent] = wants(story, { now: story.now + 40 * day }, 30 * day)
      return intent?.do === "perform" && intent.work.do === "delete" ? intent.work.commandId : null
    }
    const story = idle()
    const first = asked(story)
    assert.equal(asked(story), first)
    assert.notEqual(
      asked(
        story
          .message("More.")
          .requested()
          .responded([text("Well.")])
          .idled(),
      ),
      first,
    )
  })

  it("has a command id that is one, however long its own id is", () => {
    const story = new Story("s".repeat(200))
      .started()
      .requested()
      .responded([text("Hello.")])
      .idled()
    const [intent] = wants(story, { now: story.now + 40 * day }, 30 * day)
    assert.ok(intent?.do === "perform" && intent.work.do === "delete" && intent.work.commandId.length <= 200)
  })
})
