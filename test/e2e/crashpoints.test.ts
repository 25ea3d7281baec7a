import assert from "node:assert/strict"
import { test } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { crashAll, KafkaRuns } from "../crashpoints/on-kafka.ts"
import { table } from "../crashpoints/table.ts"
import { Random } from "../simulation/random.ts"

// A sample of `npm run crashpoints` on the real broker; on the memory log all points are tested (test/crashpoints/memory.test.ts).

const skip = await skipWithoutKafka()
/** Another sample with CRASH_SEED; of each kind one point. */
const seed = Number(process.env["CRASH_SEED"] ?? 1)
const kinds = [
  /^append sessions .* before$/,
  /^append sessions .* after$/,
  /^append tools .* after$/,
  /^append snapshots .* (before|after)$/,
  /^append sessions tombstone after$/,
  /^put blob (before|after)$/,
  /^remove blobs (before|after)$/,
  /^read back tools/,
  /^effect tool-workers\/classes (ring|charge|note) after$/,
  /^commit after$/,
]

test("a process dies at a point of each kind on the real broker, and its successor ends the session", {
  skip,
  timeout: 400_000,
}, async (t) => {
  const { env } = await sharedKafka()
  const runs = await new KafkaRuns(env).open()
  try {
    const all = await runs.points()
    const random = new Random(seed)
    const points = kinds.map((kind) => random.pick(all.filter(({ at }) => kind.test(at.point))))
    const crashes = await crashAll(runs, points, 6)
    const told = crashes.map(({ story, at, reached, judgement }) => ({
      log: `kafka, ${story}`,
      point: at.point,
      reached,
      account: judgement,
      breaches: judgement.breaches,
    }))
    t.diagnostic(`seed ${seed}: ${points.map(({ at }) => `${at.point}:${at.n}`).join(", ")}\n${table(told)}`)
    assert.deepEqual(
      crashes.flatMap(({ at, judgement }) => judgement.breaches.map((breach) => `${at.point}:${at.n}: ${breach}`)),
      [],
      `seed ${seed}`,
    )
    // The last times that offsets are committed and records delivered differ from run to run.
    assert.ok(crashes.filter(({ reached }) => reached).length >= kinds.length - 2, "the process died where it was told to")
  } finally {
    await runs.close()
  }
})
