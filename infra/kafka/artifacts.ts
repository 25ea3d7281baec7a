import { spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { readConfig } from "./config.ts"
import { LocalKafkaError } from "./failure.ts"

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
  return cached(kafkaFolder(), async (folder) => {
    writeFileSync(join(folder, "pom.xml"), kafkaPom)
    await maven(folder, [`${dependencyPlugin}:copy-dependencies`, "-DincludeScope=runtime", "-DoutputDirectory=libs"])
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
  return cached(registryFolder(), async (folder) => {
    await maven(folder, [
      `${dependencyPlugin}:unpack`,
      `-Dartifact=io.apicurio:apicurio-registry-app:${apicurioVersion}:tar.gz:all`,
      "-DoutputDirectory=app",
    ])
  }).then((folder) => join(folder, "app", "quarkus-run.jar"))
}

/**
 * Makes `folder` once. It is filled under another name and renamed when it is whole, so an interrupted download leaves
 * nothing that looks complete, and the lock keeps two test files from downloading the same 200 MB.
 */
export async function cached(folder: string, fill: (folder: string) => Promise<void>): Promise<string> {
  if (existsSync(folder)) return folder
  const parent = dirname(folder)
  mkdirSync(parent, { recursive: true })
  return await locked(`${folder}.lock`, async () => {
    if (existsSync(folder)) return folder
    // We hold the lock, so what is half filled was left by a process that was killed.
    for (const name of readdirSync(parent).filter((name) => name.startsWith(`${basename(folder)}.partial-`))) {
      rmSync(join(parent, name), { recursive: true, force: true })
    }
    const partial = mkdtempSync(`${folder}.partial-`)
    try {
      await fill(partial)
      renameSync(partial, folder)
    } catch (error) {
      rmSync(partial, { recursive: true, force: true })
      throw error
    }
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

function maven(folder: string, args: readonly string[]): Promise<void> {
  const command = findMaven()
  if (command === undefined) {
    return Promise.reject(new LocalKafkaError("kafka-not-available", "There is no mvn on the PATH."))
  }
  return new Promise((resolve, reject) => {
    const child = spawn(command, ["-q", "-B", ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: downloadTimeoutMs,
      shell: process.platform === "win32",
    })
    let output = ""
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString("utf8")).slice(-4_000)
    }
    child.stdout.on("data", keep)
    child.stderr.on("data", keep)
    child.once("error", reject)
    child.once("close", (code) => {
      if (code === 0) resolve()
      else reject(new LocalKafkaError("kafka-not-available", `Maven could not fetch Kafka:\n${output.trim()}`))
    })
  })
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
