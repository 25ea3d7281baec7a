/**
 * What other clients may have compressed with and Node does not bring: snappy and LZ4. Only the way back; Reins itself writes
 * uncompressed, because it waits for every write.
 */

const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])

/** Raw snappy, or the chunked framing that Java clients put around it. */
export function snappyDecompress(bytes: Buffer): Buffer {
  if (!bytes.subarray(0, 8).equals(xerialMagic)) return snappyBlock(bytes)
  const chunks: Buffer[] = []
  for (let at = 16; at + 4 <= bytes.length; ) {
    const length = bytes.readInt32BE(at)
    chunks.push(snappyBlock(bytes.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return Buffer.concat(chunks)
}

function snappyBlock(bytes: Buffer): Buffer {
  let at = 0
  let size = 0
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++]
    if (byte === undefined) throw new RangeError("the snappy block ends in its length")
    size += (byte & 0x7f) * scale
    if ((byte & 0x80) === 0) break
  }
  const out = new Output(size)
  while (at < bytes.length) {
    const tag = bytes[at++] as number
    const kind = tag & 3
    if (kind === 0) {
      let length = tag >>> 2
      if (length >= 60) {
        const extra = length - 59
        length = bytes.readUIntLE(at, extra)
        at += extra
      }
      out.literal(bytes, at, length + 1)
      at += length + 1
    } else if (kind === 1) {
      out.copy(((tag >>> 5) << 8) | (bytes[at++] as number), ((tag >>> 2) & 7) + 4)
    } else {
      const distance = kind === 2 ? bytes.readUInt16LE(at) : bytes.readUInt32LE(at)
      at += kind === 2 ? 2 : 4
      out.copy(distance, (tag >>> 2) + 1)
    }
  }
  return out.finish()
}

/** The LZ4 frame format. Checksums are not looked at: the broker has checked the batch that the frame came in. */
export function lz4Decompress(bytes: Buffer): Buffer {
  if (bytes.readUInt32LE(0) !== 0x184d2204) throw new RangeError("this is no LZ4 frame")
  const flags = bytes[4] as number
  const blockChecksum = (flags & 0x10) !== 0
  const contentSize = (flags & 0x08) !== 0
  let at = 6 + (contentSize ? 8 : 0) + (flags & 0x01 ? 4 : 0) + 1
  const out = new Output(undefined)
  for (;;) {
    const head = bytes.readUInt32LE(at)
    at += 4
    if (head === 0) return out.finish()
    const length = head & 0x7fff_ffff
    if (head >>> 31 === 1) out.literal(bytes, at, length)
    else lz4Block(bytes, at, at + length, out)
    at += length + (blockChecksum ? 4 : 0)
  }
}

function lz4Block(bytes: Buffer, start: number, end: number, out: Output): void {
  let at = start
  const extended = (first: number): number => {
    let length = first
    if (first === 15) {
      let byte = 255
      while (byte === 255) {
        byte = bytes[at++] as number
        length += byte
      }
    }
    return length
  }
  while (at < end) {
    const token = bytes[at++] as number
    const literals = extended(token >>> 4)
    out.literal(bytes, at, literals)
    at += literals
    if (at >= end) return
    const distance = bytes.readUInt16LE(at)
    at += 2
    out.copy(distance, extended(token & 15) + 4)
  }
}

/** More than a broker would ever take as one batch: a length that lies must not take all memory. */
const outputBytesMax = 128 * 1024 * 1024

class Output {
  readonly #exact: boolean
  #bytes: Buffer
  #at = 0

  constructor(size: number | undefined) {
    if ((size ?? 0) > outputBytesMax) throw new RangeError(`it says that it holds ${size} bytes`)
    this.#exact = size !== undefined
    this.#bytes = Buffer.allocUnsafe(size ?? 64 * 1024)
  }

  literal(from: Buffer, at: number, length: number): void {
    if (at + length > from.length) throw new RangeError("it ends too early")
    this.#need(length)
    from.copy(this.#bytes, this.#at, at, at + length)
    this.#at += length
  }

  /** Byte by byte, because a copy may reach into what it writes. */
  copy(distance: number, length: number): void {
    if (distance <= 0 || distance > this.#at) throw new RangeError("it refers to what lies before it")
    this.#need(length)
    const bytes = this.#bytes
    for (let index = 0; index < length; index++) {
      bytes[this.#at] = bytes[this.#at - distance] as number
      this.#at++
    }
  }

  finish(): Buffer {
    if (this.#exact && this.#at !== this.#bytes.length) throw new RangeError("it holds less than it says")
    return this.#bytes.subarray(0, this.#at)
  }

  #need(length: number): void {
    const needed = this.#at + length
    if (needed <= this.#bytes.length) return
    if (this.#exact || needed > outputBytesMax) throw new RangeError("it holds more than it says")
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2))
    this.#bytes.copy(larger, 0, 0, this.#at)
    this.#bytes = larger
  }
}
