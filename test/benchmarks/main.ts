import { execFile } from "node:child_process"
import { cpus } from "node:os"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"
import { kafkaAvailable, startKafka } from "@reins/infra/kafka"
import { type ApiRow, api } from "./api.ts"
import { onKafka } from "./on-kafka.ts"
import type { Figures } from "./workload.ts"

// `npm run bench [-- --quick] [-- --json]`: turns per second and latency per turn of every shape, on Kafka beside the raw floor of the same shape
// on the same broker in the same run; then the API, beside a bare server in the same run. Method and tables: README.md.
// `npm run bench -- handover` kills what it measures, and is a program of its own.

if (process.argv[2] === "handover") await import("./handover.ts")
if (process.argv[2] === "bounded") await import("./bounded.ts")

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    only: { type: "string" },
    part: { type: "string" },
    shape: { type: "string" },
  },
})
const choices = { only: ["embedded", "kafka"], part: ["turns", "api"], shape: ["hosted", "apart"] } as const
for (const [name, choice] of Object.entries(choices) as [keyof typeof choices, readonly string[]][]) {
  const said = values[name]
  if (said === undefined || choice.includes(said)) continue
  process.stderr.write(
    `--${name} takes ${choice.join(" or ")}, not "${said}". By name alone: npm run bench -- handover, npm run bench -- bounded.\n`,
  )
  process.exit(2)
}
const run = promisify(execFile)

type Row = Figures & { readonly shape: string; readonly ratio?: number; readonly p50Ratio?: number }
const rows: Row[] = []

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

function add(row: Row): void {
  rows.push(row)
  const { shape, sessions, turns, turnsPerSecond, p50Ms, p99Ms, cpuMsPerTurn, ratio, p50Ratio } = row
  const ratios = ratio === undefined ? "" : `  ${ratio.toFixed(2)} of the floor's turns/s, ${p50Ratio?.toFixed(2)}× its p50`
  say(
    `${shape.padEnd(16)} ${String(sessions).padStart(4)} × ${String(turns).padStart(3)}  ${String(turnsPerSecond).padStart(6)} turns/s  p50 ${p50Ms.toFixed(2).padStart(7)} ms  p99 ${p99Ms.toFixed(2).padStart(7)} ms  cpu ${cpuMsPerTurn.toFixed(2)} ms/turn${ratios}`,
  )
}

const apiRows: ApiRow[] = []

function addApi(row: ApiRow): void {
  apiRows.push(row)
  const { log, what, clients, perSecond, p50Ms, p99Ms, cpuMs, ratio, p50Ratio, more } = row
  const figures = [
    perSecond === undefined ? "" : `${String(perSecond).padStart(6)} requests/s`,
    p50Ms === undefined ? "" : `p50 ${p50Ms.toFixed(2).padStart(7)} ms  p99 ${p99Ms?.toFixed(2).padStart(7)} ms`,
    cpuMs === undefined ? "" : `cpu ${cpuMs.toFixed(2)} ms/request`,
    ratio === undefined ? "" : `${ratio.toFixed(2)} of the floor's requests/s`,
    p50Ratio === undefined ? "" : `${p50Ratio.toFixed(2)}× its p50`,
    ...Object.entries(more ?? {}).map(([name, value]) => `${name} ${typeof value === "number" ? Number(value.toFixed(2)) : value}`),
  ]
  say(`${log.padEnd(8)} ${what.padEnd(44)} ${String(clients).padStart(4)}  ${figures.filter((figure) => figure !== "").join("  ")}`)
}

const measures = {
  turns: (values.part ?? "turns") === "turns",
  api: (values.part ?? "api") === "api",
  embedded: (values.only ?? "embedded") === "embedded",
}

/** Measures in a process of its own, which prints what it found. */
async function apart<F = Figures>(program: string, ...args: readonly (string | number)[]): Promise<F> {
  const file = fileURLToPath(new URL(program, import.meta.url))
  const { stdout } = await run(process.execPath, [
    "--disable-warning=ExperimentalWarning",
    "--disable-warning=TimeoutNegativeWarning",
    file,
    ...args.map(String),
  ])
  return JSON.parse(stdout) as F
}

/** The median run by turns per second: one run on a shared machine says little. */
async function median<F extends Figures>(times: number, measure: () => Promise<F>): Promise<F> {
  const runs: F[] = []
  for (let time = 0; time < times; time++) runs.push(await measure())
  runs.sort((a, b) => a.turnsPerSecond - b.turnsPerSecond)
  return runs[runs.length >> 1] as F
}

const loads = values.quick
  ? ([
      [1, 60],
      [64, 20],
      [256, 10],
    ] as const)
  : ([
      [1, 300],
      [64, 60],
      [256, 30],
    ] as const)
const times = values.quick ? 1 : 3
let bytesPerTurn: unknown = null

for (const [sessions, turns] of measures.embedded && measures.turns ? loads : []) {
  const measured = await median(times, async () => {
    return apart<Figures & { bytesPerTurn: unknown }>("embedded.ts", sessions, turns)
  })
  if (sessions === 1 && !values.quick) bytesPerTurn = measured.bytesPerTurn
  add({ ...measured, shape: "embedded" })
}
if (measures.turns && values.quick) {
  ;({ bytesPerTurn } = await apart<{ bytesPerTurn: unknown }>("embedded.ts", 1, 210))
}

if (measures.embedded && measures.api) await api(null, values.quick, addApi)

const available = kafkaAvailable({ registry: true })
if (values.only === "embedded") say("")
else if (!available.ok) say(`Not measured on Kafka: ${available.reason}`)
else {
  const kafka = await startKafka({ registry: true })
  try {
    const broker = { bootstrap: kafka.bootstrap, registryUrl: kafka.registryUrl as string }
    for (const shape of ["hosted", "apart"] as const) {
      if (!measures.turns || (values.shape ?? shape) !== shape) continue
      for (const [sessions, turns] of loads) {
        // Floor and Reins take turns, so that both see the same moods of the machine.
        const floors: Figures[] = []
        const ours: Figures[] = []
        for (let time = 0; time < times; time++) {
          floors.push(await apart("floor.ts", shape, sessions, turns, broker.bootstrap))
          ours.push(await onKafka(shape, sessions, turns, broker))
        }
        const middle = (runs: Figures[]): Figures =>
          [...runs].sort((a, b) => a.turnsPerSecond - b.turnsPerSecond)[runs.length >> 1] as Figures
        const [raw, reins] = [middle(floors), middle(ours)]
        add({ ...raw, shape: `floor ${shape}` })
        add({ ...reins, shape: `kafka ${shape}`, ratio: reins.turnsPerSecond / raw.turnsPerSecond, p50Ratio: reins.p50Ms / raw.p50Ms })
      }
    }
    if (measures.api) await api(broker, values.quick, addApi)
  } finally {
    await kafka.stop()
  }
}
if (measures.turns) say(`Bytes of session log per turn: ${JSON.stringify(bytesPerTurn)}`)
if (values.json)
  process.stdout.write(
    `${JSON.stringify({ at: new Date().toISOString(), cpus: cpus().length, cpu: cpus()[0]?.model, node: process.version, quick: values.quick, rows, apiRows, bytesPerTurn }, null, 2)}\n`,
  )
process.exit(0)
