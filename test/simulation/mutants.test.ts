import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { catchMutant, mutants } from "./mutants.ts"
import { mutated } from "./mutate.ts"

/** One of each part of the product, and each by another invariant; `npm run simulate -- --mutants` runs all of them. */
const sample = [
  ["model-asked-before-read-back", "I6"],
  ["commands-committed-early", "I27"],
  ["key-per-attempt", "I4"],
  ["cut-answer-acted-on", "I10"],
  ["poison-swallowed", "I25"],
  ["retry-after-ignored", "I20"],
  ["key-is-session", "I15"],
  ["commands-overtake", "I1"],
  ["arguments-not-compared", "I17"],
  ["closed-while-running", "B16"],
  ["span-left-open", "I22"],
  ["unsure-begins", "I11"],
  ["erased-to-its-tombstone", "I28"],
  ["blob-after-record", "P2"],
] as const
const secondsEach = 60

describe("the oracle", () => {
  it("knows where each mutant applies: the text that it replaces stands in the product once", () => {
    for (const { name, patches } of mutants) assert.doesNotThrow(() => mutated(patches), `the mutant ${name} does not apply`)
  })

  for (const [name, invariant] of sample)
    it(`catches ${name} by ${invariant}`, async () => {
      const { caughtBy } = await catchMutant(name, secondsEach)
      assert.ok(caughtBy.includes(invariant), `caught by ${caughtBy.join(", ") || "nothing"}`)
    })
})
