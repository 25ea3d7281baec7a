import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { partitionOf } from "@reins/log"
import { callEventId, sha256Hex } from "@reins/session"
import { agent, fact, Story, tool, toolUse } from "@reins/session/testing"
import { type ErrorBody, type Opened, type Stage, stage } from "./stage.ts"

const sessionId = "sesn_retried"
const partition = partitionOf(sessionId, 2)

interface Answer {
  readonly status: number
  readonly body: ErrorBody & { readonly data?: readonly { readonly id: string }[] }
}

async function send(opened: Opened, key: string, event: object): Promise<Answer> {
  const response = await fetch(`${opened.url}/v1/sessions/${sessionId}/events`, {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": key },
    body: JSON.stringify({ events: [event] }),
  })
  return { status: response.status, body: (await response.json()) as Answer["body"] }
}

/** The commands that were published, by id, oldest first; a copy of one says nothing new. */
async function published(world: Stage): Promise<readonly string[]> {
  const ids = new Set<string>()
  for await (const records of world.admin.replay("t.commands", partition, 0))
    for (const { headers } of records) if (headers["command"] !== undefined) ids.add(headers["command"])
  return [...ids]
}

/** Puts into the log what the story tells beyond what stands there. */
async function tell(world: Stage, story: Story): Promise<void> {
  const [bounds] = (await world.admin.bounds("t.sessions")).filter((one) => one.partition === partition)
  for (const { event } of story.records.slice(bounds?.end ?? 0)) await world.say(event)
}

describe("events that are sent again because their answer was lost", () => {
  it("are answered with what they came to, wherever the session is by now", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ limits: { answerTimeoutMs: 300 } })
    const story = new Story(sessionId).started(agent([tool("refund", { permission: "always_ask" })]), { input: null })
    await tell(world, story)
    const message = { type: "user.message", content: [{ type: "text", text: "Refund, please" }] }
    assert.equal((await send(opened, "m", message)).status, 503, "nobody runs here who would answer")
    const [first = ""] = await published(world)
    story.message("Refund, please", { commandId: first }).requested()
    story.responded([toolUse("toolu_1", "refund", {})])
    const causedBy = story.known.response
    const call = { toolUseId: "toolu_1", attempt: 0, argumentsHash: sha256Hex("{}"), causedBy, sessionId }
    story.tell(fact("tool-call.held", { ...call, eventId: "evt_held", tool: "refund", reason: "approval", message: null }))
    story.idled("requires_action")
    assert.equal(story.verdict, "accepted")
    await tell(world, story)
    const again = await send(opened, "m", message)
    assert.deepEqual([again.status, again.body.error?.message], [200, undefined])
    // A new message is none: the session waits.
    assert.equal((await send(opened, "n", message)).status, 400)

    const allow = { type: "user.tool_confirmation", tool_use_id: callEventId(story.known, "toolu_1"), result: "allow" }
    assert.equal((await send(opened, "a", allow)).status, 503)
    const second = (await published(world)).find((id) => id !== first) ?? ""
    const command = { partition, offset: 1_000_000 }
    story.tell(fact("approval.given", { ...call, eventId: "evt_allowed", decision: "allow", message: null, commandId: second, command }))
    story
      .dispatched("toolu_1")
      .interrupted({ command: { partition, offset: 1_000_001 } })
      .idled()
    assert.equal(story.verdict, "accepted")
    await tell(world, story)
    const allowed = await send(opened, "a", allow)
    assert.deepEqual([allowed.status, allowed.body.error?.message, allowed.body.data?.[0]?.id], [200, undefined, "sevt_allowed"])
    assert.deepEqual(await published(world), [first, second], "no command has been published but these two")
  })
})
