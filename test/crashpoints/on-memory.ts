import { createHash } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { readConfig } from "@reins/runtime"
import { planned, startSimulatedModel } from "@reins/simulated-model"
import type { Backend } from "@reins/worker-kit"
import type { EffectLine } from "../chaos/classes.ts"
import { type Judgement, judge } from "../chaos/oracle.ts"
import { linesOf } from "../e2e/harness.ts"
import { startOrders } from "../fixtures/orders.ts"
import type { JournalLine } from "../scenarios/long-session.ts"
import { goldenAgent, goldenPrompt, ledgered } from "./golden-session.ts"
import { MemoryWorld, shapes, toolsWithLedger, worldConfig } from "./memory-world.ts"
import type { CrashAt } from "./mortal.ts"

/** One death and what came of it. */
export interface Crash {
  readonly shape: string
  readonly process: string
  readonly at: CrashAt
  /** False where the run came to its end without coming to the point so often. */
  readonly reached: boolean
  readonly judgement: Judgement
}

export interface Point {
  readonly shape: string
  readonly process: string
  readonly at: CrashAt
}

const limitMs = 20_000

/** The golden session on the memory log, over and over. */
export class MemoryRuns {
  readonly #dir = mkdtempSync(join(tmpdir(), "reins-crash-"))
  readonly #journal = new Map<string, JournalLine[]>()
  readonly #closing: (() => Promise<unknown>)[] = []
  #backend: Backend | undefined
  #ordersUrl = ""
  #modelUrl = ""
  #sessions = 0

  async open(): Promise<this> {
    this.#backend = await toolsWithLedger(fileURLToPath(new URL("../chaos/classes.ts", import.meta.url)), join(this.#dir, "effects.jsonl"))
    const orders = await startOrders(join(this.#dir, "effects.jsonl"))
    const model = await startSimulatedModel({
      callsMax: 1,
      script: (call) => {
        const sha256 = createHash("sha256").update(call.body).digest("hex")
        const line = { at: Date.now(), sha256, body: call.body }
        this.#journal.set(sha256, [...(this.#journal.get(sha256) ?? []), line])
        return planned(call)
      },
    })
    this.#closing.push(
      () => orders.close(),
      () => model.stop(),
    )
    this.#ordersUrl = orders.url
    this.#modelUrl = model.url
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
    const config = readConfig({ ANTHROPIC_BASE_URL: this.#modelUrl, ANTHROPIC_API_KEY: "none", REINS_LOG_LEVEL: "silent" })
    const world = new MemoryWorld(worldConfig(config), backend, given)
    const sessionId = `sesn_${this.#sessions++}`
    const commands = [`start-${sessionId}`, `end-${sessionId}`] as const
    await world.start(point?.process ?? null, point?.at ?? null)
    await world.command(sessionId, {
      type: "session.start",
      commandId: commands[0],
      sessionId,
      agent: goldenAgent(this.#ordersUrl),
      input: [{ type: "text", text: goldenPrompt(sessionId) }],
    })
    await world.until(sessionId, "session.idled", limitMs)
    await world.command(sessionId, { type: "session.end", commandId: commands[1], sessionId })
    const whole = await world.until(sessionId, "session.ended", limitMs)
    await world.stop()
    const breaches: string[] = []
    const idled = whole.records.get(sessionId)?.filter(({ type, verdict }) => type === "session.idled" && verdict === "accepted") ?? []
    if (idled.map(({ value }) => value.reason).join() !== "end_turn")
      breaches.push(`I2: ${sessionId} came to ${idled.map(({ value }) => value.reason).join()}`)
    if (whole.requestsDiffering.length > 0) breaches.push(`I13: rebuilt otherwise: ${whole.requestsDiffering.join(", ")}`)
    const again = await world.read()
    if (again.digests.get(sessionId) !== whole.digests.get(sessionId)) breaches.push(`I13: two readers come to two states of ${sessionId}`)
    const judgement = judge({
      sessionId,
      records: whole.records.get(sessionId) ?? [],
      effects: linesOf<EffectLine>(join(this.#dir, "effects.jsonl")).filter((line) => line.sessionId === sessionId),
      journal: this.#journal,
      acknowledged: commands,
      ledgered,
    })
    return {
      world,
      judgement: { ...judgement, breaches: [...breaches, ...judgement.breaches, ...incomplete(whole.records.get(sessionId) ?? [])] },
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing.map((close) => close()))
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

/** A crash is no reason for a call to fail: it completes, or nobody can say whether it took effect. */
export function incomplete(
  records: readonly {
    readonly type: string
    readonly verdict: string | null
    readonly offset: number
    readonly value: { readonly toolUseId?: string; readonly retryAfterMs?: number | null; readonly message?: string }
  }[],
): readonly string[] {
  return records
    .filter(
      ({ type, verdict, value }) =>
        verdict === "accepted" &&
        (type === "tool-call.refused" || ((type === "tool-call.failed" || type === "tool-call.timed-out") && value.retryAfterMs === null)),
    )
    .map(({ type, offset, value }) => `P4: ${value.toolUseId} came to ${type}@${offset}: ${value.message}`)
}
