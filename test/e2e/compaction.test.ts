import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { SessionEventOf } from "@reins/events"
import { SessionReader } from "@reins/runtime"
import { openRequestBody, sha256Hex } from "@reins/session"
import { fails, planned, type Script } from "@reins/simulated-model"
import { Bench, recordsOf, until } from "./harness.ts"
import { HostedWorld } from "./hosted-world.ts"

// Conversations that outgrow the model's window: over the real SDK and a socket, with a model that takes no more than it says.

const windowTokens = 1500

/** As the API does: what is longer than the window is refused. */
const withWindow: Script = (call) => {
  const tokens = Math.ceil(Buffer.byteLength(call.body) / 4)
  if (tokens > windowTokens)
    return fails("invalid_request_error", { message: `prompt is too long: ${tokens} tokens > ${windowTokens} maximum` })
  return planned(call)
}

describe("a conversation that outgrows the window", { timeout: 120_000 }, () => {
  let world: HostedWorld

  before(async () => {
    world = await HostedWorld.start()
    world.model.script = withWindow
  })
  after(() => world.stop())

  /** Every accepted request, rebuilt from the log and held to the hash that was recorded before it was sent. */
  async function requests(sessionId: string): Promise<readonly { readonly compacts: number | null; readonly body: string }[]> {
    const reader = await SessionReader.open(world.host.log, world.host.codec, world.names.prefix, sessionId)
    assert.ok(reader !== null)
    const rebuilt: { compacts: number | null; body: string }[] = []
    await reader.read({
      tools: false,
      each: (record, session) => {
        if (record.type !== "model.requested" || record.verdict !== "accepted" || session.phase !== "awaiting-model") return
        const { bodyHash, compacts = null } = record.value as unknown as SessionEventOf<"model.requested">
        const body = openRequestBody(session)
        assert.equal(sha256Hex(body), bodyHash)
        rebuilt.push({ compacts, body })
      },
    })
    return rebuilt
  }

  it("goes on for as long as anyone likes, and no request is refused", async () => {
    const sessionId = world.newSession(0)
    const said = (n: number): string => `This is message ${n} of a long talk. ${"So much is to be said. ".repeat(15)}`
    await world.startSession(sessionId, said(1), { contextTokens: windowTokens })
    for (let n = 2; n <= 30; n++) {
      await until(async () => (await world.said(sessionId, "session.idled")).length === n - 1, `turn ${n - 1} ends`)
      await world.command(sessionId, { type: "message.send", sessionId, content: said(n) })
    }
    await until(async () => (await world.said(sessionId, "session.idled")).length === 30, "the last turn ends")
    const idled = await world.said(sessionId, "session.idled")
    assert.deepEqual(new Set(idled.map(({ reason }) => reason)), new Set(["end_turn"]))
    const compacted = await world.said(sessionId, "context.compacted")
    assert.ok(compacted.length >= 3, `compacted ${compacted.length} times`)
    const made = await requests(sessionId)
    assert.equal(made.length, 30 + compacted.length)
    assert.ok(made.every(({ body }) => body.length <= 4 * windowTokens))
    // What was summarised stays in the log, word for word.
    const { records } = await world.read(sessionId)
    assert.equal(records.filter(({ type }) => type === "message.received").length, 29)
    assert.equal(records.filter(({ type }) => type === "model.failed").length, 0)
  })

  it("survives a result that alone is larger than the window", async () => {
    const sessionId = world.newSession(1)
    const text = `[[call echo {"text":"${"goose ".repeat(600)}"}]]`
    await world.startSession(sessionId, text, { contextTokens: windowTokens })
    const [idled] = await world.said(sessionId, "session.idled")
    assert.equal(idled?.["reason"], "end_turn", JSON.stringify(idled))
    const made = await requests(sessionId)
    const budgets = made.map(({ compacts }) => compacts)
    assert.equal(budgets[0], null)
    assert.ok(budgets.includes(2 * windowTokens), JSON.stringify(budgets))
    assert.equal(budgets.at(-1), null)
  })

  it("is said to be too long where no summary of it fits", async () => {
    const sessionId = world.newSession(2)
    await world.startSession(sessionId, "Hello.", { system: "Be kind. ".repeat(900), contextTokens: windowTokens })
    const [idled] = await world.said(sessionId, "session.idled")
    assert.equal(idled?.["reason"], "context_window_exceeded")
    assert.match(String(idled?.["message"]), /prompt is too long/)
  })
})

describe("reins run", { timeout: 60_000 }, () => {
  const bench = new Bench()
  after(() => bench.close())

  it("shows the compaction, and its replay is exact", async () => {
    const env = { REINS_CONTEXT_TOKENS: "1000" }
    const prompt = `[[turns 8: call echo {"n":"$i","text":"${"goose ".repeat(60)}"}]]`
    const run = await bench.run(["run", prompt, "--session", "sesn_long"], env)
    assert.equal(run.code, 0, run.stdout + run.stderr)
    assert.match(run.stdout + run.stderr, /context\.compacted/)
    const check = await bench.run(["replay", "sesn_long", "--check"], env)
    assert.equal(check.code, 0, check.stdout + check.stderr)
    assert.match(check.stdout, /, 0 differ\./)
    const events = await bench.run(["events", "sesn_long", "--jsonl"], env)
    assert.equal(recordsOf(events.stdout).filter(({ type }) => type === "context.compacted").length, 1)
  })
})
