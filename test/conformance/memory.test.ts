import { randomUUID } from "node:crypto"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { conformance } from "./log.ts"

conformance("memory", async () => {
  let aheadMs = 0
  const broker = new MemoryBroker({ recordBytesMax: 1_000_000, now: () => Date.now() + aheadMs })
  const clients: MemoryLog[] = []
  const connect = (): MemoryLog => {
    const client = broker.connect()
    clients.push(client)
    return client
  }
  const admin = connect()
  const topic = async (settings: object = {}): Promise<string> => {
    const name = `topic-${randomUUID()}`
    await admin.applyTopics([{ name, partitions: 5, cleanup: "compact", config: {}, ...settings }])
    return name
  }
  return {
    partitions: 5,
    refusedBytes: 1_000_001,
    log: async () => connect(),
    topic,
    kill: async (log) => {
      const client = log as MemoryLog
      client.kill()
      client.expire()
    },
    loseNextAck: async (log, how) => (log as MemoryLog).loseNextAck(how),
    compactedHole: async () => {
      const name = await topic()
      for (let n = 0; n < 30; n++) broker.inject(name, 0, { key: n < 4 ? `kept ${n}` : "superseded", value: new Uint8Array([n]) })
      broker.compact(name, 0)
      return { topic: name, partition: 0, left: [0, 1, 2, 3, 29], end: 30 }
    },
    expired: async () => {
      const name = await topic({ cleanup: "delete", config: { "retention.ms": "60000" } })
      const inject = (n: number): number => broker.inject(name, 0, { value: new Uint8Array([n]) })
      for (let n = 0; n < 10; n++) inject(n)
      aheadMs += 61_000
      return { topic: name, partition: 0, end: inject(10) + 1 }
    },
    stop: async () => {
      for (const client of clients) await client.close()
    },
  }
})
