// Builds the console into `dist`, for an image or a package that carries no bundler.
import { rm } from "node:fs/promises"
import { bundle } from "./bundle.ts"
import { writeBundle } from "./console-files.ts"
import { distFolder } from "./places.ts"

await rm(distFolder, { recursive: true, force: true })
const built = await bundle()
await writeBundle(distFolder, built)
for (const [path, body] of built) process.stdout.write(`${path} ${(body.length / 1024).toFixed(1)} kB\n`)
