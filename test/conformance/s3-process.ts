import process from "node:process"
// @ts-expect-error It comes without types.
import S3rver from "@20minutes/s3rver"

/** What is used of it. */
type Server = new (options: object) => { run(): Promise<{ readonly port: number }> }

const [directory, bucket] = process.argv.slice(2)
const server = new (S3rver as Server)({ address: "127.0.0.1", port: 0, silent: true, directory, configureBuckets: [{ name: bucket }] })
process.send?.((await server.run()).port)
