import { defineTool, type ToolDefinition } from "@reins/worker-kit"
import { z } from "zod"

export const echo: ToolDefinition = defineTool({
  name: "echo",
  description: "Returns what it is given.",
  input: z.looseObject({ text: z.string().optional() }),
  effect: "pure",
  timeoutMs: 10_000,
  // One text comes back as it is, anything else as the JSON that came.
  run: (given) => (typeof given.text === "string" && Object.keys(given).length === 1 ? given.text : given),
})
