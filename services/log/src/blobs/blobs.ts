import { createHash } from "node:crypto"

/**
 * The blob store port: what is too large for a record, by the SHA-256 of its bytes, in a folder of its session.
 *
 * S1 A blob that was put is whole and durable when its promise resolves, also over a crash; it never shows half.
 * S2 Putting what stands there already changes nothing but its age, which begins anew, and makes it whole if it was damaged.
 * S3 What is read has the SHA-256 that it was asked for by.
 * S4 A blob that is younger than asked for, at the moment at which it would go, is not collected.
 * S5 Sessions share nothing: what removes one session's blobs takes nothing from another.
 */
export interface Blobs {
  /** How messages call this store. */
  readonly place: string
  /** Keeps these bytes for a session; resolves with their SHA-256. Rejects with `BlobsUnavailableError` where it cannot say that they stand. */
  put(sessionId: string, bytes: Uint8Array): Promise<string>
  /** Throws `BlobMissingError`, `BlobDamagedError`, or `BlobsUnavailableError` where nobody can say. */
  get(sessionId: string, sha256: string): Promise<Uint8Array>
  /** Everything there is, in no order; what comes and goes meanwhile may be among it or not. */
  list(): AsyncIterable<StoredBlob>
  /** Takes one out if it is older than this now; whether it did. */
  collect(blob: StoredBlob, olderThanMs: number): Promise<boolean>
  /** Takes out everything of a session, whatever its age, and half-written things too. */
  removeSession(sessionId: string): Promise<void>
}

export interface StoredBlob {
  /** Which session's, by the name of its folder (`folderOf`). */
  readonly folder: string
  /** Its SHA-256; or the store's own name of something that was never finished. */
  readonly name: string
  readonly bytes: number
  /** Since it was put last, by the store's own clock. */
  readonly ageMs: number
}

/** The store does not answer, or not in a way that says anything about a blob: ask again. */
export class BlobsUnavailableError extends Error {
  readonly code = "blobs-unavailable"
  readonly retryable = true
}

/** The store answers, and it has no such blob. */
export class BlobMissingError extends Error {
  readonly code = "blob_missing"
  readonly retryable = false
}

/** What stands under its name is something else. */
export class BlobDamagedError extends Error {
  readonly code = "blob_damaged"
  readonly retryable = false
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex")
}

/** Characters of a session's id that show in the name of its folder, for a person who looks. */
const shownMax = 60

/**
 * The folder of a session: one path segment whatever its id holds, so that no id leads elsewhere, and another for another id also where
 * names differ by case alone. It cannot be read back; who looks for a session makes its name.
 */
export function folderOf(sessionId: string): string {
  const shown = sessionId.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, shownMax)
  return `${shown}.${sha256Of(Buffer.from(sessionId)).slice(0, 32)}`
}

const folderPattern = /^[A-Za-z0-9_-]{0,60}\.[0-9a-f]{32}$/
const sha256Pattern = /^[0-9a-f]{64}$/

export function isFolder(name: string): boolean {
  return folderPattern.test(name)
}

export function isSha256(text: string): boolean {
  return sha256Pattern.test(text)
}
