import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import type { Log } from "@reins/log"
import { openKafka } from "@reins/log/kafka"
import type { Told } from "./member-process.ts"

const skip = await skipWithoutKafka({ registry: false })

const partitions = 6
const sessionTimeoutMs = 3000
const program = fileURLToPath(new URL("member-process.ts", import.meta.url))

async function until(condition: () => boolean, what: string, limitMs = 60_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}.`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** An unbroken ownership of one partition, and how far it has read each topic. */
interface Spell {
  readonly partition: number
  readonly next: Map<string, number>
}

/** A member in another process, and what it has told of itself. */
class Member {
  readonly instance: string
  readonly process: ChildProcess
  readonly owned: Map<number, Spell> = new Map()
  readonly broken: string[] = []
  readonly sure: { since: number; at: number; partitions: readonly number[] }[] = []
  losses = 0
  started = false
  ended = false

  constructor(bootstrap: string, group: string, topics: readonly string[]) {
    this.instance = `member-${randomUUID()}`
    this.process = spawn(process.execPath, [program, bootstrap, group, this.instance, String(sessionTimeoutMs), ...topics], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    this.process.once("close", () => {
      this.ended = true
    })
    let rest = ""
    this.process.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) this.#hear(JSON.parse(line) as Told)
    })
  }

  /** Whether it owns `partition` and has read every topic of it up to `ends`. */
  hasRead(partition: number, ends: ReadonlyMap<string, number>): boolean {
    const spell = this.owned.get(partition)
    return spell !== undefined && [...ends].every(([topic, end]) => (spell.next.get(topic) ?? 0) >= end)
  }

  async stop(): Promise<void> {
    if (this.ended) return
    this.process.kill("SIGCONT")
    this.process.kill("SIGTERM")
    await until(() => this.ended, `${this.instance} ends`)
  }

  #hear(told: Told): void {
    if (told.kind === "started") this.started = true
    else if (told.kind === "assigned") {
      if (this.owned.has(told.partition)) this.broken.push(`partition ${told.partition} was assigned twice`)
      this.owned.set(told.partition, { partition: told.partition, next: new Map() })
    } else if (told.kind === "lost") {
      this.losses++
      if (!this.owned.delete(told.partition)) this.broken.push(`partition ${told.partition} was lost without being owned`)
    } else if (told.kind === "records") {
      const { topic, partition, first, last, broken } = told
      const spell = this.owned.get(partition)
      if (broken !== null) this.broken.push(`${topic}[${partition}]: ${broken}`)
      if (spell === undefined) this.broken.push(`records of ${topic}[${partition}] came without ownership`)
      else {
        const next = spell.next.get(topic) ?? 0
        if (first !== next) this.broken.push(`${topic}[${partition}] went on at ${first}, not at ${next}`)
        spell.next.set(topic, last + 1)
      }
    } else if (told.kind === "sure") this.sure.push(told)
    else if (told.kind === "failed") this.broken.push(`it failed: ${told.message}`)
  }
}

describe("members of one group in processes of their own", { skip, timeout: 240_000 }, () => {
  let bootstrap = ""
  let log: Log
  const started: Member[] = []

  before(async () => {
    bootstrap = (await sharedKafka({ registry: false })).bootstrap
    log = await openKafka({ brokers: bootstrap.split(","), instance: `writer-${randomUUID()}` })
  })

  after(async () => {
    await Promise.all(started.map((member) => member.stop()))
    await log.close()
  })

  /** Topics that are written to all the time, each record saying its own offset. */
  async function stream(): Promise<{ topics: readonly string[]; end(): Promise<Map<number, Map<string, number>>> }> {
    const topics = [`sessions-${randomUUID()}`, `tools-${randomUUID()}`]
    await log.applyTopics(
      topics.map((name) => ({ name, partitions, cleanup: "delete", config: { "message.timestamp.type": "LogAppendTime" } })),
    )
    const over = new AbortController()
    const ends = new Map<number, Map<string, number>>()
    const writing = Promise.all(
      topics.flatMap((topic) =>
        Array.from({ length: partitions }, async (_, partition) => {
          let next = 0
          while (!over.signal.aborted) {
            const value = new TextEncoder().encode(String(next))
            const placed = await log.append({ topic, partition, key: () => randomUUID(), value, headers: {}, certainty: "once" })
            assert.equal(placed.offset, next++)
            await new Promise((resolve) => setTimeout(resolve, 2))
          }
          ends.set(partition, (ends.get(partition) ?? new Map()).set(topic, next))
        }),
      ),
    )
    return {
      topics,
      end: async () => {
        over.abort()
        await writing
        return ends
      },
    }
  }

  function join(group: string, topics: readonly string[]): Member {
    const member = new Member(bootstrap, group, topics)
    started.push(member)
    return member
  }

  const sharedOut = (...members: readonly Member[]): boolean => {
    const all = members.flatMap((member) => [...member.owned.keys()])
    return (
      all.length === partitions &&
      new Set(all).size === partitions &&
      members.every((member) => member.owned.size === partitions / members.length)
    )
  }

  /** Both have a share and have said that they are sure of it: who never was would prove nothing. */
  async function bothSettled(one: Member, other: Member): Promise<void> {
    await until(() => sharedOut(one, other), "both have a share")
    await until(() => one.sure.length > 0 && other.sure.length > 0, "both are sure of it")
  }

  /** G4, by what the members saw of themselves: no partition was surely owned by two at the same moment. */
  function checkSole(...members: readonly Member[]): void {
    for (const [index, one] of members.entries()) {
      for (const other of members.slice(index + 1)) {
        for (const a of one.sure) {
          for (const b of other.sure) {
            if (a.at <= b.since || b.at <= a.since) continue
            const both = a.partitions.filter((partition) => b.partitions.includes(partition))
            assert.deepEqual(both, [], `${one.instance} and ${other.instance} were both sure of a partition`)
          }
        }
      }
    }
    for (const member of members) assert.deepEqual(member.broken, [], member.instance)
  }

  const allRead = (ends: ReadonlyMap<number, ReadonlyMap<string, number>>, ...members: readonly Member[]): boolean =>
    [...ends].every(([partition, of]) => members.some((member) => member.hasRead(partition, of)))

  it("share out, and the one that is left takes all over when the other is killed (G3, G4)", async () => {
    const { topics, end } = await stream()
    const group = `group-${randomUUID()}`
    const victim = join(group, topics)
    await until(() => sharedOut(victim), "the first owns all")
    const heir = join(group, topics)
    await bothSettled(victim, heir)
    assert.deepEqual(await log.members(group), new Set([victim.instance, heir.instance]))
    const kept = [...heir.owned.values()]
    victim.process.kill("SIGKILL")
    await until(() => sharedOut(heir), "the heir owns all")
    assert.ok(
      kept.every((spell) => heir.owned.get(spell.partition) === spell),
      "what the heir had before it never lost",
    )
    const ends = await end()
    await until(() => allRead(ends, heir), "the heir has read all")
    assert.deepEqual(await log.members(group), new Set([heir.instance]))
    checkSole(victim, heir)
  })

  it("lose everything when they were frozen for longer than a session, and know it before they do anything else (G3, G4)", async () => {
    const { topics, end } = await stream()
    const group = `group-${randomUUID()}`
    const zombie = join(group, topics)
    const heir = join(group, topics)
    await bothSettled(zombie, heir)
    const had = zombie.owned.size
    zombie.process.kill("SIGSTOP")
    await until(() => sharedOut(heir), "the heir owns all")
    const losses = zombie.losses
    zombie.process.kill("SIGCONT")
    await until(() => zombie.losses - losses >= had, "the zombie has lost what it had")
    await until(() => sharedOut(zombie, heir), "both have a share again")
    const ends = await end()
    await until(() => allRead(ends, zombie, heir), "all is read")
    checkSole(zombie, heir)
  })

  it("hand over at once when one leaves in peace (G3, G4)", async () => {
    const { topics, end } = await stream()
    const group = `group-${randomUUID()}`
    const members = [join(group, topics), join(group, topics)] as const
    await bothSettled(...members)
    await members[0].stop()
    members[0].owned.clear()
    await until(() => sharedOut(members[1]), "the other owns all")
    const ends = await end()
    await until(() => allRead(ends, members[1]), "all is read")
    checkSole(...members)
  })
})
