import type { PartitionBatch } from "../group-commit.ts"
import type { Exchange, Throttled } from "./client.ts"
import { crc32c } from "./crc32c.ts"
import { varintSize, WireReader, WireWriter } from "./wire.ts"

/** What a broker said about one partition of a produce request. */
export interface Produced {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  readonly baseOffset: number
  /** -1 where the topic keeps the writer's time. */
  readonly logAppendTime: number
}

const apiKey = 0
const apiVersion = 7

/**
 * Produce, version 7, encoded here: kafkajs copies every record five times on this path, and its reading of the answer throws
 * away what was said about the other partitions when one of them has an error.
 */
export function produceExchange(
  batches: readonly PartitionBatch[],
  createTime: number,
  timeoutMs: number,
): Exchange<{ produced: readonly Produced[] }> {
  return {
    request: {
      apiKey,
      apiVersion,
      apiName: "Produce",
      encode: async () => {
        const bytes = encodeProduce(batches, createTime, timeoutMs)
        return { buf: bytes, buffer: bytes }
      },
    },
    response: { decode: async (payload) => decodeProduced(payload), parse: async (answer) => answer },
    logResponseError: false,
  }
}

function encodeProduce(batches: readonly PartitionBatch[], createTime: number, timeoutMs: number): Buffer {
  const topics = new Map<string, { batch: PartitionBatch; size: number }[]>()
  let size = 2 + 2 + 4 + 4
  for (const batch of batches) {
    const batchSize = recordBatchSize(batch)
    size += 4 + 4 + batchSize
    const partitions = topics.get(batch.topic)
    if (partitions === undefined) {
      topics.set(batch.topic, [{ batch, size: batchSize }])
      size += 2 + Buffer.byteLength(batch.topic) + 4
    } else {
      partitions.push({ batch, size: batchSize })
    }
  }
  const writer = new WireWriter(size)
  // No transaction; acknowledged by every replica in sync.
  writer.int16(-1).int16(-1).int32(timeoutMs).int32(topics.size)
  for (const [topic, partitions] of topics) {
    writer.string(topic, Buffer.byteLength(topic)).int32(partitions.length)
    for (const { batch, size: batchSize } of partitions) {
      writer.int32(batch.partition).int32(batchSize)
      writeRecordBatch(writer, batch, batchSize, createTime)
    }
  }
  return writer.bytes
}

type Entry = PartitionBatch["entries"][number]

/** Up to the sealed part: base offset, length, leader epoch, magic, checksum. */
const sealedFrom = 8 + 4 + 4 + 1 + 4
const headSize = sealedFrom + 2 + 4 + 8 + 8 + 8 + 2 + 4 + 4

function recordBatchSize({ entries }: PartitionBatch): number {
  let size = headSize
  for (let index = 0; index < entries.length; index++) {
    const body = recordSize(entries[index] as Entry, index)
    size += varintSize(body) + body
  }
  return size
}

function recordSize({ key, value, headers }: Entry, index: number): number {
  // Attributes and the time's difference to the batch's, both 0.
  let size = 2 + varintSize(index)
  if (key === null) size += 1
  else {
    const length = Buffer.byteLength(key)
    size += varintSize(length) + length
  }
  if (value === null) size += 1
  else size += varintSize(value.byteLength) + value.byteLength
  let count = 0
  for (const name in headers) {
    count++
    const nameLength = Buffer.byteLength(name)
    const textLength = Buffer.byteLength(headers[name] as string)
    size += varintSize(nameLength) + nameLength + varintSize(textLength) + textLength
  }
  return size + varintSize(count)
}

function writeRecordBatch(writer: WireWriter, { entries }: PartitionBatch, size: number, createTime: number): void {
  const start = writer.at
  writer
    .int64(0)
    .int32(size - 12)
    .int32(-1)
    .int8(2)
    .int32(0)
    .int16(0)
    .int32(entries.length - 1)
  writer.int64(createTime).int64(createTime)
  // Neither idempotent nor transactional: no producer id, no epoch, no sequence.
  writer.int64(-1).int16(-1).int32(-1).int32(entries.length)
  for (let index = 0; index < entries.length; index++) writeRecord(writer, entries[index] as Entry, index)
  writer.bytes.writeUInt32BE(crc32c(writer.bytes, start + sealedFrom, writer.at), start + sealedFrom - 4)
}

function writeRecord(writer: WireWriter, entry: Entry, index: number): void {
  const { key, value, headers } = entry
  writer.varint(recordSize(entry, index)).int8(0).int8(0).varint(index)
  if (key === null) writer.varint(-1)
  else {
    const length = Buffer.byteLength(key)
    writer.varint(length).text(key, length)
  }
  if (value === null) writer.varint(-1)
  else writer.varint(value.byteLength).raw(value)
  writer.varint(Object.keys(headers).length)
  for (const name in headers) {
    const text = headers[name] as string
    const nameLength = Buffer.byteLength(name)
    const textLength = Buffer.byteLength(text)
    writer.varint(nameLength).text(name, nameLength).varint(textLength).text(text, textLength)
  }
}

function decodeProduced(payload: Buffer): { produced: readonly Produced[] } & Throttled {
  const reader = new WireReader(payload)
  const produced: Produced[] = []
  for (let topics = reader.int32(); topics > 0; topics--) {
    const topic = reader.string()
    for (let partitions = reader.int32(); partitions > 0; partitions--) {
      const partition = reader.int32()
      const errorCode = reader.int16()
      const baseOffset = reader.int64()
      const logAppendTime = reader.int64()
      reader.int64()
      produced.push({ topic, partition, errorCode, baseOffset, logAppendTime })
    }
  }
  return { produced, clientSideThrottleTime: reader.int32() }
}
