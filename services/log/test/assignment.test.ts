import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { assign, type Member } from "../src/index.ts"

const member = (id: string, owned: readonly number[] = []): Member => ({ id, instance: id, owned })

describe("the assignment of partitions", () => {
  const complete = (plan: Map<string, number[]>, partitions: number): void => {
    assert.deepEqual(
      [...plan.values()].flat().sort((a, b) => a - b),
      Array.from({ length: partitions }, (_, partition) => partition),
    )
    const sizes = [...plan.values()].map((mine) => mine.length)
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1, "nobody has two more than another")
  }

  for (const partitions of [1, 4, 12, 13]) {
    it(`moves no more of ${partitions} than a join or a leave needs, and keeps every partition with one member`, () => {
      let plan = assign([member("a")], partitions)
      complete(plan, partitions)
      for (const joining of ["b", "c", "d"]) {
        const before = new Map(plan)
        plan = assign([...[...before].map(([id, owned]) => member(id, owned)), member(joining)], partitions)
        complete(plan, partitions)
        const moved = [...before].reduce(
          (sum, [id, owned]) => sum + owned.filter((partition) => plan.get(id)?.includes(partition) !== true).length,
          0,
        )
        assert.equal(moved, plan.get(joining)?.length)
      }
      const before = new Map(plan)
      plan = assign(
        [...before].filter(([id]) => id !== "a").map(([id, owned]) => member(id, owned)),
        partitions,
      )
      complete(plan, partitions)
      for (const [id, owned] of plan)
        for (const partition of before.get(id) ?? []) assert.ok(owned.includes(partition), "a survivor keeps what it had")
    })
  }

  it("settles two claims to one partition, and drops one that does not exist", () => {
    const plan = assign([member("a", [0, 1, 99]), member("b", [1, 2])], 4)
    complete(plan, 4)
  })
})
