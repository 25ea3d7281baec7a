import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after } from "node:test"
import { FolderBlobs, MemoryBlobs } from "@reins/log/blobs"
import { blobsConformance } from "./blobs.ts"

let now = 1_795_000_000_000
blobsConformance("memory", {
  open: async () => {
    now = Date.now()
    return new MemoryBlobs(() => now)
  },
  grow: async () => void (now += 1000),
  grownMs: 500,
})

const dir = mkdtempSync(join(tmpdir(), "reins-blobs-"))
let opened = 0
blobsConformance("folder", {
  open: async () => new FolderBlobs(join(dir, `${opened++}`, "deeper")),
  grow: () => new Promise((resolve) => setTimeout(resolve, 1100)),
  grownMs: 1000,
})
after(() => rmSync(dir, { recursive: true, force: true }))
