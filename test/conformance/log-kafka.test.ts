import { randomUUID } from "node:crypto"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import type { Log } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import { Kafka, logLevel } from "kafkajs"
import { cleanedTopic } from "../e2e/cleaned-topic.ts"
import { api, FaultProxy } from "../e2e/fault-proxy.ts"
import { conformance } from "./log.ts"

// The broker is the runner's (REINS_TEST_KAFKA) or one of our own.
const skip = await skipWithoutKafka({ registry: false })

/** A killed member counts as one this long; the broker of the tests allows no less than a second. */
const sessionTimeoutMs = 3000
const partitions = 5

if (skip === false) {
  conformance("kafka", async () => {
    const { bootstrap } = await sharedKafka({ registry: false })
    const clients = new Map<Log, { proxy: FaultProxy; instance: string }>()
    const open = async (instance = `client-${randomUUID()}`): Promise<Log> => {
      const proxy = await FaultProxy.start()
      const log = await openKafka({
        brokers: bootstrap.split(","),
        instance,
        sessionTimeoutMs,
        heartbeatIntervalMs: 300,
        requestTimeoutMs: 2000,
        socketFactory: proxy.socketFactory,
      })
      clients.set(log, { proxy, instance })
      return log
    }
    const admin = await open()
    const topic = async (settings: object = {}): Promise<string> => {
      const name = `topic-${randomUUID()}`
      await admin.applyTopics([
        { name, partitions, cleanup: "compact", config: { "message.timestamp.type": "LogAppendTime" }, ...settings },
      ])
      return name
    }
    return {
      partitions,
      refusedBytes: 1024 * 1024 + 1,
      log: open,
      topic,
      kill: async (log) => {
        clients.get(log)?.proxy.sever()
        // Its memberships end when their sessions do; the heartbeats that were under way count from when they were sent.
        await new Promise((resolve) => setTimeout(resolve, sessionTimeoutMs + 1000))
      },
      loseNextAck: async (log, how) => {
        const fault =
          how === "landed"
            ? ({ kind: "answer-lost" } as const)
            : how === "lost"
              ? ({ kind: "request-lost" } as const)
              : ({ kind: "request-late", afterMs: 300 } as const)
        void clients.get(log)?.proxy.next(api.produce, fault)
      },
      compactedHole: () => cleanedTopic(bootstrap, admin, partitions),
      // A broker looks for what has expired every five minutes; what it then does to the log can be asked for at once.
      expired: async () => {
        const name = await topic({ cleanup: "delete" })
        for (let n = 0; n < 11; n++)
          await admin.append({ topic: name, partition: 0, key: () => null, value: new Uint8Array([n]), headers: {}, certainty: "always" })
        const kafka = new Kafka({ brokers: bootstrap.split(","), logLevel: logLevel.NOTHING }).admin()
        await kafka.connect()
        // Makes it learn who leads the partition: the next request does not ask by itself.
        await kafka.fetchTopicOffsets(name)
        await kafka.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: "7" }] })
        await kafka.disconnect()
        return { topic: name, partition: 0, end: 11 }
      },
      stop: async () => {
        await Promise.allSettled([...clients.keys()].map((log) => log.close()))
        await Promise.all([...clients.values()].map(({ proxy }) => proxy.stop()))
      },
    }
  })
}
