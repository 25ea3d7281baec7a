import process from "node:process"
import { runProcess } from "@reins/runtime"
import { intake } from "./service.ts"

await runProcess(
  { services: ["intake"], build: ({ codec, config, log }) => [intake({ codec, partitions: config.partitions, log })] },
  process.env,
)
