import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import type { Session } from "@reins/session"
import { Recording } from "../recorded/recording.ts"
import type { LoggedRecord } from "../scenarios/long-session.ts"
import type { WholeLog } from "./read-log.ts"
import { readAgain, settledIn } from "./second-reading.ts"

// The reference agrees with the fold about real logs, and does not where the fold says anything else.

const logs = ["plain", "parallel", "interrupted", "takeover"] as const

for (const name of logs) {
  describe(`the second reading of a ${name} log`, () => {
    let whole: WholeLog
    let prefix: string

    before(async () => {
      const recording = Recording.from(fileURLToPath(new URL(`../recorded/0.1.0-${name}.jsonl`, import.meta.url)))
      prefix = recording.head.prefix
      whole = await recording.read()
    })

    const changed = (type: string, change: (record: LoggedRecord) => LoggedRecord): readonly string[] => {
      let done = false
      const records = new Map(
        [...whole.records].map(([sessionId, own]) => [
          sessionId,
          own.map((record) => {
            if (done || record.type !== type) return record
            done = true
            return change(record)
          }),
        ]),
      )
      assert.ok(done, `there is a ${type}`)
      return readAgain({ ...whole, records }, prefix).differing
    }

    it("comes to the same verdicts and the same sessions, and all of them rest", () => {
      const again = readAgain(whole, prefix)
      assert.deepEqual(again.differing, [])
      for (const [sessionId, records] of whole.records) {
        assert.ok(settledIn(again, sessionId), `${sessionId} rests`)
        assert.deepEqual(
          again.records.get(sessionId)?.map(({ offset }) => offset),
          records.map(({ offset }) => offset),
        )
      }
    })

    it("tells of a record that the fold takes for something else", () => {
      const ofCalls = name === "plain" ? [] : ["tool-call.dispatched", "tool-call.completed"]
      for (const type of ["session.started", "model.requested", "model.responded", ...ofCalls])
        assert.notDeepEqual(
          changed(type, (record) => ({ ...record, verdict: "superseded" })),
          [],
          type,
        )
    })

    it("tells of what is on a backend's topic as well", { skip: name === "plain" && "it has no tools" }, () => {
      const flip = (record: LoggedRecord): LoggedRecord => ({ ...record, verdict: record.verdict === "accepted" ? "late" : "accepted" })
      assert.notDeepEqual(changed("tool-call.finished", flip), [])
    })

    it("tells of a session that has come to something else", () => {
      for (const [sessionId, session] of whole.sessions) {
        const other = { ...session, conversation: null } as Session
        const { differing } = readAgain({ ...whole, sessions: new Map([[sessionId, other]]) }, prefix)
        assert.notDeepEqual(differing, [], sessionId)
      }
    })
  })
}
