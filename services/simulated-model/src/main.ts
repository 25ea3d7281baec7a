import { configFrom } from "./config.ts"
import { startSimulatedModel } from "./server.ts"

const model = await startSimulatedModel(configFrom(process.env))
process.stderr.write("A simulated model listens here. It is no language model: a deterministic planner calls the tools it is offered.\n")
process.stdout.write(`${model.url}\n`)

const stop = (): void => {
  void model.stop()
}
process.once("SIGTERM", stop)
process.once("SIGINT", stop)
