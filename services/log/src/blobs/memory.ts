import { BlobDamagedError, BlobMissingError, type Blobs, folderOf, type StoredBlob, sha256Of } from "./blobs.ts"

interface Kept {
  bytes: Uint8Array
  putAt: number
}

/** A blob store that is gone with its process: for tests. */
export class MemoryBlobs implements Blobs {
  readonly place = "the blob store in memory"
  readonly #folders = new Map<string, Map<string, Kept>>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  async put(sessionId: string, bytes: Uint8Array): Promise<string> {
    const sha256 = sha256Of(bytes)
    const folder = folderOf(sessionId)
    const kept = this.#folders.get(folder) ?? new Map<string, Kept>()
    this.#folders.set(folder, kept.set(sha256, { bytes: new Uint8Array(bytes), putAt: this.#now() }))
    return sha256
  }

  async get(sessionId: string, sha256: string): Promise<Uint8Array> {
    const folder = folderOf(sessionId)
    const kept = this.#folders.get(folder)?.get(sha256)
    const where = `${folder}/${sha256} in ${this.place}`
    if (kept === undefined) throw new BlobMissingError(`There is no ${where}.`)
    if (sha256Of(kept.bytes) !== sha256) throw new BlobDamagedError(`The bytes of ${where} have another SHA-256.`)
    return kept.bytes
  }

  async *list(): AsyncIterable<StoredBlob> {
    for (const [folder, blobs] of this.#folders)
      for (const [sha256, { bytes, putAt }] of blobs) yield { folder, name: sha256, bytes: bytes.length, ageMs: this.#now() - putAt }
  }

  async collect({ folder, name }: StoredBlob, olderThanMs: number): Promise<boolean> {
    const blobs = this.#folders.get(folder)
    const kept = blobs?.get(name)
    if (kept === undefined || this.#now() - kept.putAt <= olderThanMs) return false
    return blobs?.delete(name) === true
  }

  async removeSession(sessionId: string): Promise<void> {
    this.#folders.delete(folderOf(sessionId))
  }

  /** Whether it stands, whole. */
  has(sessionId: string, sha256: string): boolean {
    const kept = this.#folders.get(folderOf(sessionId))?.get(sha256)
    return kept !== undefined && sha256Of(kept.bytes) === sha256
  }

  /** As a disk may do it: the bytes change, or are gone. Returns what puts them back. */
  damage(sessionId: string, sha256: string, how: "missing" | "damaged"): () => void {
    const blobs = this.#folders.get(folderOf(sessionId))
    const kept = blobs?.get(sha256)
    if (blobs === undefined || kept === undefined) return () => undefined
    if (how === "missing") blobs.delete(sha256)
    else blobs.set(sha256, { ...kept, bytes: Buffer.from("damaged") })
    return () => void blobs.set(sha256, kept)
  }
}
