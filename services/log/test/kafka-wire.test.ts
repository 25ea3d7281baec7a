import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { describe, it } from "node:test"
import { promisify } from "node:util"
import { lz4Decompress, snappyDecompress } from "../src/kafka/compression.ts"
import { crc32c } from "../src/kafka/crc32c.ts"
import { applyHunks, assertPatched, parsePatch } from "../src/kafka/patched.ts"
import { varintSize, WireReader, WireWriter } from "../src/kafka/wire.ts"

describe("the patch", () => {
  const patch = parsePatch(
    [
      "--- a/one.js",
      "+++ b/one.js",
      "@@ -2,3 +2,4 @@",
      " two",
      "-three",
      "+THREE",
      "+and a half",
      " four",
      "@@ -6,2 +7,1 @@",
      " six",
      "-seven",
      "",
    ].join("\n"),
  )
  const source = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight"

  it("changes what its hunks say, each at its place", () => {
    assert.equal(applyHunks(source, patch.get("one.js") ?? []), "one\ntwo\nTHREE\nand a half\nfour\nfive\nsix\neight")
  })

  it("does not fit anything that differs in one line of context", () => {
    for (const other of [source.replace("two", "2"), source.replace("seven", "sieben"), `zero\n${source}`]) {
      assert.throws(() => applyHunks(other, patch.get("one.js") ?? []), /does not fit/)
    }
  })

  it("fits the kafkajs that is installed, and is in force", () => {
    const files = parsePatch(readFileSync(new URL("../../../patches/kafkajs-2.2.4.patch", import.meta.url), "utf8"))
    assert.equal(files.size, 5)
    assertPatched()
  })

  it("says so when kafkajs was loaded before it", async () => {
    const module = new URL("../src/kafka/patched.ts", import.meta.url).href
    const program = `await import("kafkajs"); await import(${JSON.stringify(module)}).catch((error) => console.log(error.message))`
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], { cwd: import.meta.dirname })
    assert.match(stdout, /kafkajs was loaded before Reins could mend it\. Import @reins\/log\/kafka before/)
  })
})

describe("the wire", () => {
  it("seals with CRC-32C, by the vectors of RFC 3720", () => {
    const of = (bytes: Uint8Array): string => crc32c(bytes, 0, bytes.length).toString(16)
    assert.equal(of(new TextEncoder().encode("123456789")), "e3069283")
    assert.equal(of(new Uint8Array(32)), "8a9136aa")
    assert.equal(of(new Uint8Array(32).fill(255)), "62a8ab43")
    assert.equal(of(Uint8Array.from({ length: 32 }, (_, index) => index)), "46dd794e")
    assert.equal(crc32c(new TextEncoder().encode("xx123456789x"), 2, 11).toString(16), "e3069283")
  })

  it("reads the integers that it writes", () => {
    const small = [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2 ** 31 - 1, -(2 ** 31)]
    const writer = new WireWriter(small.reduce((size, value) => size + varintSize(value), 0))
    for (const value of small) writer.varint(value)
    assert.equal(writer.at, writer.bytes.length)
    const reader = new WireReader(writer.bytes)
    assert.deepEqual(
      small.map(() => reader.varint()),
      small,
    )
    const large = [0, -1, 1, 2 ** 32, -(2 ** 32) - 1, 2 ** 53 - 1, -(2 ** 53) + 1, 1_795_558_163_580]
    const fixed = new WireWriter(8 * large.length)
    for (const value of large) fixed.int64(value)
    for (const [index, value] of large.entries()) assert.equal(fixed.bytes.readBigInt64BE(index * 8), BigInt(value))
    const fixedReader = new WireReader(fixed.bytes)
    assert.deepEqual(
      large.map(() => fixedReader.int64()),
      large,
    )
  })

  it("reads 64-bit differences of timestamps, also negative ones", () => {
    // Zigzag by hand: 2n for n ≥ 0, -2n - 1 below.
    const encoded = (value: bigint): Buffer => {
      let rest = value >= 0n ? value * 2n : -value * 2n - 1n
      const bytes: number[] = []
      for (; rest >= 128n; rest /= 128n) bytes.push(Number(rest % 128n) | 0x80)
      bytes.push(Number(rest))
      return Buffer.from(bytes)
    }
    for (const value of [0n, 1n, -1n, 63n, 64n, -64n, -65n, 86_400_000n, -86_400_000n, 2n ** 40n, -(2n ** 40n) - 1n]) {
      assert.equal(new WireReader(encoded(value)).varlong(), Number(value))
    }
  })

  it("does not take a compressed block at its word", () => {
    assert.throws(() => snappyDecompress(Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x41])), RangeError)
    assert.throws(() => snappyDecompress(Buffer.from([0x02, 0x00, 0x41, 0x05, 0x09])), RangeError)
    assert.throws(
      () => lz4Decompress(Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00])),
      RangeError,
    )
    assert.throws(() => lz4Decompress(Buffer.from("this is no LZ4 frame at all")), RangeError)
  })
})
