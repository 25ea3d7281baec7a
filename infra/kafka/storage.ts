import { randomBytes } from "node:crypto"
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { didNotStart } from "./failure.ts"
import type { Supervisor } from "./supervised.ts"

const featureLevels = "bootstrap.checkpoint"
const identity = "meta.properties"

/** Formats storage with Kafka's own tool: a JVM of its own, 0.6 to 1.2 s. */
export async function formatWithKafka(
  supervisor: Supervisor,
  java: string,
  classPath: string,
  properties: string,
  folder: string,
): Promise<void> {
  const logFile = join(folder, "format.log")
  const format = await supervisor.start({
    command: java,
    args: ["-cp", classPath, "kafka.tools.StorageTool", "format", "-t", newUuid(), "-c", properties],
    env: {},
    logFile,
    folder,
  })
  const reason = await format.ended
  if (reason !== "exit code 0") throw didNotStart(`The broker's storage could not be formatted (${reason}).`, logFile)
}

/** Keeps the one file of a formatted folder that does not say whose it is. */
export function keepFeatureLevels(dataFolder: string, folder: string): void {
  cpSync(join(dataFolder, featureLevels), join(folder, featureLevels))
}

/** The same result as Kafka's tool without its JVM: the feature levels that it wrote, and an identity of our own. */
export function formatFrom(folder: string, dataFolder: string, clusterId: string, nodeId: number): void {
  if (existsSync(join(dataFolder, identity))) return
  // Half a format, from a run that was killed in this very function.
  rmSync(dataFolder, { recursive: true, force: true })
  mkdirSync(dataFolder, { recursive: true })
  cpSync(join(folder, featureLevels), join(dataFolder, featureLevels))
  const lines = ["version=1", `cluster.id=${clusterId}`, `node.id=${nodeId}`, `directory.id=${newUuid()}`]
  // Last: its presence says that the folder is whole.
  writeFileSync(join(dataFolder, identity), `${lines.join("\n")}\n`)
}

/** A cluster keeps its id: all brokers of one data folder must agree on it. */
export function clusterIdOf(folder: string): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, "cluster-id")
  if (existsSync(file)) return readFileSync(file, "utf8").trim()
  const id = newUuid()
  writeFileSync(file, `${id}\n`)
  return id
}

/** A Kafka Uuid: 16 bytes in base64url, not starting with the dash that its tools take for an option. */
function newUuid(): string {
  for (;;) {
    const id = randomBytes(16).toString("base64url")
    if (!id.startsWith("-")) return id
  }
}
