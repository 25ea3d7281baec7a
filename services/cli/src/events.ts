import type { ReadRecord } from "@reins/runtime"
import { endsOf, notFound, readerOf, reading } from "./open.ts"
import { line } from "./render.ts"

/** Every record of a session: where it stands, what the fold makes of it, what it says. */
export async function events(sessionId: string, options: { readonly jsonl?: boolean; readonly follow?: boolean }): Promise<void> {
  await reading(async (opened, config) => {
    const reader = await readerOf(opened, config, sessionId)
    const records = await reader.read({ tools: true })
    if (records.length === 0 && options.follow !== true) throw notFound(sessionId)
    let since = records[0]?.timestamp
    const print = (record: ReadRecord): void => {
      since ??= record.timestamp
      process.stdout.write(`${options.jsonl === true ? JSON.stringify(plain(record)) : `${place(record)} ${line(record, since)}`}\n`)
    }
    for (const record of records) print(record)
    if (options.follow !== true) return
    const end = await endsOf(opened.log, reader.topics)
    await new Promise<void>((resolve, reject) => {
      opened.log
        .follow({
          instance: "cli",
          topics: reader.topics,
          from: (topic, partition) => (partition === reader.partition ? (reader.next.get(topic) ?? 0) : end(topic, partition)),
          records: async (_topic, partition, batch) => {
            if (partition !== reader.partition) return
            for (const record of batch) {
              const read = await reader.fold(record)
              if (read !== null) print(read)
            }
          },
          failed: reject,
        })
        .catch(reject)
      process.once("SIGINT", resolve)
      process.once("SIGTERM", resolve)
    })
  })
}

function place(record: ReadRecord): string {
  return `${record.topic}[${record.partition}]@${record.offset}`.padEnd(34)
}

function plain(record: ReadRecord): unknown {
  const { topic, partition, offset, timestamp, key, type, verdict, value } = record
  return { topic, partition, offset, timestamp, key, type, verdict, value }
}
