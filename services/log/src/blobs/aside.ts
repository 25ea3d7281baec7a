import type { LogRecord } from "../log.ts"
import { isSha256 } from "./blobs.ts"

/**
 * What of a record stands in the blob store, by a header: `content=<sha256>:<bytes>`, several with commas. The field itself then holds
 * `{"blob":"sha256:…","bytes":…}`; what stands there for it is the JSON text of the field, in UTF-8.
 */
export const blobsHeader = "blobs"

export interface Named {
  readonly field: string
  readonly sha256: string
  readonly bytes: number
}

/** More fields than any record has. */
const namedMax = 20

/** What a header names; null where it is none of ours. */
export function readNamed(header: string): readonly Named[] | null {
  const named: Named[] = []
  for (const part of header.split(",", namedMax + 1)) {
    const [, field, sha256, bytes] = /^([A-Za-z]{1,40})=([0-9a-f]{64}):(\d{1,12})$/.exec(part) ?? []
    if (field === undefined || sha256 === undefined || !isSha256(sha256) || named.length === namedMax) return null
    named.push({ field, sha256, bytes: Number(bytes) })
  }
  return named
}

export function writeNamed(named: readonly Named[]): string {
  return named.map(({ field, sha256, bytes }) => `${field}=${sha256}:${bytes}`).join(",")
}

/** What a field says whose text stands in the blob store. */
export function placeholder({ sha256, bytes }: Named): { readonly blob: string; readonly bytes: number } {
  return { blob: `sha256:${sha256}`, bytes }
}

/** Of a record whose header names blobs: their texts by field, or why they cannot be had. */
export type Aside = { readonly texts: Readonly<Record<string, string>> } | { readonly fault: BlobFault; readonly message: string }

export type BlobFault = "blob_missing" | "blob_damaged"

/** The texts that belong into a record that was read; nothing where all of it stands in it. */
export function asideOf({ headers, aside }: LogRecord): Aside | null {
  if (headers[blobsHeader] === undefined) return null
  return aside ?? { fault: "blob_missing", message: "Parts of it stand in a blob store, and none is configured here. Set REINS_BLOBS." }
}
