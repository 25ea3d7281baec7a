// Runs a TypeScript file on Node 24 or newer, whatever Node started this: `node node24.mjs FILE ARGUMENTS…`.
//
// Reins runs its TypeScript as it is written, which takes Node 24; a fresh machine may have Node 20. This file must therefore
// run on the old Node. In order of preference: the Node that npm itself runs on (the machine's own), the Node that is running
// now, the Node 24 that `npm ci` carried in. The last is looked for here because not every npm puts it on the PATH: npm 10
// removes `node_modules/.bin/node` again together with the packages of the other platforms.
import { spawn } from "node:child_process"
import { accessSync, constants as fileMode, realpathSync } from "node:fs"
import { constants } from "node:os"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const nodeMajorMin = 24
const here = dirname(fileURLToPath(import.meta.url))

/** Runs `script`, a path, with `args`: in this process if this Node will do, otherwise in a child that stands for this process. */
export async function runOnNode24(script, args) {
  const machines = nodeOfNpm()
  if (machines !== undefined) return handOver(machines, script, args)
  if (majorOf(process.versions.node) >= nodeMajorMin) {
    hushExperimentalWarnings()
    process.argv.splice(1, Infinity, script, ...args)
    await import(pathToFileURL(script).href)
    return
  }
  const carried = carriedNode()
  if (carried !== undefined) return handOver(carried, script, args)
  process.stderr.write(
    `Reins needs Node ${nodeMajorMin} or newer; this is Node ${process.versions.node}, and none is carried for ${process.platform} ${process.arch}.\n` +
      `Run "npm ci" in the clone without --omit=optional, which brings one along, or install Node ${nodeMajorMin} from https://nodejs.org.\n`,
  )
  process.exitCode = 1
}

function majorOf(version) {
  return Number(version.split(".")[0])
}

/** npm tells its children where its own Node is and which; `node_modules/.bin` comes first on their PATH and hides it. */
function nodeOfNpm() {
  const path = process.env["npm_node_execpath"]
  const version = /\bnode\/v(\d+)/.exec(process.env["npm_config_user_agent"] ?? "")?.[1]
  if (path === undefined || version === undefined || majorOf(version) < nodeMajorMin) return undefined
  return path === process.execPath || !isProgram(path) ? undefined : path
}

/** Looks upward from here, because npm hoists. */
function carriedNode() {
  const windows = process.platform === "win32"
  const platformPackage = `node-${windows ? "win" : process.platform}-${process.arch}`
  for (let folder = here; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", platformPackage, "bin", windows ? "node.exe" : "node")
    if (isProgram(candidate)) return candidate
    if (dirname(folder) === folder) return undefined
  }
}

function isProgram(path) {
  try {
    accessSync(path, fileMode.X_OK)
    return true
  } catch {
    return false
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

function handOver(node, script, args) {
  const child = spawn(node, ["--disable-warning=ExperimentalWarning", script, ...args], { stdio: "inherit" })
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
    process.on(signal, () => {
      // A terminal sends Ctrl-C to both of us; sent on as well it would count as the second, impatient one.
      if (signal === "SIGINT" && onTerminal) return
      child.kill(signal)
    })
  }
  child.on("error", (error) => {
    process.stderr.write(`Reins could not start ${node}: ${error.message}\n`)
    process.exitCode = 1
  })
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1
      return
    }
    // End the way the child ended, so that a shell or a supervisor sees the same cause.
    process.removeAllListeners(signal)
    process.exitCode = 128 + (constants.signals[signal] ?? 0)
    process.kill(process.pid, signal)
  })
}

const startedAs = process.argv[1]
if (startedAs !== undefined && realpathSync(startedAs) === fileURLToPath(import.meta.url)) {
  const [script, ...args] = process.argv.slice(2)
  if (script === undefined) {
    process.stderr.write("Usage: node node24.mjs FILE [ARGUMENTS…]\n")
    process.exitCode = 2
  } else {
    await runOnNode24(resolve(script), args)
  }
}
