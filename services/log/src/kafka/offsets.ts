import { NotYetError } from "./ask.ts"
import type { Broker, Connections } from "./client.ts"

/** Kafka's names for the two ends of a partition. */
const timestamps = { start: -2, end: -1 } as const

/** Uncommitted: the end is the high watermark, one past the last record that every replica in sync has. */
const isolationLevel = 0

/** The first offset that can be read of a partition, or one past the last. */
export async function listOffset(connections: Connections, topic: string, partition: number, which: "start" | "end"): Promise<number> {
  const [found] = await listOffsets(connections, topic, [partition], which)
  return found as number
}

/** The same for several partitions of a topic, in the order asked for. */
export async function listOffsets(
  connections: Connections,
  topic: string,
  partitions: readonly number[],
  which: "start" | "end",
): Promise<number[]> {
  if (!connections.knows([topic])) await connections.refresh([topic])
  const byNode = new Map<number, number[]>()
  for (const partition of partitions) {
    const node = connections.leader(topic, partition)
    byNode.set(node, [...(byNode.get(node) ?? []), partition])
  }
  const found = new Map<number, number>()
  await Promise.all(
    [...byNode].map(async ([node, led]) => {
      if (node < 0) throw new NotYetError(`${topic}[${led.join(", ")}] has no leader at the moment.`)
      const broker: Broker = await connections.node(node)
      const { responses } = await broker.listOffsets({
        replicaId: -1,
        isolationLevel,
        topics: [{ topic, partitions: led.map((partition) => ({ partition, timestamp: timestamps[which] })) }],
      })
      for (const { partitions: answered } of responses) for (const { partition, offset } of answered) found.set(partition, Number(offset))
    }),
  )
  return partitions.map((partition) => {
    const offset = found.get(partition)
    if (offset === undefined)
      throw new NotYetError(`The broker did not say where ${topic}[${partition}] ${which === "start" ? "starts" : "ends"}.`)
    return offset
  })
}
