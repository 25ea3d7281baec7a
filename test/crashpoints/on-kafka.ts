import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { type Log, partitionOf } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import type { Judgement } from "../chaos/oracle.ts"
import { readWholeLog } from "../chaos/read-log.ts"
import type { CrashAt } from "./mortal.ts"
import type { Told } from "./mortal-process.ts"
import { Witnesses } from "./witnesses.ts"

export interface KafkaCrash {
  readonly at: CrashAt
  readonly reached: boolean
  readonly judgement: Judgement
  /** From the death to the end of the session. */
  readonly recoveredMs: number
}

/** A session timeout, the grace time of absence, and a machine that has other things to do. */
const limitMs = 120_000
const partitions = 1
const startsMax = 3

/** The golden session on a real broker, over and over: a process with every service in it, killed where it is told, and its successor. */
export class KafkaRuns {
  readonly #env: Readonly<Record<string, string>>
  readonly #witnesses = new Witnesses()
  readonly #children = new Set<ChildProcess>()
  readonly #run = randomBytes(3).toString("hex")
  #sessions = 0

  constructor(env: Readonly<Record<string, string>>) {
    this.#env = env
  }

  async open(): Promise<this> {
    await this.#witnesses.open()
    return this
  }

  /** Topics and a group of their own: runs in different lanes do not meet. */
  async lane(): Promise<Lane> {
    return new Lane(this, `crash-${randomBytes(4).toString("hex")}`).open()
  }

  get witnesses(): Witnesses {
    return this.#witnesses
  }

  environment(prefix: string): NodeJS.ProcessEnv {
    const own = Object.entries(process.env).filter(([name]) => !/^(REINS|KAFKA|SCHEMA_REGISTRY|ANTHROPIC|NODE_TEST)_/.test(name))
    return {
      ...Object.fromEntries(own),
      ...this.#env,
      REINS_LOG_LEVEL: "warn",
      REINS_TOPIC_PREFIX: prefix,
      REINS_PARTITIONS: String(partitions),
      ANTHROPIC_BASE_URL: this.#witnesses.modelUrl,
      ANTHROPIC_API_KEY: "none",
      LEDGER_FILE: this.#witnesses.ledger,
    }
  }

  newSession(): string {
    return `sesn_${this.#run}_${this.#sessions++}`
  }

  keep(child: ChildProcess): ChildProcess {
    this.#children.add(child)
    child.once("exit", () => this.#children.delete(child))
    return child
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL")
    await this.#witnesses.close()
  }
}

interface Child {
  readonly child: ChildProcess
  readonly ready: Promise<boolean>
  readonly ended: Promise<NodeJS.Signals | number | null>
  stderr(): string
}

export class Lane {
  readonly #runs: KafkaRuns
  readonly #prefix: string
  #opened: { readonly log: Log; readonly codec: Codec } | undefined

  constructor(runs: KafkaRuns, prefix: string) {
    this.#runs = runs
    this.#prefix = prefix
  }

  async open(): Promise<this> {
    this.#opened = await openLog(readConfig(this.#runs.environment(this.#prefix)), newInstance("watch"))
    return this
  }

  /** Every point that the process comes to in a run in which nothing happens to it. */
  async points(): Promise<readonly CrashAt[]> {
    const { passed, judgement } = await this.#session(null)
    if (judgement.breaches.length > 0) throw new Error(`Without a crash: ${judgement.breaches.join("\n")}`)
    return passed.flatMap(([point, count]) => Array.from({ length: count }, (_, index) => ({ point, n: index + 1 })))
  }

  async crash(at: CrashAt): Promise<KafkaCrash> {
    const { judgement, diedAt, endedAt } = await this.#session(at)
    return { at, reached: diedAt !== null, judgement, recoveredMs: diedAt === null ? 0 : endedAt - diedAt }
  }

  async #session(at: CrashAt | null): Promise<{
    readonly passed: readonly (readonly [string, number])[]
    readonly judgement: Judgement
    readonly diedAt: number | null
    readonly endedAt: number
  }> {
    const opened = this.#opened
    if (opened === undefined) throw new Error("The lane is not open.")
    const sessionId = this.#runs.newSession()
    const { start, end } = this.#runs.witnesses.commands(sessionId)
    const { sessions } = topicNames(this.#prefix)
    let diedAt: number | null = null
    let living = this.#start(at)
    let failures = 0
    const follow = (one: Child): void => {
      void one.ended.then((how) => {
        if (how === "SIGKILL" && diedAt === null) {
          diedAt = Date.now()
          living = this.#start(null)
          follow(living)
        } else if (typeof how === "number" && how > 0 && ++failures <= startsMax) {
          // The registry of a busy machine was not there in time: as a supervisor does, once more.
          living = this.#start(diedAt === null ? at : null)
          follow(living)
        }
      })
    }
    follow(living)
    const deadline = Date.now() + limitMs
    const patient = async (): Promise<void> => {
      const { child } = living
      if (failures > startsMax && child.exitCode !== null) throw new Error(`A process ended with ${child.exitCode}:\n${living.stderr()}`)
      if (Date.now() > deadline)
        throw new Error(`${sessionId} is not done within ${limitMs} ms (${at?.point}:${at?.n}):\n${living.stderr()}`)
      await sleep(50)
    }
    while (!(await living.ready)) await patient()
    // Nothing of this run stands before here.
    let next = (await opened.log.bounds(sessions))[partitionOf(sessionId, partitions)]?.end ?? 0
    const said = async (type: string): Promise<void> => {
      for (;;) {
        for await (const records of opened.log.replay(sessions, 0, next)) {
          for (const { headers, offset } of records) {
            next = offset + 1
            if (headers["session"] === sessionId && headers["type"] === type) return
          }
        }
        await patient()
      }
    }
    await this.#command(sessionId, start)
    await said("session.idled")
    await this.#command(sessionId, end)
    await said("session.ended")
    const endedAt = Date.now()
    const passed = await this.#stop(living)
    const [whole, again] = [await this.#read(), await this.#read()]
    return { passed, judgement: this.#runs.witnesses.judge(sessionId, whole, again), diedAt, endedAt }
  }

  #read(): ReturnType<typeof readWholeLog> {
    if (this.#opened === undefined) throw new Error("The lane is not open.")
    return readWholeLog(this.#opened.log, this.#opened.codec, this.#prefix)
  }

  async #command(sessionId: string, value: object): Promise<void> {
    await this.#opened?.log.append({
      topic: topicNames(this.#prefix).commands,
      partition: partitionOf(sessionId, partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify(value)),
      headers: {},
      certainty: "always",
    })
  }

  #start(at: CrashAt | null): Child {
    const child = this.#runs.keep(
      fork(fileURLToPath(new URL("./mortal-process.ts", import.meta.url)), [], {
        env: { ...this.#runs.environment(this.#prefix), ...(at === null ? {} : { REINS_CRASH_AT: `${at.point}:${at.n}` }) },
        execArgv: ["--disable-warning=ExperimentalWarning"],
        stdio: ["ignore", "ignore", "pipe", "ipc"],
      }),
    )
    let stderr = ""
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      stderr = `${stderr}${chunk}`.slice(-4000)
    })
    const ended = new Promise<NodeJS.Signals | number | null>((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)))
    const ready = new Promise<boolean>((resolve) => {
      child.once("message", () => resolve(true))
      void ended.then(() => resolve(false))
    })
    return { child, ready, ended, stderr: () => stderr }
  }

  /** Lets it drain; which points it had come to before. */
  async #stop({ child, ended }: Child): Promise<readonly (readonly [string, number])[]> {
    const passed = new Promise<readonly (readonly [string, number])[]>((resolve) => {
      child.once("message", (told: Told) => resolve("passed" in told ? told.passed : []))
      void ended.then(() => resolve([]))
    })
    child.send("passed")
    const points = await passed
    child.kill("SIGTERM")
    await ended
    return points
  }

  async close(): Promise<void> {
    await this.#opened?.log.close()
  }
}

/** Dies at each of the points, in so many lanes at once. */
export async function crashAll(
  runs: KafkaRuns,
  points: readonly CrashAt[],
  lanes: number,
  each: (crash: KafkaCrash) => void = () => undefined,
): Promise<readonly KafkaCrash[]> {
  const left = [...points]
  const crashes: KafkaCrash[] = []
  // One after the other: a registry that has just started serves few at once.
  const open: Lane[] = []
  while (open.length < Math.min(lanes, points.length)) open.push(await runs.lane())
  await Promise.all(
    open.map(async (lane) => {
      for (let at = left.shift(); at !== undefined; at = left.shift()) {
        const crash = await lane.crash(at)
        crashes.push(crash)
        each(crash)
      }
      await lane.close()
    }),
  )
  return crashes
}
