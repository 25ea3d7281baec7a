import process from "node:process"
import { runProcess } from "@reins/runtime"
import { httpWorker } from "./service.ts"

await runProcess({ services: ["tool-workers/http"], build: ({ me }) => [httpWorker(me)] }, process.env)
