import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import type { EffectClass, SessionEvent } from "@reins/events"
import { openRequestBody, SessionsFold, sha256Hex } from "@reins/session"
import { ledgered } from "../crashpoints/golden-session.ts"
import type { LedgerLine } from "../fixtures/ledger-tools.ts"
import { Recording } from "../recorded/recording.ts"
import type { JournalLine, LoggedRecord } from "../scenarios/long-session.ts"
import { type Evidence, judge } from "./oracle.ts"

// An oracle that has never found anything proves nothing: each of its rules is shown a session in which it is broken.

const sessionId = "sesn_parallel"
const classOf: Readonly<Record<string, EffectClass>> = {
  look: "pure",
  fix: "idempotent",
  note: "keyed",
  charge: "queryable",
  ring: "unsafe",
  refund: "keyed",
}

/** Every accepted request as the model got it. */
function journalOf(records: readonly LoggedRecord[]): Map<string, JournalLine[]> {
  const fold = new SessionsFold()
  const journal = new Map<string, JournalLine[]>()
  for (const { topic, type, value, offset, timestamp } of records) {
    if (!topic.endsWith(".sessions")) continue
    fold.apply(value as SessionEvent, { offset, timestamp })
    const session = fold.get(value.sessionId as string)
    if (type !== "model.requested" || session.phase !== "awaiting-model") continue
    const body = openRequestBody(session)
    journal.set(sha256Hex(body), [{ at: timestamp, sha256: sha256Hex(body), body }])
  }
  return journal
}

type Change = (evidence: {
  records: LoggedRecord[]
  effects: LedgerLine[]
  journal: Map<string, JournalLine[]>
  acknowledged: string[]
}) => void

describe("the oracle", () => {
  let whole: Evidence

  before(async () => {
    const recording = Recording.from(fileURLToPath(new URL("../recorded/0.1.0-parallel.jsonl", import.meta.url)))
    const records = (await recording.read()).records.get(sessionId) ?? []
    const effects: LedgerLine[] = []
    for (const { topic, type, value, timestamp } of records) {
      if (type === "tool-call.dispatched" && topic.endsWith(".sessions")) {
        const is = classOf[value.tool]
        assert.ok(is !== undefined, `${value.tool} has a class`)
        const claim = records.find((one) => one.type === "tool-call.claimed" && one.value.toolUseId === value.toolUseId)
        effects.push({
          tool: value.tool,
          class: is,
          sessionId,
          toolUseId: value.toolUseId,
          key: value.idempotencyKey,
          attempt: value.attempt,
          pid: 1,
          at: Math.max(timestamp, claim?.timestamp ?? 0),
          applied: true,
        })
      }
    }
    const start = records.find(({ type }) => type === "session.started")
    whole = { sessionId, records, effects, journal: journalOf(records), acknowledged: [start?.value.commandId], ledgered }
  })

  const changed = (change: Change): readonly string[] => {
    const evidence = {
      records: [...whole.records],
      effects: [...whole.effects],
      journal: new Map([...whole.journal].map(([hash, lines]) => [hash, [...lines]])),
      acknowledged: [...whole.acknowledged],
    }
    change(evidence)
    return judge({ ...whole, ...evidence }).breaches
  }
  const effectOf = (effects: readonly LedgerLine[], tool: string): LedgerLine => {
    const found = effects.find((line) => line.tool === tool)
    assert.ok(found !== undefined, `${tool} ran`)
    return found
  }
  const indexOf = (records: readonly LoggedRecord[], type: string, n = 0): number => {
    const found = records.flatMap((record, index) => (record.type === type ? [index] : []))[n]
    assert.ok(found !== undefined, `there is a ${type}`)
    return found
  }

  it("finds nothing in a session in which nothing is wrong", () => {
    assert.deepEqual(
      changed(() => undefined),
      [],
    )
  })

  const bugs: readonly (readonly [rule: string, what: string, change: Change])[] = [
    ["I1", "an acknowledged command is lost", ({ acknowledged }) => void acknowledged.push("cmd_lost")],
    ["I3", "a result is lost", ({ records }) => void records.splice(indexOf(records, "tool-call.completed"), 1)],
    [
      "I3",
      "a result stands twice",
      ({ records }) => {
        const last = records.at(-1) as LoggedRecord
        const twice = records[indexOf(records, "tool-call.completed")] as LoggedRecord
        records.push({ ...twice, key: "another", offset: last.offset + 1000 })
      },
    ],
    ["I4", "a bell rings twice", ({ effects }) => void effects.push(effectOf(effects, "ring"))],
    ["I4", "a charge is made twice", ({ effects }) => void effects.push(effectOf(effects, "charge"))],
    [
      "I4",
      "a keyed effect is had twice, under two keys",
      ({ effects }) => {
        const line = effectOf(effects, "note")
        effects.push({ ...line, key: `${line.key}/again` })
      },
    ],
    ["I5", "a success is invented", ({ effects }) => void effects.splice(effects.indexOf(effectOf(effects, "ring")), 1)],
    [
      "I6",
      "a tool runs before its dispatch is logged",
      ({ effects }) => {
        const line = effectOf(effects, "look")
        effects[effects.indexOf(line)] = { ...line, at: line.at - 10_000 }
      },
    ],
    [
      "I6",
      "an unsafe tool runs without a claim",
      ({ records, effects }) => {
        const { toolUseId } = effectOf(effects, "ring")
        records.splice(
          records.findIndex(({ type, value }) => type === "tool-call.claimed" && value.toolUseId === toolUseId),
          1,
        )
      },
    ],
    [
      "I7",
      "a tool runs that nobody asked for",
      ({ effects }) => void effects.push({ ...effectOf(effects, "look"), toolUseId: "toolu_none" }),
    ],
    [
      "I8",
      "the model gets another conversation than the log's",
      ({ journal }) => {
        for (const [hash, [line]] of journal)
          if (line !== undefined) journal.set(hash, [{ ...line, body: line.body.replace("This is", "That was") }])
      },
    ],
    [
      "I8",
      "two results are given to the model in another order (I21)",
      ({ records }) => {
        const index = indexOf(records, "model.responded")
        const record = records[index] as LoggedRecord
        const content = JSON.parse(record.value.content as string) as unknown[]
        records[index] = { ...record, value: { ...record.value, content: JSON.stringify(content.toReversed()) } }
      },
    ],
    [
      "I9",
      "a request is made once more than it was claimed",
      ({ journal }) => {
        for (const lines of journal.values()) lines.push(lines[0] as JournalLine)
      },
    ],
    [
      "I11",
      "a second claim is accepted",
      ({ records }) => {
        const claim = records[indexOf(records, "tool-call.claimed")] as LoggedRecord
        records.push({ ...claim, key: "another", offset: claim.offset + 1000, value: { ...claim.value, eventId: "evt_second" } })
      },
    ],
    [
      "I12",
      "a record stands before one of a lower offset",
      ({ records }) => {
        const index = indexOf(records, "model.responded")
        const record = records[index] as LoggedRecord
        records[index] = { ...record, offset: record.offset + 5000 }
      },
    ],
    [
      "I18",
      "a request is accepted after an interrupt",
      ({ records }) => {
        const index = indexOf(records, "model.requested", 1)
        const record = records[index] as LoggedRecord
        const value = { ...record.value, type: "interrupt.received", commandId: "cmd_stop", eventId: "evt_stop", causedBy: null }
        records.splice(index, 0, { ...record, key: "stop", offset: record.offset - 0.5, type: "interrupt.received", value })
      },
    ],
  ]
  for (const [rule, what, change] of bugs) {
    it(`${rule}: ${what}`, () => {
      const breaches = changed(change)
      assert.ok(
        breaches.some((breach) => breach.includes(`${rule}: `)),
        breaches.join("\n") || "nothing was found",
      )
    })
  }
})

describe("the oracle on calls that wait for someone", () => {
  let records: readonly LoggedRecord[]
  before(async () => {
    const recording = Recording.from(fileURLToPath(new URL("../recorded/0.1.0-held.jsonl", import.meta.url)))
    records = (await recording.read()).records.get("sesn_held") ?? []
  })

  /** What it says of holds and of what becomes of calls; this recording keeps no effects and no bodies. */
  const judged = (of: readonly LoggedRecord[]): readonly string[] =>
    judge({ sessionId: "sesn_held", records: of, effects: [], journal: new Map(), acknowledged: [], ledgered: new Set() }).breaches.filter(
      (text) => / (I3|I17|I18): /.test(text),
    )

  it("finds nothing where nothing is wrong, and counts what was held and answered", () => {
    assert.deepEqual(judged(records), [])
    const { held, allowed, denied, given } = judge({
      sessionId: "sesn_held",
      records,
      effects: [],
      journal: new Map(),
      acknowledged: [],
      ledgered: new Set(),
    })
    assert.deepEqual({ held, allowed: allowed > 0, answered: allowed + denied + given > 2 }, { held: 6, allowed: true, answered: true })
  })

  it("finds I17 where an allow is missing, is for another call, or stands behind the dispatch", () => {
    const allow = records.find(({ type, value }) => type === "approval.given" && value.decision === "allow")
    assert.ok(allow !== undefined)
    const rest = records.filter((record) => record !== allow)
    for (const broken of [
      rest,
      records.map((record) => (record === allow ? { ...record, value: { ...record.value, toolUseId: "toolu_other" } } : record)),
      [...rest, allow],
    ])
      assert.match(judged(broken).join("; "), /I17: .* nobody had allowed it/)
  })

  it("finds I17 where a call is dispatched while it is held, and I3 where a client's result is lost", () => {
    const hold = records.findIndex(({ type, value }) => type === "tool-call.held" && value.reason === "approval")
    const id: unknown = records[hold]?.value.toolUseId
    const answer = records.findIndex(({ type, value }) => type === "approval.given" && value.toolUseId === id)
    assert.ok(hold >= 0 && answer > hold)
    // The hold stands behind its answer, and is taken all the same.
    const late = records.toSpliced(hold, 1).toSpliced(answer, 0, records[hold] as LoggedRecord)
    assert.match(judged(late).join("; "), /I17: /)
    // One of them came second and changes nothing.
    const results = records.filter(({ type }) => type === "result.received")
    const lost = results.filter((result) => judged(records.filter((record) => record !== result)).some((text) => text.includes("I3: ")))
    assert.ok(lost.length >= 1 && lost.length < results.length, `${lost.length} of ${results.length}`)
  })
})

describe("the oracle on conversations that are made short", () => {
  let records: readonly LoggedRecord[]
  let journal: ReadonlyMap<string, readonly JournalLine[]>
  before(async () => {
    const recording = Recording.from(fileURLToPath(new URL("../recorded/0.1.0-compacted.jsonl", import.meta.url)))
    records = (await recording.read()).records.get("sesn_compacted") ?? []
    journal = journalOf(records)
  })

  const judged = (of: readonly LoggedRecord[], asked = journal): readonly string[] =>
    judge({ sessionId: "sesn_compacted", records: of, effects: [], journal: asked, acknowledged: [], ledgered: new Set() }).breaches
  const at = (type: string, is: (value: LoggedRecord["value"]) => boolean = () => true): number => {
    const index = records.findIndex((record) => record.type === type && is(record.value))
    assert.ok(index >= 0, `there is a ${type}`)
    return index
  }
  const changedAt = (index: number, change: object): readonly LoggedRecord[] => {
    const record = records[index] as LoggedRecord
    return records.with(index, { ...record, value: { ...record.value, ...change } })
  }

  it("finds nothing where nothing is wrong, and counts what was made short and what was too long", () => {
    assert.deepEqual(judged(records), [])
    const { summaries, tooLong } = judge({
      sessionId: "sesn_compacted",
      records,
      effects: [],
      journal,
      acknowledged: [],
      ledgered: new Set(),
    })
    assert.deepEqual({ summaries, tooLong }, { summaries: 2, tooLong: 1 })
  })

  it("finds I8 where the conversation goes on with other words than the summary's, or without any", () => {
    const compacted = at("context.compacted")
    const content = (records[compacted] as LoggedRecord).value.content as string
    assert.match(
      judged(changedAt(compacted, { content: content.replace("Asked:", "Told:") })).join("; "),
      /I8: .* other words than the summary/,
    )
    assert.match(judged(records.toSpliced(compacted, 1)).join("; "), /I8: the request of turn/)
  })

  it("finds I9 where a summary is taken from a claim that was not open", () => {
    assert.match(judged(changedAt(at("context.compacted"), { claim: "evt_other" })).join("; "), /I9: the summary/)
  })

  it("finds I8 where a summary is asked for of another conversation, whole or as a transcript", () => {
    for (const is of [(compacts: number | null) => compacts === 0, (compacts: number | null) => (compacts ?? 0) > 0]) {
      const { bodyHash } = (records[at("model.requested", ({ compacts }) => is(compacts))] as LoggedRecord).value
      const changed = new Map(journal)
      const [line] = changed.get(bodyHash as string) as [JournalLine]
      const body = line.body.replace("Remember this", "Forget that").replace("<conversation>\\nuser: ", "<conversation>\\nuser: Never, ")
      changed.set(bodyHash as string, [{ ...line, body }])
      assert.match(judged(records, changed).join("; "), /I8: .*request/)
    }
  })

  it("finds I8 where an attempt at a summary asks for the next turn instead", () => {
    assert.match(
      judged(
        changedAt(
          at("model.requested", ({ compacts }) => compacts === 0),
          { compacts: null },
        ),
      ).join("; "),
      /I8: /,
    )
  })
})
