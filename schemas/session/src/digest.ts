import { sha256 } from "@noble/hashes/sha2.js"
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js"

/** SHA-256 of the UTF-8 bytes, lower-case hex. Pure code, so that the fold is the same everywhere. */
export function sha256Hex(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)))
}

/** A SHA-256 that can be taken further from any point: what makes hashing a growing request cost only what is new. */
export interface RunningHash {
  /** A new running hash over everything so far and `text`. */
  with(text: string): RunningHash
  hex(): string
}

type Hash = ReturnType<typeof sha256.create>

function running(hash: Hash): RunningHash {
  return {
    with: (text) => running(hash.clone().update(utf8ToBytes(text))),
    hex: () => bytesToHex(hash.clone().digest()),
  }
}

export const emptyHash: RunningHash = running(sha256.create())
