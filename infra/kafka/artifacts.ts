import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { readConfig } from "./config.ts"
import { LocalKafkaError } from "./failure.ts"
import { type Supervisor, startSupervisor } from "./supervised.ts"

const kafkaVersion = "4.2.1"
const log4jVersion = "2.25.5"
const apicurioVersion = "3.3.3"
const dependencyPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
const downloadTimeoutMs = 10 * 60_000

export const kafkaFolder = (): string => join(readConfig().cacheFolder, `kafka-${kafkaVersion}`)
export const registryFolder = (): string => join(readConfig().cacheFolder, `apicurio-${apicurioVersion}`)

export function findMaven(): string | undefined {
  const name = process.platform === "win32" ? "mvn.cmd" : "mvn"
  return readConfig()
    .pathFolders.map((folder) => join(folder, name))
    .find((file) => existsSync(file))
}

/** The broker's jars, downloaded on first use. */
export function kafkaJars(): Promise<readonly string[]> {
  return cached(kafkaFolder(), async (folder, supervisor) => {
    writeFileSync(join(folder, "pom.xml"), kafkaPom)
    await maven(supervisor, folder, [`${dependencyPlugin}:copy-dependencies`, "-DincludeScope=runtime", "-DoutputDirectory=libs"])
  }).then((folder) => {
    const libs = join(folder, "libs")
    // In a fixed order: a class data archive is valid for one exact class path only.
    return readdirSync(libs)
      .sort()
      .map((name) => join(libs, name))
  })
}

/** The registry's runnable jar, downloaded on first use. */
export function registryJar(): Promise<string> {
  return cached(registryFolder(), async (folder, supervisor) => {
    await maven(supervisor, folder, [
      `${dependencyPlugin}:unpack`,
      `-Dartifact=io.apicurio:apicurio-registry-app:${apicurioVersion}:tar.gz:all`,
      "-DoutputDirectory=app",
    ])
  }).then((folder) => join(folder, "app", "quarkus-run.jar"))
}

/**
 * Makes `folder` once. It is filled under another name and renamed when it is whole, so an interrupted download leaves
 * nothing that looks complete, and the lock keeps two test files from downloading the same 200 MB. What `fill` starts
 * under the supervisor ends, and the half-filled folder goes, when `fill` fails or this process is killed.
 */
export async function cached(folder: string, fill: (folder: string, supervisor: Supervisor) => Promise<void>): Promise<string> {
  if (existsSync(folder)) return folder
  const parent = dirname(folder)
  mkdirSync(parent, { recursive: true })
  return await locked(`${folder}.lock`, async () => {
    if (existsSync(folder)) return folder
    // We hold the lock, so what is half filled was left by a machine that went down.
    for (const name of readdirSync(parent).filter((name) => name.startsWith(`${basename(folder)}.partial-`))) {
      rmSync(join(parent, name), { recursive: true, force: true })
    }
    const partial = mkdtempSync(`${folder}.partial-`)
    const supervisor = startSupervisor(partial)
    try {
      await fill(partial, supervisor)
      supervisor.keep()
    } finally {
      await supervisor.close()
    }
    renameSync(partial, folder)
    return folder
  })
}

/** One process at a time. SQLite's file lock is the operating system's, so a killed holder holds nothing. */
async function locked<T>(file: string, work: () => Promise<T>): Promise<T> {
  const database = new DatabaseSync(file)
  try {
    const deadline = performance.now() + downloadTimeoutMs
    for (;;) {
      try {
        database.exec("BEGIN EXCLUSIVE")
        break
      } catch (error) {
        if (performance.now() > deadline) throw error
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
    return await work()
  } finally {
    database.close()
  }
}

async function maven(supervisor: Supervisor, folder: string, args: readonly string[]): Promise<void> {
  const command = findMaven()
  if (command === undefined) throw new LocalKafkaError("kafka-not-available", "There is no mvn on the PATH.")
  const logFile = join(folder, "maven.log")
  const run = await supervisor.start({ command, args: ["-q", "-B", ...args], env: {}, logFile, folder })
  const tooLate = Promise.withResolvers<string>()
  const timer = setTimeout(() => tooLate.resolve(`no end after ${downloadTimeoutMs} ms`), downloadTimeoutMs)
  const reason = await Promise.race([run.ended, tooLate.promise])
  clearTimeout(timer)
  if (reason === "exit code 0") return
  const output = readFileSync(logFile, "utf8").slice(-4_000).trim()
  throw new LocalKafkaError("kafka-not-available", `Maven could not fetch Kafka (${reason}):\n${output}`)
}

const kafkaPom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>reins</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>${kafkaVersion}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>${log4jVersion}</version>
    </dependency>
  </dependencies>
</project>
`
