import assert from "node:assert/strict"
import { createHash, randomInt } from "node:crypto"
import { describe, it } from "node:test"
import { faultKinds } from "./faults.ts"
import { deployments, type Story, simulate } from "./world.ts"

const fixed = { first: 1, worlds: 150 }
/** Other seeds every time; a failure names its own. */
const fresh = { first: randomInt(1_000_000, 2 ** 31), worlds: 50 }

function holds(story: Story): void {
  assert.deepEqual(
    story.violations.map(({ invariant, detail }) => `${invariant} ${detail}`),
    [],
    `seed ${story.seed} (${story.deployment}); its story: npm run simulate -- --trace --seed ${story.seed}`,
  )
}

describe("the simulation", () => {
  it("breaks no promise in a fixed set of worlds, in which every kind of fault strikes and every deployment stands", async () => {
    const struck = new Map<string, number>()
    const deployed = new Set<string>()
    const counted: Record<string, number> = {}
    for (let seed = fixed.first; seed < fixed.first + fixed.worlds; seed++) {
      const story = await simulate({ seed })
      holds(story)
      deployed.add(story.deployment)
      for (const [kind, count] of story.faults) struck.set(kind, (struck.get(kind) ?? 0) + count)
      for (const [name, count] of Object.entries(story.counted)) counted[name] = (counted[name] ?? 0) + count
    }
    assert.deepEqual(
      faultKinds.filter((kind) => (struck.get(kind) ?? 0) === 0),
      [],
      "these faults never struck",
    )
    assert.deepEqual([...deployed].sort(), Object.keys(deployments).sort())
    for (const [name, count] of Object.entries(counted)) assert.ok(count > 0, `no ${name} in all these worlds: they prove too little`)
  })

  it(`breaks no promise in worlds that nobody has seen before (from seed ${fresh.first})`, async () => {
    for (let seed = fresh.first; seed < fresh.first + fresh.worlds; seed++) holds(await simulate({ seed }))
  })

  it("tells the same story from the same seed", async () => {
    const told = async (seed: number): Promise<string> => {
      const hash = createHash("sha256")
      await simulate({ seed, tell: (line) => void hash.update(`${line}\n`) })
      return hash.digest("hex")
    }
    for (const seed of [7, 8, 9]) {
      const first = await told(seed)
      await simulate({ seed: seed + 100 })
      assert.equal(await told(seed), first)
    }
  })

  it("ends every session right though every process forgets all it knows after every record", async () => {
    for (const forgetEvery of [1, 3])
      for (let seed = 1; seed <= 6; seed++) {
        const story = await simulate({ seed, forgetEvery })
        holds(story)
        assert.equal(story.counted.extraModelCalls, 0, "a model was asked twice though no call was cut off")
      }
  })
})
