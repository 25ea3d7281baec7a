// `npm run simulate`: stories from seeds, judged by the oracle.
//
//   --seed N --runs M      so many worlds from this seed on (1 and 1,000 unless said)
//   --trace                tells the story of the one seed
//   --deploy together|split|apart
//   --without kind,kind    leaves fault kinds out
//   --often kind,kind      lets them strike as often as they can
//   --forget K             no faults, but every process forgets all it knows after every K records
//   --mutants [--only a,b] breaks the product on purpose, in every way that mutants.ts knows, and asks that each is caught
import { parseArgs } from "node:util"
import { type FaultKind, faultKinds } from "./faults.ts"
import { catchAll, mutantNamed } from "./mutants.ts"
import { mutate } from "./mutate.ts"
import type { Story, WorldOptions } from "./world.ts"

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    runs: { type: "string", default: "1000" },
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

const say = (line: string): void => void process.stdout.write(`${line}\n`)

if (values.mutants) {
  const wanted = values.only?.split(",")
  if (!(await catchAll({ ...(wanted === undefined ? {} : { wanted }), secondsEach: Number(values.seconds), say }))) process.exitCode = 1
} else if (values.mutant !== undefined) await catchOne(values.mutant)
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
  for (let run = 0; run < runs; run++) {
    const story = await simulate(optionsOf(first + run))
    if (story.violations.length > 0) {
      say(`\nSeed ${story.seed} breaks a promise (${story.deployment}): ${verdictOf(story)}`)
      await tellShortest(simulate, optionsOf(first + run), story)
      process.exitCode = 1
      return
    }
    for (const [kind, count] of story.faults) faults.set(kind, (faults.get(kind) ?? 0) + count)
    for (const [name, count] of Object.entries(story.counted)) counted[name] = (counted[name] ?? 0) + count
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
