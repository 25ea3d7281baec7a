// A process of its own that owns the log in the folder it is given and appends until it is killed; for sqlite.test.ts.
import { openSqlite } from "../src/sqlite.ts"

const [dir] = process.argv.slice(2)
if (dir === undefined) throw new Error("Which folder?")
const { log } = openSqlite({ dir })
await log.applyTopics([{ name: "t", partitions: 1, cleanup: "delete", config: {} }])
// Each line is an acknowledgement: what the parent has read must be in the file.
for (;;) {
  const { offset } = await log.append({
    topic: "t",
    partition: 0,
    key: () => "k",
    value: new Uint8Array(500),
    headers: {},
    certainty: "always",
  })
  process.stdout.write(`${offset}\n`)
  await new Promise((resolve) => setImmediate(resolve))
}
