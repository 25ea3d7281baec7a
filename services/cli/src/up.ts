import { type Host, hostable, startHost } from "@reins/host"
import { isLoopback, Metrics, version } from "@reins/runtime"
import { CliError } from "./fail.ts"
import { configured } from "./open.ts"
import { stayUp } from "./stay-up.ts"
import { loadWorkers } from "./worker.ts"

function simulated(host: Host): string {
  return host.simulatedModel === null
    ? ""
    : "\n  SIMULATED MODEL: no ANTHROPIC_API_KEY is set, so a small deterministic planner answers in its place"
}

function address(host: Host, access: "open" | "keys" | undefined): string {
  if (access === undefined) return ""
  const who = access === "open" ? "no key needed" : "keys: npx reins keys create"
  return `\n  API and console: http://${configured().host}:${host.port} · ${who}`
}

/** Hosts the named services, all by default, in this process on Kafka. */
export async function up(services: readonly string[]): Promise<void> {
  const config = configured()
  if (config.kafka === null)
    throw new CliError(
      2,
      "`reins up` hosts services on Kafka: set KAFKA_BROKERS and SCHEMA_REGISTRY_URL (`npm run kafka` starts both). Without Kafka: `reins dev`.",
    )
  const all = [...hostable, "gateway"]
  const unknown = services.find((name) => !all.includes(name))
  if (unknown !== undefined) throw new CliError(2, `There is no service ${unknown}. There are: ${all.join(", ")}.`)
  const hosted = services.length === 0 ? all : services
  const gateway = hosted.includes("gateway") ? (config.apiAuth ?? "keys") : undefined
  await stayUp(
    (failed) =>
      startHost({
        config,
        services: hosted.filter((name) => name !== "gateway"),
        metrics: new Metrics(version).withDefaults(),
        health: true,
        failed,
        ...(gateway === undefined ? {} : { gateway }),
      }),
    (host) => `reins ${version}: ${hosted.join(", ")} as ${host.instance}${simulated(host)}${address(host, gateway)}`,
  )
}

/** Everything in one process on the embedded log. */
export async function dev(options: { readonly worker?: readonly string[] }): Promise<void> {
  const config = configured()
  if (config.kafka !== null)
    throw new CliError(2, "`reins dev` is the embedded mode, and KAFKA_BROKERS is set. Unset it, or use `reins up`.")
  const workers = await loadWorkers(options.worker ?? [])
  // On loopback nobody else is there to ask.
  const gateway = config.apiAuth ?? (isLoopback(config.host) ? "open" : "keys")
  await stayUp(
    (failed) => startHost({ config, workers, metrics: new Metrics(version).withDefaults(), health: true, failed, gateway }),
    (host) =>
      `reins ${version}: everything in one process, the log in ${config.dataDir}${simulated(host)}${address(host, gateway)}\n  next: npx reins sessions list`,
  )
}
