import { defineTool, type ToolDefinition } from "@reins/worker-kit"
import { z } from "zod"
import { numbersMax } from "../config.ts"

export const add: ToolDefinition = defineTool({
  name: "add",
  description: "Adds numbers and returns their sum.",
  input: z.strictObject({ numbers: z.array(z.number()).max(numbersMax) }),
  effect: "pure",
  timeoutMs: 10_000,
  run: ({ numbers }) => numbers.reduce((sum, number) => sum + number, 0),
})
