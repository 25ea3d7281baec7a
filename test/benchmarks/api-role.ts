import process from "node:process"
import { topicNames } from "@reins/events"
import { startHost } from "@reins/host"
import type { Append, Log } from "@reins/log"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import { nowMs } from "./api-client.ts"
import { answerQuestions, type Stamp } from "./api-process.ts"
import { instantModel } from "./workload.ts"

// One process of the API's benchmark: `api-role.ts gateway SERVICE…` hosts these services with a gateway, `api-role.ts services SERVICE…`
// without. It notes when each record of `sessions` that it appends was given to the log, when it stood, and when a bare follower heard of it.

const [kind, ...services] = process.argv.slice(2)
const config = readConfig(process.env)
const { sessions } = topicNames(config.prefix)
const opened = await openLog(config, newInstance("bench"))
let stamps = new Map<string, Stamp>()

/** The same log, which tells when. */
function timed(log: Log): Log {
  const append = async (entry: Append): ReturnType<Log["append"]> => {
    if (entry.topic !== sessions) return await log.append(entry)
    const givenMs = nowMs()
    const placed = await log.append(entry)
    const at = `${entry.partition}.${placed.offset}`
    stamps.set(at, { ...stamps.get(at), givenMs, stoodMs: nowMs() })
    return placed
  }
  return new Proxy(log, {
    get: (target, name: keyof Log) => {
      if (name === "append") return append
      const value = target[name]
      return typeof value === "function" ? value.bind(target) : value
    },
  })
}

const host = await startHost({
  config,
  services,
  model: instantModel(0),
  opened: { log: timed(opened.log), codec: opened.codec },
  ...(kind === "gateway" ? { gateway: "open" as const } : {}),
  failed: (error) => {
    process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  },
})
if (services.length > 0)
  await opened.log.follow({
    instance: newInstance("bench-follower"),
    topics: [sessions],
    records: (_topic, partition, records) => {
      const heardMs = nowMs()
      for (const { offset } of records) {
        const at = `${partition}.${offset}`
        // The acknowledgement may come after the record itself.
        stamps.set(at, { ...stamps.get(at), heardMs })
      }
    },
  })
// A gateway that hosts nothing owns nothing; a member is ready when it has its share of the partitions.
while (!host.loop.ready() || (services.length > 0 && host.loop.partitions.length === 0)) await new Promise((done) => setTimeout(done, 20))
answerQuestions({
  port: () => host.port,
  stamps: () => {
    const taken = [...stamps]
    stamps = new Map()
    return taken
  },
})
