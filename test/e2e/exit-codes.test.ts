import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { dirname, join } from "node:path"
import process from "node:process"
import { DatabaseSync } from "node:sqlite"
import { after, before, describe, it } from "node:test"
import { hangs, type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { Bench, type Ended, type Environment, root, until } from "./harness.ts"

// What the command line says and exits with when something is wrong; the codes are those of its README. stdout carries data and nothing else.

describe("exit codes of the command line", { timeout: 240_000 }, () => {
  const bench = new Bench()
  const env: Environment = { REINS_DATA: bench.path("log"), REINS_LOG_LEVEL: "warn" }
  const sessionId = "sesn_codes"

  before(async () => {
    const run = await bench.run(["run", '[[turns 2: call echo {"n":"$i"}]]', "--session", sessionId, "--json", "--quiet"], env)
    assert.equal(run.code, 0, run.stderr)
  })
  after(() => bench.close())

  const fails = async (args: readonly string[], code: number, says: RegExp, at: Environment = env): Promise<Ended> => {
    const ended = await bench.run(args, at)
    assert.equal(ended.code, code, `reins ${args.join(" ")}: ${ended.stderr}`)
    assert.match(ended.stderr, says)
    assert.doesNotMatch(ended.stderr, /\n\s+at /, "no stack unless asked for")
    return ended
  }

  it("0, and one JSON document on stdout where --json says so", async () => {
    for (const args of [
      ["run", "Hello", "--json"],
      ["sessions", "list", "--json"],
      ["sessions", "show", sessionId, "--json"],
      ["replay", sessionId, "--json", "--check"],
      ["topics", "describe", "--json"],
      ["topics", "apply", "--json"],
    ]) {
      const { code, stdout, stderr } = await bench.run(args, env)
      assert.equal(code, 0, stderr)
      assert.equal(typeof JSON.parse(stdout), "object", args.join(" "))
    }
  })

  it("2 for bad usage, with the reason", async () => {
    writeFileSync(bench.path("broken.json"), "{")
    await fails(["frobnicate"], 2, /unknown command/)
    await fails(["run"], 2, /missing required argument 'prompt'/)
    await fails(["sessions", "list", "--colour"], 2, /unknown option/)
    await fails(["run", "x", "--timeout", "soon"], 2, /--timeout takes seconds/)
    await fails(["replay", sessionId, "--to", "-1"], 2, /--to takes an offset/)
    await fails(["run", "x", "--agent", bench.path("nowhere.json")], 2, /cannot be read/)
    await fails(["run", "x", "--agent", bench.path("broken.json")], 2, /neither JSON nor YAML/)
    await fails(["run", "x", "--worker", bench.path("nowhere.ts")], 2, /cannot be loaded/)
    await fails(["up"], 2, /KAFKA_BROKERS/)
    await fails(["worker", bench.path("nowhere.ts")], 2, /Kafka/)
    await fails(["sessions", "list"], 2, /REINS_PARTITIONS/, { ...env, REINS_PARTITIONS: "many" })
    await fails(["sessions", "list"], 2, /SCHEMA_REGISTRY_URL/, { ...env, KAFKA_BROKERS: "127.0.0.1:1" })
    await fails(["up", "doorway"], 2, /There is no service doorway. There are: intake/, {
      KAFKA_BROKERS: "127.0.0.1:1",
      SCHEMA_REGISTRY_URL: "http://127.0.0.1:1",
    })
    await fails(["run", "x"], 2, /can never change/, { ...env, REINS_PARTITIONS: "7" })
  })

  it("warns of a variable that it does not know and goes on", async () => {
    const { code, stderr } = await bench.run(["sessions", "list"], { ...env, REINS_PARTITION: "4" })
    assert.equal(code, 0)
    assert.match(stderr, /REINS_PARTITION is not a variable that Reins knows/)
  })

  it("3 for a session that is not there, and for a log that is not there", async () => {
    await fails(["sessions", "show", "sesn_none"], 3, /There is no session sesn_none/)
    await fails(["events", "sesn_none"], 3, /There is no session sesn_none/)
    await fails(["replay", "sesn_none", "--check"], 3, /There is no session sesn_none/)
  })

  it("4 for a session that waits for a person, where there is no terminal to ask on: what waits, and the commands that answer it", async () => {
    writeFileSync(
      bench.path("asks.json"),
      JSON.stringify({
        name: "asks",
        model: "claude-sonnet-5-5",
        tools: [{ name: "echo", backend: "function", permission: "always_ask" }],
      }),
    )
    const at = { ...env, REINS_DATA: bench.path("asking") }
    const asks = ["--agent", bench.path("asks.json")]
    const prompt = '[[call echo {"b":2,"a":"x"}]]'
    const started = await fails(["run", prompt, ...asks, "--session", "sesn_asks", "--quiet"], 4, /sesn_asks waits for a person/, at)
    const call = /reins sessions allow sesn_asks (\S+)\n/.exec(started.stderr)?.[1] as string
    assert.ok(started.stderr.includes(`${call}  echo({"a":"x","b":2})`), "the canonical arguments, whole")
    assert.ok(started.stderr.includes(`reins sessions deny sesn_asks ${call} --reason`))
    const document = await fails(["run", prompt, ...asks, "--json"], 4, /waits for a person/, at)
    assert.equal((JSON.parse(document.stdout) as { stopReason: string }).stopReason, "requires_action")
    // What cannot be answered so says what can.
    await fails(["sessions", "allow", "sesn_none"], 3, /There is no session sesn_none/, at)
    await fails(["sessions", "allow", "sesn_asks", "toolu_none"], 3, new RegExp(`No call toolu_none waits.*${call}`), at)
    await fails(["sessions", "result", "sesn_asks", "a text"], 2, /No call of the session sesn_asks waits for `result`/, at)
    await fails(["sessions", "result", "sesn_asks", call, "@nowhere.txt"], 2, /cannot be read/, at)
    await fails(["sessions", "send", "sesn_asks", "Hello?"], 4, /sesn_asks waits for a person/, at)
    const denied = await bench.run(["sessions", "deny", "sesn_asks", "--reason", "not on a Friday"], at)
    assert.equal(denied.code, 0, denied.stderr)
    assert.match(denied.stdout, /approval\.given +deny .*: not on a Friday/)
    await fails(["sessions", "allow", "sesn_asks", call], 3, /Nothing waits there/, at)
  })

  it("5 for a folder that another process owns and takes no commands for, naming it; reading goes on beside it", async () => {
    const model = await startSimulatedModel({ script: () => hangs() })
    try {
      const owner = bench.reins(["run", "Hello"], { ...env, ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: "none" })
      await until(() => owner.stdout.includes("model.requested"), "the owner's session runs")
      await fails(["run", "Hello"], 5, new RegExp(`belongs to process ${owner.pid}`))
      await fails(["dev"], 5, /REINS_DATA/)
      assert.equal((await bench.run(["sessions", "show", sessionId], env)).code, 0)
      owner.kill("SIGKILL")
      await owner.ended
    } finally {
      await model.stop()
    }
    assert.equal((await bench.run(["run", "Hello"], env)).code, 0)
  })

  it("5 for a broker or a registry that is not there, with its address", async () => {
    const silent = createServer()
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve))
    const { port } = silent.address() as { port: number }
    try {
      for (const broker of ["127.0.0.1:1", `127.0.0.1:${port}`]) {
        const at = { KAFKA_BROKERS: broker, SCHEMA_REGISTRY_URL: "http://127.0.0.1:1" }
        await Promise.all(
          [
            ["up", "intake"],
            ["topics", "apply"],
            ["run", "Hello"],
            ["sessions", "list"],
          ].map((args) => fails(args, 5, new RegExp(broker.replaceAll(".", "\\.")), at)),
        )
      }
    } finally {
      silent.close()
    }
  })

  it("5 for a folder that cannot be one", async () => {
    writeFileSync(bench.path("file"), "")
    await fails(["run", "Hello"], 5, /REINS_DATA|file/, { REINS_DATA: join(bench.path("file"), "log") })
  })

  it("6 for a log in which a byte was changed: of the agent, of a message, of what the model said", async () => {
    for (const [what, type] of [
      ["helpful", "session.started"],
      ["turns 2", "session.started"],
      ['"n":"1"', "model.responded"],
    ] as const) {
      const dir = bench.path(`tampered-${what.replaceAll(/\W/g, "")}`)
      cpSync(bench.path("log"), dir, { recursive: true })
      const db = new DatabaseSync(join(dir, "reins.db"))
      const rows = db
        .prepare(
          "SELECT topic_id, partition, offset, value FROM records JOIN topics ON topics.id = topic_id WHERE topics.name = 'reins.sessions' AND headers LIKE ?",
        )
        .all(`%"${type}"%${sessionId}%`) as { topic_id: number; partition: number; offset: number; value: Uint8Array }[]
      let changed = 0
      for (const { topic_id, partition, offset, value } of rows) {
        const bytes = Buffer.from(value)
        // JSON stands in JSON here, so the quotes may be escaped.
        const at = [what, what.replaceAll('"', '\\"')].map((text) => bytes.indexOf(text)).find((found) => found >= 0)
        if (at === undefined || changed > 0) continue
        bytes[at + what.length - (what.endsWith('"') ? 2 : 1)] = 0x37
        db.prepare("UPDATE records SET value = ? WHERE topic_id = ? AND partition = ? AND offset = ?").run(
          bytes,
          topic_id,
          partition,
          offset,
        )
        changed++
      }
      db.close()
      assert.equal(changed, 1, `${what} was found in a ${type}`)
      const at = { ...env, REINS_DATA: dir }
      const ended = await fails(["replay", sessionId, "--check"], 6, /the log was changed/, at)
      assert.match(ended.stdout, /DIFFERS/)
    }
    assert.equal((await bench.run(["replay", sessionId, "--check"], env)).code, 0)
  })

  describe("of a session that does not come to rest", () => {
    let model: SimulatedModel
    before(async () => {
      model = await startSimulatedModel({ script: () => hangs() })
    })
    after(() => model.stop())

    it("7 when --timeout is over, 130 when interrupted", async () => {
      const at = { ...env, ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: "none" }
      await fails(["run", "Hello", "--timeout", "1"], 7, /did not come to rest in time/, { ...at, REINS_DATA: bench.path("hanging") })
      const interrupted = bench.reins(["run", "Hello"], { ...at, REINS_DATA: bench.path("interrupted") })
      await until(() => interrupted.stdout.includes("model.requested"), "the model is asked")
      interrupted.kill("SIGINT")
      assert.equal((await interrupted.ended).code, 130)
    })
  })

  const node20 = findNode20()
  it("a fresh clone under Node 20 shows its first event soon", {
    skip: node20 === undefined ? "There is no Node 20 on this machine." : false,
  }, async (t) => {
    const clone = bench.path("clone")
    copyOfRepository(clone)
    const began = performance.now()
    const run = bench.start(
      "npx reins run",
      join(dirname(node20 as string), "npx"),
      ["reins", "run", "What is 17 * 23?"],
      {
        PATH: `${dirname(node20 as string)}:/usr/bin:/bin`,
        REINS_DATA: bench.path("fresh"),
      },
      clone,
    )
    await until(() => run.over || run.stdout.includes("session.started"), "the first event")
    const seconds = (performance.now() - began) / 1000
    const { code, stdout, stderr } = await run.ended
    assert.equal(code, 0, stderr)
    assert.match(stdout, /391/)
    assert.match(stderr, /SIMULATED MODEL/)
    t.diagnostic(`first event after ${seconds.toFixed(1)} s; the promise is 10 s on a quiet machine`)
    assert.ok(seconds < 30, `the first event came after ${seconds} s`)
  })
})

/** A Node 20 with its npx, among the folders of the PATH. */
function findNode20(): string | undefined {
  return (process.env["PATH"] ?? "")
    .split(":")
    .map((folder) => join(folder, "node"))
    .find((file) => {
      if (!existsSync(file) || !existsSync(join(dirname(file), "npx"))) return false
      return execFileSync(file, ["-v"], { encoding: "utf8" }).startsWith("v20.")
    })
}

/** What git would clone, with the dependencies as `npm ci` lays them out: those of others by link, the workspaces its own. */
function copyOfRepository(to: string): void {
  const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  for (const file of files.split("\0").filter((name) => name !== "" && existsSync(join(root, name)))) {
    mkdirSync(join(to, dirname(file)), { recursive: true })
    cpSync(join(root, file), join(to, file))
  }
  const modules = join(root, "node_modules")
  mkdirSync(join(to, "node_modules/.bin"), { recursive: true })
  for (const name of readdirSync(modules)) {
    if (name === ".bin") symlinkSync("../../services/cli/bin/reins.mjs", join(to, "node_modules/.bin/reins"))
    else if (name === "@reins") cpSync(join(modules, name), join(to, "node_modules", name), { recursive: true, verbatimSymlinks: true })
    else symlinkSync(join(modules, name), join(to, "node_modules", name))
  }
}
