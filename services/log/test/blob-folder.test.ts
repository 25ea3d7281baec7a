import assert from "node:assert/strict"
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, describe, it } from "node:test"
import {
  BlobDamagedError,
  BlobMissingError,
  BlobsUnavailableError,
  FolderBlobs,
  folderOf,
  type StoredBlob,
  sha256Of,
} from "../src/blobs/index.ts"

const root = mkdtempSync(join(tmpdir(), "reins-blob-folder-"))
after(() => rmSync(root, { recursive: true, force: true }))
let opened = 0
const folder = folderOf("s")
const bytes = Buffer.from("what was said")
const sha256 = sha256Of(bytes)
const day = 86_400_000

function open(): { blobs: FolderBlobs; path: string; names(): string[]; age(name: string, ms: number): void } {
  const dir = join(root, String(opened++))
  const path = join(dir, folder)
  const age = (name: string, ms: number): void => utimesSync(join(path, name), new Date(Date.now() - ms), new Date(Date.now() - ms))
  return { blobs: new FolderBlobs(dir), path, names: () => readdirSync(path).sort(), age }
}

const found = (name: string): StoredBlob => ({ folder, name, bytes: 0, ageMs: 2 * day })

describe("a blob store in a folder", () => {
  it("knows bytes that are not what their name says, and a put makes them whole", async () => {
    const { blobs, path } = open()
    await blobs.put("s", bytes)
    for (const wrong of [Buffer.from("what was sold"), Buffer.alloc(0), Buffer.concat([bytes, bytes])]) {
      writeFileSync(join(path, sha256), wrong)
      await assert.rejects(blobs.get("s", sha256), BlobDamagedError)
      await blobs.put("s", bytes)
      assert.equal(Buffer.compare(await blobs.get("s", sha256), bytes), 0)
    }
  })

  it("leaves nothing half in its place: a writer that died left another name, which goes when it is old", async () => {
    const { blobs, path, names, age } = open()
    await blobs.put("s", bytes)
    const part = `.${sha256}.00ff.part`
    writeFileSync(join(path, part), "what w")
    assert.equal(Buffer.compare(await blobs.get("s", sha256), bytes), 0)
    assert.equal(await blobs.collect(found(part), day), false)
    age(part, 2 * day)
    await blobs.collect(found(part), day)
    assert.deepEqual(names(), [sha256])
  })

  it("that cannot be read or written has not lost anything", async (t) => {
    const file = join(root, "a-file")
    writeFileSync(file, "")
    const blobs = new FolderBlobs(file)
    await assert.rejects(blobs.put("s", bytes), BlobsUnavailableError)
    await assert.rejects(blobs.get("s", sha256), BlobsUnavailableError)
    if (process.getuid?.() === 0) return t.diagnostic("permissions do not hold for root")
    const { blobs: closed, path } = open()
    await closed.put("s", bytes)
    chmodSync(path, 0)
    await assert.rejects(closed.get("s", sha256), BlobsUnavailableError)
    chmodSync(path, 0o700)
  })

  it("does not follow a name that is none of its own", async () => {
    const { blobs, path } = open()
    await blobs.put("s", bytes)
    writeFileSync(join(root, "outside"), "x")
    for (const name of ["../../outside", "outside", ".."]) assert.equal(await blobs.collect(found(name), -1), false)
    assert.equal(await blobs.collect({ ...found(sha256), folder: `../${folder}` }, -1), false)
    mkdirSync(join(path, "..", "no folder of ours"))
    const listed: StoredBlob[] = []
    for await (const one of blobs.list()) listed.push(one)
    assert.deepEqual(
      listed.map(({ name }) => name),
      [sha256],
    )
  })
})

describe("what is collected while someone puts it again", () => {
  it("stands: however the two meet, whoever was told that it is put finds it", async () => {
    const { blobs, names, age } = open()
    for (let round = 0; round < 300; round++) {
      await blobs.put("s", bytes)
      age(sha256, 2 * day)
      // Both look at it at the same time; what the writer says later than the collector has to hold.
      const pause = (n: number): Promise<void> =>
        new Promise((resolve) => (n === 0 ? resolve() : setImmediate(() => void pause(n - 1).then(resolve))))
      const putting = pause(round % 7).then(() => blobs.put("s", bytes))
      const collecting = pause(round % 5).then(() => blobs.collect(found(sha256), day))
      await Promise.all([putting, collecting])
      assert.equal(Buffer.compare(await blobs.get("s", sha256), bytes), 0, `round ${round}`)
      assert.deepEqual(names(), [sha256], `round ${round}`)
    }
  })

  it("is found by its reader where its collector died with it in hand, and judged anew by the next one", async () => {
    const { blobs, path, names, age } = open()
    await blobs.put("s", bytes)
    const out = `.${sha256}.00ff.out`
    renameSync(join(path, sha256), join(path, out))
    assert.equal(Buffer.compare(await blobs.get("s", sha256), bytes), 0)
    assert.deepEqual(names(), [sha256])
    renameSync(join(path, sha256), join(path, out))
    age(out, 2 * day)
    assert.equal(await blobs.collect(found(out), day), false)
    assert.deepEqual(names(), [sha256])
    assert.equal(await blobs.collect(found(sha256), day), true)
    await assert.rejects(blobs.get("s", sha256), BlobMissingError)
  })
})
