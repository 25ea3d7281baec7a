import { readFileSync } from "node:fs"
import { topicNames } from "@reins/events"
import type { Log, LogRecord, SchemaRegistry, TopicDescription } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { readWholeLog, type WholeLog } from "../chaos/read-log.ts"

// A recording is one file: a head, the schemas that its records were written with, the records as the log held them, and at its end what the
// build that recorded it made of them.

export interface Head {
  readonly recording: string
  readonly version: string
  readonly prefix: string
  readonly partitions: number
}

export interface SchemaLine {
  readonly schema: number
  readonly avro: string
}

export interface RecordLine {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly key: string | null
  readonly headers: Readonly<Record<string, string>>
  /** Base64; null for a tombstone. */
  readonly value: string | null
}

/** What a session comes to. */
export interface Outcome {
  readonly phase: string
  /** Of the fold's state. */
  readonly digest: string
  /** SHA-256 of every accepted request's body, rebuilt, in order. */
  readonly requests: readonly string[]
  /** Every record that was not simply accepted, as `topic@offset type verdict`. */
  readonly exceptions: readonly string[]
}

export interface Tail {
  readonly outcomes: Readonly<Record<string, Outcome>>
}

export class Recording {
  readonly head: Head
  readonly schemas: readonly SchemaLine[]
  readonly records: readonly RecordLine[]
  readonly tail: Tail

  constructor(head: Head, schemas: readonly SchemaLine[], records: readonly RecordLine[], tail: Tail) {
    this.head = head
    this.schemas = schemas
    this.records = records
    this.tail = tail
  }

  static from(file: string): Recording {
    const lines = readFileSync(file, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Partial<Head & SchemaLine & RecordLine & Tail>)
    const head = lines.find((line): line is Head => line.recording !== undefined)
    const tail = lines.find((line): line is Tail => line.outcomes !== undefined)
    if (head === undefined || tail === undefined) throw new Error(`${file} has no head or no tail: it is no recording.`)
    return new Recording(
      head,
      lines.filter((line): line is SchemaLine => line.schema !== undefined),
      lines.filter((line): line is RecordLine => line.topic !== undefined),
      tail,
    )
  }

  text(): string {
    return [this.head, ...this.schemas, ...this.records, this.tail].map((line) => `${JSON.stringify(line)}\n`).join("")
  }

  /** The same recording with other records. */
  with(records: readonly RecordLine[]): Recording {
    return new Recording(this.head, this.schemas, records, this.tail)
  }

  /** As this build reads it: the schemas are those of the file, so that old writers are read by today's readers. */
  read(): Promise<WholeLog> {
    const registry: SchemaRegistry = {
      register: () => Promise.reject(new Error("A recording is only read.")),
      schema: async (id) => this.schemas.find(({ schema }) => schema === id)?.avro ?? null,
    }
    return readWholeLog(new RecordedLog(this), Codec.reader(registry), this.head.prefix)
  }

  /** What this build makes of it. */
  async fold(): Promise<Readonly<Record<string, Outcome>>> {
    return outcomesOf(await this.read(), this.head.prefix)
  }
}

class RecordedLog implements Pick<Log, "describeTopics" | "replay"> {
  readonly #recording: Recording

  constructor(recording: Recording) {
    this.#recording = recording
  }

  async describeTopics(): Promise<readonly TopicDescription[]> {
    const { prefix, partitions } = this.#recording.head
    const named = new Set([topicNames(prefix).sessions, ...this.#recording.records.map(({ topic }) => topic)])
    return [...named].map((name) => ({ name, partitions, cleanup: "delete", config: {} }))
  }

  async *replay(topic: string, partition: number): AsyncGenerator<readonly LogRecord[]> {
    yield this.#recording.records
      .filter((record) => record.topic === topic && record.partition === partition)
      .map(({ value, ...record }) => ({ ...record, value: value === null ? null : Buffer.from(value, "base64") }))
  }
}

export function outcomesOf(whole: WholeLog, prefix: string): Readonly<Record<string, Outcome>> {
  if (whole.unreadable.length > 0) throw new Error(`It holds what this build cannot read: ${whole.unreadable.join(", ")}`)
  if (whole.requestsDiffering.length > 0) throw new Error(`Requests are rebuilt otherwise: ${whole.requestsDiffering.join(", ")}`)
  const outcomes: Record<string, Outcome> = {}
  for (const [sessionId, session] of whole.sessions) {
    const records = whole.records.get(sessionId) ?? []
    outcomes[sessionId] = {
      phase: session.phase,
      digest: whole.digests.get(sessionId) ?? "",
      requests: records
        .filter(({ type, verdict }) => type === "model.requested" && verdict === "accepted")
        .map(({ value }) => String(value.bodyHash)),
      exceptions: records
        .filter(({ verdict }) => verdict !== "accepted")
        .map(({ topic, offset, type, verdict }) => `${topic.slice(prefix.length + 1)}@${offset} ${type} ${verdict}`),
    }
  }
  return outcomes
}
