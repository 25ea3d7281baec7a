import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Patch } from "./mutate.ts"

/** A deliberate bug. */
export interface Mutant {
  readonly name: string
  /** What it does wrong, and which rule of the design it switches off. */
  readonly wrong: string
  readonly patches: readonly Patch[]
}

export const mutants: readonly Mutant[] = [
  {
    name: "retry-after-ignored",
    wrong: "The model is asked again at once, whatever the provider asked for (rule 11).",
    patches: [
      { file: "services/llm-invoker/src/decide.ts", find: 'if (view.now < notBefore) return [{ do: "wake", at: notBefore }]', replace: "" },
    ],
  },
]

export function mutantNamed(name: string): Mutant {
  const mutant = mutants.find((one) => one.name === name)
  if (mutant === undefined) throw new Error(`There is no mutant ${name}. There are: ${mutants.map((one) => one.name).join(", ")}.`)
  return mutant
}

export interface Caught {
  /** The invariants that named it; none: it got away. */
  readonly caughtBy: readonly string[]
  readonly runs: number
  readonly firstSeed: number | null
}

/** Runs worlds with this mutant in a process of its own until it is caught or the time is over. */
export async function catchMutant(name: string, seconds: number): Promise<Caught> {
  const main = fileURLToPath(new URL("main.ts", import.meta.url))
  const child = spawn(process.execPath, [main, "--mutant", name, "--seconds", String(seconds)], { stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("utf8")
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject)
    child.once("close", resolve)
  })
  // A mutant that brings the process down is found out too, if not by an invariant.
  if (code !== 0) return { caughtBy: [`exit ${code}`], runs: 0, firstSeed: null }
  return JSON.parse(said) as Caught
}

/** Says of every mutant what catches it; true where none got away. */
export async function catchAll(options: {
  readonly wanted?: readonly string[]
  readonly secondsEach: number
  readonly say: (line: string) => void
}): Promise<boolean> {
  const { wanted, secondsEach, say } = options
  const chosen = mutants.filter(({ name }) => wanted === undefined || wanted.includes(name))
  const escaped: string[] = []
  for (const { name, wrong } of chosen) {
    const startedMs = performance.now()
    const { caughtBy, runs, firstSeed } = await catchMutant(name, secondsEach)
    if (caughtBy.length === 0) escaped.push(name)
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    const how = caughtBy.length === 0 ? "GOT AWAY" : `caught by ${caughtBy.join(", ")}${firstSeed === null ? "" : ` at seed ${firstSeed}`}`
    say(`${name.padEnd(30)} ${how} (${runs} worlds, ${seconds} s). ${wrong}`)
  }
  say(
    escaped.length === 0
      ? `All ${chosen.length} mutants are caught.`
      : `${escaped.length} of ${chosen.length} got away: ${escaped.join(", ")}.`,
  )
  return escaped.length === 0
}
