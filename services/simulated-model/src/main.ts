import { configFrom } from "./config.ts"
import { startSimulatedModel } from "./server.ts"

try {
  const model = await startSimulatedModel({ ...configFrom(process.env), callsMax: 0 })
  process.stderr.write("This is a simulated model, not a language model: a deterministic planner calls the tools it is offered.\n")
  process.stdout.write(`${model.url}\n`)
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void model.stop())
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
