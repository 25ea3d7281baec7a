import { createHash } from "node:crypto"

const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

/** 24 characters that follow from a text, in the alphabet of the hosted API's ids. */
export function base58Of(text: string): string {
  let number = BigInt(`0x${createHash("sha256").update(text).digest("hex").slice(0, 36)}`)
  let id = ""
  for (let digit = 0; digit < 24; digit++) {
    id = alphabet[Number(number % 58n)] + id
    number /= 58n
  }
  return id
}
