import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { createRequire, registerHooks } from "node:module"
import { fileURLToPath } from "node:url"
import type * as KafkaJs from "kafkajs"

/**
 * kafkajs 2.2.4 with the patch of `patches/` applied while it is loaded. Nothing on the disk is changed: a load hook hands
 * the mended sources to Node, and only for as long as kafkajs takes to load.
 */

const patchUrl = new URL("../../../../patches/kafkajs-2.2.4.patch", import.meta.url)
const digestsUrl = new URL("../../../../patches/kafkajs-2.2.4.sha256", import.meta.url)

interface Hunk {
  readonly line: number
  readonly before: readonly string[]
  readonly after: readonly string[]
}

/** Reads a unified diff: the hunks of each file, by the file's path. */
export function parsePatch(patch: string): Map<string, Hunk[]> {
  const files = new Map<string, Hunk[]>()
  let hunks: Hunk[] | undefined
  let hunk: { line: number; before: string[]; after: string[] } | undefined
  for (const line of patch.split("\n")) {
    if (line.startsWith("+++ b/")) {
      hunks = []
      hunk = undefined
      files.set(line.slice(6), hunks)
    } else if (line.startsWith("--- a/")) {
      hunk = undefined
    } else if (line.startsWith("@@ ")) {
      const start = /^@@ -(\d+)/.exec(line)?.[1]
      if (start === undefined || hunks === undefined) throw new Error(`The patch cannot be read at: ${line}`)
      hunk = { line: Number(start), before: [], after: [] }
      hunks.push(hunk)
    } else if (hunk !== undefined) {
      if (line.startsWith("-")) hunk.before.push(line.slice(1))
      else if (line.startsWith("+")) hunk.after.push(line.slice(1))
      else if (line.startsWith(" ")) {
        hunk.before.push(line.slice(1))
        hunk.after.push(line.slice(1))
      }
    }
  }
  return files
}

/** Applies hunks to a source. Every line of context must stand exactly where the hunk says; there is no fuzz. */
export function applyHunks(source: string, hunks: readonly Hunk[]): string {
  const lines = source.split("\n")
  let shift = 0
  for (const { line, before, after } of hunks) {
    const at = line - 1 + shift
    before.forEach((expected, index) => {
      if (lines[at + index] !== expected)
        throw new Error(
          `The patch does not fit at line ${line + index}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(lines[at + index])}.`,
        )
    })
    lines.splice(at, before.length, ...after)
    shift += after.length - before.length
  }
  return lines.join("\n")
}

const applied = new Set<string>()
let expected: readonly string[] = []

function load(): typeof KafkaJs {
  const require = createRequire(import.meta.url)
  const root = require.resolve("kafkajs/package.json").slice(0, -"package.json".length)
  const early = Object.keys(require.cache).filter((path) => path.startsWith(`${root}src`))
  if (early.length > 0) {
    throw new Error("kafkajs was loaded before Reins could mend it. Import @reins/log/kafka before anything that imports kafkajs.")
  }
  const patch = parsePatch(readFileSync(patchUrl, "utf8"))
  const digests = new Map(
    readFileSync(digestsUrl, "utf8")
      .trim()
      .split("\n")
      .map((line) => [line.slice(66), line.slice(0, 64)] as const),
  )
  expected = [...patch.keys()]
  const hooks = registerHooks({
    load(url, context, nextLoad) {
      const path = url.startsWith("file:") ? fileURLToPath(url) : ""
      const file = path.startsWith(root) ? path.slice(root.length).replaceAll("\\", "/") : ""
      const hunks = patch.get(file)
      if (hunks === undefined) return nextLoad(url, context)
      const source = readFileSync(path, "utf8")
      const digest = createHash("sha256").update(source).digest("hex")
      if (digest !== digests.get(file)) {
        throw new Error(
          `kafkajs's ${file} is not the source that the patch was made for (sha256 ${digest}). Install kafkajs 2.2.4 unchanged.`,
        )
      }
      const mended = applyHunks(source, hunks)
      applied.add(file)
      return { format: "commonjs", source: mended, shortCircuit: true }
    },
  })
  try {
    const kafkajs = require("kafkajs") as typeof KafkaJs
    // kafkajs loads its protocol versions when they are first used; by then the hook is gone.
    for (const file of expected) require(root + file)
    return kafkajs
  } finally {
    hooks.deregister()
  }
}

export const kafkajs: typeof KafkaJs = load()

/** Throws unless the kafkajs in use is the mended one. Asked whenever a Kafka log is opened. */
export function assertPatched(): void {
  const missing = expected.filter((file) => !applied.has(file))
  if (expected.length === 0 || missing.length > 0) {
    throw new Error(`kafkajs runs without Reins's patch (${missing.join(", ")}). It hangs on compacted partitions and must not be used.`)
  }
}
