// All services of a story in one process on Kafka, which kills itself where it is told to:
//
//   node mortal-process.ts <story> [<point>:<n>]
//
// It says when it is ready, and at its end which points it came to. Asked for sessions, it says how they stand here; told so, it counts its
// points from then on. SIGTERM drains it.

import { join } from "node:path"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { build } from "@reins/host"
import { FolderBlobs, withBlobs } from "@reins/log/blobs"
import {
  Metrics,
  newInstance,
  openLog,
  type Pace,
  readConfig,
  startProcess,
  toolsTopicSettings,
  topicSettings,
  version,
} from "@reins/runtime"
import { stateDigest } from "@reins/session"
import { loadTools, toolsBackend, worker } from "@reins/worker-kit"
import { Mortal, readCrashAt } from "./mortal.ts"
import { type StoryName, stories } from "./stories.ts"
import { fieldBytesMax } from "./story.ts"

/** How often offsets are committed, and how soon snapshots are written: a story of a second shall have them all. */
const pace: Pace = { commitIntervalMs: 50, snapshotRestsMs: 200, snapshotUncoveredMax: 5 }

/** What its parent asks of it. */
export type Asked = { readonly count: true } | { readonly states: readonly string[] }

/** What it tells its parent. */
export type Told =
  | { readonly ready: true }
  | { readonly counts: true }
  | { readonly states: readonly (readonly [sessionId: string, digest: string | null])[] }
  | { readonly passed: readonly (readonly [point: string, count: number])[]; readonly readFrom: number }

if (import.meta.main) {
  const [name, at] = process.argv.slice(2) as [StoryName, string?]
  const counts = stories[name].tell("", "").steps[0]?.counts === true
  const mortal = new Mortal(at === undefined ? null : readCrashAt(at), counts, () => process.kill(process.pid, "SIGKILL"))
  const tell = (told: Told): Promise<void> =>
    new Promise((resolve) => (process.send === undefined ? resolve() : process.send(told, undefined, undefined, () => resolve())))

  const config = readConfig(process.env)
  if (config.blobs?.kind !== "folder") throw new Error("REINS_BLOBS names no folder.")
  const blobs = new FolderBlobs(join(config.blobs.path, config.prefix))
  const instance = newInstance("mortal")
  // Between this log and its blobs there are points to die at.
  const { log, codec } = await openLog({ ...config, blobs: null }, instance)
  const tools = await loadTools(fileURLToPath(new URL("../chaos/classes.ts", import.meta.url)))
  const backend = toolsBackend("tool-workers/classes", "classes", tools)
  const services = stories[name].shapes["hosted"]?.["host"] ?? []
  const hosted = services.filter((service) => service !== backend.backend)
  const isWorker = services.includes(backend.backend)
  await log.applyTopics([
    ...topicSettings(config.prefix, config.partitions),
    toolsTopicSettings(config.prefix, config.partitions, backend.backend),
  ])
  const running = await startProcess({
    config,
    services: [...hosted, ...(isWorker ? [backend.service] : [])],
    backends: isWorker ? [backend.backend] : [],
    build: (context) => mortal.services([...build(hosted, context), ...(isWorker ? [worker(backend, context.me)] : [])]),
    opened: { log: withBlobs(mortal.log(log), { codec, blobs: mortal.blobs(blobs), fieldBytesMax }), codec },
    instance,
    observe: (record) => mortal.folded(record),
    pace,
    metrics: new Metrics(version),
    failed: (error) => {
      process.stderr.write(`${error.message}\n`)
      process.exit(1)
    },
  })
  process.on("message", (asked: Asked) => {
    if ("count" in asked) {
      mortal.count()
      void tell({ counts: true })
      return
    }
    const stateOf = (sessionId: string): string | null => {
      const session = running.loop.session(0, sessionId)
      return session === undefined ? null : stateDigest(session)
    }
    void tell({ states: asked.states.map((sessionId) => [sessionId, stateOf(sessionId)]) })
  })
  const stop = (): void => {
    void running
      .stop()
      .then(() => tell({ passed: [...mortal.passed], readFrom: mortal.readFrom.get("sessions") ?? 0 }))
      .then(() => log.close())
      .then(() => process.exit(0))
  }
  process.once("SIGTERM", stop)
  // Without its parent nobody needs it.
  process.once("disconnect", () => process.exit(0))
  void tell({ ready: true })
}
