import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"
import { topicNames } from "@reins/events"
import { type Log, partitionOf } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { newInstance, openLog, readConfig } from "@reins/runtime"
import type { Judgement } from "../chaos/oracle.ts"
import type { CrashAt } from "./mortal.ts"
import { type StoryName, storyNames } from "./stories.ts"
import { Seen, type Step } from "./story.ts"
import { Supervisor } from "./supervisor.ts"
import { Witnesses } from "./witnesses.ts"

export interface KafkaPoint {
  readonly story: StoryName
  readonly at: CrashAt
}

export interface KafkaCrash extends KafkaPoint {
  readonly reached: boolean
  /** Where the successor began to read the session log: above 0 it relied on a commit, and on snapshots for what stands before. */
  readonly readFrom: number
  readonly judgement: Judgement
  /** From the death to the end of the session. */
  readonly recoveredMs: number
}

/** A session timeout, the grace time of absence, and a machine that has other things to do. */
const limitMs = 120_000
const partitions = 1
const agreesWithinMs = 10_000

/** The golden stories on a real broker, over and over: a process with every service in it, killed where it is told, and its successor. */
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
  async lane(story: StoryName): Promise<Lane> {
    return new Lane(this, story, `crash-${randomBytes(4).toString("hex")}`).open()
  }

  /** Every point that the processes of all stories come to. */
  async points(): Promise<readonly KafkaPoint[]> {
    const points: KafkaPoint[] = []
    for (const story of storyNames) {
      const lane = await this.lane(story)
      points.push(...(await lane.points()))
      await lane.close()
    }
    return points
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
      REINS_BLOBS: this.#witnesses.blobs,
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

/** Sessions of which the process that lives has another state than these, once it owns them and had time to read everything. */
async function differences(supervisor: Supervisor, digests: ReadonlyMap<string, string>): Promise<readonly string[]> {
  let end = Number.POSITIVE_INFINITY
  for (;;) {
    const { states } = await supervisor.ask({ states: [...digests.keys()] }, "states")
    // Until the membership of the one that died has timed out, its successor owns nothing.
    if (end === Number.POSITIVE_INFINITY && states.every(([, digest]) => digest !== null)) end = Date.now() + agreesWithinMs
    const other = states.filter(([sessionId, digest]) => digests.get(sessionId) !== digest)
    if (other.length === 0) return []
    if (Date.now() > end) return other.map(([sessionId]) => `the process comes to another state of ${sessionId} than the log`)
    await supervisor.patience("Reading the end of the log")
  }
}

class Lane {
  readonly #runs: KafkaRuns
  readonly #story: StoryName
  readonly #prefix: string
  #opened: { readonly log: Log; readonly codec: Codec } | undefined

  constructor(runs: KafkaRuns, story: StoryName, prefix: string) {
    this.#runs = runs
    this.#story = story
    this.#prefix = prefix
  }

  async open(): Promise<this> {
    this.#opened = await openLog(readConfig(this.#runs.environment(this.#prefix)), newInstance("watch"))
    return this
  }

  /** Every point that the process comes to in a run in which nothing happens to it. */
  async points(): Promise<readonly KafkaPoint[]> {
    const { passed, judgement } = await this.#run(null)
    if (judgement.breaches.length > 0) throw new Error(`Without a crash: ${judgement.breaches.join("\n")}`)
    return passed.flatMap(([point, count]) =>
      Array.from({ length: count }, (_, index) => ({ story: this.#story, at: { point, n: index + 1 } })),
    )
  }

  async crash(point: KafkaPoint): Promise<KafkaCrash> {
    const { readFrom, judgement, diedAt, endedAt } = await this.#run(point.at)
    // Who dies of its drain dies when the session has ended.
    return { ...point, reached: diedAt !== null, readFrom, judgement, recoveredMs: diedAt === null ? 0 : Math.max(0, endedAt - diedAt) }
  }

  async #run(at: CrashAt | null): Promise<{
    readonly passed: readonly (readonly [string, number])[]
    readonly readFrom: number
    readonly judgement: Judgement
    readonly diedAt: number | null
    readonly endedAt: number
  }> {
    const opened = this.#opened
    if (opened === undefined) throw new Error("The lane is not open.")
    const { log, codec } = opened
    const { witnesses } = this.#runs
    const story = witnesses.story(this.#story, this.#runs.newSession())
    const supervisor = new Supervisor((to) => this.#fork(to), at, limitMs)
    await supervisor.ready()
    const seen = await this.#seenFromNow(log)
    let counts = false
    for (const step of story.steps) {
      if (step.counts === true && !counts && step !== story.steps[0]) await supervisor.ask({ count: true }, "counts")
      counts ||= step.counts === true
      await this.#command(log, step)
      for (;;) {
        await seen.look()
        if (step.done(seen)) break
        await supervisor.patience(`What follows ${step.command.commandId}`)
      }
    }
    const endedAt = Date.now()
    const whole = await witnesses.read(story, log, codec, this.#prefix)
    let differing = await differences(supervisor, whole.digests)
    let drained = await supervisor.drain()
    while (drained === null) {
      differing = [...differing, ...(await differences(supervisor, whole.digests))]
      drained = await supervisor.drain()
    }
    const again = await witnesses.read(story, log, codec, this.#prefix)
    const judgement = await witnesses.judge(story, log, this.#prefix, whole, again)
    const { passed, readFrom } = drained
    const breaches = [...judgement.breaches, ...differing.map((one) => `P5: ${one}`)]
    return { passed, readFrom, judgement: { ...judgement, breaches }, diedAt: supervisor.diedAt, endedAt }
  }

  /** Nothing of this run stands before here. */
  async #seenFromNow(log: Log): Promise<Seen> {
    const { sessions, snapshots } = topicNames(this.#prefix)
    const endOf = async (topic: string): Promise<number> => (await log.bounds(topic))[0]?.end ?? 0
    return new Seen(log, this.#prefix, { sessions: await endOf(sessions), snapshots: await endOf(snapshots) })
  }

  async #command(log: Log, { command }: Step): Promise<void> {
    await log.append({
      topic: topicNames(this.#prefix).commands,
      partition: partitionOf(command.sessionId, partitions),
      key: () => command.sessionId,
      value: Buffer.from(JSON.stringify(command)),
      headers: {},
      certainty: "always",
    })
  }

  #fork(at: CrashAt | null): ChildProcess {
    const args = [this.#story, ...(at === null ? [] : [`${at.point}:${at.n}`])]
    return this.#runs.keep(
      fork(fileURLToPath(new URL("./mortal-process.ts", import.meta.url)), args, {
        env: this.#runs.environment(this.#prefix),
        execArgv: ["--disable-warning=ExperimentalWarning"],
        stdio: ["ignore", "ignore", "pipe", "ipc"],
      }),
    )
  }

  async close(): Promise<void> {
    await this.#opened?.log.close()
  }
}

/** Dies at each of the points, in so many lanes at once. */
export async function crashAll(
  runs: KafkaRuns,
  points: readonly KafkaPoint[],
  lanes: number,
  each: (crash: KafkaCrash) => void = () => undefined,
): Promise<readonly KafkaCrash[]> {
  const crashes: KafkaCrash[] = []
  for (const story of storyNames) {
    const left = points.filter((point) => point.story === story)
    // One after the other: a registry that has just started serves few at once.
    const open: Lane[] = []
    while (open.length < Math.min(lanes, left.length)) open.push(await runs.lane(story))
    await Promise.all(
      open.map(async (lane) => {
        for (let point = left.shift(); point !== undefined; point = left.shift()) {
          const crash = await lane.crash(point)
          crashes.push(crash)
          each(crash)
        }
        await lane.close()
      }),
    )
  }
  return crashes
}
