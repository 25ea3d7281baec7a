import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { partitionOf } from "@reins/log"
import { isStarted, type Session } from "@reins/session"
import { Bench, until } from "./harness.ts"
import { HostedWorld } from "./hosted-world.ts"

// A process that starts anew reads snapshots and the end of the log, and goes on as if it had read everything.

const skipKafka = await skipWithoutKafka()

for (const kind of ["embedded", "on Kafka"] as const) {
  describe(`a session that is taken over from its snapshot, ${kind}`, { skip: kind === "on Kafka" && skipKafka, timeout: 120_000 }, () => {
    let world: HostedWorld

    before(async () => {
      world = await HostedWorld.start(kind === "embedded" ? {} : (await sharedKafka()).env)
    })
    after(() => world.stop())

    const state = (sessionId: string): Session | undefined => world.host.loop.session(partitionOf(sessionId, 4), sessionId)

    it("has forgotten what was said, recalls it for the next request, and that is the same to the byte", async () => {
      const sessionId = world.newSession(1)
      await world.startSession(sessionId, '[[call echo {"text":"the word is heron"}]]')
      await until(async () => (await world.said(sessionId, "session.idled")).length === 1, "it rests")
      await until(async () => {
        for await (const records of world.host.log.replay(world.names.snapshots, 1, 0))
          if (records.some(({ key }) => key === sessionId)) return true
        return false
      }, "its snapshot stands")
      await world.restart()
      await until(() => world.host.loop.ready(), "the new process is ready")
      const restored = state(sessionId)
      assert.ok(restored !== undefined && isStarted(restored))
      assert.equal(restored.conversation?.whole, false, "it was not folded from the beginning")
      const calls = world.model.callCount
      await world.command(sessionId, { type: "message.send", sessionId, content: "And again." })
      await until(async () => (await world.said(sessionId, "session.idled")).length === 2, "it rests again")
      const body = world.model.calls.at(-1)?.body ?? ""
      assert.ok(world.model.callCount > calls && body.includes("the word is heron") && body.includes("And again."))
      const { session } = await world.read(sessionId)
      assert.deepEqual(session.phase === "idle" && session.reason, "end_turn")
    })
  })
}

describe("reins replay --check --from-snapshot", { timeout: 60_000 }, () => {
  const bench = new Bench()
  after(() => bench.close())

  it("finds the snapshot that a run leaves behind, and the same state from it", async () => {
    const run = await bench.run(["run", "What is 17 * 23?", "--session", "sesn_once"], {})
    assert.equal(run.code, 0, run.stderr)
    const check = await bench.run(["replay", "sesn_once", "--check", "--from-snapshot"], {})
    assert.equal(check.code, 0, check.stdout + check.stderr)
    assert.match(check.stdout, /^same {2}from the snapshot that covers offset \d+: state digest [0-9a-f]{64}$/m)
    const wrong = await bench.run(["replay", "sesn_once", "--from-snapshot"], {})
    assert.equal(wrong.code, 2)
  })
})
