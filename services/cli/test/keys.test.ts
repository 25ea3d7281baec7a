import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it, type TestContext } from "node:test"
import { type Ended, reins } from "./reins.ts"

function folder(t: TestContext): { readonly dir: string; readonly keys: (...args: readonly string[]) => Promise<Ended> } {
  const dir = mkdtempSync(join(tmpdir(), "reins-keys-"))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return { dir, keys: (...args) => reins(dir, ["keys", ...args]) }
}

interface Listed {
  readonly id: string
  readonly tenant: string
  readonly name: string
  readonly createdAt: string
  readonly revokedAt: string | null
}

describe("reins keys", () => {
  it("shows a key once, keeps its hash alone, and revokes it", async (t) => {
    const { dir, keys } = folder(t)
    const made = await keys("create", "--tenant", "acme", "--name", "ci", "--json")
    assert.equal(made.code, 0, made.stderr)
    const { id, key, ...named } = JSON.parse(made.stdout) as { readonly id: string; readonly key: string }
    assert.match(key, /^rk_[1-9A-HJ-NP-Za-km-z]{40}$/)
    assert.match(id, /^apikey_[1-9A-HJ-NP-Za-km-z]{24}$/)
    assert.deepEqual(named, { tenant: "acme", name: "ci" })
    const second = await keys("create", "--tenant", "other", "--name", "laptop")
    assert.match(second.stdout, /^rk_[1-9A-HJ-NP-Za-km-z]{40}\n$/)
    assert.match(second.stderr, /^apikey_\w{24} of the tenant other\. The key is shown this once\.\n$/)

    const [first, other] = JSON.parse((await keys("list", "--json")).stdout) as readonly Listed[]
    assert.deepEqual([first?.id, first?.tenant, first?.name, first?.revokedAt], [id, "acme", "ci", null])
    assert.deepEqual([other?.tenant, other?.name], ["other", "laptop"])

    assert.equal((await keys("revoke", id)).stderr, `${id} is revoked.\n`)
    assert.equal((await keys("revoke", id)).stderr, `${id} was revoked before.\n`)
    const text = (await keys("list")).stdout
    assert.match(text, new RegExp(`^${id}  acme .* revoked \\d{4}-`, "m"))
    assert.equal(text.split(" revoked ").length, 2)
    // The file may be copied, backed up, looked at: no key is in it.
    const stored = readdirSync(dir).map((name) => readFileSync(join(dir, name), "latin1"))
    const hash = createHash("sha256").update(key).digest("hex")
    assert.ok(stored.some((bytes) => bytes.includes(hash)))
    for (const secret of [key, second.stdout.trim()]) assert.ok(stored.every((bytes) => !bytes.includes(secret)))
  })

  it("says what is wrong: exit 2 for what it was asked, 3 for what is not there", async (t) => {
    const { keys } = folder(t)
    assert.equal((await keys("create", "--name", "ci")).code, 2)
    assert.equal((await keys("create", "--tenant", "acme")).code, 2)
    const wrong = await keys("create", "--tenant", "a b", "--name", "ci")
    assert.deepEqual([wrong.code, wrong.stdout], [2, ""])
    assert.match(wrong.stderr, /--tenant takes/)
    const missing = await keys("revoke", "apikey_1")
    assert.equal(missing.code, 3)
    assert.match(missing.stderr, /There is no key apikey_1/)
  })
})
