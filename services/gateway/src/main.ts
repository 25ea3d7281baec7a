import process from "node:process"
import { newInstance, runProcess } from "@reins/runtime"
import { startGateway } from "./gateway.ts"

// It hears no records of a partition of its own: the process has a front and no service behind it.
await runProcess(
  {
    services: [],
    build: () => [],
    instance: newInstance("gateway"),
    front: ({ beside, ...fronted }) => startGateway({ ...fronted, access: fronted.config.apiAuth ?? "keys", beside }),
  },
  process.env,
)
