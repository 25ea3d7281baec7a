import { fileURLToPath } from "node:url"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { readConfig } from "@reins/runtime"
import type { Backend } from "@reins/worker-kit"
import type { Judgement } from "../chaos/oracle.ts"
import { MemoryWorld, toolsWithLedger, worldConfig } from "./memory-world.ts"
import type { CrashAt } from "./mortal.ts"
import { type StoryName, stories, storyNames } from "./stories.ts"
import { Witnesses } from "./witnesses.ts"

/** A story, and which services share a process in it. */
export interface Stage {
  readonly story: StoryName
  readonly shape: string
}

export const stages: readonly Stage[] = storyNames.flatMap((story) => Object.keys(stories[story].shapes).map((shape) => ({ story, shape })))

export interface Point extends Stage {
  readonly process: string
  readonly at: CrashAt
}

/** One death and what came of it. */
export interface Crash extends Point {
  /** False where the run came to its end without coming to the point so often. */
  readonly reached: boolean
  /** Where the successor began to read the session log: above 0 it relied on a snapshot for what stands before. */
  readonly readFrom: number
  readonly judgement: Judgement
}

const limitMs = 20_000

/** The stories on the memory log, over and over. */
export class MemoryRuns {
  readonly #witnesses = new Witnesses()
  #opened: { readonly backend: Backend; readonly codec: Codec } | undefined
  #sessions = 0

  async open(): Promise<this> {
    await this.#witnesses.open()
    const tools = fileURLToPath(new URL("../chaos/classes.ts", import.meta.url))
    // Schemas are no part of what dies here: all worlds share one registry's.
    const codec = await Codec.open(new MemoryBroker().registry)
    this.#opened = { backend: await toolsWithLedger(tools, this.#witnesses.ledger), codec }
    return this
  }

  /** Every point that every process comes to in a run in which nothing happens to it. */
  async points(stage: Stage): Promise<readonly Point[]> {
    const { world, judgement } = await this.#run(stage, null)
    if (judgement.breaches.length > 0) throw new Error(`Without a crash: ${judgement.breaches.join("\n")}`)
    return Object.keys(stories[stage.story].shapes[stage.shape] ?? {}).flatMap((process) =>
      [...world.passed(process)].flatMap(([point, count]) =>
        Array.from({ length: count }, (_, index) => ({ ...stage, process, at: { point, n: index + 1 } })),
      ),
    )
  }

  async crash(point: Point): Promise<Crash> {
    const { world, judgement } = await this.#run(point, point)
    return { ...point, reached: world.died !== null, readFrom: world.readFrom(point.process), judgement }
  }

  async #run({ story: name, shape }: Stage, point: Point | null): Promise<{ world: MemoryWorld; judgement: Judgement }> {
    const given = stories[name].shapes[shape]
    if (this.#opened === undefined || given === undefined) throw new Error(`There is no shape ${shape}, or nothing is open.`)
    const { backend, codec } = this.#opened
    const config = worldConfig(
      readConfig({ ANTHROPIC_BASE_URL: this.#witnesses.modelUrl, ANTHROPIC_API_KEY: "none", REINS_LOG_LEVEL: "silent" }),
    )
    // Everything in one process is how a log of one machine is used.
    const world = new MemoryWorld({ config, codec, backend, shape: given, cleaner: shape === "hosted" ? "none" : "compacts" })
    const story = this.#witnesses.story(name, `sesn_${this.#sessions++}`)
    try {
      await world.start(point?.process ?? null, point?.at ?? null, story.steps[0]?.counts === true)
      await world.tell(story.steps, limitMs)
      const { log } = world
      const whole = await this.#witnesses.read(story, log, codec, config.prefix)
      const differing = await world.end(whole.digests)
      const again = await this.#witnesses.read(story, log, codec, config.prefix)
      const judgement = await this.#witnesses.judge(story, log, config.prefix, whole, again)
      return { world, judgement: { ...judgement, breaches: [...judgement.breaches, ...differing.map((one) => `P5: ${one}`)] } }
    } catch (error) {
      const where = point === null ? "Without a crash" : `${point.process}, ${point.at.point}:${point.at.n}`
      throw new Error(`${name}, ${shape}: ${where}: ${(error as Error).message}`, { cause: error })
    }
  }

  close(): Promise<void> {
    return this.#witnesses.close()
  }
}
