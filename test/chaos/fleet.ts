import { setTimeout as sleep } from "node:timers/promises"
import type { Bench, Environment, Started } from "../e2e/harness.ts"

/** A set of services that runs as processes of its own. */
export interface Role {
  readonly name: string
  readonly args: readonly string[]
  /** Names as they stand in `by` of what they say. */
  readonly services: readonly string[]
}

export interface Member {
  readonly role: Role
  readonly started: Started
  /** Its connections to the brokers go through the fault proxy. */
  readonly proxied: boolean
  readonly skewMs: number
  frozen: boolean
  /** Its end is somebody's intention: nobody is to be surprised, and nobody starts another. */
  leaving: boolean
}

export interface Exit {
  readonly name: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

const restartAfterMs = 500
const healMaxMs = 90_000

/** All processes of a run, kept at their number: who dies is followed by another, as a supervisor would see to it. */
export class Fleet {
  readonly members: Set<Member> = new Set()
  /** Those that have ended too. */
  readonly everyone: Started[] = []
  /** Ends that nobody had asked for. */
  readonly surprises: Exit[] = []
  readonly #bench: Bench
  readonly #env: (given: { proxied: boolean; skewMs: number }) => Environment
  #over = false

  constructor(bench: Bench, env: (given: { proxied: boolean; skewMs: number }) => Environment) {
    this.#bench = bench
    this.#env = env
  }

  start(role: Role, given: { readonly proxied: boolean; readonly skewMs: number }): Member {
    const started = this.#bench.reins(role.args, this.#env(given), role.name)
    const member: Member = { role, started, ...given, frozen: false, leaving: false }
    this.members.add(member)
    this.everyone.push(started)
    void started.ended.then(async ({ code, signal, stderr }) => {
      this.members.delete(member)
      if (member.leaving || this.#over) return
      this.surprises.push({ name: role.name, code, signal, stderr: stderr.slice(-1500) })
      await sleep(restartAfterMs)
      if (!this.#over) this.start(role, given)
    })
    return member
  }

  /** Who may be harmed: running, known by name, and not harmed already. */
  sound(): readonly Member[] {
    return [...this.members].filter(({ frozen, leaving, started }) => !frozen && !leaving && !started.over && started.address !== undefined)
  }

  /** Wakes whoever is frozen and waits until all are ready; false where that does not come about. */
  async heal(): Promise<boolean> {
    for (const member of this.members) if (member.frozen) this.thaw(member)
    const end = performance.now() + healMaxMs
    while (performance.now() < end) {
      const waiting = [...this.members].filter(({ leaving }) => !leaving)
      const ready = await Promise.allSettled(waiting.map(({ started }) => started.ready()))
      if (ready.every(({ status }) => status === "fulfilled") && waiting.every((member) => this.members.has(member))) return true
      await sleep(restartAfterMs)
    }
    return false
  }

  /** How each stands, for a run that does not come to rest. */
  async story(): Promise<string> {
    const lines = [...this.members].map(async ({ role, started, proxied, skewMs, leaving }) => {
      const { status, text } = await started.get("/readyz").catch((error: unknown) => ({ status: 0, text: String(error) }))
      return `--- ${role.name} ${started.pid}${proxied ? ", proxied" : ""}, skew ${skewMs}${leaving ? ", leaving" : ""}: readyz ${status} ${text}\n${started.stderr.slice(-1500)}`
    })
    return (await Promise.all(lines)).join("\n")
  }

  freeze(member: Member): void {
    member.frozen = true
    member.started.kill("SIGSTOP")
  }

  thaw(member: Member): void {
    member.frozen = false
    member.started.kill("SIGCONT")
  }

  /** Ends all by SIGTERM; those that did not drain. */
  async stop(): Promise<readonly Exit[]> {
    this.#over = true
    const left = [...this.members]
    for (const { started } of left) started.kill("SIGTERM")
    const ends = await Promise.all(left.map(async ({ role, started }) => ({ name: role.name, ...(await started.ended) })))
    return ends.filter(({ code }) => code !== 0)
  }
}
