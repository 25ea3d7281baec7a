import assert from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { partitionOf } from "@reins/log"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import type { SessionSummary } from "@reins/session"
import type { LedgerLine } from "../fixtures/ledger.ts"
import { type Orders, startOrders } from "../fixtures/orders.ts"
import { type Counted, checkLongSession, longSessionAgent, longSessionPrompt } from "../scenarios/long-session.ts"
import { Bench, type Environment, linesOf, type ModelProcess, recordsOf, type Started, until } from "./harness.ts"

const turns = 12
const ledgerTools = fileURLToPath(new URL("../fixtures/ledger.ts", import.meta.url))

describe("one process on SQLite", { timeout: 240_000 }, () => {
  const bench = new Bench()
  let orders: Orders
  let model: ModelProcess
  let env: Environment

  before(async () => {
    orders = await startOrders(bench.path("effects.jsonl"))
    model = await bench.model({ latencyMs: 5 })
    writeFileSync(bench.path("agent.json"), JSON.stringify(longSessionAgent(orders.url)))
    env = {
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "no-key-is-needed",
      LEDGER_FILE: bench.path("effects.jsonl"),
      REINS_LOG_LEVEL: "warn",
    }
  })

  after(async () => {
    await bench.close()
    await orders.close()
  })

  const show = async (sessionId: string, at: Environment): Promise<SessionSummary> =>
    JSON.parse((await bench.run(["sessions", "show", sessionId, "--json"], at)).stdout) as SessionSummary

  const dev = (at: Environment): Promise<Started> => bench.reins(["dev", "--worker", ledgerTools], at).ready()

  const stopped = async (process: Started): Promise<void> => {
    process.kill("SIGTERM")
    const { code, stderr } = await process.ended
    assert.equal(code, 0, stderr)
  }

  /** Nobody owns the folder, so the command is put into it by a process of another kind: this one. */
  const command = async (sessionId: string, at: Environment, value: object): Promise<void> => {
    const config = readConfig(at)
    const { log } = await openLog(config, newInstance("test"))
    await log.append({
      topic: topicNames(config.prefix).commands,
      partition: partitionOf(sessionId, config.partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify(value)),
      headers: {},
      certainty: "always",
    })
    await log.close()
  }

  /** Ends an idle session, and holds what stands then to the invariants. */
  const ended = async (sessionId: string, at: Environment, killed: boolean): Promise<Counted> => {
    await command(sessionId, at, { type: "session.end", sessionId })
    const last = await dev(at)
    await until(async () => (await show(sessionId, at)).status === "ended", `${sessionId} has ended`)
    await stopped(last)
    const events = await bench.run(["events", sessionId, "--jsonl"], at)
    assert.equal(events.code, 0, events.stderr)
    const check = await bench.run(["replay", sessionId, "--check"], at)
    assert.equal(check.code, 0, check.stdout + check.stderr)
    assert.match(check.stdout, /, 0 differ\./)
    return checkLongSession({
      sessionId,
      turns,
      records: recordsOf(events.stdout),
      ledger: linesOf<LedgerLine>(bench.path("effects.jsonl")),
      journal: model.journal(),
      killed,
    })
  }

  it("runs the long session from one command to its end, and shows and rebuilds it", () =>
    bench.telling(async () => {
      const sessionId = "sesn_embedded"
      const at = { ...env, REINS_DATA: bench.path("whole") }
      const prompt = longSessionPrompt(sessionId, turns)
      const run = await bench.run(
        ["run", prompt, "--agent", bench.path("agent.json"), "--worker", ledgerTools, "--session", sessionId, "--json"],
        at,
      )
      assert.equal(run.code, 0, run.stderr)
      const outcome = JSON.parse(run.stdout) as SessionSummary
      assert.equal(outcome.status, "idle")
      assert.equal(outcome.stopReason, "end_turn")
      assert.equal(outcome.turns, turns + 1)
      assert.equal(outcome.toolCalls, turns * 6)
      assert.deepEqual(await show(sessionId, at), outcome)

      const counted = await ended(sessionId, at, false)
      assert.deepEqual(counted, { unknownOutcomes: 0, extraModelCalls: 0, takeovers: 0 })

      const summary = await show(sessionId, at)
      assert.equal(summary.status, "ended")
      assert.equal((await show(sessionId, at)).digest, summary.digest)
      const list = await bench.run(["sessions", "list", "--json"], at)
      assert.deepEqual(JSON.parse(list.stdout), [summary])

      // Up to the first response: the session as it stood then, with what was unknown still open.
      const records = recordsOf((await bench.run(["events", sessionId, "--jsonl"], at)).stdout)
      const first = records.find(({ type }) => type === "model.responded")
      const early = await bench.run(["replay", sessionId, "--to", String(first?.offset), "--json"], at)
      assert.equal(early.code, 0, early.stderr)
      const then = JSON.parse(early.stdout) as { session: SessionSummary; requests: unknown[]; conversation: unknown[] }
      assert.equal(then.session.status, "running")
      assert.equal(then.session.turns, 1)
      assert.equal(then.requests.length, 1)
      assert.equal(then.conversation.length, 2)
      assert.notEqual(then.session.digest, summary.digest)
    }))

  it("goes on by itself after kill -9, in a tool call and in a model call, and does nothing twice that may not be", () =>
    bench.telling(async () => {
      const sessionId = "sesn_killed"
      const at = { ...env, REINS_DATA: bench.path("killed"), LEDGER_DELAY_MS: "200" }
      const first = bench.reins(
        ["run", longSessionPrompt(sessionId, turns), "--agent", bench.path("agent.json"), "--worker", ledgerTools, "--session", sessionId],
        at,
      )
      // It dies between an effect that nobody can take back and the record of it.
      const rung = await until(() => {
        const rings = linesOf<LedgerLine>(bench.path("effects.jsonl")).filter((line) => line.tool === "ring" && line.pid === first.pid)
        const last = rings.at(-1)
        if (rings.length < 3 || last === undefined || Date.now() - last.at > 100) return false
        first.kill("SIGKILL")
        return last
      }, "a bell rings")
      await first.ended

      model.hold(7)
      const second = await dev(at)
      const asked = (): number => model.journal().filter(({ body }) => body.includes(sessionId)).length
      await until(() => asked() >= 7, "the seventh turn is asked for")
      second.kill("SIGKILL")
      await second.ended
      model.hold(null)

      const third = await dev(at)
      await until(async () => (await show(sessionId, at)).status === "idle", "the session is idle")
      await stopped(third)

      const counted = await ended(sessionId, at, true)
      assert.ok(counted.unknownOutcomes >= 1, "the bell that rang when the process died has an unknown outcome")
      assert.equal(counted.extraModelCalls, 1, "the model call that died was made again, and no other")
      assert.equal(linesOf<LedgerLine>(bench.path("effects.jsonl")).filter(({ toolUseId }) => toolUseId === rung.toolUseId).length, 1)
    }))
})
