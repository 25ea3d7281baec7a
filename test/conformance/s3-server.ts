import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

export interface S3Server {
  readonly endpoint: string
  readonly bucket: string
  /** Where it keeps its objects, as files. */
  readonly dir: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  stop(): Promise<void>
}

const program = fileURLToPath(new URL("s3-process.ts", import.meta.url))

/** A process that speaks S3, with signatures checked, on loopback. */
export async function startS3(): Promise<S3Server> {
  const bucket = "reins-blobs"
  const dir = mkdtempSync(join(tmpdir(), "reins-s3-"))
  // It makes the tokens of long lists with DES.
  const server = fork(program, [dir, bucket], { execArgv: ["--openssl-legacy-provider"] })
  const [port] = (await Promise.race([
    once(server, "message"),
    once(server, "exit").then(() => Promise.reject(new Error("The S3 server did not start."))),
  ])) as [number]
  return {
    endpoint: `http://127.0.0.1:${port}`,
    bucket,
    dir,
    accessKeyId: "S3RVER",
    secretAccessKey: "S3RVER",
    stop: async () => {
      server.kill("SIGKILL")
      if (server.exitCode === null && server.signalCode === null) await once(server, "exit")
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
