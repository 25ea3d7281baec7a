import { depthMax, type Family, isDeeperThan, type TopicNames } from "@reins/events"
import { blobsHeader, type Log, type LogRecord } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import type { RawRecord } from "@reins/session"
import { notFound } from "../http/errors.ts"
import type { Projection } from "../projection/projection.ts"
import { anyTime } from "../time-range.ts"

export interface RawRecordContext {
  readonly log: Log
  readonly codec: Codec
  readonly topics: TopicNames
  readonly projection: Projection
}

/**
 * The record at this place, if it is one of a session of this tenant. Everything else is not found, and nothing tells what it is: a topic
 * that is not ours, a hole that compaction left, another tenant's record.
 */
export async function rawRecord(
  context: RawRecordContext,
  tenant: string,
  place: { readonly topic: string; readonly partition: number; readonly offset: number },
): Promise<RawRecord> {
  const { log, projection, topics } = context
  const family = familyOf(topics, place.topic)
  const record = family === null ? null : await find(log, place)
  if (family === null || record === null) throw notFound("record")
  const read = await decode(context.codec, family, record)
  const said = read.value ?? {}
  const sessionId = text(said["sessionId"]) ?? record.headers["session"] ?? record.key?.split("/", 1)[0]
  // Both have to fit: a record that names another tenant may speak of a session that never came to be.
  if (sessionId === undefined || (text(said["tenant"]) ?? tenant) !== tenant) throw notFound("record")
  if (projection.session(tenant, sessionId) === null) throw notFound("record")
  const { topic, partition, offset, timestamp, key, headers, value } = record
  return {
    type: "record",
    log: log.kind,
    topic,
    partition,
    offset,
    timestamp: new Date(timestamp).toISOString(),
    key,
    headers,
    session_id: sessionId,
    ...read,
    value_base64: value === null ? null : Buffer.from(value).toString("base64"),
    value_bytes: value?.length ?? 0,
    verdict: topic === topics.sessions && wasShown(projection, sessionId, offset) ? "accepted" : null,
  }
}

/** Topics whose records belong to sessions. What agents, keys and dead letters hold has no one session, so no one tenant. */
function familyOf(topics: TopicNames, topic: string): Family | null {
  if (topic === topics.sessions) return "sessions"
  if (topic === topics.commands) return "commands"
  if (topic === topics.deltas) return "deltas"
  return topics.backendOf(topic) === null ? null : "tools"
}

async function find(
  log: Log,
  { topic, partition, offset }: { topic: string; partition: number; offset: number },
): Promise<LogRecord | null> {
  const topics = await log.describeTopics()
  if (!topics.some(({ name }) => name === topic)) return null
  const bounds = (await log.bounds(topic)).find((one) => one.partition === partition)
  if (bounds === undefined || offset < bounds.start || offset >= bounds.end) return null
  // As it stands: what is in the blob store is named by its headers.
  for await (const records of log.replay(topic, partition, offset, offset + 1, { bare: true })) {
    const found = records.find((record) => record.offset === offset)
    if (found !== undefined) return found
  }
  return null
}

type Read = Pick<RawRecord, "encoding" | "schema_id" | "value" | "problem">

async function decode(codec: Codec, family: Family, { headers: { [blobsHeader]: _, ...headers }, ...read }: LogRecord): Promise<Read> {
  const record: LogRecord = { ...read, headers }
  const bytes = record.value
  if (bytes === null)
    return { encoding: "none", schema_id: null, value: null, problem: "A tombstone: what stood under this key is erased." }
  if (bytes[0] !== 0) return { encoding: "json", schema_id: null, ...json(bytes) }
  const decoded = await decodeLearning(codec, family, record)
  const schemaId = bytes.length >= 5 ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readInt32BE(1) : null
  if (decoded.ok) return { encoding: "avro", schema_id: schemaId, value: decoded.said, problem: null }
  return {
    encoding: "avro",
    schema_id: schemaId,
    value: null,
    problem: "message" in decoded ? decoded.message : "Its schema is not known.",
  }
}

/** What was written as JSON is shown as it was written: the defaults that a reader fills in are not part of the record. */
function json(bytes: Uint8Array): Pick<Read, "value" | "problem"> {
  try {
    const value = JSON.parse(Buffer.from(bytes).toString("utf8")) as unknown
    if (typeof value !== "object" || value === null || Array.isArray(value)) return { value: null, problem: "The value is no JSON object." }
    if (isDeeperThan(value, depthMax)) return { value: null, problem: `The value nests deeper than ${depthMax}.` }
    return { value: value as Record<string, unknown>, problem: null }
  } catch (error) {
    return { value: null, problem: `The value is neither Avro nor JSON: ${(error as Error).message}` }
  }
}

function wasShown(projection: Projection, sessionId: string, offset: number): boolean {
  const [next] = projection.store.events({
    sessionId,
    types: [],
    ...anyTime,
    descending: false,
    after: { queued: 0, offset, index: -1 },
    limit: 1,
  })
  return next?.place.offset === offset
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined
}
