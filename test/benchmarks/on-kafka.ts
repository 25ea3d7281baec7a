import { randomBytes } from "node:crypto"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { newInstance, openLog, readConfig, topicSettings } from "@reins/runtime"
import { Actors } from "./actors.ts"
import { type Figures, publishStart, Stopwatch } from "./workload.ts"

const partitions = 8
const services = ["intake", "llm-invoker", "tool-router", "tool-workers/bench"]

/** The same workload on Kafka: all services hosted in one process, or each in a process and group of its own. */
export async function onKafka(
  shape: "hosted" | "apart",
  sessions: number,
  turns: number,
  broker: { readonly bootstrap: string; readonly registryUrl: string },
): Promise<Figures> {
  const env = {
    ...process.env,
    KAFKA_BROKERS: broker.bootstrap,
    SCHEMA_REGISTRY_URL: broker.registryUrl,
    REINS_TOPIC_PREFIX: `bench-${randomBytes(4).toString("hex")}`,
    REINS_PARTITIONS: String(partitions),
    REINS_LOG_LEVEL: "error",
  }
  const config = readConfig(env)
  const names = topicNames(config.prefix)
  const { log, codec } = await openLog(config, newInstance("driver"))
  await log.applyTopics(topicSettings(config.prefix, partitions, ["http", "function", "bench"]))
  const actors = new Actors()
  try {
    const groups = shape === "hosted" ? [services] : services.map((service) => [service])
    for (const group of groups) actors.start(fileURLToPath(new URL("role.ts", import.meta.url)), [String(turns), ...group], env)
    await actors.ready()
    const watch = new Stopwatch(sessions, turns)
    const following = await log.follow({
      instance: newInstance("driver"),
      topics: [names.sessions],
      records: (_topic, _partition, records) => {
        for (const record of records) {
          if (record.headers["type"] !== "model.requested") continue
          const decoded = codec.decode(record.value as Uint8Array)
          if (decoded.ok) watch.turn(record.headers["session"] as string, decoded.said["turn"] as number)
        }
      },
    })
    watch.begin()
    for (let index = 0; index < sessions; index++) {
      const sessionId = `sesn_bench${index}`
      publishStart(log, names.commands, partitions, sessionId, turns)
    }
    await watch.finished
    await following.stop()
    const figures = watch.figures()
    const cpuMs = await actors.stop()
    return { ...figures, cpuMsPerTurn: Number((cpuMs / sessions / turns).toFixed(3)) }
  } finally {
    actors.kill()
    await log.close()
  }
}
