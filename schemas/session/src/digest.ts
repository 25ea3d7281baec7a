import { sha256 } from "@noble/hashes/sha2.js"
import { utf8ToBytes } from "@noble/hashes/utils.js"

const digits = "0123456789abcdef"

/** In one piece: a string that is added up stays its 32 parts, 870 bytes, for as long as nobody looks into it, and every state has several. */
function hexOf(bytes: Uint8Array): string {
  const codes: number[] = []
  for (const byte of bytes) codes.push(digits.charCodeAt(byte >> 4), digits.charCodeAt(byte & 15))
  return String.fromCharCode(...codes)
}

/** SHA-256 of the UTF-8 bytes, lower-case hex. Pure code, so that the fold is the same everywhere. */
export function sha256Hex(text: string): string {
  return hexOf(sha256(utf8ToBytes(text)))
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
    hex: () => hexOf(hash.clone().digest()),
  }
}

export const emptyHash: RunningHash = running(sha256.create())
