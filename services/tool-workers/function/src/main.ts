import process from "node:process"
import { runProcess } from "@reins/runtime"
import { functionWorker } from "./service.ts"

await runProcess({ services: ["tool-workers/function"], build: ({ me }) => [functionWorker(me)] }, process.env)
