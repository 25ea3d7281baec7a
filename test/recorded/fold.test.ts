import assert from "node:assert/strict"
import { globSync } from "node:fs"
import { basename } from "node:path"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { Recording } from "./recording.ts"

// Every log that a build of ours ever wrote is folded to what that build made of it, and every request of it is rebuilt byte for byte.

const files = globSync("*.jsonl", { cwd: fileURLToPath(new URL(".", import.meta.url)) }).sort()

describe("recorded logs", () => {
  it("are there: plain, parallel, interrupted, taken over, held, closed", () => {
    const names = files.map((file) => basename(file, ".jsonl").replace(/^[\d.]+-/, ""))
    for (const name of ["plain", "parallel", "interrupted", "takeover", "held", "closed"]) assert.ok(names.includes(name), `${name} is recorded`)
  })

  for (const file of files) {
    const recording = Recording.from(fileURLToPath(new URL(file, import.meta.url)))

    it(`${file} folds to the stored digest, with the stored verdicts, and its requests are rebuilt`, async () => {
      assert.deepEqual(await recording.fold(), recording.tail.outcomes)
      assert.ok(Object.values(recording.tail.outcomes).every(({ requests }) => requests.length > 0))
    })

    it(`${file} would not, were one of its accepted facts missing`, async () => {
      const index = recording.records.findIndex(({ headers }) => headers["type"] === "model.responded")
      const outcomes = await recording.with(recording.records.toSpliced(index, 1)).fold()
      assert.notDeepEqual(
        Object.values(outcomes).map(({ digest }) => digest),
        Object.values(recording.tail.outcomes).map(({ digest }) => digest),
      )
    })
  }

  it("hold every answer to a held call and every way to close a session", () => {
    const types = new Set(
      files.flatMap((file) => Recording.from(fileURLToPath(new URL(file, import.meta.url))).records.map(({ headers }) => headers["type"])),
    )
    for (const type of ["tool-call.held", "approval.given", "result.received", "session.updated", "session.archived", "session.deleted"])
      assert.ok(types.has(type), `${type} is recorded`)
    const phases = files.flatMap((file) =>
      Object.values(Recording.from(fileURLToPath(new URL(file, import.meta.url))).tail.outcomes).map(({ phase }) => phase),
    )
    for (const phase of ["idle", "ended", "deleted"]) assert.ok(phases.includes(phase), `one is ${phase}`)
  })

  it("hold what the fold sets aside: late, superseded and duplicate records", () => {
    const exceptions = files.flatMap((file) =>
      Object.values(Recording.from(fileURLToPath(new URL(file, import.meta.url))).tail.outcomes).flatMap((one) => one.exceptions),
    )
    for (const verdict of ["late", "superseded", "duplicate"])
      assert.ok(
        exceptions.some((exception) => exception.endsWith(` ${verdict}`)),
        `one is ${verdict}`,
      )
  })
})
