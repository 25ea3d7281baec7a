import assert from "node:assert/strict"
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type TestContext, test } from "node:test"
import { announceOwnerApi, readOwnerApi } from "../src/index.ts"
import { openSqlite } from "../src/sqlite.ts"

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "reins-owner-"))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const api = { url: "http://127.0.0.1:4100", token: "secret" }

test("where the owner takes commands stands in the folder for its user alone, as long as it owns the log", async (t) => {
  const dir = folder(t)
  const { log } = openSqlite({ dir })
  assert.equal(readOwnerApi(dir), null)
  announceOwnerApi(dir, api)
  announceOwnerApi(dir, { ...api, token: "newer" })
  assert.deepEqual(readOwnerApi(dir), { ...api, token: "newer" })
  assert.equal(statSync(join(dir, "owner.api")).mode & 0o777, 0o600)
  await log.close()
  assert.equal(readOwnerApi(dir), null)
})

test("what an owner that was killed left behind is gone with the next owner, and what nobody can read is nothing", async (t) => {
  const dir = folder(t)
  announceOwnerApi(dir, api)
  const { log } = openSqlite({ dir })
  assert.equal(readOwnerApi(dir), null)
  for (const text of ["", "{", "null", '{"url":1,"token":"x"}']) {
    writeFileSync(join(dir, "owner.api"), text)
    assert.equal(readOwnerApi(dir), null, text)
  }
  await log.close()
})
