/** Bytes as Kafka's protocol lays them out. Offsets and times stay below 2^53, so they are plain numbers here. */

export class WireReader {
  readonly bytes: Buffer
  at: number

  constructor(bytes: Buffer, at: number = 0) {
    this.bytes = bytes
    this.at = at
  }

  int8(): number {
    const value = this.bytes.readInt8(this.at)
    this.at += 1
    return value
  }

  int16(): number {
    const value = this.bytes.readInt16BE(this.at)
    this.at += 2
    return value
  }

  int32(): number {
    const value = this.bytes.readInt32BE(this.at)
    this.at += 4
    return value
  }

  int64(): number {
    const value = this.bytes.readInt32BE(this.at) * 0x1_0000_0000 + this.bytes.readUInt32BE(this.at + 4)
    this.at += 8
    return value
  }

  string(): string {
    const length = this.int16()
    if (length <= 0) return ""
    const value = this.bytes.toString("utf8", this.at, this.at + length)
    this.at += length
    return value
  }

  /** A zigzag integer of at most 32 bits. */
  varint(): number {
    const { bytes } = this
    let byte = bytes[this.at++] as number
    let value = byte & 0x7f
    for (let shift = 7; byte & 0x80; shift += 7) {
      byte = bytes[this.at++] as number
      value |= (byte & 0x7f) << shift
    }
    return (value >>> 1) ^ -(value & 1)
  }

  /** A zigzag integer of at most 64 bits; exact below 2^53. */
  varlong(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.bytes[this.at++] as number
      value += (byte & 0x7f) * scale
      if ((byte & 0x80) === 0) break
      scale *= 128
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  /** Bytes of their own, not a view into the answer: a view would keep the whole answer, up to megabytes, alive. */
  copy(length: number): Buffer {
    const value = take(length)
    this.bytes.copy(value, 0, this.at, this.at + length)
    this.at += length
    return value
  }

  text(length: number): string {
    const value = this.bytes.toString("utf8", this.at, this.at + length)
    this.at += length
    return value
  }
}

/** Small values share slabs: an allocation each would cost more than the copy, and Node's own pool keeps 64 KiB alive for one. */
const slabBytes = 8 * 1024
const slabShareMax = slabBytes / 4
let slab = Buffer.allocUnsafeSlow(slabBytes)
let slabAt = 0

function take(length: number): Buffer {
  if (length > slabShareMax) return Buffer.allocUnsafeSlow(length)
  if (slabAt + length > slabBytes) {
    slab = Buffer.allocUnsafeSlow(slabBytes)
    slabAt = 0
  }
  const taken = slab.subarray(slabAt, slabAt + length)
  slabAt += length
  return taken
}

export function varintSize(value: number): number {
  let rest = (value << 1) ^ (value >> 31)
  let size = 1
  while ((rest & ~0x7f) !== 0) {
    rest >>>= 7
    size++
  }
  return size
}

/** Writes into a buffer whose size was computed before; it never grows. */
export class WireWriter {
  readonly bytes: Buffer
  at = 0

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size)
  }

  int8(value: number): this {
    this.at = this.bytes.writeInt8(value, this.at)
    return this
  }

  int16(value: number): this {
    this.at = this.bytes.writeInt16BE(value, this.at)
    return this
  }

  int32(value: number): this {
    this.at = this.bytes.writeInt32BE(value, this.at)
    return this
  }

  int64(value: number): this {
    this.bytes.writeInt32BE(Math.floor(value / 0x1_0000_0000), this.at)
    this.bytes.writeUInt32BE(value - Math.floor(value / 0x1_0000_0000) * 0x1_0000_0000, this.at + 4)
    this.at += 8
    return this
  }

  string(value: string, bytesLength: number): this {
    this.int16(bytesLength)
    return this.text(value, bytesLength)
  }

  text(value: string, bytesLength: number): this {
    this.bytes.write(value, this.at, bytesLength, "utf8")
    this.at += bytesLength
    return this
  }

  varint(value: number): this {
    let rest = (value << 1) ^ (value >> 31)
    while ((rest & ~0x7f) !== 0) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.bytes[this.at++] = rest
    return this
  }

  raw(value: Uint8Array): this {
    this.bytes.set(value, this.at)
    this.at += value.byteLength
    return this
  }
}
