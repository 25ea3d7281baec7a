import { z } from "zod"
import { durationMs, effectClass, json } from "./fields.ts"

const schema = z.object({
  backend: z.string(),
  /** `*`: this backend takes tools that the agent describes itself. */
  tool: z.string(),
  description: z.string().nullable(),
  inputSchema: json(),
  effect: effectClass,
  timeoutMs: durationMs(),
  sideEffects: z.string().nullable(),
  claims: z.boolean(),
  encoding: z.enum(["avro", "json"]),
})

/** What a worker says it can do; one record per tool on `tool-declarations`, the newest counts. */
export const toolDeclared = {
  type: "tool.declared" as const,
  family: "declarations" as const,
  recordName: "reins.declarations.ToolDeclared",
  meaning: "A worker of this backend serves this tool; an agent may name it by name and backend alone.",
  saidBy: ["tool-workers"],
  heardBy: ["intake", "tool-router"],
  schema,
  example: {
    type: "tool.declared" as const,
    backend: "function",
    tool: "add",
    description: "Adds numbers.",
    inputSchema: '{"type":"object","properties":{"numbers":{"type":"array","items":{"type":"number"}}},"required":["numbers"]}',
    effect: "pure" as const,
    timeoutMs: 30000,
    sideEffects: null,
    claims: true,
    encoding: "avro" as const,
  },
}
export type ToolDeclared = z.infer<typeof schema> & { readonly type: "tool.declared" }
