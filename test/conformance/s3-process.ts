import { createRequire } from "node:module"
import process from "node:process"

/** What is used of it; it comes without types. */
type S3rver = new (options: object) => { run(): Promise<{ readonly port: number }> }

const Server = createRequire(import.meta.url)("@20minutes/s3rver") as S3rver
const [directory, bucket] = process.argv.slice(2)
const server = new Server({ address: "127.0.0.1", port: 0, silent: true, directory, configureBuckets: [{ name: bucket }] })
process.send?.((await server.run()).port)
