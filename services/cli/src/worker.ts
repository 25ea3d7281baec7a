import { type RunningProcess, startProcess, version } from "@reins/runtime"
import { type Backend, backendOfFile, loadTools, toolsBackend, worker as workerService } from "@reins/worker-kit"
import { CliError } from "./fail.ts"
import { configured } from "./open.ts"
import { stayUp } from "./stay-up.ts"

/** The backends of workers' files: FILE, or NAME=FILE to name the backend. */
export async function loadWorkers(files: readonly string[]): Promise<readonly Backend[]> {
  return Promise.all(
    files.map(async (given) => {
      const [, name, file] = /^([a-zA-Z0-9._-]+)=(.*)$/.exec(given) ?? [null, null, given]
      return loadWorker(file, name ?? undefined)
    }),
  )
}

async function loadWorker(file: string, name: string | undefined): Promise<Backend> {
  const backend = name ?? backendOfFile(file)
  if (!/^[a-zA-Z0-9._-]{1,80}$/.test(backend))
    throw new CliError(2, `A backend's name matches ^[a-zA-Z0-9._-]{1,80}$; ${JSON.stringify(backend)} does not. Name it with --backend.`)
  return toolsBackend(`tool-workers/${backend}`, backend, await loadTools(file))
}

/** Serves the tools of a file on Kafka: a topic and a group of its own. */
export async function worker(file: string, options: { readonly backend?: string }): Promise<void> {
  const config = configured()
  if (config.kafka === null) {
    throw new CliError(
      2,
      `A worker of its own needs Kafka: set KAFKA_BROKERS (\`npm run kafka\` starts one). Without Kafka: reins run "…" --worker ${file}, or reins dev --worker ${file}.`,
    )
  }
  const backend = await loadWorker(file, options.backend)
  await stayUp(
    (failed): Promise<RunningProcess> =>
      startProcess({
        config,
        services: [backend.service],
        backends: [backend.backend],
        build: ({ me }) => [workerService(backend, me)],
        health: true,
        failed,
      }),
    (running) =>
      `reins ${version}: the tools ${backend.declares.map((tool) => tool.tool).join(", ")} of backend ${backend.backend}, as ${running.instance}`,
  )
}
