// What makes the second start fast. Most of a start is the JVM reading and checking the same classes again: an archive
// of them, made once per program and Java, halves it.

import { createHash } from "node:crypto"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { cached } from "./artifacts.ts"
import type { Java } from "./java.ts"
import type { SupervisedProcess, Supervisor } from "./supervised.ts"

export type WarmStart = {
  readonly folder: string
  /** Let the JVM map its classes; it passes over an archive that does not fit it. */
  readonly flags: readonly string[]
}

export type Rehearsal = {
  readonly supervisor: Supervisor
  readonly folder: string
  /** Let the JVM write down its classes when it ends in good order. */
  readonly flags: readonly string[]
}

const archiveName = "classes.jsa"

export async function warmStart(
  artifacts: string,
  java: Java,
  rehearse: (rehearsal: Rehearsal) => Promise<SupervisedProcess>,
): Promise<WarmStart> {
  // Two builds may share a version number, and an archive fits one build.
  const build = createHash("sha256").update(java.command).digest("hex").slice(0, 8)
  const folder = await cached(`${artifacts}-java-${java.version}-${build}`, async (partial, supervisor) => {
    const flags = [`-XX:ArchiveClassesAtExit=${join(partial, archiveName)}`]
    const child = await rehearse({ supervisor, folder: partial, flags })
    process.kill(child.pid, "SIGTERM")
    await child.ended
  })
  const archive = join(folder, archiveName)
  return { folder, flags: existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : [] }
}
