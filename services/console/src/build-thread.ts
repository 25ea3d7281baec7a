import { parentPort } from "node:worker_threads"
import { bundle } from "./bundle.ts"

const built = await bundle()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- That is for windows; this is a thread.
parentPort?.postMessage(built)
