import type { ToolDefinition } from "@reins/worker-kit"
import { add } from "./tools/add.ts"
import { calculate } from "./tools/calculate.ts"
import { currentTime } from "./tools/current-time.ts"
import { echo } from "./tools/echo.ts"
import { random } from "./tools/random-number.ts"
import { wait } from "./tools/wait.ts"

/** The built-ins. None of them changes anything, so all are `pure`. */
export const tools: readonly ToolDefinition[] = [add, calculate, currentTime, random, wait, echo]
