import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { homedir } from "node:os"
import { delimiter, join } from "node:path"

export type Java = { readonly command: string; readonly major: number }

/** Every Java on this machine, the newest first: the broker starts fastest on the newest, and the registry needs 21. */
export function findJavas(env: NodeJS.ProcessEnv = process.env): readonly Java[] {
  const named = [env["JAVA_HOME"], env["JDK_HOME"]].filter((home) => home !== undefined && home !== "")
  const commands = [
    ...[...named, ...homesBelowCommonFolders()].map((home) => join(String(home), "bin", javaName)),
    ...(env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, javaName)),
  ]
  const found: Java[] = []
  for (const command of new Set(commands)) {
    if (!existsSync(command)) continue
    const major = majorVersion(command)
    if (major !== undefined) found.push({ command, major })
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

function majorVersion(command: string): number | undefined {
  // The release file answers without a JVM start; a bare `java` on the PATH has none beside it.
  let text = ""
  try {
    text = readFileSync(join(command, "..", "..", "release"), "utf8")
  } catch {
    const run = spawnSync(command, ["-version"], { encoding: "utf8", timeout: 20_000 })
    text = `${run.stderr}${run.stdout}`
  }
  const match = /(?:JAVA_VERSION=|version )"(\d+)(?:\.(\d+))?/.exec(text)
  if (match === null) return undefined
  const [, first, second] = match
  // Before 9 the major version stood second: 1.8.
  return Number(first === "1" ? second : first)
}
