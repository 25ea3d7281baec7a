import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEvent } from "@reins/events"
import { partitionOf } from "@reins/log"
import { agent, fact } from "@reins/session/testing"
import { type Stage, stage } from "./stage.ts"

async function say(world: Stage, event: SessionEvent): Promise<void> {
  await world.admin.append({
    topic: "t.sessions",
    partition: partitionOf(event.sessionId, 2),
    key: () => `${event.sessionId}/${event.eventId}`,
    value: world.codec.encode("sessions", event),
    headers: { type: event.type, session: event.sessionId },
    certainty: "once",
  })
}

let offset = 0

function start(sessionId: string, more: object = {}): SessionEvent {
  const command = { partition: partitionOf(sessionId, 2), offset: offset++ }
  const ids = { sessionId, eventId: `evt_${sessionId}`, commandId: `cmd_${sessionId}`, command }
  return fact("session.started", { ...ids, agent: agent(), input: null, ...more })
}

describe("what anyone may have written into the log", () => {
  it("shows a session whose profile is no agent, and goes on", async (t) => {
    const world = await stage(t)
    const failures: Error[] = []
    const opened = await world.open({ failed: (error) => failures.push(error) })
    const profiles = ["{}", '{"id":{},"version":[]}', '{"id":"agent_1","version":1.5}', '{"id":"agent_1","version":null}']
    for (const [index, profile] of profiles.entries()) await say(world, start(`sesn_bad${index}`, { profile }))
    await say(world, start("sesn_good"))
    const listed: string[] = []
    for await (const session of opened.client().beta.sessions.list()) listed.push(session.id)
    assert.deepEqual(failures, [])
    assert.deepEqual(listed.sort(), ["sesn_bad0", "sesn_bad1", "sesn_bad2", "sesn_bad3", "sesn_good"])
  })
})
