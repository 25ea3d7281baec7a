import assert from "node:assert/strict"
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterEach, beforeEach, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Presence, PresenceError } from "../src/kafka/presence.ts"

const program = fileURLToPath(new URL("presence-process.ts", import.meta.url))
const quiet = "--disable-warning=ExperimentalWarning"
const group = "reins.tool-router"
/** Of the system, where it has one; no dependency of ours. */
const unshare = "unshare"
const skip = process.platform === "linux" ? false : "Only Linux says which boot it is."

/** Whether a process may have a pid namespace of its own here, as a container has. */
function mayUnshare(): boolean {
  try {
    execFileSync(unshare, ["--pid", "--fork", "--mount-proc", "true"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

describe("what a machine knows of its members", { skip }, () => {
  let stateDir = ""
  let presence: Presence
  const children: ChildProcess[] = []
  const folder = (): string => join(stateDir, `reins-members-${process.getuid?.()}`)

  beforeEach(() => {
    stateDir = mkdtempSync(join(tmpdir(), "reins-presence-"))
    presence = Presence.open(stateDir)
  })

  afterEach(async () => {
    for (const child of children.splice(0)) await end(child)
    rmSync(stateDir, { recursive: true, force: true })
  })

  async function end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, "exit")
    child.kill("SIGKILL")
    await ended
  }

  /** A member in a process of its own, entered. */
  async function member(instance: string, ...what: string[]): Promise<ChildProcess> {
    return entered(spawn(process.execPath, [quiet, program, stateDir, group, instance, ...what], { stdio: ["pipe", "pipe", "inherit"] }))
  }

  async function entered(child: ChildProcess): Promise<ChildProcess> {
    children.push(child)
    const [said] = (await once(child.stdout as NonNullable<typeof child.stdout>, "data")) as [Buffer]
    assert.equal(said.toString(), "entered\n")
    return child
  }

  /** What another process of this machine knows. */
  async function ask(instance: string, dir = stateDir): Promise<{ isGone: boolean; unburied: string[] }> {
    const { stdout } = await promisify(execFile)(process.execPath, [quiet, program, dir, group, instance, "ask"])
    return JSON.parse(stdout) as { isGone: boolean; unburied: string[] }
  }

  /** How many rows stand in the only file, as another process reads them that trusts nothing but the lock. */
  async function readRows(): Promise<string> {
    const [name] = readdirSync(folder())
    const path = JSON.stringify(join(folder(), name as string))
    const script = `const { DatabaseSync } = require("node:sqlite")
      console.log(new DatabaseSync(${path}, { readOnly: true, timeout: 0 }).prepare("SELECT said FROM member").all().length)`
    return (await promisify(execFile)(process.execPath, [quiet, "-e", script])).stdout
  }

  it("takes nobody for gone who lives, or is stopped, and knows at once that one was killed (N1)", async () => {
    const child = await member("lively")
    assert.deepEqual(await ask("lively"), { isGone: false, unburied: [] })
    child.kill("SIGSTOP")
    assert.deepEqual(await ask("lively"), { isGone: false, unburied: [] })
    await end(child)
    assert.deepEqual(await ask("lively"), { isGone: true, unburied: ["lively"] })
    assert.deepEqual(presence.unburied("another.group"), [])
    assert.equal(presence.isGone("another.group", "lively"), false)
    assert.equal(presence.isGone(group, "another"), false)
  })

  it("goes on knowing who is gone after it left the group for it (N4)", async () => {
    await end(await member("buried"))
    assert.deepEqual(presence.unburied(group), ["buried"])
    presence.bury(group, "buried")
    presence.bury(group, "buried")
    assert.deepEqual(await ask("buried"), { isGone: true, unburied: [] })
  })

  it("says nothing of one that left in peace, and leaves no file", async () => {
    const child = await member("peaceful", "release")
    assert.deepEqual(readdirSync(folder()), [])
    await end(child)
    assert.deepEqual(await ask("peaceful"), { isGone: false, unburied: [] })
  })

  it("reads that nobody is gone from a file that it had opened before its member left", async () => {
    const entry = presence.enter(group, "leaving")
    const [name] = readdirSync(folder())
    const early = new DatabaseSync(join(folder(), name as string), { readOnly: true, timeout: 0 })
    assert.throws(() => early.prepare("SELECT said FROM member").all(), /locked/)
    entry?.release()
    assert.deepEqual(early.prepare("SELECT said FROM member").all(), [])
    early.close()
  })

  it("does not lose its lock by looking around", async () => {
    const entry = presence.enter(group, "curious")
    // Another one in the same process, such as a second log, knows nothing of the first.
    for (const one of [presence, Presence.open(stateDir)]) {
      assert.equal(one.isGone(group, "curious"), false)
      assert.deepEqual(one.unburied(group), [])
    }
    await assert.rejects(readRows(), /database is locked/)
    entry?.release()
  })

  it("does not believe a free lock while the process still stands there (N2)", async () => {
    const entry = presence.enter(group, "careless")
    const [name] = readdirSync(folder())
    // POSIX: whoever closes any descriptor of a file has dropped every lock that its process had on it.
    closeSync(openSync(join(folder(), name as string), "r"))
    assert.equal(await readRows(), "1\n", "the lock is gone")
    assert.deepEqual(await ask("careless"), { isGone: false, unburied: [] })
    entry?.release()
  })

  it("believes the lock across pid namespaces, as containers have them (N1)", {
    skip: mayUnshare() ? false : "unshare is not allowed",
  }, async () => {
    const child = await entered(
      spawn(unshare, ["--pid", "--fork", "--kill-child", "--mount-proc", process.execPath, quiet, program, stateDir, group, "contained"], {
        stdio: ["pipe", "pipe", "inherit"],
      }),
    )
    assert.deepEqual(await ask("contained"), { isGone: false, unburied: [] })
    await end(child)
    while (!(await ask("contained")).isGone) await new Promise((resolve) => setTimeout(resolve, 10))
    assert.deepEqual(presence.unburied(group), ["contained"])
  })

  it("is not confused by the pid of another process (N2)", async () => {
    const child = await member("reused")
    await end(child)
    const [name] = readdirSync(folder())
    // As if the kernel had given the pid of the dead to this process.
    const db = new DatabaseSync(join(folder(), name as string))
    db.exec(`UPDATE member SET said = json_set(said, '$.pid', ${process.pid})`)
    db.close()
    assert.equal(presence.isGone(group, "reused"), true)
  })

  it("takes what it cannot read for nothing, and creates nothing by looking (N3)", async () => {
    await end(await member("torn"))
    const [name] = readdirSync(folder()) as [string]
    for (const content of ["", "nobody", "SQLite format 3\u0000torn"]) {
      writeFileSync(join(folder(), name), content)
      assert.deepEqual(await ask("torn"), { isGone: false, unburied: [] })
    }
    rmSync(join(folder(), name))
    assert.deepEqual(await ask("torn"), { isGone: false, unburied: [] })
    mkdirSync(join(folder(), name))
    assert.deepEqual(await ask("torn"), { isGone: false, unburied: [] })
    assert.deepEqual(readdirSync(folder()), [name])
  })

  it("knows nothing of what another boot left (N1)", async () => {
    await end(await member("yesterday"))
    const [name] = readdirSync(folder()) as [string]
    renameSync(join(folder(), name), join(folder(), `${"0".repeat(32)}${name.slice(32)}`))
    assert.deepEqual(await ask("yesterday"), { isGone: false, unburied: [] })
  })

  it("remembers a bounded number of the dead", () => {
    // The hundred newest; each is renamed by hand, for a process cannot die a hundred times.
    for (let index = 0; index < 120; index++) {
      const entry = presence.enter(group, `dead-${index}`)
      presence.bury(group, `dead-${index}`)
      assert.notEqual(entry, null)
    }
    presence.enter(group, "next")
    assert.equal(readdirSync(folder()).filter((name) => name.endsWith(".gone")).length, 100)
  })

  it("buries the dead of a group without a successor in time, and none that lives", async () => {
    await member("old and lively")
    await end(await member("old and dead"))
    for (const name of readdirSync(folder())) utimesSync(join(folder(), name), 0, 0)
    await end(await member("young and dead"))
    assert.deepEqual(presence.unburied(group), ["young and dead"])
    assert.deepEqual(readdirSync(folder()).filter((name) => name.endsWith(".gone")).length, 1)
    assert.deepEqual(await ask("old and dead"), { isGone: true, unburied: ["young and dead"] })
    assert.equal((await ask("old and lively")).isGone, false)
  })

  it("uses no folder in which others could write (a file there puts a member out of its group)", () => {
    chmodSync(folder(), 0o770)
    assert.throws(() => Presence.open(stateDir), PresenceError)
    rmSync(folder(), { recursive: true })
    const elsewhere = join(stateDir, "elsewhere")
    mkdirSync(elsewhere, { mode: 0o700 })
    symlinkSync(elsewhere, folder())
    assert.throws(() => Presence.open(stateDir), PresenceError)
    assert.throws(() => Presence.open("/proc"), PresenceError)
  })
})
