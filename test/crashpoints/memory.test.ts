import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { shapes } from "./memory-world.ts"
import { type Crash, MemoryRuns } from "./on-memory.ts"
import { table } from "./table.ts"

// Every point at which a process of the golden session touches the log or the world: it dies there, a successor goes on.

describe("every crash point of the golden session, on the memory log", { timeout: 400_000 }, () => {
  let runs: MemoryRuns
  before(async () => {
    runs = await new MemoryRuns().open()
  })
  after(() => runs.close())

  for (const shape of Object.keys(shapes)) {
    it(`${shape}: the session ends, nothing is lost and nothing is done twice that may not be`, async (t) => {
      const points = await runs.points(shape)
      const crashes: Crash[] = []
      for (const point of points) crashes.push(await runs.crash(point))
      const told = crashes.map(({ at, reached, judgement }) => ({
        log: shape,
        point: at.point,
        reached,
        account: judgement,
        breaches: judgement.breaches,
      }))
      t.diagnostic(`\n${table(told)}`)
      assert.deepEqual(
        crashes.flatMap(({ process, at, judgement }) => judgement.breaches.map((breach) => `${process}, ${at.point}:${at.n}: ${breach}`)),
        [],
      )
      // How often offsets are committed depends on the time that a run takes; every other point comes again as often as it did.
      const missed = crashes.filter(({ at, reached }) => !reached && !at.point.startsWith("commit"))
      assert.ok(missed.length <= points.length / 50, `${missed.length} of ${points.length} points were not come to again`)
      for (const kind of [
        "append sessions",
        "append tools",
        "read back sessions",
        "read back tools",
        "effect",
        "commit before",
        "commit after",
      ])
        assert.ok(
          crashes.some(({ at, reached }) => reached && at.point.startsWith(kind)),
          `a process died at a point of the kind ${kind}`,
        )
      // The points are real: what a crash can cost at all was paid somewhere.
      const cost = (pick: (crash: Crash) => number): number => crashes.reduce((sum, crash) => sum + pick(crash), 0)
      assert.ok(cost(({ judgement }) => judgement.unknown) > 0, "somewhere nobody could say whether a bell had rung")
      assert.ok(cost(({ judgement }) => judgement.takeovers) > 0, "somewhere a claim was taken over")
      assert.ok(cost(({ judgement }) => judgement.extraModelCalls) > 0, "somewhere the model was asked again")
      assert.ok(cost(({ judgement }) => judgement.reruns["keyed"] ?? 0) > 0, "somewhere a keyed call ran again and had no second effect")
      assert.equal(
        cost(({ judgement }) => (judgement.reruns["unsafe"] ?? 0) + (judgement.reruns["queryable"] ?? 0)),
        0,
      )
    })
  }
})
