import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type EffectClass, type ToolEvent, type ToolEventOf, toolFacts } from "@reins/events"
import { toolFact } from "@reins/session/testing"
import fc from "fast-check"
import { evolveToolCall, needsClaim, type Position, type ToolCall, ToolsFold, type Verdict } from "../src/index.ts"

const deadlineAt = 1000
const result = { outcome: "completed", content: '"done"' } as const

/** One call on its topic, record by record: at which log time, and what the fold makes of each. */
class Topic {
  call: ToolCall | undefined
  offset = 0

  tell(event: ToolEvent, timestamp: number): Verdict {
    const step = evolveToolCall(this.call, event, { offset: this.offset++, timestamp })
    this.call = step.call
    return step.verdict
  }

  dispatch(timestamp: number, fields: Partial<ToolEventOf<"tool-call.dispatched">> = {}): Verdict {
    return this.tell(toolFact("tool-call.dispatched", { effect: "unsafe", deadlineAt, ...fields }), timestamp)
  }

  claim(timestamp: number, eventId: string, fields: Partial<ToolEventOf<"tool-call.claimed">> = {}): Verdict {
    return this.tell(toolFact("tool-call.claimed", { eventId, instance: eventId, ...fields }), timestamp)
  }

  finish(timestamp: number, claim: string | null, fields: Partial<ToolEventOf<"tool-call.finished">> = {}): Verdict {
    return this.tell(toolFact("tool-call.finished", { ...result, claim, ...fields }), timestamp)
  }

  cancel(timestamp: number, fields: Partial<ToolEventOf<"tool-call.cancelled">> = {}): Verdict {
    return this.tell(toolFact("tool-call.cancelled", { deadlineAt, ...fields }), timestamp)
  }
}

const effects: readonly EffectClass[] = ["pure", "idempotent", "keyed", "queryable", "unsafe"]

describe("a call on its backend's topic", () => {
  it("is dispatched, claimed and finished", () => {
    const topic = new Topic()
    assert.deepEqual([topic.dispatch(1), topic.claim(2, "w"), topic.finish(3, "w")], ["accepted", "accepted", "accepted"])
    assert.equal(topic.call?.finished?.result.content, '"done"')
    // What is remembered of a finished call is small.
    assert.equal(topic.call?.dispatch, null)
  })

  it("T1 a higher attempt replaces a lower one, also a finished one; a lower one comes too late", () => {
    const topic = new Topic()
    topic.dispatch(1)
    topic.claim(2, "w")
    topic.finish(3, "w", { outcome: "failed", effect: "none" })
    assert.equal(topic.dispatch(4, { attempt: 2, eventId: "second" }), "accepted")
    assert.deepEqual([topic.call?.attempt, topic.call?.claim, topic.call?.finished], [2, null, null])
    assert.equal(topic.dispatch(5, { attempt: 1 }), "duplicate")
    assert.equal(topic.dispatch(6, { attempt: 2 }), "duplicate")
    assert.equal(topic.call?.dispatch?.eventId, "second")
    assert.equal(topic.claim(7, "late", { attempt: 1 }), "superseded")
    assert.equal(topic.finish(8, "w", { attempt: 1 }), "late")
    assert.equal(topic.cancel(9, { attempt: 1 }), "superseded")
  })

  it("T2 the first claim of an attempt wins; of two takeovers that name the same claim, the first (replaces)", () => {
    const topic = new Topic()
    topic.dispatch(1, { effect: "queryable" })
    assert.equal(topic.claim(2, "a"), "accepted")
    assert.equal(topic.claim(3, "x"), "superseded")
    assert.equal(topic.claim(3, "b", { replaces: "a" }), "accepted")
    assert.equal(topic.claim(4, "c", { replaces: "a" }), "superseded")
    assert.equal(topic.claim(5, "d", { replaces: "b" }), "accepted")
    assert.deepEqual(topic.call?.claim, { claim: "d", group: "reins.tool-workers/http", instance: "d" })
    assert.equal(new Topic().claim(1, "a"), "superseded")
  })

  it("T2 a claim on a dispatch that was lost falls with it (causedBy); one that names none stands on whatever stands", () => {
    const topic = new Topic()
    topic.dispatch(1, { eventId: "sent-again" })
    assert.equal(topic.claim(2, "chained", { causedBy: "lost" }), "superseded")
    assert.equal(topic.claim(3, "anew", { causedBy: "sent-again" }), "accepted")
    const plain = new Topic()
    plain.dispatch(1, { eventId: "sent-again" })
    assert.equal(plain.claim(2, "plain", { causedBy: null }), "accepted")
  })

  it("T3 a dispatch or a first claim that the log received after the deadline counts for nothing (logDl)", () => {
    const late = new Topic()
    assert.deepEqual([late.dispatch(deadlineAt + 1), late.claim(deadlineAt + 2, "w")], ["superseded", "superseded"])
    assert.equal(late.call, undefined)
    const topic = new Topic()
    topic.dispatch(deadlineAt)
    assert.equal(topic.claim(deadlineAt + 1, "w"), "superseded")
    const claimed = new Topic()
    claimed.dispatch(1)
    claimed.claim(deadlineAt, "w")
    // A takeover of what began in time is not a beginning.
    assert.equal(claimed.claim(deadlineAt + 1, "v", { replaces: "w" }), "accepted")
    assert.equal(claimed.finish(deadlineAt + 2, "v"), "accepted")
  })

  it("T4 a cancel before any claim means that the attempt never runs, also when it precedes its dispatch (sticky)", () => {
    const ahead = new Topic()
    assert.equal(ahead.cancel(10), "accepted")
    assert.equal(ahead.cancel(11), "duplicate")
    assert.equal(ahead.dispatch(20), "accepted")
    assert.equal(ahead.claim(30, "w"), "superseded")
    assert.deepEqual(ahead.call?.cancelled, { claimed: false })
    const topic = new Topic()
    topic.dispatch(1)
    topic.cancel(2)
    assert.equal(topic.claim(3, "w"), "superseded")
    assert.deepEqual(topic.call?.cancelled, { claimed: false })
    assert.equal(topic.cancel(4), "superseded")
  })

  it("T4 a cancel after a claim says so, lets no other take over, and leaves the claimant's result its place", () => {
    const topic = new Topic()
    topic.dispatch(1)
    topic.claim(2, "w")
    topic.cancel(3)
    assert.deepEqual(topic.call?.cancelled, { claimed: true })
    assert.equal(topic.claim(4, "v", { replaces: "w" }), "superseded")
    assert.equal(topic.finish(5, "w"), "accepted")
    assert.equal(topic.cancel(6), "superseded")
  })

  it("T4 a cancel of the next attempt does not stop the one that runs", () => {
    const topic = new Topic()
    topic.dispatch(1)
    topic.cancel(2, { attempt: 2, deadlineAt: 5000 })
    assert.equal(topic.claim(3, "w"), "accepted")
    assert.equal(topic.dispatch(4, { attempt: 2, deadlineAt: 5000 }), "accepted")
    assert.deepEqual(topic.call?.cancelled, { claimed: false })
  })

  it("T5 for classes with a claim only the result of the open claim counts (finNames)", () => {
    for (const effect of effects) {
      const topic = new Topic()
      topic.dispatch(1, { effect })
      assert.equal(needsClaim(effect), ["keyed", "queryable", "unsafe"].includes(effect))
      if (!needsClaim(effect)) {
        assert.equal(topic.finish(2, null), "accepted", effect)
        continue
      }
      if (effect !== "keyed") assert.equal(topic.finish(2, null), "late", effect)
      topic.claim(3, "a")
      assert.equal(topic.finish(3, null), "late", effect)
      assert.equal(topic.finish(4, "b", { outcome: "failed", effect: "none" }), "late", effect)
      topic.claim(5, "b", { replaces: "a" })
      assert.equal(topic.finish(6, "a"), "late", effect)
      assert.equal(topic.finish(7, "b"), "accepted", effect)
      assert.equal(topic.finish(8, "b"), "late", effect)
    }
  })

  it("T5 a worker that does not claim may answer a keyed call that nobody has claimed", () => {
    const topic = new Topic()
    topic.dispatch(1, { effect: "keyed" })
    assert.equal(topic.finish(2, "never-read"), "late")
    assert.equal(topic.finish(3, null), "accepted")
  })

  it("is reported on while it runs", () => {
    const progress = toolFact("tool-call.progressed")
    const topic = new Topic()
    assert.equal(topic.tell(progress, 1), "late")
    topic.dispatch(2, { effect: "pure" })
    assert.equal(topic.tell(progress, 3), "accepted")
    assert.equal(topic.tell({ ...progress, attempt: 2 }, 4), "late")
    topic.finish(5, null)
    assert.equal(topic.tell(progress, 6), "late")
  })

  it("may have facts of a later version", () => {
    assert.equal(new Topic().tell({ ...toolFact("tool-call.progressed"), type: "tool-call.renewed" } as never, 1), "superseded")
  })
})

interface Placed {
  readonly event: ToolEvent
  readonly at: Position
}

const small = fc.integer({ min: 1, max: 3 })
const ids = fc.constantFrom("a", "b", "c", "d")
const base = {
  sessionId: fc.constantFrom("sesn_a", "sesn_b"),
  toolUseId: fc.constantFrom("toolu_1", "toolu_2"),
  attempt: small,
  eventId: ids,
}
/** A call's class and deadline follow from its id and attempt, as all copies of a dispatch are built from one accepted record. */
const deadlineOf = (attempt: number): number => attempt * 400
const toolEvent: fc.Arbitrary<ToolEvent> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record(base).map((fields) =>
      toolFact("tool-call.dispatched", {
        ...fields,
        effect: fields.toolUseId === "toolu_1" ? "unsafe" : "pure",
        deadlineAt: deadlineOf(fields.attempt),
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({ ...base, replaces: fc.option(ids), instance: ids }).map((fields) => toolFact("tool-call.claimed", fields)),
  },
  {
    weight: 2,
    arbitrary: fc.record({ ...base, claim: fc.option(ids) }).map((fields) => toolFact("tool-call.finished", { ...fields, ...result })),
  },
  {
    weight: 1,
    arbitrary: fc.record(base).map((fields) => toolFact("tool-call.cancelled", { ...fields, deadlineAt: deadlineOf(fields.attempt) })),
  },
  { weight: 1, arbitrary: fc.record(base).map((fields) => toolFact("tool-call.progressed", fields)) },
)
/** A topic: records in the order of their offsets, log time never going back. */
const topic: fc.Arbitrary<readonly Placed[]> = fc
  .array(fc.record({ event: toolEvent, ms: fc.oneof(fc.nat({ max: 30 }), fc.nat({ max: 500 })) }), {
    minLength: 5,
    maxLength: 60,
    size: "max",
  })
  .map((steps) => {
    let timestamp = 0
    return steps.map(({ event, ms }, offset) => ({ event, at: { offset, timestamp: (timestamp += ms) } }))
  })

const pairs = ["sesn_a", "sesn_b"].flatMap((session) => ["toolu_1", "toolu_2"].map((id) => [session, id] as const))
const callsOf = (fold: ToolsFold): (ToolCall | undefined)[] => pairs.map(([session, id]) => fold.get(session, id))
const isOpen = (call: ToolCall): boolean => call.dispatch !== null && call.finished === null && call.cancelled === null

function folded(records: readonly Placed[]): ToolsFold {
  const fold = new ToolsFold()
  for (const { event, at } of records) fold.apply(event, at)
  return fold
}

/** Without the offsets: where its records stood is not what a call is. */
function meaning(call: ToolCall | undefined): unknown {
  if (call === undefined) return undefined
  const { firstOffset: _, lastOffset: __, ...rest } = call
  return rest
}

describe("the fold of a tool topic", () => {
  it("covers every fact of the topic", () => {
    const told = new Set(fc.sample(toolEvent, { numRuns: 300, seed: 3 }).map(({ type }) => type))
    assert.deepEqual([...told].sort(), toolFacts.map(({ type }) => type).sort())
    const verdicts = new Set<string>()
    for (const records of fc.sample(topic, { numRuns: 200, seed: 3 })) {
      const fold = new ToolsFold()
      for (const { event, at } of records) verdicts.add(`${fold.apply(event, at)} ${event.type}`)
    }
    for (const wanted of [
      "accepted tool-call.claimed",
      "accepted tool-call.finished",
      "late tool-call.finished",
      "duplicate tool-call.dispatched",
    ])
      assert.ok(verdicts.has(wanted), `no record was ${wanted}`)
  })

  it("in two halves is the whole, also through a snapshot, and writes to nothing it is given", () => {
    fc.assert(
      fc.property(topic, fc.nat(), (records, cut) => {
        const calls = new Map<string, ToolCall | undefined>()
        records.forEach(({ event, at }, n) => {
          const id = `${event.sessionId}/${event.toolUseId}`
          const before = calls.get(id)
          const given = n === cut % records.length ? structuredClone(before) : before
          calls.set(id, evolveToolCall(given === undefined ? given : Object.freeze(given), Object.freeze({ ...event }), at).call)
        })
        assert.deepEqual(
          pairs.map(([session, id]) => calls.get(`${session}/${id}`)),
          callsOf(folded(records)),
        )
      }),
      { numRuns: 150 },
    )
  })

  it("takes a second copy of a record as part of the trail: but for where the copies stand, the calls are the same", () => {
    fc.assert(
      fc.property(topic, fc.nat(), fc.nat(), (records, which, later) => {
        const index = which % records.length
        const place = index + 1 + (later % (records.length - index))
        const original = records[index] as Placed
        const fold = new ToolsFold()
        const verdicts: Verdict[] = []
        let first: Verdict | undefined
        records.forEach(({ event, at }, n) => {
          if (n === place) verdicts.push(fold.apply(original.event, { offset: at.offset - 0.5, timestamp: at.timestamp }))
          const verdict = fold.apply(event, at)
          if (n === index) first = verdict
        })
        const end = (records.at(-1) as Placed).at
        if (place === records.length) verdicts.push(fold.apply(original.event, { ...end, offset: end.offset + 0.5 }))
        if (first !== "accepted" || original.event.type === "tool-call.progressed") return
        assert.notEqual(verdicts[0], "accepted")
        assert.deepEqual(callsOf(fold).map(meaning), callsOf(folded(records)).map(meaning))
      }),
      { numRuns: 250 },
    )
  })

  it("keeps calls apart, and its index of open calls is what it says", () => {
    fc.assert(
      fc.property(topic, (records) => {
        const fold = folded(records)
        for (const [session, id] of pairs) {
          const alone = folded(records.filter(({ event }) => event.sessionId === session && event.toolUseId === id))
          assert.deepEqual(fold.get(session, id), alone.get(session, id))
        }
        for (const session of ["sesn_a", "sesn_b"]) {
          const open = callsOf(fold).filter((call) => call?.sessionId === session && isOpen(call))
          assert.deepEqual(new Set(fold.openOf(session)), new Set(open))
          assert.equal([...fold.openSessions()].includes(session), open.length > 0)
        }
      }),
      { numRuns: 150 },
    )
  })
})

describe("forgetting", () => {
  const marginMs = 100

  it("drops nothing that is open or that a copy of its dispatch could still start", () => {
    fc.assert(
      fc.property(topic, (records) => {
        const fold = folded(records)
        const before = callsOf(fold)
        const next = records.length
        const watermark = fold.forget(next, marginMs)
        assert.ok(watermark <= next)
        before.forEach((call, n) => {
          if (call === undefined) return
          const needed = isOpen(call) || fold.timestamp <= call.deadlineAt + marginMs
          if (needed) {
            assert.equal(callsOf(fold)[n], call)
            assert.ok(watermark <= call.firstOffset)
          } else if (call.lastOffset < watermark) assert.equal(callsOf(fold)[n], undefined)
        })
      }),
      { numRuns: 250 },
    )
  })

  it("keeps what a session still waits for, however old it is", () => {
    fc.assert(
      fc.property(topic, fc.nat({ max: pairs.length - 1 }), (records, which) => {
        const fold = folded(records)
        const [session, id] = pairs[which] as readonly [string, string]
        const call = fold.get(session, id)
        if (call === undefined) return
        // Much later, by the word of another call.
        fold.apply(toolFact("tool-call.progressed", { sessionId: "sesn_c" }), { offset: records.length, timestamp: 10_000_000 })
        const watermark = fold.forget(records.length + 1, marginMs, (one) => one === call)
        assert.equal(fold.get(session, id), call)
        assert.ok(watermark <= call.firstOffset)
      }),
      { numRuns: 150 },
    )
  })

  it("never leaves the low watermark between two copies of one dispatch", () => {
    fc.assert(
      fc.property(topic, (records) => {
        // Only dispatches that the fold took into account: one after its deadline starts nothing wherever it is read from.
        const inTime = records.filter(({ event, at }) => event.type === "tool-call.dispatched" && at.timestamp <= event.deadlineAt)
        const watermark = folded(records).forget(records.length, marginMs)
        for (const [session, id] of pairs) {
          const offsets = inTime.filter(({ event }) => event.sessionId === session && event.toolUseId === id).map(({ at }) => at.offset)
          if (offsets.length === 0) continue
          assert.equal(Math.min(...offsets) < watermark, Math.max(...offsets) < watermark, `${offsets.join()} and ${watermark}`)
        }
      }),
      { numRuns: 250 },
    )
  })

  it("lets who reads from the low watermark go on as if from the beginning", () => {
    fc.assert(
      fc.property(topic, fc.double({ min: 0, max: 1, noNaN: true }), (records, share) => {
        const cut = Math.floor(records.length * share)
        const whole = folded(records.slice(0, cut))
        const watermark = whole.forget(cut, marginMs)
        const resumed = folded(records.slice(watermark, cut))
        for (const [session, id] of pairs) {
          const call = whole.get(session, id)
          if (call !== undefined && (isOpen(call) || whole.timestamp <= call.deadlineAt + marginMs))
            assert.deepEqual(resumed.get(session, id), call)
        }
        // From here on, nothing runs for one that does not run for the other.
        for (const { event, at } of records.slice(cut)) {
          const starts = (fold: ToolsFold): boolean => {
            const verdict = fold.apply(event, at)
            return (
              verdict === "accepted" &&
              (event.type === "tool-call.dispatched" || event.type === "tool-call.claimed" || event.type === "tool-call.finished")
            )
          }
          assert.equal(starts(resumed), starts(whole), `${event.type} at ${at.offset}`)
        }
      }),
      { numRuns: 250 },
    )
  })
})
