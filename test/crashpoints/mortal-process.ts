// All services in one process on Kafka, which kills itself where it is told to:
//
//   REINS_CRASH_AT="<point>:<n>" node mortal-process.ts
//
// It says when it is ready. Asked by any message, it says which points it came to; SIGTERM drains it.

import process from "node:process"
import { fileURLToPath } from "node:url"
import { build } from "@reins/host"
import { Metrics, newInstance, openLog, readConfig, startProcess, toolsTopicSettings, topicSettings, version } from "@reins/runtime"
import { loadTools, toolsBackend, worker } from "@reins/worker-kit"
import { Mortal, readCrashAt } from "./mortal.ts"

/** What it tells its parent. */
export type Told = { readonly ready: true } | { readonly passed: readonly (readonly [point: string, count: number])[] }

if (import.meta.main) {
  const crashAt = process.env["REINS_CRASH_AT"]
  const mortal = new Mortal(crashAt === undefined ? null : readCrashAt(crashAt), () => process.kill(process.pid, "SIGKILL"))
  const tell = (told: Told): void => void process.send?.(told)

  const config = readConfig(process.env)
  const instance = newInstance("mortal")
  const { log, codec } = await openLog(config, instance)
  const tools = await loadTools(fileURLToPath(new URL("../chaos/classes.ts", import.meta.url)))
  const backend = toolsBackend("tool-workers/classes", "classes", tools)
  const services = ["intake", "llm-invoker", "tool-router", "tool-workers/http"]
  await log.applyTopics([
    ...topicSettings(config.prefix, config.partitions),
    toolsTopicSettings(config.prefix, config.partitions, backend.backend),
  ])
  const running = await startProcess({
    config,
    services: [...services, backend.service],
    backends: [backend.backend],
    build: (context) => mortal.services([...build(services, context), worker(backend, context.me)]),
    opened: { log: mortal.log(log), codec },
    instance,
    observe: (record) => mortal.folded(record),
    commitIntervalMs: 100,
    metrics: new Metrics(version),
    failed: (error) => {
      process.stderr.write(`${error.message}\n`)
      process.exit(1)
    },
  })
  process.on("message", () => tell({ passed: [...mortal.passed] }))
  const stop = (): void => {
    mortal.spare()
    void running
      .stop()
      .then(() => log.close())
      .then(() => process.exit(0))
  }
  process.once("SIGTERM", stop)
  // Without its parent nobody needs it.
  process.once("disconnect", () => process.exit(0))
  tell({ ready: true })
}
