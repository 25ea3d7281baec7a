import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { readConfig } from "./config.ts"

export type Java = { readonly command: string; readonly version: string; readonly major: number }

/** Every Java on this machine, the newest first: the broker starts fastest on the newest, and the registry needs 21. */
export function findJavas(config: Pick<ReturnType<typeof readConfig>, "javaHomes" | "pathFolders"> = readConfig()): readonly Java[] {
  const homes = [...config.javaHomes, ...homesBelowCommonFolders()]
  const commands = [...homes.map((home) => join(home, "bin", javaName)), ...config.pathFolders.map((folder) => join(folder, javaName))]
  const found: Java[] = []
  for (const command of new Set(commands)) {
    if (!existsSync(command)) continue
    const version = readVersion(command)
    if (version !== undefined) found.push({ command, version, major: majorOf(version) })
  }
  return found.sort((a, b) => b.major - a.major)
}

const javaName = process.platform === "win32" ? "java.exe" : "java"

function homesBelowCommonFolders(): readonly string[] {
  const folders: readonly (readonly [folder: string, suffix: string])[] = [
    ["/usr/lib/jvm", ""],
    ["/usr/java", ""],
    ["/opt", ""],
    ["/opt/java", ""],
    ["/Library/Java/JavaVirtualMachines", "Contents/Home"],
    ["/opt/homebrew/opt", ""],
    [join(homedir(), ".sdkman/candidates/java"), ""],
    [join(homedir(), ".jdks"), ""],
  ]
  return folders.flatMap(([folder, suffix]) => {
    try {
      return readdirSync(folder).map((name) => join(folder, name, suffix))
    } catch {
      // A folder that is not there, or not ours to read, holds no Java for us.
      return []
    }
  })
}

function readVersion(command: string): string | undefined {
  // The release file answers without a JVM start; a bare `java` on the PATH has none beside it.
  let text = ""
  try {
    text = readFileSync(join(command, "..", "..", "release"), "utf8")
  } catch {
    const run = spawnSync(command, ["-version"], { encoding: "utf8", timeout: 20_000 })
    text = `${run.stderr}${run.stdout}`
  }
  return /(?:JAVA_VERSION=|version )"([\w.+-]+)"/.exec(text)?.[1]
}

/** Before 9 the major version stood second: 1.8. */
function majorOf(version: string): number {
  const [first = "", second = ""] = version.split(/[.+_-]/)
  return Number(first === "1" ? second : first)
}
