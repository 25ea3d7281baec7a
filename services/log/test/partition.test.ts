import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { murmur2, partitionOf } from "../src/index.ts"

describe("the partition of a key", () => {
  // From UtilsTest.testMurmur2 of Apache Kafka's Java client.
  const vectors: readonly (readonly [string, number])[] = [
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ]

  for (const [key, hash] of vectors) {
    it(`hashes "${key}" as the Java client does`, () => {
      assert.equal(murmur2(new TextEncoder().encode(key)), hash)
    })
  }

  it("takes the hash without its sign, as the Java client does, also for keys that are not ASCII", () => {
    for (const key of [...vectors.map(([one]) => one), "", "größer", "鍵", "🔑"]) {
      const positive = murmur2(new TextEncoder().encode(key)) & 0x7fffffff
      for (const partitions of [1, 4, 12]) assert.equal(partitionOf(key, partitions), positive % partitions)
    }
    assert.equal(partitionOf("21", 12), (-973932308 & 0x7fffffff) % 12)
  })
})
