import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import type { Log } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import { Kafka, logLevel } from "kafkajs"
import { until } from "./harness.ts"
import type { Told } from "./member-process.ts"

// Whom a killed member's successor takes out of the group, and whom it never does. The session timeout is far above the patience of any
// wait here: whatever comes to pass, the coordinator has not counted anyone out by itself.

const noKafka = await skipWithoutKafka({ registry: false })
const skip = process.platform === "linux" ? noKafka : "Only Linux says which boot it is."
const partitions = 4
const sessionTimeoutMs = 600_000
const program = fileURLToPath(new URL("member-process.ts", import.meta.url))

class Member {
  readonly instance = `member-${randomUUID()}`
  readonly process: ChildProcess
  readonly owned: Set<number> = new Set()
  readonly failures: string[] = []
  losses = 0

  constructor(bootstrap: string, group: string, topic: string, stateDir: string | undefined, sessionMs = sessionTimeoutMs) {
    const { REINS_STATE: _, ...env } = process.env
    this.process = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", program, bootstrap, group, this.instance, String(sessionMs), topic],
      {
        stdio: ["ignore", "pipe", "inherit"],
        env: { ...env, ...(stateDir === undefined ? {} : { REINS_STATE: stateDir }) },
      },
    )
    let rest = ""
    this.process.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) this.#hear(JSON.parse(line) as Told)
    })
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, "exit")
    this.process.kill(signal)
    await ended
  }

  #hear(told: Told): void {
    if (told.kind === "assigned") this.owned.add(told.partition)
    else if (told.kind === "lost") {
      this.losses++
      this.owned.delete(told.partition)
    } else if (told.kind === "failed") this.failures.push(told.message)
  }
}

const ownsAll = ({ owned }: Member): boolean => owned.size === partitions

describe("a member whose process is gone", { skip, timeout: 240_000 }, () => {
  let bootstrap = ""
  let log: Log
  let stateDir = ""
  const started: Member[] = []

  before(async () => {
    bootstrap = (await sharedKafka({ registry: false })).bootstrap
    stateDir = mkdtempSync(join(tmpdir(), "reins-handover-"))
    log = await openKafka({ brokers: bootstrap.split(","), instance: `asker-${randomUUID()}`, stateDir })
  })

  after(async () => {
    await Promise.all(started.map((member) => member.end("SIGKILL")))
    await log.close()
    rmSync(stateDir, { recursive: true, force: true })
  })

  /** A group of its own, and how one joins it. */
  async function world(): Promise<{ group: string; join: (state?: string, sessionMs?: number) => Member }> {
    const topic = `sessions-${randomUUID()}`
    await log.applyTopics([{ name: topic, partitions, cleanup: "delete", config: {} }])
    const group = `group-${randomUUID()}`
    return {
      group,
      join: (state = stateDir, sessionMs) => {
        const member = new Member(bootstrap, group, topic, state, sessionMs)
        started.push(member)
        return member
      },
    }
  }

  const members = async (group: string): Promise<ReadonlySet<string>> =>
    until(async () => (await log.members(group)) ?? undefined, "the coordinator says who is a member")

  it("is taken out by its successor, and is known to have ended", async () => {
    const { group, join: enter } = await world()
    const dead = enter()
    await until(() => ownsAll(dead), "the first owns all")
    await dead.end("SIGKILL")
    assert.deepEqual(await members(group), new Set([dead.instance]), "the coordinator counts it in")
    const heir = enter()
    await until(() => ownsAll(heir), "the successor owns all")
    assert.deepEqual(await members(group), new Set([heir.instance]))
    assert.equal(log.ended?.(group, dead.instance), true)
    assert.equal(log.ended?.(group, heir.instance), false)
    assert.deepEqual(heir.failures, [])
  })

  it("is taken out by one that was there already, without a successor", async () => {
    const { join: enter } = await world()
    const dead = enter()
    await until(() => ownsAll(dead), "the first owns all")
    const sibling = enter()
    await until(() => sibling.owned.size > 0 && dead.owned.size < partitions, "both have a share")
    await dead.end("SIGKILL")
    await until(() => ownsAll(sibling), "the sibling owns all")
    assert.equal(sibling.losses, 0, "what the sibling had it never lost")
  })

  it("is not confused with one that is stopped, which stays a member and loses nothing", async () => {
    const { group, join: enter } = await world()
    const stopped = enter()
    await until(() => ownsAll(stopped), "the first owns all")
    const dead = enter()
    await until(() => dead.owned.size > 0 && stopped.owned.size === partitions - dead.owned.size, "both have a share")
    const losses = stopped.losses
    const had = [...stopped.owned]
    stopped.process.kill("SIGSTOP")
    await dead.end("SIGKILL")
    const heir = enter()
    // That the dead one is taken out proves that the successor has looked at both.
    await until(async () => !(await members(group)).has(dead.instance), "the dead one is out")
    assert.deepEqual(await members(group), new Set([stopped.instance, heir.instance]))
    assert.equal(log.ended?.(group, stopped.instance), false)
    assert.equal(heir.owned.size, 0, "nothing is shared out before the stopped one had its say")
    stopped.process.kill("SIGCONT")
    await until(() => heir.owned.size === partitions - had.length, "the successor has what the dead one had")
    assert.deepEqual([[...stopped.owned], stopped.losses], [had, losses])
  })

  it("is not taken out by a machine that knows nothing of it, but by the session timeout", async () => {
    const { group, join: enter } = await world()
    const dead = enter(stateDir, 3000)
    await until(() => ownsAll(dead), "the first owns all")
    await dead.end("SIGKILL")
    const elsewhere = mkdtempSync(join(stateDir, "elsewhere-"))
    const heir = enter(elsewhere, 3000)
    await until(async () => (await members(group)).has(heir.instance), "the successor has joined")
    assert.ok((await members(group)).has(dead.instance), "the dead one counts as a member")
    await until(() => ownsAll(heir), "the successor owns all")
  })

  it("hands over at once when it drains, with nothing left for anybody to take out", async () => {
    const { group, join: enter } = await world()
    const first = enter()
    await until(() => ownsAll(first), "the first owns all")
    const second = enter()
    await until(() => second.owned.size > 0, "both have a share")
    await first.end("SIGTERM")
    await until(() => ownsAll(second), "the second owns all")
    assert.deepEqual(await members(group), new Set([second.instance]))
    assert.equal(log.ended?.(group, first.instance), false, "who leaves in peace leaves no word")
  })

  it("is none that was evicted all the same: that one loses everything with its next heartbeat", async () => {
    const { group, join: enter } = await world()
    const zombie = enter()
    await until(() => ownsAll(zombie), "the first owns all")
    const heir = enter()
    await until(() => heir.owned.size > 0 && zombie.owned.size === partitions - heir.owned.size, "both have a share")
    const losses = zombie.losses
    const had = zombie.owned.size
    zombie.process.kill("SIGSTOP")
    await leaveFor(bootstrap, group, zombie.instance)
    await until(() => ownsAll(heir), "the heir owns all")
    assert.equal(log.ended?.(group, zombie.instance), false, "its claims are not taken over: it lives")
    zombie.process.kill("SIGCONT")
    await until(() => zombie.losses - losses >= had, "the zombie has lost what it had")
    await until(() => zombie.owned.size > 0 && zombie.owned.size + heir.owned.size === partitions, "both have a share again")
  })
})

/** What an operator's tool can do, and no part of Reins does to one that lives: leaves the group in another's name. */
async function leaveFor(bootstrap: string, group: string, instance: string): Promise<void> {
  interface Cluster {
    connect(): Promise<void>
    disconnect(): Promise<void>
    findGroupCoordinator(of: { groupId: string }): Promise<{ leaveGroup(of: { groupId: string; memberId: string }): Promise<unknown> }>
  }
  const kafka = new Kafka({ clientId: "operator", brokers: bootstrap.split(","), logLevel: logLevel.NOTHING })
  let found: unknown
  // kafkajs hands its cluster to assigners only.
  kafka.consumer({
    groupId: "never-joined",
    partitionAssigners: [
      ({ cluster }) => {
        found = cluster
        return { name: "none", version: 0, assign: async () => [], protocol: () => ({ name: "none", metadata: Buffer.alloc(0) }) }
      },
    ],
  })
  const cluster = found as Cluster
  const admin = kafka.admin()
  await Promise.all([cluster.connect(), admin.connect()])
  try {
    const { groups } = await admin.describeGroups([group])
    const member = groups[0]?.members.find(({ clientId }) => clientId === instance)
    assert.ok(member, "it is a member")
    await (await cluster.findGroupCoordinator({ groupId: group })).leaveGroup({ groupId: group, memberId: member.memberId })
  } finally {
    await Promise.all([cluster.disconnect(), admin.disconnect()])
  }
}
