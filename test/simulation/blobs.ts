import type { Blobs, StoredBlob } from "@reins/log"
import { BlobDamagedError, BlobMissingError, BlobsUnavailableError, folderOf, MemoryBlobs } from "@reins/log/blobs"
import type { Faults } from "./faults.ts"
import type { Life } from "./life.ts"
import type { Random } from "./random.ts"
import type { VirtualTime } from "./virtual-time.ts"

export interface BlobWorld {
  readonly time: VirtualTime
  readonly random: Random
  readonly faults: Faults
}

/** The blob store as it is, whatever anyone sees of it. */
export class BlobStore {
  readonly #world: BlobWorld
  readonly #texts = new Map<string, { readonly text: string; readonly putAt: number }>()
  readonly #memory: MemoryBlobs
  /** What readers do not find for a while, or find damaged. */
  readonly #spoilt = new Map<string, "missing" | "damaged">()

  constructor(world: BlobWorld) {
    this.#world = world
    this.#memory = new MemoryBlobs(() => world.time.now)
  }

  /** The store as one process has it: slow, failing, and with answers that get lost. */
  connect(life: Life): Blobs {
    const { time, random, faults } = this.#world
    const away = (): Error => new BlobsUnavailableError("The blob store does not answer.")
    /** What has left the process happens, whatever becomes of that. */
    const ask = <T>(use: () => Promise<T>, writes: boolean): Promise<T> =>
      new Promise((resolve, reject) => {
        const fails = (ms: number): void => void life.after(ms, () => reject(away()))
        const there = random.int(0, 3) + (faults.strikes("blob-slow", 0.2) ? random.int(50, 2500) : 0)
        if (faults.strikes("blob-away", 0.15)) return fails(random.int(5, 200))
        if (writes && faults.strikes("blob-unanswered", 0.15)) {
          time.after(there, () => void use())
          return fails(there + random.int(5, 200))
        }
        time.after(there, () => {
          use().then(
            (answer) => void life.after(random.int(0, 2), () => resolve(answer)),
            (error: Error) => void life.after(random.int(0, 2), () => reject(error)),
          )
        })
      })
    return {
      place: "the simulated store",
      put: (sessionId, bytes) => ask(() => this.#put(sessionId, bytes), true),
      get: (sessionId, sha256) => ask(() => this.#get(sessionId, sha256), false),
      list: () => this.#memory.list(),
      collect: (blob, olderThanMs) => ask(() => this.#collect(blob, olderThanMs), true),
      removeSession: (sessionId) => ask(() => this.#remove(folderOf(sessionId)), true),
    }
  }

  /** For who is no process of this world. */
  atOnce(): Blobs {
    return {
      place: "the simulated store",
      put: (sessionId, bytes) => this.#put(sessionId, bytes),
      get: (sessionId, sha256) => this.#get(sessionId, sha256),
      list: () => this.#memory.list(),
      collect: (blob, olderThanMs) => this.#collect(blob, olderThanMs),
      removeSession: (sessionId) => this.#remove(folderOf(sessionId)),
    }
  }

  async #put(sessionId: string, bytes: Uint8Array): Promise<string> {
    const sha256 = await this.#memory.put(sessionId, bytes)
    const key = `${folderOf(sessionId)}/${sha256}`
    this.#texts.set(key, { text: Buffer.from(bytes).toString("utf8"), putAt: this.#world.time.now })
    return sha256
  }

  async #get(sessionId: string, sha256: string): Promise<Uint8Array> {
    const spoilt = this.#spoilt.get(`${folderOf(sessionId)}/${sha256}`)
    if (spoilt === "missing") throw new BlobMissingError("It is gone for a while.")
    if (spoilt === "damaged") throw new BlobDamagedError("It is another for a while.")
    return this.#memory.get(sessionId, sha256)
  }

  async #collect(blob: StoredBlob, olderThanMs: number): Promise<boolean> {
    const collected = await this.#memory.collect(blob, olderThanMs)
    if (collected) this.#texts.delete(`${blob.folder}/${blob.name}`)
    return collected
  }

  async #remove(folder: string): Promise<void> {
    for (const key of this.#texts.keys()) if (key.startsWith(`${folder}/`)) this.#texts.delete(key)
    for await (const blob of this.#memory.list()) if (blob.folder === folder) await this.#memory.collect(blob, Number.NEGATIVE_INFINITY)
  }

  /** The text of a blob that stands. */
  text(sessionId: string, sha256: string): string | undefined {
    return this.#texts.get(`${folderOf(sessionId)}/${sha256}`)?.text
  }

  putAt(sessionId: string, sha256: string): number | undefined {
    return this.#texts.get(`${folderOf(sessionId)}/${sha256}`)?.putAt
  }

  /** Something in it cannot be read for a while. False where there is nothing. */
  spoil(random: Random, ms: number): boolean {
    const keys = [...this.#texts.keys()]
    if (keys.length === 0) return false
    const key = random.pick(keys)
    this.#spoilt.set(key, random.pick(["missing", "damaged"]))
    this.#world.time.after(ms, () => void this.#spoilt.delete(key))
    return true
  }

  mend(): void {
    this.#spoilt.clear()
  }
}
