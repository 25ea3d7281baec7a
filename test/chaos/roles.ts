import { fileURLToPath } from "node:url"
import type { Role } from "./fleet.ts"

// Which services a run starts as processes, two of each.

const classes = fileURLToPath(new URL("./classes.ts", import.meta.url))

export const rolesApart: readonly Role[] = [
  { name: "intake", args: ["up", "intake"], services: ["intake"] },
  { name: "llm-invoker", args: ["up", "llm-invoker"], services: ["llm-invoker"] },
  { name: "eraser", args: ["up", "eraser"], services: ["eraser"] },
  { name: "tool-router", args: ["up", "tool-router"], services: ["tool-router"] },
  { name: "tool-workers/function", args: ["up", "tool-workers/function"], services: ["tool-workers/function"] },
  { name: "tool-workers/http", args: ["up", "tool-workers/http"], services: ["tool-workers/http"] },
  { name: "tool-workers/classes", args: ["worker", classes], services: ["tool-workers/classes"] },
]
/** Those that do little in one, so that two instances of each fit two cores. */
export const rolesTogether: readonly Role[] = [
  { name: "intake+tool-router", args: ["up", "intake", "tool-router"], services: ["intake", "tool-router"] },
  { name: "eraser+llm-invoker", args: ["up", "eraser", "llm-invoker"], services: ["eraser", "llm-invoker"] },
  {
    name: "tool-workers/function+tool-workers/http",
    args: ["up", "tool-workers/function", "tool-workers/http"],
    services: ["tool-workers/function", "tool-workers/http"],
  },
  { name: "tool-workers/classes", args: ["worker", classes], services: ["tool-workers/classes"] },
]
