import { randomBytes } from "node:crypto"
import type { FileHandle } from "node:fs/promises"
import { link, mkdir, open, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises"
import { join } from "node:path"
import {
  BlobDamagedError,
  BlobMissingError,
  type Blobs,
  BlobsUnavailableError,
  folderOf,
  isFolder,
  isSha256,
  type StoredBlob,
  sha256Of,
} from "./blobs.ts"

/** What is being written. A writer that died leaves it behind; it is never read. */
const partPattern = /^\.[0-9a-f]{64}\.[0-9a-f]+\.part$/
/** A blob that is being collected. */
const outPattern = /^\.([0-9a-f]{64})\.[0-9a-f]+\.out$/

/** A blob that is being collected is out of its place for a moment, and back if it turned out to be young. */
const lookAgainMs = 50
const looksMax = 3

/** Blobs as files: `<folder of the session>/<sha256>`. Also on a file system that several machines share, if it renames in one step. */
export class FolderBlobs implements Blobs {
  readonly place: string
  readonly #root: string
  /** Folders that stand, as far as this process knows. */
  readonly #made = new Set<string>()

  constructor(root: string) {
    this.#root = root
    this.place = root
  }

  async put(sessionId: string, bytes: Uint8Array): Promise<string> {
    const sha256 = sha256Of(bytes)
    try {
      await this.#put(sessionId, sha256, bytes)
    } catch (error) {
      // An erasure may have taken the folder away under our hands.
      this.#made.delete(folderOf(sessionId))
      throw this.#unavailable(`A blob of ${bytes.length} bytes cannot be written`, error)
    }
    return sha256
  }

  async #put(sessionId: string, sha256: string, bytes: Uint8Array): Promise<void> {
    const folder = await this.#folder(sessionId)
    const file = join(folder, sha256)
    if (await isRefreshed(file, bytes)) return
    const part = join(folder, `.${sha256}.${randomBytes(6).toString("hex")}.part`)
    try {
      const handle = await open(part, "wx")
      try {
        await handle.writeFile(bytes)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(part, file)
    } catch (error) {
      await rm(part, { force: true })
      throw error
    }
    await synced(folder)
  }

  async get(sessionId: string, sha256: string): Promise<Uint8Array> {
    const file = join(this.#root, folderOf(sessionId), sha256)
    if (!isSha256(sha256)) throw new BlobMissingError(`${JSON.stringify(sha256)} is no SHA-256.`)
    for (let looks = 1; ; looks++) {
      let bytes: Buffer
      try {
        bytes = await readFile(file)
      } catch (error) {
        if (codeOf(error) !== "ENOENT") throw this.#unavailable(`The blob ${file} cannot be read`, error)
        if (looks === looksMax) throw new BlobMissingError(`There is no file ${file}.`)
        await new Promise((resolve) => setTimeout(resolve, lookAgainMs))
        // Whoever collects it may have died with it in hand.
        if (looks === looksMax - 1) await this.#lookForOut(sessionId, sha256)
        continue
      }
      if (sha256Of(bytes) !== sha256) throw new BlobDamagedError(`The ${bytes.length} bytes of ${file} have another SHA-256 than its name.`)
      return bytes
    }
  }

  async *list(): AsyncIterable<StoredBlob> {
    for (const folder of (await this.#names(this.#root)).filter(isFolder)) {
      for (const name of await this.#names(join(this.#root, folder))) {
        if (!isSha256(name) && !partPattern.test(name) && !outPattern.test(name)) continue
        const found = await lookAt(join(this.#root, folder, name))
        if (found !== null) yield { folder, name, ...found }
      }
    }
  }

  /**
   * It leaves its place before its age is looked at: whoever puts it until then has made it young, and whoever puts it afterwards finds
   * nothing there and writes it anew.
   */
  async collect({ folder, name }: StoredBlob, olderThanMs: number): Promise<boolean> {
    const [, outOf] = outPattern.exec(name) ?? []
    if (!isFolder(folder) || !(isSha256(name) || partPattern.test(name) || outOf !== undefined)) return false
    const path = join(this.#root, folder)
    const file = join(path, name)
    const first = await lookAt(file)
    if (first === null || first.ageMs <= olderThanMs) return false
    try {
      // Who was collecting it died. It is judged anew, from its place.
      if (outOf !== undefined) await broughtBack(path, name, outOf)
      else if (!isSha256(name)) await rm(file, { force: true })
      else return await this.#collect(path, name, olderThanMs)
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw this.#unavailable(`${file} cannot be removed`, error)
    }
    return false
  }

  async #collect(path: string, sha256: string, olderThanMs: number): Promise<boolean> {
    const out = `.${sha256}.${randomBytes(6).toString("hex")}.out`
    await rename(join(path, sha256), join(path, out))
    const now = await lookAt(join(path, out))
    if (now !== null && now.ageMs <= olderThanMs) {
      await broughtBack(path, out, sha256)
      return false
    }
    await rm(join(path, out), { force: true })
    return true
  }

  async removeSession(sessionId: string): Promise<void> {
    const folder = folderOf(sessionId)
    this.#made.delete(folder)
    try {
      await rm(join(this.#root, folder), { recursive: true, force: true, maxRetries: 3 })
      await synced(this.#root)
    } catch (error) {
      if (codeOf(error) !== "ENOENT") throw this.#unavailable(`The blobs of ${sessionId} cannot be removed`, error)
    }
  }

  async #folder(sessionId: string): Promise<string> {
    const name = folderOf(sessionId)
    const folder = join(this.#root, name)
    if (this.#made.has(name)) return folder
    if ((await mkdir(folder, { recursive: true })) !== undefined) await synced(this.#root)
    this.#made.add(name)
    return folder
  }

  async #lookForOut(sessionId: string, sha256: string): Promise<void> {
    const path = join(this.#root, folderOf(sessionId))
    const out = (await this.#names(path)).find((name) => outPattern.exec(name)?.[1] === sha256)
    if (out !== undefined) await broughtBack(path, out, sha256)
  }

  async #names(folder: string): Promise<readonly string[]> {
    try {
      return await readdir(folder)
    } catch (error) {
      if (codeOf(error) === "ENOENT") return []
      throw this.#unavailable(`${folder} cannot be read`, error)
    }
  }

  #unavailable(what: string, error: unknown): BlobsUnavailableError {
    return new BlobsUnavailableError(`${what}: ${(error as Error).message}. Look at the folder (REINS_BLOBS).`, { cause: error })
  }
}

/** Made young if it stands there as it should: in this order, so that who is about to collect it sees that it is young, or we that it is gone. */
async function isRefreshed(file: string, bytes: Uint8Array): Promise<boolean> {
  let handle: FileHandle | undefined
  try {
    const now = new Date()
    await utimes(file, now, now)
    handle = await open(file, "r")
    return Buffer.compare(await handle.readFile(), bytes) === 0
  } catch (error) {
    ignored(error, "ENOENT")
    return false
  } finally {
    await handle?.close()
  }
}

/** Where it was written anew meanwhile, that one stays. */
async function broughtBack(path: string, out: string, sha256: string): Promise<void> {
  await link(join(path, out), join(path, sha256)).catch((error: unknown) => ignored(error, "EEXIST", "ENOENT"))
  await rm(join(path, out), { force: true })
}

async function lookAt(file: string): Promise<{ readonly bytes: number; readonly ageMs: number } | null> {
  try {
    const { size, mtimeMs } = await stat(file)
    return { bytes: size, ageMs: Date.now() - mtimeMs }
  } catch (error) {
    ignored(error, "ENOENT")
    return null
  }
}

/** A name is durable once its folder is. Some systems cannot open folders; they need not. */
async function synced(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch((error: unknown) => ignored(error, "EISDIR", "EPERM", "EACCES"))
  if (handle === undefined) return
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function ignored(error: unknown, ...codes: readonly string[]): undefined {
  if (!codes.includes(codeOf(error) ?? "")) throw error
}

function codeOf(error: unknown): string | undefined {
  return (error as { readonly code?: string }).code
}
