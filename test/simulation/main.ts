// `npm run simulate`: stories from seeds, judged by the oracle.
//
//   --seed N --runs M      so many worlds from this seed on (1 and 1,000 unless said)
//   --workers W            so many processes share them; one for each processor unless said
//   --trace                tells the story of the one seed
//   --deploy together|split|apart
//   --without kind,kind    leaves fault kinds out
//   --often kind,kind      lets them strike as often as they can
//   --forget K             no faults, but every process forgets all it knows after every K records
//   --mutants [--only a,b] breaks the product on purpose, in every way that mutants.ts knows, and asks that each is caught
import { type ChildProcess, fork } from "node:child_process"
import { availableParallelism } from "node:os"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { type FaultKind, faultKinds } from "./faults.ts"
import { catchAll, mutantNamed } from "./mutants.ts"
import { mutate } from "./mutate.ts"
import type { Story, WorldOptions } from "./world.ts"

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    runs: { type: "string", default: "1000" },
    workers: { type: "string", default: String(availableParallelism()) },
    /** For the children of a run: tells worlds as their numbers come, and says what came of them. */
    child: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
    deploy: { type: "string" },
    without: { type: "string", default: "" },
    often: { type: "string", default: "" },
    forget: { type: "string" },
    mutants: { type: "boolean", default: false },
    only: { type: "string" },
    /** For the children of `--mutants`: runs until it is caught, and prints by what. */
    mutant: { type: "string" },
    seconds: { type: "string", default: "60" },
  },
})

/** Seeds that one child is given at a time. */
const lot = 10

const say = (line: string): void => void process.stdout.write(`${line}\n`)

if (values.mutants) {
  const wanted = values.only?.split(",")
  if (!(await catchAll({ ...(wanted === undefined ? {} : { wanted }), secondsEach: Number(values.seconds), say }))) process.exitCode = 1
} else if (values.mutant !== undefined) await catchOne(values.mutant)
else if (values.child) await serve()
else await runAll()

async function worlds(): Promise<(options: WorldOptions) => Promise<Story>> {
  // Imported late, so that a mutant is in place before the product is loaded.
  const { simulate } = await import("./world.ts")
  return simulate
}

function optionsOf(seed: number): WorldOptions {
  const { deploy, without, often, forget } = values
  return {
    seed,
    without: kindsIn(without),
    often: kindsIn(often),
    ...(deploy === "together" || deploy === "split" || deploy === "apart" ? { deployment: deploy } : {}),
    ...(forget === undefined ? {} : { forgetEvery: Number(forget) }),
  }
}

function kindsIn(list: string): ReadonlySet<FaultKind> {
  return new Set(list.split(",").filter((kind): kind is FaultKind => (faultKinds as readonly string[]).includes(kind)))
}

async function runAll(): Promise<void> {
  const simulate = await worlds()
  const first = Number(values.seed)
  if (values.trace) {
    const story = await simulate({ ...optionsOf(first), tell: say })
    say(verdictOf(story))
    process.exitCode = story.violations.length > 0 ? 1 : 0
    return
  }
  const faults = new Map<FaultKind, number>(faultKinds.map((kind) => [kind, 0]))
  const counted: Record<string, number> = {}
  const startedMs = performance.now()
  const runs = Number(values.runs)
  const broken = await share(first, runs, (story) => {
    for (const [kind, count] of story.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
    for (const [name, count] of Object.entries(story.counted)) counted[name] = (counted[name] ?? 0) + count
  })
  if (broken !== null) {
    const story = await simulate(optionsOf(broken))
    say(`\nSeed ${story.seed} breaks a promise (${story.deployment}): ${verdictOf(story)}`)
    await tellShortest(simulate, optionsOf(broken), story)
    process.exitCode = 1
    return
  }
  const minutes = (performance.now() - startedMs) / 60_000
  say(`${runs} worlds from seed ${first}, none broke a promise. ${Math.round(runs / minutes)} a minute.`)
  say(`Faults: ${[...faults].map(([kind, count]) => `${kind} ${count}`).join(", ")}.`)
  say(
    `Counted: ${Object.entries(counted)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ")}.`,
  )
}

/** What a child says of a world that broke no promise. */
interface Told {
  readonly faults: readonly (readonly [FaultKind, number])[]
  readonly counted: Story["counted"]
}

/** Has so many worlds told by several processes. Resolves with the lowest seed found that breaks a promise, or null. */
async function share(first: number, runs: number, told: (story: Told) => void): Promise<number | null> {
  let next = first
  let broken: number | null = null
  const children = Array.from({ length: Math.max(1, Math.min(Number(values.workers), Math.ceil(runs / lot))) }, () =>
    fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), "--child"], { execArgv: process.execArgv }),
  )
  const work = async (child: ChildProcess): Promise<void> => {
    while (next < first + runs && broken === null) {
      const from = next
      next = Math.min(first + runs, from + lot)
      const said = await new Promise<readonly Told[] | number>((resolve, reject) => {
        child.once("message", (message) => resolve(message as readonly Told[] | number))
        child.once("exit", (code) => reject(new Error(`A process that told the worlds from seed ${from} on ended with ${code}.`)))
        child.send({ from, to: next })
      })
      child.removeAllListeners("exit")
      if (typeof said === "number") broken = Math.min(broken ?? said, said)
      else for (const story of said) told(story)
    }
    child.disconnect()
  }
  await Promise.all(children.map(work))
  return broken
}

async function serve(): Promise<void> {
  const simulate = await worlds()
  process.on("message", ({ from, to }: { readonly from: number; readonly to: number }) => {
    const tell = async (): Promise<readonly Told[] | number> => {
      const told: Told[] = []
      for (let seed = from; seed < to; seed++) {
        const { violations, faults, counted } = await simulate(optionsOf(seed))
        if (violations.length > 0) return seed
        told.push({ faults: [...faults], counted })
      }
      return told
    }
    void tell().then((said) => process.send?.(said))
  })
}

function verdictOf({ violations }: Story): string {
  if (violations.length === 0) return "no promise is broken."
  return violations.map(({ invariant, detail }) => `\n  ${invariant} ${detail}`).join("")
}

/** Leaves out whatever the failure does not need, then tells what is left. */
async function tellShortest(simulate: (options: WorldOptions) => Promise<Story>, options: WorldOptions, failed: Story): Promise<void> {
  const invariants = new Set(failed.violations.map(({ invariant }) => invariant))
  let shortest: WorldOptions = { ...options, deployment: failed.deployment }
  let size = Number.POSITIVE_INFINITY
  const tryOut = async (smaller: WorldOptions): Promise<void> => {
    const story = await simulate(smaller)
    if (!story.violations.some(({ invariant }) => invariants.has(invariant)) || story.counted.records > size) return
    shortest = smaller
    size = story.counted.records
  }
  await tryOut(shortest)
  for (let sessions = 1; sessions < 5; sessions++) await tryOut({ ...shortest, sessionsMax: sessions })
  for (const kind of faultKinds) await tryOut({ ...shortest, without: new Set([...(shortest.without ?? []), kind]) })
  say(
    `\nThe shortest story found (sessions at most ${shortest.sessionsMax ?? "all"}, without ${[...(shortest.without ?? [])].join(",") || "nothing"}):\n`,
  )
  const story = await simulate({ ...shortest, tell: say })
  say(verdictOf(story))
  say(`\nAgain: npm run simulate -- --trace --seed ${options.seed}`)
}

/** Runs worlds with one mutant until the oracle names what it breaks. */
async function catchOne(name: string): Promise<void> {
  const mutant = mutantNamed(name)
  mutate(mutant.patches)
  const simulate = await worlds()
  const untilMs = performance.now() + Number(values.seconds) * 1000
  const by = new Map<string, number>()
  let runs = 0
  let firstSeed: number | undefined
  // Verdicts that differ from the reference's give any mutant of the fold away at once, and so do sessions that it takes for unfinished;
  // what the mutant breaks in the world is the better proof.
  const isEnough = (): boolean =>
    [...by.keys()].some((invariant) => invariant !== "I13" && invariant !== "I2") ||
    (by.has("I13") && runs > 200) ||
    (by.has("I2") && runs > 20)
  while (performance.now() < untilMs && !isEnough()) {
    const seed = Number(values.seed) + runs++
    const { violations } = await simulate({ seed, often: new Set(mutant.shownBy) })
    if (violations.length > 0) firstSeed ??= seed
    for (const { invariant } of violations) by.set(invariant, (by.get(invariant) ?? 0) + 1)
  }
  say(JSON.stringify({ caughtBy: [...by.keys()].sort(), runs, firstSeed: firstSeed ?? null }))
}
