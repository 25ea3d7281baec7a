import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { openSqlite } from "@reins/log/sqlite"
import { conformance } from "./log.ts"

conformance("sqlite", async () => {
  const dir = mkdtempSync(join(tmpdir(), "reins-conformance-"))
  const { log } = openSqlite({ dir })
  const topic = async (settings: object = {}): Promise<string> => {
    const name = `topic-${randomUUID()}`
    await log.applyTopics([{ name, partitions: 5, cleanup: "compact", config: {}, ...settings }])
    return name
  }
  return {
    partitions: 5,
    refusedBytes: 1024 * 1024 + 1,
    // One process owns the file, so all members of a group live in it and share its one client.
    log: async () => log,
    topic,
    // Nothing cleans the file yet: the hole is made as a cleaner would make it, by another connection.
    compactedHole: async () => {
      const name = await topic()
      await Promise.all(
        Array.from({ length: 30 }, (_, n) =>
          log.append({ topic: name, partition: 0, key: () => `key ${n}`, value: new Uint8Array([n]), headers: {}, certainty: "always" }),
        ),
      )
      const cleaner = new DatabaseSync(join(dir, "reins.db"), { timeout: 5000 })
      cleaner.prepare("DELETE FROM records WHERE topic_id = (SELECT id FROM topics WHERE name = ?) AND offset BETWEEN 4 AND 28").run(name)
      cleaner.close()
      return { topic: name, partition: 0, left: [0, 1, 2, 3, 29], end: 30 }
    },
    expired: async () => {
      const name = await topic({ cleanup: "delete", config: { "retention.ms": "1" } })
      const append = async (): Promise<number> => {
        const entry = { topic: name, partition: 0, key: () => null, value: new Uint8Array(10), headers: {} }
        return (await log.append({ ...entry, certainty: "always" })).offset
      }
      for (let n = 0; n < 10; n++) await append()
      // It is not swept with every append, so this goes on until it was.
      for (;;) {
        const end = (await append()) + 1
        if ((await log.bounds(name))[0]?.start !== 0) return { topic: name, partition: 0, end }
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    lacks: {
      kill: "the owner is the only member of its groups there can be; services/log/test/sqlite.test.ts kills the owner itself",
      loseNextAck:
        "a commit to a local file has no acknowledgement that could be lost without the process; services/log/test/group-commit.test.ts covers what follows from an unknown outcome",
    },
    stop: async () => {
      await log.close()
      rmSync(dir, { recursive: true })
    },
  }
})
