import { gunzipSync, zstdDecompressSync } from "node:zlib"
import type { LogRecord } from "../log.ts"
import type { Exchange, Throttled } from "./client.ts"
import { lz4Decompress, snappyDecompress } from "./compression.ts"
import { WireReader, WireWriter } from "./wire.ts"

export interface FetchPosition {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

/** What a broker said about one partition of a fetch request. The batches are still as they came. */
export interface Fetched {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  /** One past the last record that every replica in sync has. */
  readonly highWatermark: number
  /** One past the last record that no open transaction precedes; what is read ends here. */
  readonly lastStableOffset: number
  readonly logStartOffset: number
  readonly aborted: readonly { readonly producerId: number; readonly firstOffset: number }[]
  readonly batches: Buffer
}

const apiKey = 1
const apiVersion = 11

/** At most this much of one partition, and of all together, in one answer: decoding more would hold the event loop up. */
const partitionBytesMax = 1024 * 1024
const answerBytesMax = 4 * 1024 * 1024

export function fetchExchange(positions: readonly FetchPosition[], waitMs: number): Exchange<{ fetched: readonly Fetched[] }> {
  return {
    request: {
      apiKey,
      apiVersion,
      apiName: "Fetch",
      encode: async () => {
        const bytes = encodeFetch(positions, waitMs)
        return { buf: bytes, buffer: bytes }
      },
    },
    response: { decode: async (payload) => decodeFetched(payload), parse: async (answer) => answer },
    requestTimeout: waitMs + 5000,
    logResponseError: false,
  }
}

function encodeFetch(positions: readonly FetchPosition[], waitMs: number): Buffer {
  const topics = new Map<string, FetchPosition[]>()
  let size = 4 + 4 + 4 + 4 + 1 + 4 + 4 + 4 + 4 + 2
  for (const position of positions) {
    size += 4 + 4 + 8 + 8 + 4
    const partitions = topics.get(position.topic)
    if (partitions === undefined) {
      topics.set(position.topic, [position])
      size += 2 + Buffer.byteLength(position.topic) + 4
    } else {
      partitions.push(position)
    }
  }
  const writer = new WireWriter(size)
  // A client, not a replica; one byte is enough to answer at once; read committed; no fetch session.
  writer.int32(-1).int32(waitMs).int32(1).int32(answerBytesMax).int8(1).int32(0).int32(-1).int32(topics.size)
  for (const [topic, partitions] of topics) {
    writer.string(topic, Buffer.byteLength(topic)).int32(partitions.length)
    for (const { partition, offset } of partitions) writer.int32(partition).int32(-1).int64(offset).int64(-1).int32(partitionBytesMax)
  }
  writer.int32(0).int16(0)
  return writer.bytes
}

function decodeFetched(payload: Buffer): { fetched: readonly Fetched[] } & Throttled {
  const reader = new WireReader(payload)
  const clientSideThrottleTime = reader.int32()
  const sessionError = reader.int16()
  reader.int32()
  const fetched: Fetched[] = []
  if (sessionError !== 0) throw new Error(`The broker refused a fetch with error ${sessionError}.`)
  for (let topics = reader.int32(); topics > 0; topics--) {
    const topic = reader.string()
    for (let partitions = reader.int32(); partitions > 0; partitions--) {
      const partition = reader.int32()
      const errorCode = reader.int16()
      const highWatermark = reader.int64()
      const lastStableOffset = reader.int64()
      const logStartOffset = reader.int64()
      const aborted: { producerId: number; firstOffset: number }[] = []
      for (let count = reader.int32(); count > 0; count--) aborted.push({ producerId: reader.int64(), firstOffset: reader.int64() })
      reader.int32()
      const length = Math.max(0, reader.int32())
      const batches = payload.subarray(reader.at, reader.at + length)
      reader.at += length
      fetched.push({ topic, partition, errorCode, highWatermark, lastStableOffset, logStartOffset, aborted, batches })
    }
  }
  return { fetched, clientSideThrottleTime }
}

/** From the batch's start: offset 8, length 4, epoch 4, magic 1, checksum 4, attributes 2, last delta 4, times 16, producer 14, count 4. */
const batchHeadSize = 61

/**
 * The records of an answer from `from` on, and the offset to ask for next: behind everything that the answer covers, also where
 * compaction left batches without records, and behind control records and what was aborted.
 */
export function decodeRecords(
  { topic, partition, batches, aborted }: Fetched,
  from: number,
  to: number = Number.POSITIVE_INFINITY,
): { records: LogRecord[]; next: number } {
  const records: LogRecord[] = []
  let next = from
  const open = aborted.length > 0 ? [...aborted].sort((a, b) => a.firstOffset - b.firstOffset) : []
  const abortedProducers = new Set<number>()
  const reader = new WireReader(batches)
  for (let at = 0; at + batchHeadSize <= batches.length; ) {
    reader.at = at
    const baseOffset = reader.int64()
    const length = reader.int32()
    const end = at + 12 + length
    // The last batch of an answer may be cut off; the next fetch brings it whole.
    if (end > batches.length) break
    const magic = batches[at + 16]
    if (magic !== 2) throw new UnreadableBatchError(topic, partition, baseOffset, `its format is ${magic}, older than Kafka 0.11's`)
    reader.at = at + 21
    const attributes = reader.int16()
    const lastOffset = baseOffset + reader.int32()
    const firstTimestamp = reader.int64()
    const maxTimestamp = reader.int64()
    const producerId = reader.int64()
    reader.at += 6
    const count = reader.int32()
    at = end
    while (open.length > 0 && (open[0]?.firstOffset as number) <= lastOffset) abortedProducers.add(open.shift()?.producerId as number)
    const control = (attributes & 0x20) !== 0
    if (control && isAbortMarker(reader, count)) abortedProducers.delete(producerId)
    if (lastOffset >= from && !control && !((attributes & 0x10) !== 0 && abortedProducers.has(producerId))) {
      const body =
        (attributes & 0x07) === 0
          ? reader
          : new WireReader(decompress(attributes & 0x07, batches.subarray(reader.at, end), topic, partition, baseOffset))
      const appendTime = (attributes & 0x08) !== 0
      for (let index = 0; index < count; index++) {
        const size = body.varint()
        const recordEnd = body.at + size
        body.at += 1
        const timestamp = appendTime ? (body.varlong(), maxTimestamp) : firstTimestamp + body.varlong()
        const offset = baseOffset + body.varint()
        if (offset >= to) return { records, next: to }
        if (offset >= from) records.push(decodeRecord(body, topic, partition, offset, timestamp))
        body.at = recordEnd
      }
    }
    if (lastOffset >= next) next = lastOffset + 1
  }
  return { records, next }
}

function decodeRecord(body: WireReader, topic: string, partition: number, offset: number, timestamp: number): LogRecord {
  const keyLength = body.varint()
  const key = keyLength < 0 ? null : body.text(keyLength)
  const valueLength = body.varint()
  const value = valueLength < 0 ? null : body.copy(valueLength)
  const headers: Record<string, string> = {}
  for (let count = body.varint(); count > 0; count--) {
    const name = body.text(body.varint())
    const textLength = body.varint()
    headers[name] = textLength < 0 ? "" : body.text(textLength)
  }
  return { topic, partition, offset, timestamp, key, value, headers }
}

/** A control batch holds one record, whose key says after its version whether the transaction was aborted (0) or committed (1). */
function isAbortMarker(reader: WireReader, count: number): boolean {
  if (count === 0) return false
  const at = reader.at
  reader.varint()
  reader.at += 1
  reader.varlong()
  reader.varint()
  const keyLength = reader.varint()
  const type = keyLength >= 4 ? reader.bytes.readInt16BE(reader.at + 2) : -1
  reader.at = at
  return type === 0
}

function decompress(codec: number, bytes: Buffer, topic: string, partition: number, offset: number): Buffer {
  try {
    if (codec === 1) return gunzipSync(bytes)
    if (codec === 2) return snappyDecompress(bytes)
    if (codec === 3) return lz4Decompress(bytes)
    if (codec === 4) return zstdDecompressSync(bytes)
  } catch (error) {
    throw new UnreadableBatchError(
      topic,
      partition,
      offset,
      `its compression (${codec}) cannot be undone: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
  throw new UnreadableBatchError(topic, partition, offset, `its compression (${codec}) is unknown`)
}

/** A batch whose records cannot even be told apart. Skipping it would lose what may have been acknowledged, so reading ends here. */
export class UnreadableBatchError extends Error {
  readonly code = "batch-unreadable"
  readonly retryable = false

  constructor(topic: string, partition: number, offset: number, reason: string) {
    super(`${topic}[${partition}] cannot be read at offset ${offset}: ${reason}.`)
  }
}
