import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { type Crash, MemoryRuns, stages } from "./on-memory.ts"
import { table } from "./table.ts"

// Every point at which a process of the golden stories touches the log, the blob store or the world: it dies there, a successor goes on.

/** Kinds of points that some process has to die at, so that none is lost unseen. */
const kinds = [
  "append sessions",
  "append sessions context.compacted",
  "append sessions session.deleted",
  "append sessions tombstone",
  "append tools",
  "append snapshots session.snapshot running before",
  "append snapshots session.snapshot running after",
  "append snapshots session.snapshot idle before",
  "append snapshots session.snapshot idle after",
  "append snapshots session.snapshot ended before",
  "append snapshots session.snapshot ended after",
  "append snapshots session.snapshot deleted before",
  "append snapshots session.snapshot deleted after",
  "deliver snapshots",
  "read back sessions",
  "read back tools",
  "put blob before",
  "put blob after",
  "effect",
  "remove blobs before",
  "remove blobs after",
  "remove commands before",
  "remove tools after",
  "rewrite before",
  "rewrite after",
  "commit before",
  "commit after",
]

describe("every crash point of the golden stories, on the memory log", { timeout: 400_000 }, () => {
  let runs: MemoryRuns
  const all: Crash[] = []
  before(async () => {
    runs = await new MemoryRuns().open()
  })
  after(() => runs.close())

  for (const stage of stages) {
    const name = `${stage.story}, ${stage.shape}`
    it(`${name}: it ends as it should, nothing is lost and nothing is done twice that may not be`, async (t) => {
      const points = await runs.points(stage)
      const crashes: Crash[] = []
      for (const point of points) crashes.push(await runs.crash(point))
      all.push(...crashes)
      const told = crashes.map(({ at, reached, judgement }) => ({
        log: name,
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
      // How often offsets are committed and snapshots written depends on the time that a run takes; every other point comes again as often as it did.
      const missed = crashes.filter(({ at, reached }) => !reached && !/^commit|snapshots/.test(at.point))
      assert.ok(missed.length <= points.length / 50, `${missed.length} of ${points.length} points were not come to again`)
    })
  }

  it("points of every kind were died at", () => {
    const deaths = new Set(all.flatMap(({ at, reached }) => (reached ? [at.point] : [])))
    for (const kind of kinds)
      assert.ok(
        [...deaths].some((point) => point.startsWith(kind)),
        `a process died at a point of the kind ${kind}`,
      )
  })

  it("the points are real: what a crash can cost at all was paid somewhere", () => {
    const cost = (pick: (crash: Crash) => number): number => all.reduce((sum, crash) => sum + pick(crash), 0)
    assert.ok(cost(({ judgement }) => judgement.unknown) > 0, "somewhere nobody could say whether a bell had rung")
    assert.ok(cost(({ judgement }) => judgement.takeovers) > 0, "somewhere a claim was taken over")
    assert.ok(cost(({ judgement }) => judgement.extraModelCalls) > 0, "somewhere the model was asked again")
    assert.ok(cost(({ judgement }) => judgement.reruns["keyed"] ?? 0) > 0, "somewhere a keyed call ran again and had no second effect")
    assert.equal(
      cost(({ judgement }) => (judgement.reruns["unsafe"] ?? 0) + (judgement.reruns["queryable"] ?? 0)),
      0,
    )
    const relied = all.filter(({ reached, readFrom }) => reached && readFrom > 0)
    assert.ok(relied.length > all.length / 10, `${relied.length} of ${all.length} successors relied on a snapshot`)
  })
})
