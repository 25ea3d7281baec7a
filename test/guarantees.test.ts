import assert from "node:assert/strict"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { embedded } from "./benchmarks/embedded.ts"
import { differences, type Guarantee, guarantees } from "./guarantees.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

test("every promise of the README is proved by a test that is there", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8")
  const promised = [...readme.matchAll(/^\| (P\d+) \| (.+?) \| (.+) \|$/gm)].map(([, id, promise]) => ({ id, promise }))
  assert.deepEqual(
    promised,
    guarantees.map(({ id, promise }) => ({ id, promise })),
  )
  for (const { id, provedBy } of guarantees) isProved(id, provedBy)
})

test("every difference from the hosted API is held by a test that is there, and the README leads to them", () => {
  assert.match(readFileSync(join(root, "README.md"), "utf8"), /\[What differs\]\(test\/guarantees\.ts\)/)
  assert.equal(new Set(differences.map(({ id }) => id)).size, differences.length)
  for (const { id, provedBy } of differences) isProved(id, provedBy)
})

function isProved(id: string, provedBy: Guarantee["provedBy"]): void {
  assert.notEqual(provedBy.length, 0, id)
  for (const { file, title } of provedBy) {
    assert.ok(existsSync(join(root, file)), `${id} is to be proved by ${file}, which is not there.`)
    // The steps of a story carry their title as a name.
    const titles = [...readFileSync(join(root, file), "utf8").matchAll(/(?:\b(?:test|it|describe)\(\s*|\bname: )(["`])(.*?)\1/g)].map(
      ([, , found]) => found,
    )
    assert.ok(
      titles.some((found) => found?.includes(title)),
      `${id}: no test in ${file} is called «…${title}…».`,
    )
  }
}

test("a turn's bytes do not grow with the turns before it", async () => {
  const { bytesPerTurn } = await embedded(1, 201)
  assert.ok(bytesPerTurn.at10 > 500)
  assert.ok(bytesPerTurn.at200 !== null && bytesPerTurn.at200 < bytesPerTurn.at10 * 1.05, JSON.stringify(bytesPerTurn))
})
