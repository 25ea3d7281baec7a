import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import { partitionOf } from "@reins/log"
import { readConfig, SessionReader } from "@reins/runtime"
import { planned, startSimulatedModel } from "@reins/simulated-model"
import { loadTools, toolsBackend } from "@reins/worker-kit"
import type { LedgerLine } from "../fixtures/ledger.ts"
import { type Orders, startOrders } from "../fixtures/orders.ts"
import {
  checkLongSession,
  type JournalLine,
  type LoggedRecord,
  longSessionAgent,
  longSessionPrompt,
  type Witnesses,
} from "./long-session.ts"

// The checks of the long session are what the end-to-end tests stand on. Here a true run is falsified in one place after the other, and
// each time they have to notice.

const turns = 3
const sessionId = "sesn_true"

describe("the checks of the long session", { timeout: 60_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "reins-checks-"))
  let orders: Orders
  let truth: Witnesses

  before(async () => {
    const ledger = join(dir, "effects.jsonl")
    process.env["LEDGER_FILE"] = ledger
    orders = await startOrders(ledger)
    const journal: JournalLine[] = []
    const model = await startSimulatedModel({
      script: (call) => {
        const sha256 = createHash("sha256").update(call.body).digest("hex")
        journal.push({ at: Date.now(), sha256, body: call.body })
        return planned(call)
      },
    })
    const config = readConfig({ REINS_DATA: dir, REINS_LOG_LEVEL: "silent", ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: "none" })
    const tools = await loadTools(fileURLToPath(new URL("../fixtures/ledger.ts", import.meta.url)))
    const host = await startHost({
      config,
      workers: [toolsBackend("tool-workers/ledger", "ledger", tools)],
      failed: (error) => {
        throw error
      },
    })
    const names = topicNames(config.prefix)
    const reader = await SessionReader.open(host.log, host.codec, config.prefix, sessionId)
    assert.ok(reader !== null)
    const records: LoggedRecord[] = []
    const command = async (value: object, then: string): Promise<void> => {
      await host.log.append({
        topic: names.commands,
        partition: partitionOf(sessionId, config.partitions),
        key: () => sessionId,
        value: Buffer.from(JSON.stringify(value)),
        headers: {},
        certainty: "always",
      })
      while (!records.some(({ type }) => type === then)) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        records.push(...((await reader.read({ tools: true })) as readonly LoggedRecord[]))
      }
    }
    const input = [{ type: "text", text: longSessionPrompt(sessionId, turns) }]
    await command({ type: "session.start", agent: longSessionAgent(orders.url), input }, "session.idled")
    await command({ type: "session.end" }, "session.ended")
    await host.stop()
    await model.stop()
    const lines = readFileSync(ledger, "utf8").trim().split("\n")
    truth = { sessionId, turns, records, ledger: lines.map((line) => JSON.parse(line) as LedgerLine), journal, killed: false }
  })

  after(async () => {
    delete process.env["LEDGER_FILE"]
    await orders.close()
    rmSync(dir, { recursive: true, force: true })
  })

  /** The records with this one changed: by a new value, or left out. */
  const changed = (is: (record: LoggedRecord) => boolean, change: (record: LoggedRecord) => readonly LoggedRecord[]): Witnesses => {
    const index = truth.records.findLastIndex(is)
    assert.ok(index >= 0, "there is a record to change")
    return { ...truth, records: truth.records.toSpliced(index, 1, ...change(truth.records[index] as LoggedRecord)) }
  }
  const typed =
    (type: string, tool?: string) =>
    (record: LoggedRecord): boolean =>
      record.type === type && record.topic.endsWith(".sessions") && (tool === undefined || record.value.tool === tool)
  const left = (): readonly LoggedRecord[] => []
  const again = (record: LoggedRecord): readonly LoggedRecord[] => [
    record,
    { ...record, offset: record.offset + 0.5, key: `${record.key}x` },
  ]
  const line = (tool: string): LedgerLine => truth.ledger.find((one) => one.tool === tool) as LedgerLine

  it("let the truth pass, also as the survivor of a kill", () => {
    const counted = { unknownOutcomes: 0, extraModelCalls: 0, takeovers: 0 }
    assert.deepEqual(checkLongSession(truth), counted)
    assert.deepEqual(checkLongSession({ ...truth, killed: true }), counted)
  })

  const lies: readonly (readonly [what: string, notices: RegExp, lie: () => Witnesses])[] = [
    ["a result is missing", /has one result/, () => changed(typed("tool-call.completed"), left)],
    ["a result is there twice", /has one result/, () => changed(typed("tool-call.completed"), again)],
    [
      "a result is that of another call",
      /got its own answer/,
      () => changed(typed("tool-call.completed"), (record) => [{ ...record, value: { ...record.value, content: '"1002"' } }]),
    ],
    [
      "a keyed call came to nothing",
      /came to tool-call\.outcome-unknown/,
      () => {
        const id = truth.ledger.findLast(({ tool }) => tool === "note")?.toolUseId
        return {
          ...changed(
            (record) => typed("tool-call.completed")(record) && record.value.toolUseId === id,
            (record) => [{ ...record, type: "tool-call.outcome-unknown" }],
          ),
          killed: true,
        }
      },
    ],
    ["the session did not end", /session\.idled/, () => changed(typed("session.ended"), left)],
    [
      "a record came too late without a fault",
      /said twice or too late/,
      () => changed(typed("model.responded"), (record) => [record, { ...record, offset: record.offset + 0.5, key: "x", verdict: "late" }]),
    ],
    [
      "a decision stands before its cause",
      /I12: tool-call\.dispatched/,
      () => {
        const { records, ...rest } = changed(typed("tool-call.dispatched", "ring"), left)
        const dispatch = truth.records.findLast(typed("tool-call.dispatched", "ring")) as LoggedRecord
        const cause = records.findIndex(({ value }) => value.eventId === dispatch.value.causedBy)
        return { ...rest, records: records.toSpliced(cause, 0, { ...dispatch, offset: (records[cause]?.offset ?? 0) - 0.5 }) }
      },
    ],
    [
      "a key was used twice",
      /was used twice/,
      () => changed(typed("session.idled"), (record) => [{ ...record, key: truth.records[0]?.key ?? null }]),
    ],
    ["a response stands without its request", /I12: model\.responded/, () => changed(typed("model.requested"), left)],
    ["a turn has two responses", /used once|I9/, () => changed(typed("model.responded"), again)],
    ["a call was sent without a decision", /I6: ring ran/, () => changed(typed("tool-call.dispatched", "ring"), left)],
    [
      "an effect came before its decision",
      /I6/,
      () => ({ ...truth, ledger: truth.ledger.with(0, { ...(truth.ledger[0] as LedgerLine), at: 1 }) }),
    ],
    ["an unsafe tool ran twice", /I4: the unsafe ring/, () => ({ ...truth, ledger: [...truth.ledger, line("ring")] })],
    [
      "an unsafe tool ran twice after a kill",
      /I4: the unsafe ring/,
      () => ({ ...truth, killed: true, ledger: [...truth.ledger, line("ring")] }),
    ],
    ["a pure tool ran twice without a fault", /look of turn 1 ran once/, () => ({ ...truth, ledger: [...truth.ledger, line("look")] })],
    ["a refund was made twice", /I4: the refund/, () => ({ ...truth, killed: true, ledger: [...truth.ledger, line("refund")] })],
    [
      "the key differs between attempts",
      /idempotency key is the same/,
      () => ({ ...truth, killed: true, ledger: [...truth.ledger, { ...line("note"), key: `${line("note").key}/2` }] }),
    ],
    ["a success is invented", /I5: ring/, () => ({ ...truth, ledger: truth.ledger.filter(({ tool }) => tool !== "ring") })],
    ["a tool ran for nobody", /I7/, () => ({ ...truth, ledger: [...truth.ledger, { ...line("look"), toolUseId: "toolu_none" }] })],
    [
      "the model got other bytes",
      /I8: the model got the bytes/,
      () => ({ ...truth, journal: truth.journal.toSpliced(1, 1, { ...(truth.journal[1] as JournalLine), sha256: "0".repeat(64) }) }),
    ],
    ["the model was asked twice without a fault", /I9/, () => ({ ...truth, journal: [...truth.journal, truth.journal[1] as JournalLine] })],
    [
      "the model was asked before it was logged",
      /asked for after it was logged/,
      () => ({ ...truth, journal: truth.journal.with(1, { ...(truth.journal[1] as JournalLine), at: 1 }) }),
    ],
    [
      "a request does not extend the one before",
      /I8: request 2 extends/,
      () => falseRequest((messages) => replaced(messages, 0, () => [{ text: "?", type: "text" }])),
    ],
    [
      "the results stand in another order",
      /I21/,
      () => falseRequest((messages) => replaced(messages, messages.length - 1, (content) => content.toReversed())),
    ],
    [
      "a word of the model was changed",
      /goes back as it was/,
      () => falseRequest((messages) => replaced(messages, messages.length - 2, (content) => content.slice(1))),
    ],
  ]

  /** The second request as another one, with everything that vouches for it changed along. */
  function falseRequest(change: (messages: readonly Message[]) => readonly Message[]): Witnesses {
    const asked = truth.journal[1] as JournalLine
    const messages = change((JSON.parse(asked.body) as { messages: readonly Message[] }).messages)
    const start = asked.body.indexOf('"messages":[')
    const end = asked.body.lastIndexOf('],"model":')
    const body = `${asked.body.slice(0, start)}"messages":[${messages.map((message) => JSON.stringify(message)).join(",")}${asked.body.slice(end)}`
    const sha256 = createHash("sha256").update(body).digest("hex")
    const records = truth.records.map((record) =>
      record.value?.bodyHash === asked.sha256 ? { ...record, value: { ...record.value, bodyHash: sha256 } } : record,
    )
    return { ...truth, records, journal: truth.journal.with(1, { ...asked, body, sha256 }) }
  }

  for (const [what, notices, lie] of lies)
    it(`notice that ${what}`, () => {
      assert.throws(() => checkLongSession(lie()), notices)
    })
})

interface Message {
  readonly role: string
  readonly content: readonly unknown[]
}

function replaced(
  messages: readonly Message[],
  index: number,
  change: (content: readonly unknown[]) => readonly unknown[],
): readonly Message[] {
  return messages.map((message, at) => (at === index ? { ...message, content: change(message.content) } : message))
}
