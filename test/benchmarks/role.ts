import process from "node:process"
import { intake } from "@reins/intake"
import { llmInvoker } from "@reins/llm-invoker"
import { type AnyService, readConfig, type ServiceContext, startProcess } from "@reins/runtime"
import { toolRouter } from "@reins/tool-router"
import { worker } from "@reins/worker-kit"
import { readyToStop } from "./actors.ts"
import { benchBackend, instantModel } from "./workload.ts"

// One process of a benchmark on Kafka: `role.ts TURNS SERVICE…` hosts these services until its parent says stop.

const [turns, ...services] = process.argv.slice(2)
const backend = benchBackend()
const factories: Readonly<Record<string, (context: ServiceContext) => AnyService>> = {
  intake: ({ codec, config }) => intake({ codec, partitions: config.partitions }),
  "llm-invoker": ({ metrics }) => llmInvoker({ model: instantModel(Number(turns)), metrics }),
  "tool-router": () => toolRouter(),
  [backend.service]: ({ me }) => worker(backend, me),
}
const running = await startProcess({
  config: readConfig(process.env),
  services,
  backends: [backend.backend],
  build: (context) => services.map((name) => (factories[name] as (context: ServiceContext) => AnyService)(context)),
  failed: (error) => {
    process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  },
})
const timer = setInterval(() => {
  if (!running.loop.ready() || running.loop.partitions.length === 0) return
  clearInterval(timer)
  readyToStop()
}, 20)
