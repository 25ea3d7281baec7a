#!/usr/bin/env node
// Reins runs its TypeScript as it is written, which takes Node 24; a fresh machine may have Node 20. This file must therefore
// run on the old Node: it goes on in this process where it can, and otherwise hands over to the Node 24 that `npm ci` carried in.
import { spawn } from "node:child_process"
import { accessSync, constants as mode } from "node:fs"
import { constants } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const nodeMajorMin = 24
const here = dirname(fileURLToPath(import.meta.url))
const main = join(here, "..", "src", "main.ts")

if (Number(process.versions.node.split(".")[0]) >= nodeMajorMin) {
  hushExperimentalWarnings()
  process.argv[1] = main
  await import("../src/main.ts")
} else {
  const node = carriedNode()
  if (node === undefined) {
    process.stderr.write(
      `reins needs Node ${nodeMajorMin} or newer; this is Node ${process.versions.node} and no other is carried for ${process.platform} ${process.arch}.\n` +
        `Run "npm ci" in the clone without --omit=optional, which brings one along, or install Node ${nodeMajorMin} from https://nodejs.org.\n`,
    )
    process.exitCode = 1
  } else {
    handOver(node)
  }
}

/** `node:sqlite` announces itself as experimental; nobody who runs an agent can act on that. Every other warning stays. */
function hushExperimentalWarnings() {
  const emitWarning = process.emitWarning
  process.emitWarning = (warning, ...rest) => {
    const first = rest[0]
    const type = typeof warning === "object" ? warning.name : typeof first === "object" ? first?.type : first
    if (type !== "ExperimentalWarning") emitWarning.call(process, warning, ...rest)
  }
}

/** Looks upward from here, because npm hoists: first the link that npm makes, then the package of this platform itself. */
function carriedNode() {
  const suffix = process.platform === "win32" ? ".exe" : ""
  const platform = process.platform === "win32" ? "win" : process.platform
  for (let folder = here; ; folder = dirname(folder)) {
    for (const path of [join(".bin", "node"), join(`node-${platform}-${process.arch}`, "bin", "node")]) {
      // npm's link on Windows is a shell script, which cannot be started without a shell.
      if (suffix !== "" && path.startsWith(".bin")) continue
      const candidate = join(folder, "node_modules", path + suffix)
      try {
        accessSync(candidate, mode.X_OK)
        return candidate
      } catch {
        // Not here; one folder up.
      }
    }
    if (dirname(folder) === folder) return undefined
  }
}

function handOver(node) {
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", main, ...process.argv.slice(2)], { stdio: "inherit" })
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to both of us; sent on as well it would count as the second, impatient one.
      if (signal === "SIGINT" && onTerminal) return
      child.kill(signal)
    })
  }
  child.on("error", (error) => {
    process.stderr.write(`reins could not start ${node}: ${error.message}\n`)
    process.exitCode = 1
  })
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1
      return
    }
    // End the way the child ended, so that a shell or supervisor sees the same cause.
    process.removeAllListeners(signal)
    process.exitCode = 128 + (constants.signals[signal] ?? 0)
    process.kill(process.pid, signal)
  })
}
