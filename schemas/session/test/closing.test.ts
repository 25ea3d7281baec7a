import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type SessionEvent, sessionFacts } from "@reins/events"
import { agent, fact, Story, text, tool, toolUse } from "@reins/session/testing"
import { evolve, type Known, requestBody, type Session, stateDigest, statusOf, summarize } from "../src/index.ts"
import { archive, hold, remove, update } from "./answers.ts"

const add = tool("add")
const pay = tool("pay", { backend: "http", effect: "unsafe", permission: "always_ask" })
const at = { offset: 1000, timestamp: 1_795_000_100_000 }

/** A session in every phase that a started one can be in. */
const inPhase: Readonly<Record<string, () => Story>> = {
  idle: () =>
    asked()
      .responded([text("Done.")])
      .idled(),
  "about to begin": () => new Story().started(agent([add, pay])),
  "awaiting-model": asked,
  "awaiting-tools": () => called().dispatched("a"),
  waiting: () => {
    const story = asked().responded([toolUse("b", "pay")])
    return story.tell(hold(story, "b", "approval")).idled("requires_action")
  },
  settling: () => asked().responded([text("Done.")]),
  parked: () => called().dispatched("a").parked(),
  ended: () => called().dispatched("a").ended(),
  archived: () => {
    const story = called()
    return story.tell(archive(story))
  },
}

function asked(): Story {
  return new Story().started(agent([add, pay])).requested()
}

function called(): Story {
  return asked().responded([toolUse("a", "add"), toolUse("b", "pay")])
}

function profileOf(story: Story): Known["profile"] {
  return story.known.profile
}

describe("a profile", () => {
  it("is null for a session that was given none, and otherwise what was given", () => {
    assert.equal(profileOf(new Story().started()), null)
    const given = { title: "Order 17", metadata: '{"a":"1"}', environmentId: "env_1", profile: '{"name":"Coder"}' }
    assert.deepEqual(profileOf(new Story().started(agent(), given)), {
      title: "Order 17",
      metadata: '{"a":"1"}',
      environmentId: "env_1",
      agent: '{"name":"Coder"}',
    })
    assert.deepEqual(profileOf(new Story().started(agent(), { title: "Order 17" })), {
      title: "Order 17",
      metadata: "{}",
      environmentId: null,
      agent: null,
    })
  })

  it("is part of the state, whose digest without one is that of before there were any", () => {
    const digestOf = (story: Story): string => stateDigest(story.session)
    assert.equal(digestOf(new Story().started()), digestOf(new Story().started(agent(), { title: null, profile: null })))
    assert.notEqual(digestOf(new Story().started()), digestOf(new Story().started(agent(), { title: "x" })))
  })
})

describe("an update", () => {
  it("of single keys of the metadata leaves the others, so that two at once both count", () => {
    const both = new Story().started(agent(), { metadata: '{"a":"1","z":"0"}' })
    const [first, second] = [{ metadataPatch: { b: "2", z: null } }, { metadataPatch: { c: "3" } }]
    both.tell(update(both, first)).tell(update(both, second))
    assert.equal(profileOf(both)?.metadata, '{"a":"1","b":"2","c":"3"}')
  })

  it("changes what it names, each whole, in every phase but after a deletion", () => {
    for (const [name, begin] of Object.entries(inPhase)) {
      const story = begin()
      const { phase } = story.session
      const { calls, conversation, queued, agent: before } = story.known
      story.tell(update(story, { title: "One", metadata: { b: "2", a: "1" } }))
      assert.deepEqual(
        [story.verdict, profileOf(story)],
        ["accepted", { title: "One", metadata: '{"a":"1","b":"2"}', environmentId: null, agent: null }],
        name,
      )
      story.tell(update(story, { title: null, profile: { name: "Coder" } }))
      assert.deepEqual(
        profileOf(story),
        { title: null, metadata: '{"a":"1","b":"2"}', environmentId: null, agent: '{"name":"Coder"}' },
        name,
      )
      // Nothing goes on for it, and nothing stops.
      assert.deepEqual(
        [story.session.phase, story.known.calls, story.known.conversation, story.known.queued],
        [phase, calls, conversation, queued],
      )
      assert.equal(story.known.agent, before)
      const waits = story.session.phase === "awaiting-tools" && story.session.waiting === "told"
      assert.equal(waits, name === "waiting")
    }
  })

  it("with what is no title, no metadata, no object or no JSON changes nothing but that it was heard", () => {
    const story = new Story().started(agent(), { title: "Order 17", metadata: '{"a":"1"}' })
    const before = profileOf(story)
    const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
    for (const changes of [
      '{"title":7}',
      '{"metadata":[]}',
      '{"profile":null}',
      "[]",
      "null",
      "no JSON",
      "",
      deep,
      `{"metadata":{"a":${deep}}}`,
    ]) {
      story.tell({ ...update(story, {}), changes })
      assert.deepEqual([story.verdict, profileOf(story)], ["accepted", before], changes.slice(0, 40))
    }
    assert.equal(story.known.commands.recent.length, 10)
  })

  it("gives an idle session other tools, and its next request is made with them", () => {
    const story = asked()
      .responded([text("Done.")])
      .idled()
    const other = tool("subtract", { description: "Subtracts." })
    story.tell(update(story, {}, [other]))
    assert.deepEqual([story.verdict, story.known.agent.tools], ["accepted", [other]])
    assert.equal(profileOf(story) !== null, true)
    story.message("More.").requested()
    assert.equal(story.verdict, "accepted")
    assert.deepEqual(
      (JSON.parse(requestBody(story.known.agent, story.known.conversation)) as { tools: { name: string }[] }).tools.map(({ name }) => name),
      ["subtract"],
    )
    story.responded([text("Done.")]).idled()
    story.tell(update(story, {}, []))
    assert.deepEqual(story.known.agent.tools, [])
  })

  it("never takes the tools of a turn away", () => {
    for (const [name, begin] of Object.entries(inPhase)) {
      if (name === "idle") continue
      const story = begin()
      const { tools } = story.known.agent
      story.tell(update(story, { title: "x" }, []))
      assert.deepEqual([story.verdict, story.known.agent.tools], ["accepted", tools], name)
    }
  })

  it("with tools that nobody could use leaves those that are", () => {
    const deep = `{"a":${"[".repeat(500)}${"]".repeat(500)}}`
    for (const tools of [
      "no JSON",
      "{}",
      "[null]",
      "[7]",
      '[{"name":"x","inputSchema":"{}"}]',
      JSON.stringify([tool("x", { inputSchema: "[]" })]),
      JSON.stringify([tool("x", { inputSchema: "{" })]),
      JSON.stringify([tool("x", { inputSchema: deep })]),
      JSON.stringify([{ ...tool("x"), effect: "harmless" }]),
      JSON.stringify([{ ...tool("x"), backend: 7 }]),
    ]) {
      const story = asked()
        .responded([text("Done.")])
        .idled()
      story.tell({ ...update(story, { title: "x" }), tools })
      assert.deepEqual([story.verdict, story.known.agent.tools], ["accepted", [add, pay]], tools.slice(0, 60))
    }
  })
})

describe("an archiving", () => {
  it("ends a session in any phase, once: calls are closed, and nothing waits any more", () => {
    for (const [name, begin] of Object.entries(inPhase)) {
      const story = begin()
      story.tell(archive(story))
      const first = story.now
      const { session } = story
      assert.ok(session.phase === "ended", name)
      if (name !== "archived") assert.equal(session.archivedAt, first, name)
      assert.ok(session.calls.every((call) => call.state.is === "done"))
      assert.deepEqual([session.queued, statusOf(session)], [[], "ended"])
      story.wait(5000).tell(archive(story))
      assert.equal(story.verdict, "accepted")
      assert.equal(story.session.phase === "ended" && story.session.archivedAt, session.archivedAt, "the first one counts")
    }
  })

  it("takes no part of the session away, and nothing goes on after it", () => {
    const story = asked()
      .responded([text("Done.")])
      .idled()
    const { conversation } = story.known
    story.tell(archive(story))
    assert.equal(story.known.conversation, conversation)
    for (const event of [
      fact("message.received", { commandId: "late" }),
      fact("session.resumed", { commandId: "late" }),
      fact("interrupt.received", { commandId: "late" }),
    ])
      assert.equal(evolve(story.session, event, at).verdict, "superseded", event.type)
  })
})

describe("a deletion", () => {
  it("leaves of a session in any phase who it was, and what deleted it", () => {
    for (const [name, begin] of Object.entries(inPhase)) {
      const story = begin()
      const { sessionId } = story
      const deletion = remove(story)
      story.tell(deletion)
      assert.equal(story.verdict, "accepted", name)
      assert.deepEqual(story.session, {
        phase: "deleted",
        sessionId,
        tenant: "default",
        commands: { full: [], recent: [deletion.commandId] },
      })
      assert.equal(summarize(story.session, String), null)
      assert.match(stateDigest(story.session), /^[0-9a-f]{64}$/)
    }
  })

  it("wins over everything that comes after it, and stays", () => {
    const story = called().dispatched("a")
    const underWay: SessionEvent[] = [
      story.draft((s) => s.completed("a")),
      hold(story, "b", "approval"),
      story.draft((s) => s.parked()),
      story.draft((s) => s.interrupted()),
    ]
    const deletion = remove(story)
    const gone: Session = story.tell(deletion).session
    for (const event of underWay) {
      story.tell(event)
      assert.deepEqual([story.verdict === "accepted", story.session === gone], [false, true], event.type)
    }
    assert.equal(story.tell({ ...deletion, command: { partition: 1, offset: 0 } }).verdict, "duplicate")
    for (const { type } of sessionFacts) {
      if (type === "command.rejected") continue
      const { session, verdict } = evolve(gone, fact(type, { commandId: `late-${type}` }), at)
      assert.deepEqual([session === gone, verdict === "accepted"], [true, false], type)
    }
    // A refusal counts as the answer that it is and changes nothing, because it is erased as well (E10).
    const { session, verdict } = evolve(gone, fact("command.rejected", { commandId: "late" }), at)
    assert.deepEqual([session === gone, verdict], [true, "accepted"])
  })
})
