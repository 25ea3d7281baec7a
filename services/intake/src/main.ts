import process from "node:process"
import { runProcess } from "@reins/runtime"
import { intake } from "./service.ts"

await runProcess({ services: ["intake"], build: ({ codec, config }) => [intake({ codec, partitions: config.partitions })] }, process.env)
