import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../bin/reins.mjs", import.meta.url))

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `reins …` to its end, over the log in this folder and without the developer's own settings. */
export async function reins(dir: string, args: readonly string[]): Promise<Ended> {
  const env = { PATH: process.env["PATH"], HOME: dir, REINS_DATA: dir }
  return await new Promise((resolve) => {
    execFile(process.execPath, [bin, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}
