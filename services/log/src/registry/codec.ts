import {
  avroOf,
  canonicalJson,
  type Definition,
  definitions,
  depthMax,
  type Family,
  isDeeperThan,
  jsonFields,
  type ToolEvent,
} from "@reins/events"
import avsc from "avsc"
import { asideOf, type BlobFault } from "../blobs/aside.ts"
import type { LogRecord } from "../log.ts"
import type { SchemaRegistry } from "./registry.ts"

/** A record as it was said: its type and fields, from Avro or JSON. */
export interface Said {
  readonly type: string
  readonly [field: string]: unknown
}

export type Decoded =
  | { readonly ok: true; readonly said: Said; readonly definition: Definition }
  /** Written with a schema that this process has not met yet: `learn(id)`, then decode again. */
  | { readonly ok: false; readonly unknownSchema: number }
  /** Nobody can read this. `reason` is a code, `message` a sentence. */
  | { readonly ok: false; readonly reason: UnreadableReason; readonly message: string }

export type UnreadableReason =
  | "bad_framing"
  | "unknown_schema"
  | "unknown_type"
  | "undecodable"
  | "invalid"
  | "null_key"
  | "wrong_topic"
  | BlobFault

interface Known {
  readonly definition: Definition
  readonly type: avsc.Type
}

type Reader =
  | (Known & { readonly resolver: avsc.Resolver | undefined })
  | { readonly unreadable: UnreadableReason; readonly message: string }

/**
 * Schemas that are registered at the same time. All at once, from every process of a fleet that starts, is a crowd in which a registry that
 * has just started answers the last one too late for its timeout.
 */
const registeringMax = 4

/**
 * Confluent wire format (0x00, schema id big-endian, Avro) with avsc's compiled types, resolvers cached per writer's schema.
 * The registry is asked at start-up and when a record brings a schema id that is new to this process; never on the hot path.
 */
export class Codec {
  readonly #registry: SchemaRegistry
  readonly #byRecordName: ReadonlyMap<string, Known>
  /** By family and event type; empty in a codec that only reads. */
  readonly #writers = new Map<string, Known & { readonly id: number }>()
  readonly #readers = new Map<number, Reader>()

  private constructor(registry: SchemaRegistry) {
    this.#registry = registry
    this.#byRecordName = new Map(
      definitions.map((definition) => [definition.recordName, { definition, type: avroType(avroOf(definition)) }]),
    )
  }

  /** Registers every schema, or verifies that it stands. Throws `SchemaIncompatibleError` or `LogUnavailableError`. */
  static async open(registry: SchemaRegistry): Promise<Codec> {
    const codec = new Codec(registry)
    const waiting = definitions.values()
    const registering = async (): Promise<void> => {
      for (const definition of waiting) {
        const id = await registry.register(definition.recordName, JSON.stringify(avroOf(definition)))
        const known = codec.#byRecordName.get(definition.recordName) as Known
        codec.#writers.set(`${definition.family}/${definition.type}`, { ...known, id })
        codec.#readers.set(id, { ...known, resolver: undefined })
      }
    }
    await Promise.all(Array.from({ length: registeringMax }, registering))
    return codec
  }

  /** A codec that reads only: it registers nothing and learns what the records bring. */
  static reader(registry: SchemaRegistry): Codec {
    return new Codec(registry)
  }

  /** Throws a TypeError naming the field when `said` does not fit its schema: a programmer's error. */
  encode(family: Family, said: Said): Uint8Array {
    const writer = this.#writers.get(`${family}/${said.type}`)
    if (writer === undefined) throw new TypeError(`There is no ${said.type} among the ${family}.`)
    const body = bytesOf(writer, said)
    const value = Buffer.allocUnsafe(body.length + 5)
    value[0] = 0
    value.writeInt32BE(writer.id, 1)
    value.set(body, 5)
    return value
  }

  decode(value: Uint8Array): Decoded {
    if (value.length < 5 || value[0] !== 0) {
      return { ok: false, reason: "bad_framing", message: "The value does not begin with 0x00 and a schema id (Confluent wire format)." }
    }
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    const id = bytes.readInt32BE(1)
    const reader = this.#readers.get(id)
    if (reader === undefined) return { ok: false, unknownSchema: id }
    if ("unreadable" in reader) return { ok: false, reason: reader.unreadable, message: reader.message }
    try {
      const said = reader.type.fromBuffer(bytes.subarray(5), reader.resolver) as Record<string, unknown>
      said["type"] = reader.definition.type
      return { ok: true, said: said as Said, definition: reader.definition }
    } catch (error) {
      return {
        ok: false,
        reason: "undecodable",
        message: `The bytes are not a ${reader.definition.recordName}: ${(error as Error).message}`,
      }
    }
  }

  /** Reads a value that was written with our own schema of this type. Throws where it was not. */
  decodeAs(family: Family, type: string, value: Uint8Array): Said {
    const writer = this.#writers.get(`${family}/${type}`)
    if (writer === undefined) throw new TypeError(`There is no ${type} among the ${family}.`)
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    return { ...(writer.type.fromBuffer(bytes.subarray(5)) as object), type }
  }

  /** Asks the registry for a schema that a record brought. Throws `LogUnavailableError` when it cannot be asked. */
  async learn(id: number): Promise<void> {
    const schema = await this.#registry.schema(id)
    if (schema === null) {
      this.#readers.set(id, { unreadable: "unknown_schema", message: `The registry knows no schema with id ${id}.` })
      return
    }
    this.#readers.set(id, this.#reader(id, schema))
  }

  #reader(id: number, schema: string): Reader {
    try {
      const written = avsc.Type.forSchema(JSON.parse(schema) as avsc.Schema)
      const known = this.#byRecordName.get(written.name ?? "")
      if (known === undefined)
        return { unreadable: "unknown_type", message: `This version knows no ${written.name ?? "record"} (schema ${id}).` }
      return { definition: known.definition, type: known.type, resolver: known.type.createResolver(written) }
    } catch (error) {
      return { unreadable: "undecodable", message: `Schema ${id} cannot be read with ours: ${(error as Error).message}` }
    }
  }
}

function bytesOf({ definition, type }: Known, said: Said): Buffer {
  try {
    return type.toBuffer(said)
  } catch (error) {
    // avsc says what is wrong and not where.
    let place = ""
    type.isValid(said, { errorHook: (path) => void (place ||= `/${path.join("/")}: `) })
    throw new TypeError(`${definition.recordName}${place}${(error as Error).message}`, { cause: error })
  }
}

interface Tap {
  readonly buf: Uint8Array
  pos: number
  readLong(): number
  skipLong(): void
}

/** avsc takes the length that the bytes claim, and would read on for hours past the end of a damaged record. */
class BoundedArrayType extends avsc.types.ArrayType {
  /** avsc makes it the reader of the resolver for an earlier form too; the items are then read in that form. */
  _read(tap: Tap): unknown[] {
    const { itemsType } = this as unknown as { readonly itemsType: { _read(tap: Tap): unknown } }
    const items: unknown[] = []
    for (let count = tap.readLong(); count !== 0; count = tap.readLong()) {
      if (count < 0) tap.skipLong()
      const length = Math.abs(count)
      // Every item takes a byte at least.
      if (length > tap.buf.length - tap.pos) throw new Error(`a list of ${length} does not fit into what is left of the record`)
      for (let n = 0; n < length; n++) items.push(itemsType._read(tap))
    }
    return items
  }
}

function avroType(schema: unknown): avsc.Type {
  return avsc.Type.forSchema(schema as avsc.Schema, {
    typeHook: (inner, options) =>
      (inner as { type?: unknown } | null)?.type === "array" ? new BoundedArrayType(inner, options) : undefined,
  })
}

/** Whether the value is JSON text rather than Avro: what anyone can type into `kcat`. */
export function isJson(value: Uint8Array): boolean {
  return value[0] === 0x7b
}

/**
 * Reads a record of a topic of this family: Avro, and from workers also a JSON object, so that they need no kit and no schema.
 * What comes back fits its schema, and is whole: what stands in the blob store for it was read with it.
 */
export function decodeRecord(codec: Codec, family: Family, record: LogRecord): Decoded {
  if (record.key === null) return { ok: false, reason: "null_key", message: `A record of ${record.topic} needs a key.` }
  const aside = asideOf(record)
  if (aside === null) return decodeValue(codec, family, record, nothingAside)
  if ("fault" in aside) return { ok: false, reason: aside.fault, message: aside.message }
  const decoded = decodeValue(codec, family, record, aside.texts)
  return decoded.ok ? whole(decoded, record, aside.texts) : decoded
}

/**
 * The same for who can wait: a schema that is new to this process is asked for first. Throws `LogUnavailableError` when the registry cannot
 * be asked.
 */
export async function decodeLearning(codec: Codec, family: Family, record: LogRecord): Promise<Decoded> {
  const decoded = decodeRecord(codec, family, record)
  if (decoded.ok || !("unknownSchema" in decoded)) return decoded
  await codec.learn(decoded.unknownSchema)
  return decodeRecord(codec, family, record)
}

/** `decodeRecord` for who makes do with what stands in the log itself: where a blob is named, a placeholder. */
export function decodeBare(codec: Codec, family: Family, record: LogRecord): Decoded {
  return decodeValue(codec, family, record, nothingAside)
}

type Texts = Readonly<Record<string, string>>
const nothingAside: Texts = {}

function decodeValue(codec: Codec, family: Family, record: LogRecord, texts: Texts): Decoded {
  const value = record.value as Uint8Array
  if ((family === "tools" || family === "declarations") && isJson(value)) return decodeJson(family, record, texts)
  const decoded = codec.decode(value)
  if (decoded.ok && decoded.definition.family !== family) {
    return { ok: false, reason: "wrong_topic", message: `${decoded.definition.recordName} does not belong on ${record.topic}.` }
  }
  return decoded
}

/** The record with its texts in their place. Its blobs are those of its header's session: a record of another one must not reach them. */
function whole(decoded: Extract<Decoded, { ok: true }>, record: LogRecord, texts: Texts): Decoded {
  const { said, definition } = decoded
  const strange = Object.keys(texts).find((field) => !jsonFields(definition).has(field))
  if (strange !== undefined)
    return { ok: false, reason: "invalid", message: `/${strange}: is no field of ${definition.type} that can stand in a blob.` }
  if (said["sessionId"] !== record.headers["session"])
    return { ok: false, reason: "invalid", message: "/sessionId: is another than that of the header, whose blobs it names." }
  return isJson(record.value as Uint8Array) ? decoded : { ...decoded, said: { ...said, ...texts } }
}

/** What a worker may leave out of its JSON. */
const leftOut: Readonly<Record<"tools" | "declarations", Readonly<Record<string, unknown>>>> = {
  tools: {
    tenant: "default",
    by: "worker",
    causedBy: null,
    traceparent: null,
    claim: null,
    outcome: "completed",
    content: null,
    isError: false,
    kind: null,
    message: null,
    effect: "done",
    retryAfterMs: null,
    replaces: null,
  },
  declarations: {
    description: null,
    inputSchema: '{"type":"object"}',
    effect: "unsafe",
    timeoutMs: 60_000,
    sideEffects: null,
    claims: false,
    encoding: "json",
  },
}

/** Fields that hold JSON as text in Avro, and plain JSON in JSON. */
const plainJson = ["arguments", "settings", "inputSchema"]

/** A tool fact as JSON, for backends that declare `encoding: json`: arguments and settings stand in it as plain JSON. */
export function encodeToolJson(event: ToolEvent): Uint8Array {
  const plain: Record<string, unknown> = { ...event }
  for (const name of plainJson) if (typeof plain[name] === "string") plain[name] = JSON.parse(plain[name])
  return Buffer.from(JSON.stringify(plain))
}

function decodeJson(family: "tools" | "declarations", record: LogRecord, texts: Texts): Decoded {
  let given: Record<string, unknown>
  try {
    given = JSON.parse(Buffer.from(record.value as Uint8Array).toString("utf8")) as Record<string, unknown>
    for (const [field, text] of Object.entries(texts)) given[field] = JSON.parse(text)
  } catch (error) {
    return { ok: false, reason: "undecodable", message: `The value is not JSON: ${(error as Error).message}` }
  }
  if (isDeeperThan(given, depthMax)) return { ok: false, reason: "undecodable", message: `The value nests deeper than ${depthMax}.` }
  const definition = definitions.find((one) => one.family === family && one.type === given["type"])
  if (definition === undefined)
    return {
      ok: false,
      reason: "unknown_type",
      message: `Nothing said on ${record.topic} has the type ${JSON.stringify(given["type"] ?? null)}.`,
    }
  for (const name of plainJson) if (typeof given[name] === "object" && given[name] !== null) given[name] = canonicalJson(given[name])
  const content = given["content"]
  const filled = {
    ...leftOut[family],
    eventId: `${record.topic}/${record.partition}/${record.offset}`,
    at: record.timestamp,
    ...given,
    ...(content === undefined || content === null
      ? {}
      : { content: JSON.stringify(typeof content === "string" || Array.isArray(content) ? content : JSON.stringify(content)) }),
  }
  const parsed = definition.schema.safeParse(filled)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    return { ok: false, reason: "invalid", message: `/${issue?.path.join("/") ?? ""}: ${issue?.message ?? "invalid"}` }
  }
  return { ok: true, said: { type: definition.type, ...parsed.data } as unknown as Said, definition }
}
