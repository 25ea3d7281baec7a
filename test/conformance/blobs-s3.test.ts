import assert from "node:assert/strict"
import { globSync, utimesSync } from "node:fs"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { BlobMissingError, BlobsUnavailableError, folderOf, type StoredBlob, sha256Of } from "@reins/log/blobs"
import { S3Blobs, type S3Options } from "@reins/log/s3"
import { blobsConformance } from "./blobs.ts"
import { type S3Server, startS3 } from "./s3-server.ts"

let server: S3Server
let opened = 0
before(async () => {
  server = await startS3()
})
after(() => server.stop())

function open(given: Partial<S3Options> = {}): S3Blobs {
  const { bucket, endpoint, accessKeyId, secretAccessKey } = server
  const prefix = `a/deep-pre.fix_${opened++}`
  return new S3Blobs({
    bucket,
    endpoint,
    accessKeyId,
    secretAccessKey,
    prefix,
    region: "eu-central-1",
    sessionToken: null,
    settleMs: 2000,
    ...given,
  })
}

/** Everything in the store is two hours older. */
function grow(): void {
  const then = new Date(Date.now() - 7_200_000)
  for (const file of globSync("**/*", { cwd: server.dir, withFileTypes: true }))
    if (file.isFile()) utimesSync(join(file.parentPath, file.name), then, then)
}

blobsConformance("S3", { open: async () => open(), grow: async () => grow(), grownMs: 3_600_000 })

describe("blobs: a bucket", { concurrency: 1 }, () => {
  const bytes = Buffer.from("what was said")
  const sha256 = sha256Of(bytes)

  it("lists more than fits into one answer", async () => {
    const blobs = open()
    const count = 1005
    for (let at = 0; at < count; at += 15)
      await Promise.all(Array.from({ length: 15 }, (_, n) => blobs.put("sesn_1", Buffer.from(String(at + n)))))
    const names = new Set<string>()
    for await (const { name } of blobs.list()) names.add(name)
    assert.equal(names.size, count)
    await blobs.removeSession("sesn_1")
    for await (const one of blobs.list()) assert.fail(`${one.name} is left`)
  })

  it("keeps what is put again between a collector's last look and its removal", async (t) => {
    const blobs = open()
    await blobs.put("s", bytes)
    grow()
    const found: StoredBlob = { folder: folderOf("s"), name: sha256, bytes: 0, ageMs: 7_200_000 }
    const isPut = Promise.withResolvers<void>()
    const isLookedAt = Promise.withResolvers<void>()
    const { fetch } = globalThis
    t.mock.method(globalThis, "fetch", async (request: Request) => {
      if (request.method === "DELETE") {
        isLookedAt.resolve()
        await isPut.promise
      }
      const response = await fetch(request)
      if (request.method === "PUT") isPut.resolve()
      return response
    })
    const collecting = blobs.collect(found, 3_600_000)
    await isLookedAt.promise
    const putting = blobs.put("s", bytes)
    assert.equal(await collecting, true)
    await putting
    assert.equal(Buffer.compare(await blobs.get("s", sha256), bytes), 0)
  })

  it("that refuses, lacks its bucket or is away has lost nothing", async () => {
    for (const given of [{ bucket: "no-such-bucket" }, { secretAccessKey: "wrong" }, { endpoint: "http://127.0.0.1:1" }]) {
      const blobs = open(given)
      await assert.rejects(blobs.get("s", sha256), BlobsUnavailableError, JSON.stringify(given))
      await assert.rejects(blobs.put("s", bytes), BlobsUnavailableError, JSON.stringify(given))
    }
    await assert.rejects(open().get("s", sha256), BlobMissingError)
  })
})
