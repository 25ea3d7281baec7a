import assert from "node:assert/strict"
import { test } from "node:test"
import { skipWithoutKafka } from "@reins/infra/kafka"
import { told } from "../chaos/report.ts"
import { chaos } from "../chaos/run.ts"

// CI's `npm run chaos`: two processes of every role, a broker of its own, two minutes of faults, every kind of them at least once.

const skip = await skipWithoutKafka()
/** The same schedule in every run; CHAOS_SEED tries another. */
const seed = Number(process.env["CHAOS_SEED"] ?? 20_261_124)

test("whatever is killed, frozen, drained, cut off or told wrong, nothing is lost and nothing done twice that may not be", {
  skip,
  timeout: 580_000,
}, async (t) => {
  const report = await chaos({
    seed,
    faultsMs: 120_000,
    sessions: 200,
    brokers: 1,
    apart: false,
    settleMs: 150_000,
    say: (line) => t.diagnostic(line),
  })
  t.diagnostic(`\n${told(report)}`)
  assert.deepEqual(report.breaches, [], `seed ${seed}`)
  assert.deepEqual(report.missing, [], "every kind of fault happened while work was running")
  assert.ok(report.account.calls > 400 && report.account.effects > 300, "there was something to harm")
  assert.ok(report.recoveryMs.measured > 0, "a killed process was followed by another")
})
