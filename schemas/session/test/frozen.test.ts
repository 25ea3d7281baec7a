import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { canonicalJson, type SessionEvent } from "@reins/events"
import { Story, type Told, text } from "@reins/session/testing"
import fc from "fast-check"
import {
  absent,
  evolve,
  forgottenPart,
  freeze,
  isStarted,
  openRequestBody,
  recalled,
  type Session,
  stateDigest,
  thaw,
  type Utterance,
} from "../src/index.ts"
import { answeredLog, hostileLog, type Log, plausibleLog } from "./arbitrary-log.ts"

const anyLog: fc.Arbitrary<Log> = fc.oneof(plausibleLog, hostileLog, answeredLog)

interface Folded {
  session: Session
  records: number[]
  readonly told: Told<SessionEvent>[]
}

function conversationOf(session: Session): Utterance | null {
  return isStarted(session) ? session.conversation : null
}

/** The conversation as folding the records gives it, taken from where its digest is that of the forgotten part. */
function pastOf({ told, records }: Folded, digest: string): Utterance {
  let session: Session = absent
  for (const { event, at } of told) {
    if (!records.includes(at.offset)) continue
    session = evolve(session, event, at).session
    const conversation = conversationOf(session)
    if (conversation?.digest === digest) return conversation
  }
  throw new Error(`Nothing that was said has the digest ${digest}.`)
}

function recall(folded: Folded): Session {
  const conversation = conversationOf(folded.session)
  const forgotten = forgottenPart(conversation)
  if (conversation === null || forgotten === null) return folded.session
  return { ...folded.session, conversation: recalled(conversation, pastOf(folded, forgotten.digest)) } as Session
}

describe("a session that is frozen and thawed", () => {
  it("is the same session: every later record has the same verdict and gives the same state", () => {
    let cold = 0
    fc.assert(
      fc.property(anyLog, fc.nat({ max: 7 }), ({ records }, every) => {
        const sessions = new Map<string, { warm: Session; folded: Folded }>()
        for (const [index, { event, at }] of records.entries()) {
          const known = sessions.get(event.sessionId) ?? { warm: absent, folded: { session: absent, records: [], told: [] } }
          const { folded } = known
          const expected = evolve(known.warm, event, at)
          const step = evolve(folded.session, event, at)
          assert.equal(step.verdict, expected.verdict)
          assert.equal(stateDigest(step.session), stateDigest(expected.session))
          folded.told.push({ event, at } as Told<SessionEvent>)
          if (step.verdict === "accepted") folded.records.push(at.offset)
          folded.session = step.session
          if (index % (every + 1) === 0) {
            const again = thaw(freeze(folded))
            assert.deepEqual(again.records, folded.records)
            folded.session = again.session
            if (forgottenPart(conversationOf(again.session)) !== null) cold++
          }
          sessions.set(event.sessionId, { warm: expected.session, folded })
        }
        for (const { warm, folded } of sessions.values()) {
          const whole = recall(folded)
          assert.equal(stateDigest(whole), stateDigest(warm))
          if (warm.phase === "awaiting-model" && whole.phase === "awaiting-model")
            assert.equal(openRequestBody(whole), openRequestBody(warm))
        }
      }),
      { numRuns: 200 },
    )
    assert.ok(cold > 0, "conversations were forgotten")
  })

  it("keeps all of its fields, the conversation's text aside", () => {
    fc.assert(
      fc.property(anyLog, ({ records }) => {
        const sessions = new Map<string, Session>()
        for (const { event, at } of records)
          sessions.set(event.sessionId, evolve(sessions.get(event.sessionId) ?? absent, event, at).session)
        for (const session of sessions.values()) {
          const again = thaw(freeze({ session, records: [] })).session
          assert.equal(withoutConversation(again), withoutConversation(session))
        }
      }),
      { numRuns: 100 },
    )
  })

  it("does not hold what was said", () => {
    const story = new Story()
      .started()
      .requested()
      .responded([text("The canary sings.")])
      .idled()
    assert.ok(!freeze({ session: story.session, records: [0, 1] }).includes("canary"))
  })

  it("cannot be sent before its conversation is recalled, nor with another one", () => {
    const story = new Story()
      .started()
      .requested()
      .responded([text("Hello.")])
      .idled()
      .message("More.")
      .requested()
    const { session } = thaw(freeze({ session: story.session, records: [] }))
    assert.ok(session.phase === "awaiting-model" && session.conversation !== null && story.known.conversation !== null)
    const thawed = session
    assert.throws(() => openRequestBody(thawed), /recall it from the log first/)
    const other = new Story().started().requested().known.conversation as Utterance
    assert.throws(() => recalled(thawed.conversation as Utterance, other), /is not the one/)
    const whole = recalled(thawed.conversation as Utterance, story.known.conversation)
    assert.equal(openRequestBody({ ...thawed, conversation: whole }), openRequestBody(story.session as typeof thawed))
  })
})

/** What JSON can tell apart: a field that is not there is one that is undefined. */
function withoutConversation(session: Session): string {
  const { full, recent } = session.commands
  const commands = { full: full.map((ids) => [...ids]), recent }
  const plain = { ...session, commands, conversation: conversationOf(session)?.digest ?? null }
  return canonicalJson(
    JSON.parse(JSON.stringify(session.phase === "parked" ? { ...plain, before: withoutConversation(session.before) } : plain)),
  )
}
