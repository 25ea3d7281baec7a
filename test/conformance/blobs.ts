import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { StoredBlob } from "@reins/log"
import { BlobMissingError, type Blobs, folderOf, sha256Of } from "@reins/log/blobs"

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

async function listed(blobs: Blobs): Promise<StoredBlob[]> {
  const found: StoredBlob[] = []
  for await (const blob of blobs.list()) found.push(blob)
  return found.sort((a, b) => (`${a.folder}/${a.name}` < `${b.folder}/${b.name}` ? -1 : 1))
}

export interface BlobsSubject {
  /** A store with nothing in it. */
  open(): Promise<Blobs>
  /** Waits until what was put before is older than something: as coarse as its clock is. */
  grow(): Promise<void>
  /** How much older that makes it at least, in milliseconds. */
  readonly grownMs: number
}

/** The promises of the blob store port, the same for every adapter (S1 to S5 in `services/log/src/blobs/blobs.ts`). */
export function blobsConformance(name: string, subject: BlobsSubject): void {
  describe(`blobs: ${name}`, () => {
    it("gives back what was put, under its SHA-256 (S1, S3)", async () => {
      const blobs = await subject.open()
      for (const bytes of [bytesOf("a"), bytesOf(""), Buffer.alloc(3_000_000, "é"), Buffer.from([0, 255, 10, 13])]) {
        const sha256 = await blobs.put("sesn_1", bytes)
        assert.equal(sha256, sha256Of(bytes))
        assert.equal(Buffer.compare(await blobs.get("sesn_1", sha256), bytes), 0)
      }
    })

    it("says that it has none, which is another thing than not answering", async () => {
      const blobs = await subject.open()
      await blobs.put("sesn_1", bytesOf("a"))
      await assert.rejects(blobs.get("sesn_1", sha256Of(bytesOf("b"))), BlobMissingError)
      await assert.rejects(blobs.get("sesn_2", sha256Of(bytesOf("a"))), BlobMissingError, "sessions share nothing (S5)")
      for (const odd of ["", "..", "../../etc/passwd", "a/b", "A".repeat(64)])
        await assert.rejects(blobs.get("sesn_1", odd), BlobMissingError)
    })

    it("takes any session id, and none leads out of its folder", async () => {
      const blobs = await subject.open()
      const ids = [
        "../../x",
        "..",
        ".",
        "/",
        "a/b",
        "a\\b",
        "%2e%2e",
        "s",
        "S",
        "sesn_1\u0000",
        "é",
        "?*<>|:",
        "x".repeat(200),
        "~",
        "a b",
        "-rf",
      ]
      for (const id of ids) await blobs.put(id, bytesOf(`of ${id}`))
      for (const id of ids) assert.equal(textOf(await blobs.get(id, sha256Of(bytesOf(`of ${id}`)))), `of ${id}`)
      assert.deepEqual(new Set((await listed(blobs)).map(({ folder }) => folder)), new Set(ids.map(folderOf)))
      assert.equal(new Set(ids.map((id) => folderOf(id).toLowerCase())).size, ids.length, "also where names differ by case alone")
      for (const id of ids) assert.match(folderOf(id), /^[A-Za-z0-9_-]*\.[0-9a-f]{32}$/)
    })

    it("tells what there is, with sizes and ages", async () => {
      const blobs = await subject.open()
      assert.deepEqual(await listed(blobs), [])
      const [a, b] = [await blobs.put("sesn_1", bytesOf("aaa")), await blobs.put("sesn_2", bytesOf("b"))]
      const found = await listed(blobs)
      assert.deepEqual(
        found.map(({ folder, name, bytes }) => [folder, name, bytes]),
        [
          [folderOf("sesn_1"), a, 3],
          [folderOf("sesn_2"), b, 1],
        ],
      )
      for (const { ageMs } of found) assert.ok(ageMs > -5000 && ageMs < 60_000, String(ageMs))
    })

    it("is young again once it is put again, and the young is not collected (S2, S4)", async () => {
      const blobs = await subject.open()
      const [old, again] = [await blobs.put("sesn_1", bytesOf("old")), await blobs.put("sesn_1", bytesOf("again"))]
      await subject.grow()
      const before = await listed(blobs)
      await blobs.put("sesn_1", bytesOf("again"))
      const collected: string[] = []
      for (const blob of before) if (await blobs.collect(blob, subject.grownMs)) collected.push(blob.name)
      assert.deepEqual(collected, [old])
      await assert.rejects(blobs.get("sesn_1", old), BlobMissingError)
      assert.equal(textOf(await blobs.get("sesn_1", again)), "again")
      for (const blob of before) assert.equal(await blobs.collect(blob, subject.grownMs), false, "a second time")
    })

    it("removes everything of one session, young or not, and of no other (S5)", async () => {
      const blobs = await subject.open()
      for (const [id, text] of [
        ["sesn_1", "a"],
        ["sesn_1", "b"],
        ["sesn_10", "a"],
      ] as const)
        await blobs.put(id, bytesOf(text))
      await blobs.removeSession("sesn_1")
      assert.deepEqual(
        (await listed(blobs)).map(({ folder }) => folder),
        [folderOf("sesn_10")],
      )
      await blobs.removeSession("sesn_1")
      await blobs.removeSession("sesn_never")
      // A writer that knew the folder before can still write.
      assert.equal(await blobs.put("sesn_1", bytesOf("late")), sha256Of(bytesOf("late")))
      assert.equal(textOf(await blobs.get("sesn_1", sha256Of(bytesOf("late")))), "late")
    })

    it("is written by many at the same time, and read meanwhile", async () => {
      const blobs = await subject.open()
      const bytes = Buffer.alloc(200_000, "x")
      const sha256 = sha256Of(bytes)
      await Promise.all(Array.from({ length: 20 }, () => blobs.put("sesn_1", bytes)))
      const [read] = await Promise.all([blobs.get("sesn_1", sha256), ...Array.from({ length: 10 }, () => blobs.put("sesn_1", bytes))])
      assert.equal(sha256Of(read), sha256)
      assert.equal((await listed(blobs)).length, 1)
    })
  })
}
