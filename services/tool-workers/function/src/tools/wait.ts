import { setTimeout as sleep } from "node:timers/promises"
import { defineTool, type ToolDefinition } from "@reins/worker-kit"
import { z } from "zod"
import { waitMsMax } from "../config.ts"

export const wait: ToolDefinition = defineTool({
  name: "wait",
  description: "Waits for some milliseconds.",
  input: z.strictObject({ ms: z.int().min(0).max(waitMsMax) }),
  effect: "pure",
  timeoutMs: waitMsMax + 10_000,
  run: async ({ ms }, { signal }) => {
    await sleep(ms, undefined, { signal })
    return `Waited ${ms} ms.`
  },
})
