import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { after, before, describe, it } from "node:test"
import type { SessionSummary } from "@reins/session"
import { Bench, type Ended, type Environment, root, Started, until } from "./harness.ts"

// People in the loop: what waits is answered from another process beside `reins dev`, from one that hosts everything itself, and on a terminal.

const program = join(root, "services/cli/src/main.ts")

/** A process that can be typed into; over pipes unless it is given a terminal. */
class Typed extends Started {
  type(line: string): void {
    this.child.stdin?.write(`${line}\n`)
  }

  endOfInput(): void {
    this.child.stdin?.end()
  }

  shows(pattern: RegExp): Promise<true> {
    return until(() => {
      if (pattern.test(this.stdout + this.stderr)) return true
      if (this.over) throw new Error(`${this.name} ended without ${pattern}:\n${this.stdout}\n${this.stderr}`)
      return false
    }, `${this.name} shows ${pattern}`)
  }

  count(pattern: RegExp): number {
    return this.stdout.match(pattern)?.length ?? 0
  }
}

describe("people in the loop", { timeout: 300_000 }, () => {
  const bench = new Bench()
  const typed: Typed[] = []
  const both = '[[call echo {"b":2,"a":"x"}; call weather {"city":"Oslo"}]]'

  const spawned = (name: string, file: string, args: readonly string[], env: Environment): Typed => {
    const own = Object.entries(process.env).filter(([variable]) => !/^(REINS|KAFKA|SCHEMA_REGISTRY|ANTHROPIC|NODE_TEST)_/.test(variable))
    const child = spawn(file, args, {
      cwd: bench.dir,
      env: { ...Object.fromEntries(own), NO_COLOR: "1", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    })
    const started = new Typed(name, child)
    typed.push(started)
    return started
  }
  const node = ["--disable-warning=ExperimentalWarning", program]
  const open = (args: readonly string[], env: Environment): Typed =>
    spawned(`reins ${args.join(" ")}`, process.execPath, [...node, ...args], env)
  const folder = (name: string): Environment => ({ REINS_DATA: bench.path(name), REINS_LOG_LEVEL: "warn" })
  const json = async <T>(args: readonly string[], env: Environment): Promise<T> => {
    const { code, stdout, stderr } = await bench.run([...args, "--json"], env)
    assert.equal(code, 0, stderr)
    return JSON.parse(stdout) as T
  }
  const asks = ["--agent", "asks.json"]
  /** A session that waits for a person and for its client. */
  const waits = async (sessionId: string, env: Environment): Promise<Ended> => {
    const ended = await bench.run(["run", both, ...asks, "--session", sessionId], env)
    assert.equal(ended.code, 4, ended.stderr)
    return ended
  }

  before(() => {
    const weather = {
      name: "weather",
      backend: "client",
      description: "The weather of a city.",
      inputSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    }
    const tools = [{ name: "echo", backend: "function", permission: "always_ask" }, { name: "wait", backend: "function" }, weather]
    writeFileSync(bench.path("asks.json"), JSON.stringify({ name: "asks", model: "claude-sonnet-5-5", tools }))
  })

  after(async () => {
    for (const one of typed) one.kill("SIGKILL")
    await Promise.all(typed.map(({ ended }) => ended))
    await bench.close()
  })

  describe("beside reins dev, which owns the log", () => {
    const env = folder("dev")
    let dev: Started

    before(async () => {
      dev = await bench.reins(["dev"], env).ready()
    })

    it("a session is run, seen waiting, and answered, all from other processes", async () => {
      const { stderr } = await waits("sesn_one", env)
      assert.match(stderr, /belongs to the process that serves http:\/\/127\.0\.0\.1:\d+, which takes the commands/)
      const held = await json<Record<string, unknown>[]>(["approvals", "list"], env)
      assert.deepEqual(
        held.map(({ sessionId, tool, reason, arguments: input }) => ({ sessionId, tool, reason, input })),
        [
          { sessionId: "sesn_one", tool: "echo", reason: "approval", input: { a: "x", b: 2 } },
          { sessionId: "sesn_one", tool: "weather", reason: "client", input: { city: "Oslo" } },
        ],
      )
      assert.ok(held.every(({ ageMs, since }) => Number(ageMs) >= 0 && Date.parse(String(since)) > Date.now() - 300_000))
      writeFileSync(bench.path("weather.txt"), "sunny\n21 degrees")
      assert.equal((await bench.run(["sessions", "result", "sesn_one", String(held[1]?.["toolUseId"]), "@weather.txt"], env)).code, 4)
      // By the id that the API calls it, too.
      const allowed = await bench.run(["sessions", "allow", "sesn_one", String(held[0]?.["eventId"])], env)
      assert.equal(allowed.code, 0, allowed.stderr)
      assert.match(allowed.stderr, /allow: .* echo\(\{"a":"x","b":2\}\)/)
      assert.match(allowed.stdout, /answered: sunny\n21 degrees/)
      assert.deepEqual(await json(["approvals", "list"], env), [])
    })

    it("connected: answers, messages and interrupts are typed; what another says is seen; leaving leaves the session alone", async () => {
      await waits("sesn_two", env)
      const person = open(["sessions", "connect", "sesn_two"], env)
      await person.shows(/echo\(\{"a":"x","b":2\}\) {2}waits for an approval: \/allow, \/deny/)
      assert.equal(person.stdout, "", "it shows what comes, not what was")
      person.type("/result")
      await person.shows(/\/result takes the text/)
      person.type("/nonsense")
      await person.shows(/There is no \/nonsense/)
      person.type("/deny not today, thank you")
      await person.shows(/approval\.given +deny \S+: not today, thank you/)
      person.type("/result rain, 9 degrees")
      await person.shows(/answered: rain, 9 degrees/)
      person.type("//not a command")
      await person.shows(/message\.received +"\/not a command"/)
      await until(() => person.count(/session\.idled +end_turn/g) === 2, "the message is answered")
      person.type('[[call wait {"ms":60000}]]')
      await person.shows(/tool-call\.dispatched +wait/)
      person.type("/interrupt")
      await person.shows(/session\.idled +interrupted/)
      // The end of its input does not end it.
      person.endOfInput()
      const sent = await bench.run(["sessions", "send", "sesn_two", "said by another"], env)
      assert.equal(sent.code, 0, sent.stderr)
      await person.shows(/message\.received +"said by another"/)
      person.kill("SIGINT")
      const { code, stderr } = await person.ended
      assert.equal(code, 0, stderr)
      assert.match(stderr, /Detached\. The session sesn_two stands in the log and goes on\./)
      assert.equal((await json<SessionSummary>(["sessions", "show", "sesn_two"], env)).status, "idle")
    })

    it("--all shows it from its beginning; the end of a session ends the connection", async () => {
      const person = open(["sessions", "connect", "sesn_two", "--all"], env)
      await person.shows(/session\.started/)
      await person.shows(/said by another/)
      assert.equal((await bench.run(["sessions", "archive", "sesn_two"], env)).code, 0)
      const { code, stderr } = await person.ended
      assert.equal(code, 0, stderr)
      assert.match(stderr, /nothing more happens in it/)
      assert.equal((await bench.run(["sessions", "delete", "sesn_two"], env)).code, 0)
      assert.equal((await bench.run(["sessions", "connect", "sesn_two"], env)).code, 3)
    })

    it("only who can read the folder speaks for its owner", async () => {
      const file = join(String(env["REINS_DATA"]), "owner.api")
      assert.equal(statSync(file).mode & 0o777, 0o600)
      const { url, token } = JSON.parse(readFileSync(file, "utf8")) as { url: string; token: string }
      const post = async (headers: Record<string, string>, path = "/reins/owner/commands"): Promise<number> => {
        const body = JSON.stringify({ type: "message.send", sessionId: "sesn_one", content: "Hello" })
        return (await fetch(`${url}${path}`, { method: "POST", headers, body })).status
      }
      const type = { "content-type": "application/json" }
      assert.equal(await post(type), 401)
      assert.equal(await post({ ...type, authorization: `Bearer ${token.replace(/.$/, "x")}` }), 401)
      assert.equal(await post({ "content-type": "text/plain", authorization: `Bearer ${token}` }), 400)
      assert.equal(await post({ ...type, authorization: `Bearer ${token}` }), 200)
    })

    it("POST /reins/v1/commands takes any command, once, and says what it came to", async () => {
      const { url } = JSON.parse(readFileSync(join(String(env["REINS_DATA"]), "owner.api"), "utf8")) as { url: string }
      const post = async (body: object): Promise<{ status: number; answer: Record<string, unknown> }> => {
        const headers = { "content-type": "application/json" }
        const response = await fetch(`${url}/reins/v1/commands`, { method: "POST", headers, body: JSON.stringify(body) })
        return { status: response.status, answer: (await response.json()) as Record<string, unknown> }
      }
      const start = { type: "session.start", sessionId: "sesn_posted", agent: { model: "claude-sonnet-5-5" } }
      assert.equal((await post(start)).status, 200)
      const message = { type: "message.send", commandId: "once", sessionId: "sesn_posted", content: "Hello" }
      const first = await post(message)
      assert.equal(first.status, 200, JSON.stringify(first))
      assert.deepEqual((await post(message)).answer, first.answer)
      assert.equal(first.answer["command_id"], "once")
      const { stdout } = await bench.run(["events", "sesn_posted", "--jsonl"], env)
      assert.equal(stdout.match(/"commandId":"once"/g)?.length, 1)
      assert.equal((await post({ ...message, sessionId: "sesn_none" })).status, 404)
      assert.equal((await post({ type: "session.explode", sessionId: "sesn_posted" })).status, 400)
      const refused = await post({ type: "approval.give", sessionId: "sesn_posted", toolUseId: "toolu_none", decision: "allow" })
      assert.equal(refused.status, 400)
      assert.match(JSON.stringify(refused.answer), /"error_code":"call_unknown"/)
    })

    it("an owner that dies is missed, and found again where it comes back", async () => {
      await waits("sesn_three", env)
      const person = open(["sessions", "connect", "sesn_three"], env)
      await person.shows(/waits for an approval/)
      dev.kill("SIGKILL")
      await dev.ended
      person.type("/allow")
      await person.shows(/does not take the command/)
      dev = await bench.reins(["dev"], env).ready()
      person.type("/allow")
      await person.shows(/tool-call\.completed/)
      person.kill("SIGINT")
      assert.equal((await person.ended).code, 0)
      dev.kill("SIGTERM")
      assert.equal((await dev.ended).code, 0)
      assert.ok(!existsSync(join(String(env["REINS_DATA"]), "owner.api")), "nothing is left of where it was")
    })

    it("where the API asks for keys, the folder's own people need none", async () => {
      const keys = { ...folder("keys"), REINS_API_AUTH: "keys" }
      const strict = await bench.reins(["dev"], keys).ready()
      const run = await bench.run(["run", "Hello"], keys)
      assert.equal(run.code, 0, run.stderr)
      const answer = await fetch(`${strict.address}/reins/v1/commands`, { method: "POST", body: "{}" })
      assert.equal(answer.status, 401)
      const worker = await bench.run(["run", "Hello", "--worker", join(root, "test/fixtures/ledger.ts")], keys)
      assert.equal(worker.code, 2, worker.stderr)
      assert.match(worker.stderr, /--worker serves tools in the process that owns/)
    })
  })

  it("where nobody owns the log, the process that connects hosts everything for as long", async () => {
    const env = folder("alone")
    await waits("sesn_alone", env)
    const asked = open(["sessions", "connect", "sesn_alone", "--exit"], env)
    asked.endOfInput()
    const { code, stderr } = await asked.ended
    assert.equal(code, 4, stderr)
    assert.match(stderr, /reins sessions allow sesn_alone/)
    const piped = open(["sessions", "connect", "sesn_alone", "--exit"], env)
    piped.type("/allow")
    piped.type("/result sunny")
    piped.endOfInput()
    const ended = await piped.ended
    assert.equal(ended.code, 0, ended.stderr)
    assert.match(ended.stdout, /answered: sunny/)
    const left = open(["sessions", "connect", "sesn_alone"], env)
    await left.shows(/connected to sesn_alone, which is end_turn/)
    left.type("/quit")
    const { code: quit, stderr: said } = await left.ended
    assert.equal(quit, 0)
    assert.match(said, /goes on with the next `reins run` or `reins dev`/)
  })

  it("on a terminal a person is asked in place, about the exact arguments", {
    skip: process.platform === "linux" && existsSync("/usr/bin/script") ? false : "There is no script(1) of util-linux to make a terminal.",
  }, async () => {
    const env = folder("terminal")
    const words = [process.execPath, ...node, "run", both, ...asks, "--session", "sesn_tty"]
    const command = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ")
    const person = spawned("a terminal", "/usr/bin/script", ["-qefc", command, "/dev/null"], { ...env, TERM: "dumb" })
    await person.shows(/echo\(\{"a":"x","b":2\}\)[\s\S]*\[a\]llow, \[d\]eny, \[l\]eave it\? /)
    person.type("yes")
    await person.shows(/"yes" is none of them/)
    person.type("deny")
    await person.shows(/why \(told to the model/)
    person.type("too many crumbs")
    await person.shows(/\[r\]esult, \[l\]eave it\? /)
    person.type("r")
    await person.shows(/its result: /)
    person.type("hail")
    await person.shows(/answered: hail/)
    const { code, stdout } = await person.ended
    assert.equal(code, 0, stdout)
    assert.match(stdout, /approval\.given +deny \S+: too many crumbs/)
  })
})
