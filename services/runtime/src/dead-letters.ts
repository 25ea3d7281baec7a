import { randomBytes } from "node:crypto"
import type { TopicNames } from "@reins/events"
import type { Append, Log, LogRecord } from "@reins/log"

// Dead letters are a topic like any other: a record that nobody could read, bytes untouched, with its coordinates and the reason in headers.
// What became of one is said by a later record of the same topic: `dlq.settles` names the offset, `dlq.as` says how.

export type Settled = "retried" | "dropped"

export interface DeadLetter {
  /** Where it stands among the dead letters. */
  readonly offset: number
  readonly buriedAt: number
  readonly topic: string
  readonly partition: number
  readonly originalOffset: number
  readonly service: string
  readonly reason: string
  readonly message: string
  readonly key: string | null
  readonly value: Uint8Array | null
  /** The headers that it had where it came from. */
  readonly headers: Readonly<Record<string, string>>
  readonly settled: Settled | null
  /** Offsets of further letters of the same record: one whose acknowledgement was lost may land after another was sent. */
  readonly copies: readonly number[]
}

/** Where a buried record stood, by the headers of its letter; null where they do not say. */
export function coordinatesOf(headers: Readonly<Record<string, string>>): string | null {
  const topic = headers["dlq.topic"]
  const partition = headers["dlq.partition"]
  const offset = headers["dlq.offset"]
  return topic === undefined || partition === undefined || offset === undefined ? null : `${topic}/${partition}/${offset}`
}

/** The dead letter of a record. Sent once: whoever buries looks whether it stands before sending it again. */
export function deadLetterOf(names: TopicNames, record: LogRecord, service: string, reason: string, message: string): Append {
  return {
    topic: names.deadLetters,
    partition: 0,
    key: () => record.key,
    value: record.value,
    headers: {
      ...record.headers,
      "dlq.topic": record.topic,
      "dlq.partition": String(record.partition),
      "dlq.offset": String(record.offset),
      "dlq.timestamp": String(record.timestamp),
      "dlq.service": service,
      "dlq.reason": reason,
      "dlq.message": message,
    },
    certainty: "once",
  }
}

/** All dead letters that stand, oldest first and each record's once, with what became of them. */
export async function readDeadLetters(log: Log, names: TopicNames): Promise<readonly DeadLetter[]> {
  const letters = new Map<number, DeadLetter>()
  /** The first letter of each record, by the offset of any. */
  const firsts = new Map<number, number>()
  const byCoordinates = new Map<string, number>()
  for await (const records of log.replay(names.deadLetters, 0, 0, undefined, { bare: true })) {
    for (const { offset, timestamp, key, value, headers } of records) {
      const settles = headers["dlq.settles"]
      if (settles !== undefined) {
        const letter = letters.get(firsts.get(Number(settles)) ?? -1)
        if (letter !== undefined)
          letters.set(letter.offset, { ...letter, settled: headers["dlq.as"] === "retried" ? "retried" : "dropped" })
        continue
      }
      const coordinates = coordinatesOf(headers) ?? `letter ${offset}`
      const first = letters.get(byCoordinates.get(coordinates) ?? -1)
      if (first !== undefined) {
        firsts.set(offset, first.offset)
        letters.set(first.offset, { ...first, copies: [...first.copies, offset] })
        continue
      }
      firsts.set(offset, offset)
      byCoordinates.set(coordinates, offset)
      letters.set(offset, {
        offset,
        buriedAt: timestamp,
        topic: headers["dlq.topic"] ?? "",
        partition: Number(headers["dlq.partition"]),
        originalOffset: Number(headers["dlq.offset"]),
        service: headers["dlq.service"] ?? "",
        reason: headers["dlq.reason"] ?? "",
        message: headers["dlq.message"] ?? "",
        key,
        value,
        headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith("dlq."))),
        settled: null,
        copies: [],
      })
    }
  }
  return [...letters.values()]
}

/** Sends a dead letter back to where it came from, as it was, and notes that. Its reader judges it anew. */
export async function retryDeadLetter(log: Log, names: TopicNames, letter: DeadLetter): Promise<void> {
  await log.append({
    topic: letter.topic,
    partition: letter.partition,
    key: () => letter.key,
    value: letter.value,
    headers: { ...letter.headers, "dlq.retry-of": `${letter.topic}/${letter.partition}/${letter.originalOffset}` },
    certainty: "always",
  })
  await settleDeadLetter(log, names, letter, "retried")
}

/** Notes what became of a dead letter; the record itself stays until its topic's retention. */
export async function settleDeadLetter(log: Log, names: TopicNames, letter: DeadLetter, as: Settled): Promise<void> {
  await log.append({
    topic: names.deadLetters,
    partition: 0,
    key: () => `settled/${letter.offset}/${randomBytes(4).toString("hex")}`,
    value: null,
    headers: { "dlq.settles": String(letter.offset), "dlq.as": as },
    certainty: "always",
  })
}
