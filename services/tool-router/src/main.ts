import process from "node:process"
import { runProcess } from "@reins/runtime"
import { toolRouter } from "./service.ts"

await runProcess({ services: ["tool-router"], build: ({ log }) => [toolRouter({ log })] }, process.env)
