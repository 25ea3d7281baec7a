import process from "node:process"
import { runProcess } from "@reins/runtime"
import { eraserOf } from "./service.ts"

await runProcess({ services: ["eraser"], build: (context) => [eraserOf(context)] }, process.env)
