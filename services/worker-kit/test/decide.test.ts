import assert from "node:assert/strict"
import { test } from "node:test"
import type { EffectClass } from "@reins/events"
import { needsClaim } from "@reins/session"
import { beganAt, cancelled, claimed, deadlineMs, dispatched, effectOf, finished, given, group, said, sessionId, Topic } from "./given.ts"

const me = "shop-1"
const other = "shop-2"
const claiming: readonly EffectClass[] = ["keyed", "queryable", "unsafe"]
const free: readonly EffectClass[] = ["pure", "idempotent"]
const late = beganAt + deadlineMs + 1

test("a pure or idempotent call runs as soon as its dispatch is read back", () => {
  for (const effect of free) {
    const { key, stoppedBy, work } = effectOf(given(dispatched(effect)).decide(me, { now: beganAt + 2000 }))
    assert.equal(key, `${sessionId}/toolu_1/1`)
    assert.equal(stoppedBy, key)
    assert.deepEqual([work.is, work.claim], ["run", null])
    assert.equal(work.call.dispatch?.arguments, '{"id":"17"}')
  }
})

test("nothing runs on a dispatch that is not read back, nor after its deadline", () => {
  for (const effect of free) {
    assert.deepEqual(new Topic().pending(dispatched(effect)).decide(me), [])
    assert.deepEqual(given(dispatched(effect)).decide(me, { now: late }), [])
  }
})

test("the other classes are claimed first, once", () => {
  for (const effect of claiming) {
    assert.ok(needsClaim(effect))
    const dispatch = dispatched(effect)
    const claim = said(given(dispatch).decide(me))
    assert.ok(claim.type === "tool-call.claimed")
    assert.deepEqual([claim.group, claim.instance, claim.replaces, claim.attempt, claim.causedBy], [group, me, null, 1, dispatch.eventId])
    const [intent] = given(dispatch).decide(me)
    assert.ok(intent?.do === "append")
    assert.equal(intent.key, `claim/toolu_1/1/${dispatch.eventId}`)
  }
})

test("a claim chains on a dispatch that is sent and not yet read back", () => {
  const dispatch = dispatched("unsafe")
  const claim = said(new Topic().pending(dispatch).decide(me))
  assert.equal(claim.type, "tool-call.claimed")
  assert.equal(claim.causedBy, dispatch.eventId)
})

test("nothing is claimed after the deadline", () => {
  for (const effect of claiming) assert.deepEqual(given(dispatched(effect)).decide(me, { now: late }), [])
})

test("a claim that is not read back runs nothing", () => {
  for (const effect of claiming) {
    assert.deepEqual(given(dispatched(effect)).pending(claimed(me)).decide(me), [])
    assert.deepEqual(new Topic().pending(dispatched(effect), claimed(me)).decide(me), [])
  }
})

test("a claim that is read back as accepted runs the call, under the claim's own key", () => {
  for (const effect of claiming) {
    const mine = claimed(me)
    const { key, stoppedBy, work } = effectOf(given(dispatched(effect), mine).decide(me))
    assert.equal(key, mine.eventId)
    assert.equal(stoppedBy, `${sessionId}/toolu_1/1`)
    assert.deepEqual([work.is, work.claim], ["run", mine.eventId])
  }
})

test("of two claims the first one runs, and the other worker stays quiet", () => {
  for (const effect of claiming) {
    const first = claimed(other)
    const topic = given(dispatched(effect), first)
    assert.equal(topic.read(claimed(me)), "superseded")
    assert.deepEqual(topic.decide(me), [])
    assert.equal(effectOf(topic.decide(other)).work.claim, first.eventId)
  }
})

test("a claim of an instance that is still a member is left alone, also after the deadline", () => {
  for (const effect of claiming) {
    assert.deepEqual(given(dispatched(effect), claimed(other)).decide(me), [])
    assert.deepEqual(given(dispatched(effect), claimed(other)).decide(me, { now: late }), [])
  }
})

test("a claim of an earlier start of this worker is another's", () => {
  const topic = given(dispatched("unsafe"), claimed("shop-1-before"))
  assert.deepEqual(topic.decide(me), [])
  assert.equal(said(topic.decide(me, { gone: ["shop-1-before"] })).type, "tool-call.finished")
})

test("keyed, claimant gone: claimed anew, and run by whoever's takeover stands", () => {
  const lost = claimed(other)
  const topic = given(dispatched("keyed"), lost)
  const takeover = said(topic.decide(me, { gone: [other] }))
  assert.ok(takeover.type === "tool-call.claimed")
  assert.deepEqual([takeover.replaces, takeover.instance, takeover.causedBy], [lost.eventId, me, lost.eventId])
  const rival = claimed("shop-3", { replaces: lost.eventId })
  assert.equal(topic.read(takeover), "accepted")
  assert.equal(topic.read(rival), "superseded")
  assert.equal(effectOf(topic.decide(me, { gone: [other] })).work.claim, takeover.eventId)
  assert.deepEqual(topic.decide("shop-3", { gone: [other] }), [])
  // The claimant lives after all: what it does now is for nothing, and it begins nothing.
  assert.deepEqual(topic.decide(other), [])
  assert.equal(topic.read(finished(lost.eventId)), "late")
  assert.equal(topic.read(finished(takeover.eventId)), "accepted")
})

test("keyed, claimant gone, deadline past: left to the router", () => {
  assert.deepEqual(given(dispatched("keyed"), claimed(other)).decide(me, { gone: [other], now: late }), [])
})

test("unsafe, claimant gone: never again, and said in words", () => {
  const lost = claimed(other)
  const topic = given(dispatched("unsafe"), lost)
  for (const now of [beganAt, late]) {
    const result = said(topic.decide(me, { gone: [other], now }))
    assert.ok(result.type === "tool-call.finished")
    assert.deepEqual([result.outcome, result.claim, result.effect, result.retryAfterMs], ["unknown", lost.eventId, "maybe", null])
    assert.match(result.message ?? "", /worker died while refund was running.*not run again/)
  }
  const results = ["shop-1", "shop-3"].map((instance) => said(topic.decide(instance, { gone: [other] })))
  assert.deepEqual(
    results.map((result) => topic.read(result)),
    ["accepted", "late"],
  )
  assert.deepEqual(topic.decide(me, { gone: [other] }), [])
})

test("unsafe runs under no claim but the first, whatever else is claimed", () => {
  const lost = claimed(other)
  const topic = given(dispatched("unsafe"), lost)
  const instances = [me, other, "shop-3"]
  const run = new Set<string>()
  for (const event of [claimed(me), claimed("shop-3", { attempt: 2 }), claimed(me, { replaces: "evt_nobody" })]) {
    assert.equal(topic.read(event), "superseded")
    for (const gone of [[], [other], instances]) {
      for (const instance of instances) {
        for (const intent of topic.decide(instance, { gone: gone.filter((one) => one !== instance) })) {
          if (intent.do === "perform") run.add(intent.key)
          else assert.ok(intent.do === "append" && intent.event.type === "tool-call.finished", "no takeover of an unsafe call is ever said")
        }
      }
    }
  }
  assert.deepEqual([...run], [lost.eventId])
})

test("queryable, claimant gone: the tool is asked, and runs again only under a claim that replaces the old one", () => {
  const lost = claimed(other)
  const topic = given(dispatched("queryable"), lost)
  const { key, work } = effectOf(topic.decide(me, { gone: [other] }))
  assert.equal(key, `ask/${lost.eventId}`)
  assert.deepEqual([work.is, work.claim], ["reconcile", lost.eventId])
  // What the asking says where it also forbids the old claim.
  const takeover = claimed(me, { replaces: lost.eventId })
  assert.equal(topic.read(takeover), "accepted")
  const again = effectOf(topic.decide(me, { gone: [other] }))
  assert.deepEqual([again.key, again.work.is], [takeover.eventId, "run"])
})

test("a finished or cancelled call is over", () => {
  for (const effect of [...claiming, ...free]) {
    const mine = needsClaim(effect) ? [claimed(me)] : []
    const claim = mine[0]?.eventId ?? null
    assert.deepEqual(given(dispatched(effect), ...mine, finished(claim)).decide(me), [])
    assert.deepEqual(
      given(dispatched(effect), ...mine)
        .pending(finished(claim))
        .decide(me),
      [],
    )
    assert.deepEqual(given(dispatched(effect), ...mine, cancelled()).decide(me), [])
    assert.deepEqual(given(dispatched(effect), cancelled()).decide(me), [])
    assert.deepEqual(given(cancelled(), dispatched(effect)).decide(me), [])
    assert.deepEqual(given(dispatched(effect), ...mine, cancelled()).decide("shop-3", { gone: [me] }), [])
  }
})

test("a new attempt is claimed and run on its own", () => {
  const again = dispatched("unsafe", { attempt: 2, deadlineAt: beganAt + 60_000 })
  const topic = given(dispatched("unsafe"), claimed(me), again)
  const claim = said(topic.decide(me))
  assert.ok(claim.type === "tool-call.claimed")
  assert.equal(claim.attempt, 2)
  assert.equal(topic.read(claim), "accepted")
  const { key, stoppedBy } = effectOf(topic.decide(me))
  assert.deepEqual([key, stoppedBy], [claim.eventId, `${sessionId}/toolu_1/2`])
})

test("a claim of one's own that was not begun in time is said not to have run; one that was begun goes on", () => {
  for (const effect of claiming) {
    const mine = claimed(me)
    const topic = given(dispatched(effect), mine)
    const result = said(topic.decide(me, { now: late }))
    assert.ok(result.type === "tool-call.finished")
    assert.deepEqual(
      [result.outcome, result.kind, result.effect, result.claim, result.retryAfterMs],
      ["failed", "timeout", "none", mine.eventId, 0],
    )
    assert.equal(effectOf(topic.decide(me, { now: late, begun: [mine.eventId] })).key, mine.eventId)
  }
})

test("calls of a session go their own ways, those of another backend are none of ours", () => {
  const first = dispatched("pure")
  const second = dispatched("unsafe", { toolUseId: "toolu_2" })
  assert.deepEqual(
    given(first, second)
      .decide(me)
      .map((intent) => (intent.do === "perform" ? intent.key : intent.do)),
    [`${sessionId}/toolu_1/1`, "append"],
  )
  assert.deepEqual(given(first, second).decide(me, { on: "bank" }), [])
  assert.deepEqual(given(first, second, claimed(me, { toolUseId: "toolu_2" })).giveUp(me, { on: "bank" }), [])
})

test("claims that were not begun are given up, also one that is not read back", () => {
  const mine = claimed(me)
  for (const topic of [
    given(dispatched("unsafe"), mine),
    given(dispatched("unsafe")).pending(mine),
    new Topic().pending(dispatched("unsafe"), mine),
  ]) {
    const [draft, ...more] = topic.giveUp(me)
    assert.deepEqual(more, [])
    assert.ok(draft?.on === "tools" && draft.event.type === "tool-call.finished")
    const { outcome, kind, effect, claim, retryAfterMs } = draft.event
    assert.deepEqual([outcome, kind, effect, claim, retryAfterMs], ["failed", "given_up", "none", mine.eventId, 0])
  }
})

// Found by the simulation: a claim landed after its own giving up, and its claimant lived: everyone waited for the deadline.
test("a claim that landed after its own giving up is given up by whoever owns the call, also by who had claimed it", () => {
  for (const effect of ["keyed", "queryable", "unsafe"] as const)
    for (const instance of [me, other]) {
      const lost = claimed(other)
      const topic = given(dispatched(effect), lost)
      const result = said(topic.decide(instance, { givenUp: [lost.eventId], begun: [lost.eventId] }))
      assert.ok(result.type === "tool-call.finished")
      assert.deepEqual([result.claim, result.kind, result.effect, result.retryAfterMs], [lost.eventId, "given_up", "none", 0])
      assert.equal(topic.read(result), "accepted")
    }
})

test("what was begun, what is another's and what is finished is not given up", () => {
  const mine = claimed(me)
  assert.deepEqual(given(dispatched("unsafe"), mine).giveUp(me, { begun: [mine.eventId] }), [])
  assert.deepEqual(given(dispatched("unsafe"), claimed(other)).giveUp(me), [])
  assert.deepEqual(given(dispatched("unsafe"), mine).pending(finished(mine.eventId)).giveUp(me), [])
  assert.deepEqual(given(dispatched("unsafe")).giveUp(me), [])
  assert.deepEqual(given(dispatched("pure")).giveUp(me), [])
})
