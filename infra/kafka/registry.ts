import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { registryFolder, registryJar } from "./artifacts.ts"
import { didNotStart } from "./failure.ts"
import type { Java } from "./java.ts"
import { freePort, host } from "./ports.ts"
import { eventually } from "./probe.ts"
import type { SupervisedProcess, Supervisor } from "./supervised.ts"
import { warmStart } from "./warm-start.ts"

export type RegistryProgram = { readonly jar: string; readonly flags: readonly string[] }

const readyTimeoutMs = 90_000

export async function prepareRegistry(java: Java): Promise<RegistryProgram> {
  const jar = await registryJar()
  const warm = await warmStart(registryFolder(), java, async ({ supervisor, folder, flags }) => {
    const taken = new Set<number>()
    const rehearsal = join(folder, "rehearsal")
    const { child } = await startRegistry(supervisor, java, { jar, flags }, rehearsal, await freePort(taken), taken, false)
    void child.ended.then(() => rmSync(rehearsal, { recursive: true, force: true }))
    return child
  })
  return { jar, flags: warm.flags }
}

export async function startRegistry(
  supervisor: Supervisor,
  java: Java,
  program: RegistryProgram,
  folder: string,
  port: number,
  taken: Set<number>,
  kept: boolean,
): Promise<{ readonly url: string; readonly child: SupervisedProcess }> {
  mkdirSync(folder, { recursive: true })
  const logFile = join(folder, "registry.log")
  const child = await supervisor.start({
    command: java.command,
    args: ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", ...program.flags, "-jar", program.jar],
    env: {
      QUARKUS_HTTP_HOST: host,
      QUARKUS_HTTP_PORT: String(port),
      // Left alone, the management listener is open to the network on port 9000.
      QUARKUS_MANAGEMENT_HOST: host,
      QUARKUS_MANAGEMENT_PORT: String(await freePort(taken)),
      QUARKUS_LOG_LEVEL: "WARN",
      ...(kept ? { APICURIO_DATASOURCE_URL: `jdbc:h2:file:${join(folder, "h2")}` } : {}),
    },
    logFile,
    folder,
  })
  const url = `http://${host}:${port}/apis/ccompat/v7`
  const gaveUp = (): string | undefined =>
    child.endedBecause === undefined ? undefined : `The schema registry ended (${child.endedBecause}).`
  try {
    await eventually(readyTimeoutMs, gaveUp, async () => {
      const answer = await fetch(`${url}/subjects`, { signal: AbortSignal.timeout(5_000) })
      if (answer.status !== 200) throw new Error(`/subjects answered ${answer.status}.`)
    })
    // Apicurio starts with NONE, which accepts anything.
    const answer = await fetch(`${url}/config`, {
      method: "PUT",
      headers: { "content-type": "application/vnd.schemaregistry.v1+json" },
      body: JSON.stringify({ compatibility: "FULL_TRANSITIVE" }),
    })
    if (!answer.ok) throw new Error(`PUT /config answered ${answer.status}: ${await answer.text()}`)
  } catch (error) {
    throw didNotStart(error instanceof Error ? error.message : String(error), logFile, error)
  }
  return { url, child }
}
