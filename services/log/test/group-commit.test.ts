import assert from "node:assert/strict"
import { describe, it } from "node:test"
import {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  type Certainty,
  GroupCommit,
  type PartitionBatch,
  type WriteOutcome,
} from "../src/index.ts"

interface Write {
  readonly batches: readonly PartitionBatch[]
  answer(outcomes: readonly WriteOutcome[]): void
  fail(error: Error): void
}

/** A group commit whose writes the test answers by hand. */
function byHand(): { readonly commit: GroupCommit; readonly writes: Write[]; next(): Promise<Write> } {
  const writes: Write[] = []
  const arrived: ((write: Write) => void)[] = []
  let taken = 0
  const commit = new GroupCommit(
    (batches) =>
      new Promise((answer, fail) => {
        const write = { batches, answer, fail }
        writes.push(write)
        arrived.shift()?.(write)
      }),
  )
  const next = async (): Promise<Write> => {
    const index = taken++
    return writes[index] ?? new Promise((resolve) => arrived.push(resolve))
  }
  return { commit, writes, next }
}

const at = (baseOffset: number): WriteOutcome => ({ placed: { baseOffset, timestamp: 1 } })
const bytes = (length: number): Uint8Array => new Uint8Array(length)

let keys = 0
function entry(name: string, certainty: Certainty = "always", partition = 0, value: Uint8Array = bytes(1)): Append {
  return { topic: "t", partition, key: () => `${name}/${keys++}`, value, headers: { name }, certainty }
}

const namesOf = (write: Write): string[][] => write.batches.map((batch) => batch.entries.map((one) => one.headers["name"] ?? ""))
/** Long enough for whatever is going to happen without an answer to have happened. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe("group commit", () => {
  it("has one write in flight; what comes meanwhile leaves together, by partition and in order", async () => {
    const { commit, writes, next } = byHand()
    const first = commit.append(entry("a"))
    const one = await next()
    const rest = [entry("b"), entry("x", "always", 1), entry("c")].map((append) => commit.append(append))
    await settle()
    assert.equal(writes.length, 1)
    one.answer([at(10)])
    assert.deepEqual(await first, { offset: 10, timestamp: 1 })
    const two = await next()
    assert.deepEqual(namesOf(two), [["b", "c"], ["x"]])
    two.answer([at(11), at(0)])
    assert.deepEqual(
      (await Promise.all(rest)).map(({ offset }) => offset),
      [11, 0, 12],
    )
  })

  it("lets what one turn of the loop appends leave together", async () => {
    const { commit, next } = byHand()
    for (const name of ["a", "b", "c"]) void commit.append(entry(name))
    assert.deepEqual(namesOf(await next()), [["a", "b", "c"]])
  })

  it("splits what is too much for one write, in order", async () => {
    const { commit, next } = byHand()
    const large = ["a", "b", "c"].map((name) => commit.append(entry(name, "always", 0, bytes(400_000))))
    const one = await next()
    assert.deepEqual(namesOf(one), [["a"]])
    one.answer([at(0)])
    const two = await next()
    assert.deepEqual(namesOf(two), [["b"]])
    two.answer([at(1)])
    const three = await next()
    three.answer([at(2)])
    assert.deepEqual(
      (await Promise.all(large)).map(({ offset }) => offset),
      [0, 1, 2],
    )
  })

  it("sends again what must stand, ahead of everything newer and under new keys, and tells a `once` that nobody knows", async () => {
    const { commit, next } = byHand()
    const standing = commit.append(entry("always"))
    const once = commit.append(entry("once", "once"))
    const held = commit.append(entry("held", "until-withdrawn"))
    const one = await next()
    const newer = commit.append(entry("newer"))
    one.answer([{ unknown: new Error("The socket closed.") }])
    await assert.rejects(once, (error) => error instanceof AppendUnknownError && error.message.includes("The socket closed."))
    const two = await next()
    assert.deepEqual(namesOf(two), [["always", "held", "newer"]])
    const earlier = new Set(one.batches[0]?.entries.map(({ key }) => key))
    assert.ok(two.batches[0]?.entries.every(({ key }) => !earlier.has(key)))
    two.answer([at(3)])
    assert.deepEqual(
      (await Promise.all([standing, held, newer])).map(({ offset }) => offset),
      [3, 4, 5],
    )
  })

  it("takes a write that throws, or that leaves a partition without an answer, as unknown", async () => {
    const { commit, next } = byHand()
    const thrown = commit.append(entry("a", "once"))
    const one = await next()
    one.fail(new Error("No broker."))
    await assert.rejects(thrown, AppendUnknownError)
    const unanswered = commit.append(entry("b", "once", 1))
    const two = await next()
    two.answer([])
    await assert.rejects(unanswered, AppendUnknownError)
  })

  it("does not hold a partition up for the trouble of another", async () => {
    const { commit, next } = byHand()
    const troubled = commit.append(entry("a"))
    const one = await next()
    const healthy = commit.append(entry("b", "always", 1))
    one.answer([{ unknown: new Error("Unknown.") }])
    const two = await next()
    assert.deepEqual(namesOf(two), [["b"]])
    two.answer([at(0)])
    await healthy
    const three = await next()
    three.answer([at(0)])
    await troubled
  })

  it("fails a refused entry alone and for good, without reordering its neighbours", async () => {
    const { commit, next } = byHand()
    const [a, guilty, c] = [commit.append(entry("a")), commit.append(entry("guilty")), commit.append(entry("c"))]
    const refused = { refused: new Error("Too large.") }
    let write = await next()
    write.answer([refused])
    write = await next()
    assert.deepEqual(namesOf(write), [["a"]])
    write.answer([at(0)])
    write = await next()
    assert.deepEqual(namesOf(write), [["guilty"]])
    write.answer([refused])
    await assert.rejects(guilty, AppendRejectedError)
    write = await next()
    assert.deepEqual(namesOf(write), [["c"]])
    write.answer([at(1)])
    assert.deepEqual(
      (await Promise.all([a, c])).map(({ offset }) => offset),
      [0, 1],
    )
    const together = ["d", "e"].map((name) => commit.append(entry(name)))
    write = await next()
    assert.deepEqual(namesOf(write), [["d", "e"]], "afterwards entries leave together again")
    write.answer([at(2)])
    await Promise.all(together)
  })

  it("takes back what was never sent as withdrawn, and what may have landed as unknown", async () => {
    const { commit, next } = byHand()
    const tried = commit.append(entry("tried", "until-withdrawn"))
    const one = await next()
    const [fresh, standing] = [commit.append(entry("fresh", "until-withdrawn")), commit.append(entry("standing"))]
    one.answer([{ unknown: new Error("Unknown.") }])
    await settle()
    commit.withdraw("t", 0)
    await assert.rejects(tried, AppendUnknownError)
    await assert.rejects(fresh, AppendWithdrawnError)
    const two = await next()
    assert.deepEqual(namesOf(two), [["standing"]])
    two.answer([at(0)])
    await standing
  })

  it("sends what waits before it closes, for as long as it is given", async () => {
    const { commit, next } = byHand()
    const first = commit.append(entry("a"))
    const one = await next()
    const second = commit.append(entry("b"))
    const closing = commit.close(60_000)
    one.answer([at(0)])
    const two = await next()
    two.answer([at(1)])
    await closing
    assert.deepEqual(
      [await first, await second].map(({ offset }) => offset),
      [0, 1],
    )
    await assert.rejects(commit.append(entry("late")), AppendWithdrawnError)
  })

  it("gives up on what waits when its time is over", async () => {
    const { commit, next } = byHand()
    const underWay = commit.append(entry("a"))
    const one = await next()
    const waiting = commit.append(entry("b"))
    const withdrawn = assert.rejects(waiting, AppendWithdrawnError)
    await commit.close(0)
    await withdrawn
    one.answer([{ unknown: new Error("The socket closed.") }])
    await assert.rejects(underWay, AppendUnknownError)
  })
})
