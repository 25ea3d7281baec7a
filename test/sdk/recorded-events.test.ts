import assert from "node:assert/strict"
import { globSync } from "node:fs"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import type { SessionEvent } from "@reins/events"
import { type ApiEvent, apiEvents, SessionsFold } from "@reins/session"
import { Recording } from "../recorded/recording.ts"
import { orderingProblems } from "./ordering.ts"
import { expectExactShape } from "./shapes.ts"

// What the API shows of every recorded log, held to the same rules and types as what a gateway says on the wire.

const folder = fileURLToPath(new URL("../recorded/", import.meta.url))

describe("the events that the API makes of recorded logs", () => {
  for (const file of globSync("*.jsonl", { cwd: folder }).sort())
    it(`${file}: have the SDK's types and keep their order`, async () => {
      const { records, sessions } = await Recording.from(`${folder}${file}`).read()
      assert.ok(sessions.size > 0)
      for (const sessionId of sessions.keys()) {
        const fold = new SessionsFold()
        const shown: ApiEvent[] = []
        for (const { topic, partition, offset, timestamp, value } of records.get(sessionId) ?? []) {
          if (!topic.endsWith(".sessions")) continue
          const event = value as SessionEvent
          const before = fold.get(sessionId)
          const verdict = fold.apply(event, { partition, offset, timestamp } as Parameters<typeof fold.apply>[1])
          shown.push(...apiEvents(before, event, { session: fold.get(sessionId), verdict }, timestamp, (ms) => new Date(ms).toISOString()))
        }
        for (const event of shown) expectExactShape("BetaManagedAgentsSessionEvent", event)
        assert.deepEqual(orderingProblems(shown), [], JSON.stringify(shown.map(({ type }) => type)))
        assert.ok(shown.some(({ type }) => type === "agent.message") && shown.length > 10, `${sessionId} shows ${shown.length} events`)
      }
    })
})
