import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { topicNames } from "@reins/events"
import { intake } from "@reins/intake"
import { llmInvoker } from "@reins/llm-invoker"
import { partitionOf } from "@reins/log"
import { readConfig, startProcess } from "@reins/runtime"
import { toolRouter } from "@reins/tool-router"
import { worker } from "@reins/worker-kit"
import { benchBackend, type Figures, instantModel, publishStart, Stopwatch } from "./workload.ts"

/** Everything in one process on the SQLite log, every commit synced to disk. */
export async function embedded(
  sessions: number,
  turns: number,
): Promise<Figures & { readonly bytesPerTurn: { readonly at10: number; readonly at200: number | null } }> {
  const dir = mkdtempSync(join(tmpdir(), "reins-bench-"))
  const config = readConfig({ REINS_DATA: dir, REINS_LOG_LEVEL: "error", REINS_DRAIN_MS: "0" })
  const names = topicNames(config.prefix)
  const watch = new Stopwatch(sessions, turns)
  const backend = benchBackend()
  const running = await startProcess({
    config,
    services: ["intake", "llm-invoker", "tool-router", backend.service],
    backends: [backend.backend],
    build: ({ codec, metrics, me }) => [
      intake({ codec, partitions: config.partitions }),
      llmInvoker({ model: instantModel(turns), metrics }),
      toolRouter(),
      worker(backend, me),
    ],
    observe: ({ event }) => {
      if (event.type === "model.requested") watch.turn(event.sessionId, event.turn)
    },
    failed: (error) => {
      process.stderr.write(`${error.stack}\n`)
      process.exit(1)
    },
  })
  try {
    watch.begin()
    for (let index = 0; index < sessions; index++) {
      const sessionId = `sesn_bench${index}`
      publishStart(running.log, names.commands, config.partitions, sessionId, turns)
    }
    await watch.finished
    const partition = partitionOf("sesn_bench0", config.partitions)
    const sizes = new Map<number, number>()
    let turn = 0
    for await (const records of running.log.replay(names.sessions, partition, 0)) {
      for (const record of records) {
        if (record.headers["session"] !== "sesn_bench0") continue
        if (record.headers["type"] === "model.requested") turn++
        sizes.set(turn, (sizes.get(turn) ?? 0) + (record.value?.byteLength ?? 0) + (record.key?.length ?? 0))
      }
    }
    return { ...watch.figures(), bytesPerTurn: { at10: sizes.get(10) ?? 0, at200: sizes.get(200) ?? null } }
  } finally {
    await running.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

if (process.argv[1]?.endsWith("embedded.ts") === true) {
  const [sessions, turns] = process.argv.slice(2).map(Number)
  process.stdout.write(`${JSON.stringify(await embedded(sessions ?? 64, turns ?? 20))}\n`)
  process.exit(0)
}
