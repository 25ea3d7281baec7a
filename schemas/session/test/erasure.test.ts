import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEvent } from "@reins/events"
import { fact, Story, type Told } from "@reins/session/testing"
import fc from "fast-check"
import { absent, evolve, SessionsFold, stateDigest } from "../src/index.ts"
import { remove } from "./answers.ts"
import { answeredLog, hostileLog, plausibleLog } from "./arbitrary-log.ts"

// E10: a log from which the other records of a deleted session are gone, all of them or the oldest only, means what it meant.

type Records = readonly Told<SessionEvent>[]

function folded(records: Records): SessionsFold {
  const fold = new SessionsFold()
  for (const { event, at } of records) fold.apply(event, at)
  return fold
}

function digests(fold: SessionsFold, sessionIds: readonly string[]): Record<string, string> {
  return Object.fromEntries(sessionIds.map((id) => [id, stateDigest(fold.get(id))]))
}

/** The log as a cleaner leaves it that has come so far: of deleted sessions nothing but their `session.deleted`. */
function erased(records: Records, to: number, deleted: ReadonlySet<string>): Records {
  return records.filter(({ event }, index) => index >= to || !deleted.has(event.sessionId) || event.type === "session.deleted")
}

function deletedIn(fold: SessionsFold): ReadonlySet<string> {
  return new Set([...fold.sessions].filter(([, { phase }]) => phase === "deleted").map(([id]) => id))
}

/**
 * Without what the offset of its command alone keeps out. Intake writes no such record: whoever judges a newer command has judged every older
 * one before, so a zombie's copy of the older answer meets its commandId, or a session that takes it no more. A late deletion of a session that is
 * deleted in the end may stay.
 */
function heardInOrder(records: Records, doomed: readonly string[]): Records {
  const fold = new SessionsFold()
  return records.filter(({ event, at }) => {
    const alone = evolve(fold.get(event.sessionId), event, at).verdict
    const accepted = fold.apply(event, at) === "accepted"
    return (event.type === "session.deleted" && doomed.includes(event.sessionId)) || accepted === (alone === "accepted")
  })
}

/** A story's log ends by deleting what it can: the plain logs seldom get so far by themselves. */
function deletedAtLast(records: Records, sessionIds: readonly string[]): Records {
  const fold = folded(records)
  const last = records.at(-1)?.at ?? { offset: 0, timestamp: 0 }
  const end = sessionIds.slice(1).map((sessionId, index): Told<SessionEvent> => {
    const at = { offset: last.offset + 1 + index, timestamp: last.timestamp + 1 }
    const command = { partition: 7, offset: index }
    const event = fact("session.deleted", { sessionId, eventId: `evt_last_${index}`, commandId: `last-${index}`, command })
    return { event, at, verdict: fold.apply(event, at) }
  })
  return [...records, ...end]
}

describe("a log of which a deleted session is erased (E10)", () => {
  it("folds to the same sessions, however far the erasure has come", () => {
    let seen = 0
    fc.assert(
      fc.property(fc.oneof(plausibleLog, answeredLog), fc.double({ min: 0, max: 1, noNaN: true }), ({ records, sessionIds }, share) => {
        const log = deletedAtLast(heardInOrder(records, sessionIds.slice(1)), sessionIds)
        const whole = folded(log)
        const deleted = deletedIn(whole)
        seen += erased(log, log.length, deleted).length < log.length ? 1 : 0
        for (const to of [log.length, Math.floor(log.length * share)])
          assert.deepEqual(digests(folded(erased(log, to, deleted)), sessionIds), digests(whole, sessionIds))
      }),
      { numRuns: 150 },
    )
    assert.ok(seen > 50, `${seen} logs had something to erase`)
  })

  it("says of every deleted session that it is deleted, whatever else the log holds", () => {
    fc.assert(
      fc.property(hostileLog, ({ records, sessionIds }) => {
        const log = deletedAtLast(records, sessionIds)
        const deleted = deletedIn(folded(log))
        assert.ok(deleted.size > 0)
        assert.deepEqual(new Set([...deletedIn(folded(erased(log, log.length, deleted)))].filter((id) => deleted.has(id))), deleted)
      }),
      { numRuns: 100 },
    )
  })
})

describe("a deleted session of which only session.deleted is left", () => {
  const whole = new Story().started().message("The secret.")
  const { event, at } = whole.tell(remove(whole)).records.at(-1) as Told<SessionEvent>

  it("is deleted, just as with all its records", () => {
    const alone = evolve(absent, event, at)
    assert.equal(alone.verdict, "accepted")
    assert.deepEqual(alone.session, whole.session)
  })

  it("is not started again by a command of last week, nor takes a message of it", () => {
    const { session } = evolve(absent, event, at)
    for (const { event: old } of whole.records.slice(0, -1)) {
      const again = evolve(
        session,
        { ...old, eventId: "evt_again" },
        {
          offset: at.offset + 1,
          timestamp: at.timestamp + 1,
        },
      )
      assert.deepEqual([again.verdict, again.session === session], ["superseded", true], old.type)
    }
  })

  it("knows the command that deleted it, so that its copy is one", () => {
    const { session } = evolve(absent, event, at)
    assert.equal(evolve(session, event, { offset: at.offset + 1, timestamp: at.timestamp }).verdict, "duplicate")
  })

  it("leaves of late answers nothing that another session's commands hang on", () => {
    const fold = new SessionsFold()
    fold.apply(event, at)
    const { partition, offset } = (event as Extract<SessionEvent, { command: unknown }>).command
    const rejected = fact("command.rejected", { sessionId: event.sessionId, commandId: "late", command: { partition, offset: offset + 5 } })
    assert.equal(fold.apply(rejected, { offset: at.offset + 1, timestamp: at.timestamp }), "accepted")
    assert.equal(fold.commandOffsets.get(partition), offset)
  })
})
