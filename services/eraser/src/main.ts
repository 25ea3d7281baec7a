import process from "node:process"
import { runProcess } from "@reins/runtime"
import { eraser, retentionOf } from "./service.ts"

await runProcess(
  {
    services: ["eraser"],
    build: ({ log, codec, config, logger }) => [
      eraser({
        log,
        codec,
        prefix: config.prefix,
        partitions: config.partitions,
        logger,
        limits: retentionOf(config.sessionRetentionDays),
      }),
    ],
  },
  process.env,
)
