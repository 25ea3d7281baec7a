import process from "node:process"
import { runProcess } from "@reins/runtime"
import { anthropicModel } from "./models/anthropic.ts"
import { llmInvoker } from "./service.ts"

await runProcess(
  {
    services: ["llm-invoker"],
    build: ({ metrics, config }) => [
      llmInvoker({ model: anthropicModel(config.anthropic), metrics, limits: { contextTokens: config.contextTokens } }),
    ],
  },
  process.env,
)
