import assert from "node:assert/strict"
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { type Definition, definitions, type Family, fixedTopics, toolsTopic } from "@reins/events"
import { contract as intake } from "@reins/intake"
import { contract as llmInvoker } from "@reins/llm-invoker"
import type { Contract } from "@reins/runtime"
import { contract as toolRouter } from "@reins/tool-router"
import { workerContract } from "@reins/worker-kit"
import { differences, generated, write } from "../scripts/generate.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

describe("generated files", () => {
  it("are current", () => {
    assert.deepEqual(differences(root), [], "run npm run generate and commit what it changes")
  })

  it("are told apart from changed, missing and stray ones, written again, and what is by hand is kept", () => {
    const copy = mkdtempSync(join(tmpdir(), "reins-generate-"))
    try {
      cpSync(join(root, "schemas/events/avro"), join(copy, "schemas/events/avro"), { recursive: true })
      const readme = join(copy, "schemas/README.md")
      writeFileSync(
        readme,
        readFileSync(join(root, "schemas/README.md"), "utf8").replace(/^# .*/, "# Mine").replaceAll("session.start", "session.begin"),
      )
      cpSync(join(root, "schemas/session/src/fold-version.ts"), join(copy, "schemas/session/src/fold-version.ts"))
      const avro = join(copy, "schemas/events/avro")
      const [missing, changed] = readdirSync(avro).filter((name) => name.startsWith("reins.commands.")) as [string, string]
      rmSync(join(avro, missing))
      const before = readFileSync(join(avro, changed), "utf8").replace('"name": "commandId"', '"name": "askedId"')
      writeFileSync(join(avro, changed), before)
      writeFileSync(join(avro, "reins.sessions.Nothing.avsc"), "{}")
      writeFileSync(join(copy, "schemas/session/src/fold-version.ts"), 'export const foldVersion = "of another fold"')
      assert.deepEqual([...differences(copy)].sort(), [
        "schemas/README.md is not current",
        `schemas/events/avro/${missing} is missing`,
        `schemas/events/avro/${changed} is not current`,
        "schemas/events/avro/reins.sessions.Nothing.avsc belongs to no event",
        "schemas/session/src/fold-version.ts is not current",
      ])
      write(copy)
      assert.deepEqual(differences(copy), [])
      assert.match(readFileSync(readme, "utf8"), /^# Mine\n/)
      // The form that was replaced is one that the log may still hold.
      const kept = readdirSync(join(avro, "earlier")).filter((name) => name.startsWith(basename(changed, ".avsc")))
      assert.ok(kept.some((name) => readFileSync(join(avro, "earlier", name), "utf8") === before))
    } finally {
      rmSync(copy, { recursive: true, force: true })
    }
  })

  it("list every event with its example, and every topic", () => {
    const catalogue = generated(root).get("schemas/README.md") ?? ""
    for (const { type, family, example } of definitions) {
      assert.ok(catalogue.includes(`### \`${type}\` (${family})`), type)
      assert.ok(catalogue.includes(JSON.stringify(example, null, 2)), type)
    }
    for (const { suffix } of [...fixedTopics, toolsTopic]) assert.ok(catalogue.includes(`\`<prefix>.${suffix}\``), suffix)
  })
})

/** What `services/gateway/src/contract.ts` says, as data: this workspace does not depend on that one. */
const gateway: Contract = {
  reads: ["sessions", "deltas", "agents", "keys"],
  says: ["agent.saved", "environment.saved"],
  buries: [],
  needsDeclarations: false,
}
/** What `services/eraser/src/contract.ts` says, in the same way: no facts. */
const eraser: Contract = {
  reads: ["sessions", "snapshots"],
  says: ["session.snapshot"],
  buries: [],
  needsDeclarations: false,
  erases: true,
}
/** A person's hand: it reads everything, and says who may call. */
const cli: Contract = {
  reads: ["commands", "sessions", "tools", "declarations"],
  says: ["key.saved"],
  buries: [],
  needsDeclarations: false,
}

/** By the name that the events use. The commands come from outside. */
const contracts: Readonly<Record<string, Contract>> = {
  cli,
  eraser,
  gateway,
  intake,
  "llm-invoker": llmInvoker,
  "tool-router": toolRouter,
  "tool-workers": workerContract("any"),
}
const readAs: Readonly<Record<Family, readonly string[]>> = {
  commands: ["commands"],
  sessions: ["sessions"],
  tools: ["tools", "tools.any"],
  declarations: ["declarations"],
  agents: ["agents"],
  keys: ["keys"],
  deltas: ["deltas"],
  snapshots: ["snapshots"],
}

/** The families in which a service may speak: a worker never writes to `sessions`. */
function said(service: string, { family, type, saidBy }: Definition): boolean {
  return contracts[service]?.says.includes(type) === true && saidBy.includes(service) && family !== "commands"
}

describe("contracts", () => {
  it("say what the events say of who says them", () => {
    for (const [service, { says }] of Object.entries(contracts)) {
      for (const type of says) {
        assert.ok(
          definitions.some((definition) => definition.type === type && said(service, definition)),
          `${service} says ${type}, which no event says of it`,
        )
      }
    }
    for (const definition of definitions.filter(({ family }) => family !== "commands")) {
      for (const service of definition.saidBy)
        assert.ok(said(service, definition), `${definition.recordName} is not in the contract of ${service}`)
    }
  })

  it("read what the events say of who hears them: nothing is said that nobody hears", () => {
    for (const { recordName, family, heardBy } of definitions) {
      assert.ok(heardBy.length > 0, recordName)
      for (const service of heardBy) {
        const reads = contracts[service]?.reads ?? []
        assert.ok(
          readAs[family].some((read) => reads.includes(read)),
          `${service} hears ${recordName} and does not read its topic`,
        )
      }
    }
  })
})
