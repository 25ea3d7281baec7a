// kafkajs's own consumer, with or without our patch, reading one partition from its start. It prints what it read and how it ended.
//
//   node plain-consumer.ts <stock|mended> <bootstrap> <topic> <partition> <end>

import { randomUUID } from "node:crypto"

/** So many answers in a row without moving on: it will not move on any more. */
const fetchesInVainMax = 200

export interface Reading {
  readonly offsets: readonly number[]
  readonly ended: "read all" | "stands still"
}

if (import.meta.main) {
  const [kind, bootstrap, topic, partition, end] = process.argv.slice(2) as [string, string, string, string, string]
  // The patch is applied when our adapter loads kafkajs; without the adapter it is as it was published.
  if (kind === "mended") (await import("@reins/log/kafka")).assertPatched()
  const { default: kafkajs } = await import("kafkajs")
  const kafka = new kafkajs.Kafka({ clientId: kind, brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: `plain-${randomUUID()}`, maxWaitTimeInMs: 20 })
  const offsets: number[] = []
  let inVain = 0
  const finish = (ended: Reading["ended"]): void => {
    process.stdout.write(`${JSON.stringify({ offsets, ended } satisfies Reading)}\n`, () => process.exit())
  }
  consumer.on(consumer.events.FETCH, () => {
    if (++inVain === fetchesInVainMax) finish("stands still")
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      if (batch.partition !== Number(partition)) return
      inVain = 0
      offsets.push(...batch.messages.map((message) => Number(message.offset)))
      if ((offsets.at(-1) ?? -1) >= Number(end) - 1) finish("read all")
    },
  })
}
