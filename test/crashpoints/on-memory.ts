import { fileURLToPath } from "node:url"
import { readConfig } from "@reins/runtime"
import type { Backend } from "@reins/worker-kit"
import type { Judgement } from "../chaos/oracle.ts"
import { MemoryWorld, shapes, toolsWithLedger, worldConfig } from "./memory-world.ts"
import type { CrashAt } from "./mortal.ts"
import { Witnesses } from "./witnesses.ts"

export interface Point {
  readonly shape: string
  readonly process: string
  readonly at: CrashAt
}

/** One death and what came of it. */
export interface Crash extends Point {
  /** False where the run came to its end without coming to the point so often. */
  readonly reached: boolean
  readonly judgement: Judgement
}

const limitMs = 20_000

/** The golden session on the memory log, over and over. */
export class MemoryRuns {
  readonly #witnesses = new Witnesses()
  #backend: Backend | undefined
  #sessions = 0

  async open(): Promise<this> {
    await this.#witnesses.open()
    this.#backend = await toolsWithLedger(fileURLToPath(new URL("../chaos/classes.ts", import.meta.url)), this.#witnesses.ledger)
    return this
  }

  /** Every point that every process of this shape comes to in a run in which nothing happens to it. */
  async points(shape: string): Promise<readonly Point[]> {
    const { world, judgement } = await this.#run(shape, null)
    if (judgement.breaches.length > 0) throw new Error(`Without a crash: ${judgement.breaches.join("\n")}`)
    return Object.keys(shapes[shape] ?? {}).flatMap((process) =>
      [...world.passed(process)].flatMap(([point, count]) =>
        Array.from({ length: count }, (_, index) => ({ shape, process, at: { point, n: index + 1 } })),
      ),
    )
  }

  async crash(point: Point): Promise<Crash> {
    const { world, judgement } = await this.#run(point.shape, point)
    return { ...point, reached: world.died !== null, judgement }
  }

  async #run(shape: string, point: Point | null): Promise<{ world: MemoryWorld; judgement: Judgement }> {
    const backend = this.#backend
    const given = shapes[shape]
    if (backend === undefined || given === undefined) throw new Error(`There is no shape ${shape}, or nothing is open.`)
    const config = readConfig({ ANTHROPIC_BASE_URL: this.#witnesses.modelUrl, ANTHROPIC_API_KEY: "none", REINS_LOG_LEVEL: "silent" })
    const world = new MemoryWorld(worldConfig(config), backend, given)
    const sessionId = `sesn_${this.#sessions++}`
    const { start, end } = this.#witnesses.commands(sessionId)
    await world.start(point?.process ?? null, point?.at ?? null)
    await world.command(sessionId, start)
    await world.until(sessionId, "session.idled", limitMs)
    await world.command(sessionId, end)
    const whole = await world.until(sessionId, "session.ended", limitMs)
    await world.stop()
    return { world, judgement: this.#witnesses.judge(sessionId, whole, await world.read()) }
  }

  close(): Promise<void> {
    return this.#witnesses.close()
  }
}
