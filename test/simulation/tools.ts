import type { EffectClass } from "@reins/events"
import {
  type Backend,
  defineTool,
  type Reconciled,
  type ToolContext,
  type ToolDefinition,
  ToolError,
  toolsBackend,
} from "@reins/worker-kit"
import { z } from "zod"
import type { Faults } from "./faults.ts"
import type { Life } from "./life.ts"
import type { Random } from "./random.ts"
import type { VirtualTime } from "./virtual-time.ts"

/** One effect in the world, written down by the world: it happened, whatever the log says and whether or not its process still lives. */
export interface Effect {
  readonly at: number
  readonly tool: string
  readonly class: EffectClass
  readonly sessionId: string
  readonly toolUseId: string
  readonly key: string
  readonly attempt: number
  /** The arguments as JSON. */
  readonly input: string
  readonly instance: string
  /** False where the backend had seen the key before and did nothing. */
  readonly applied: boolean
}

export interface ToolWorld {
  readonly time: VirtualTime
  readonly random: Random
  readonly faults: Faults
  /** How slow everything outside is in this world; 1: quick. */
  readonly pace: number
  /** A worker calls a tool; `kit`: by our kit. */
  began(job: Omit<Effect, "at" | "applied" | "key" | "input">, kit: boolean): void
  /** A worker asks whether a call happened. */
  questioned(key: string, life: Life): void
  /** The process that called a tool dies a moment after its request has left. */
  orphaned(life: Life): void
  happened(effect: Effect): void
}

interface Job {
  readonly tool: string
  readonly class: EffectClass
  readonly sessionId: string
  readonly toolUseId: string
  readonly key: string
  readonly attempt: number
  readonly input: string
}

/** The names of the tools tell their class; those of `plain` are served by a worker that knows nothing of our kit. */
export const toolsOf: Readonly<Record<string, readonly (readonly [name: string, is: EffectClass])[]>> = {
  ledger: [
    ["peek", "pure"],
    ["set", "idempotent"],
    ["pay", "keyed"],
    ["book", "queryable"],
    ["fire", "unsafe"],
  ],
  second: [
    ["look", "pure"],
    ["ship", "unsafe"],
  ],
  plain: [
    ["read", "pure"],
    ["put", "idempotent"],
    ["charge", "keyed"],
    // Its worker does not claim, so the router must never let it out.
    ["blast", "unsafe"],
  ],
}

/** What the client of a session runs itself. */
export const clientTools = ["ask", "fetch"] as const

const input = z.strictObject({ n: z.int() })

/** The world that tools act on: what they did stays done. */
export class Tools {
  readonly #world: ToolWorld
  readonly #applied = new Set<string>()
  /** Of a `queryable` key: runs that began before the latest question are refused. */
  readonly #questions = new Map<string, number>()
  readonly #backends: ReadonlyMap<string, Backend>

  constructor(world: ToolWorld) {
    this.#world = world
    this.#backends = new Map(
      ["ledger", "second"].map((backend) => [backend, toolsBackend(`tool-workers/${backend}`, backend, this.#definitions(backend))]),
    )
  }

  /** The backend as the worker of one process serves it: who runs a call is in the world, not in the kit. */
  backend(name: string, life: Life): Backend {
    const shared = this.#backends.get(name) as Backend
    return {
      ...shared,
      find: (dispatch) => {
        const tool = shared.find(dispatch)
        if (tool === undefined) return undefined
        const within = <T>(run: () => T): T => {
          this.#life = life
          return run()
        }
        return {
          run: (given, context) => within(() => tool.run(given, context)),
          ...(tool.reconcile === undefined
            ? {}
            : { reconcile: (key, given) => within(() => (tool.reconcile as NonNullable<typeof tool.reconcile>)(key, given)) }),
        }
      },
    }
  }

  /** The process whose worker calls a tool at this moment. */
  #life!: Life

  #definitions(backend: string): readonly ToolDefinition[] {
    return (toolsOf[backend] ?? []).map(([name, is]) => {
      const definition = defineTool({
        name,
        description: `A tool that is ${is}.`,
        input,
        effect: is,
        timeoutMs: this.#world.random.pick([1500, 10_000, 45_000]),
        run: () => null,
        ...(is === "queryable" ? { reconcile: async () => ({ happened: false, forbidden: false }) } : {}),
      })
      return {
        ...definition,
        run: async (given: unknown, context: ToolContext) => {
          const life = this.#life
          await definition.run(given, context)
          const { sessionId, toolUseId, attempt, idempotencyKey: key } = context
          return this.run(
            { tool: name, class: is, sessionId, toolUseId, key, attempt, input: JSON.stringify(given) },
            life,
            context.signal,
            true,
          )
        },
        ...(is === "queryable" ? { reconcile: (key: string) => this.#reconcile(key, this.#life) } : {}),
      }
    })
  }

  /** One run: it may fail before, break off after, take long, hang; and its effect may happen after its process is gone. */
  run(job: Job, life: Life, signal: AbortSignal, kit: boolean): Promise<unknown> {
    const { time, random, faults, pace } = this.#world
    this.#world.began({ ...job, instance: life.instance }, kit)
    const question = this.#questions.get(job.key) ?? 0
    // The worst moment to die: the request is on its way and is carried out long after somebody else has taken the call over.
    const orphaned = faults.strikes("tool-orphaned", 0.15)
    const slow = faults.strikes("tool-slow", 0.3) || orphaned
    const before = slow ? random.int(500, 15_000) : random.int(1, 60 * pace)
    const after = faults.strikes("tool-slow", 0.2) ? random.int(500, 6000) : random.int(1, 60 * pace)
    const throws = !orphaned && faults.strikes("tool-throw", 0.3)
    const breaks = !throws && faults.strikes("tool-break", 0.15)
    const hangs = !orphaned && !throws && !breaks && faults.strikes("tool-hang", 0.15)
    const begins = !hangs || random.chance(0.5)
    const leaves = random.chance(0.5) || orphaned
    const heeds = random.chance(0.6)
    if (orphaned) this.#world.orphaned(life)
    return new Promise((resolve, reject) => {
      let stopped = false
      if (heeds) {
        const stop = (): void => {
          stopped = true
          reject(signal.reason)
        }
        if (signal.aborted) return stop()
        signal.addEventListener("abort", stop, { once: true })
      }
      if (throws) {
        const retryAfterMs = random.chance(0.6) ? random.int(0, 800) : null
        life.after(before, () => reject(new ToolError("Nothing was done.", { kind: "unavailable", effect: "none", retryAfterMs })))
        return
      }
      const act = (): void => {
        if (stopped && !leaves) return
        if (job.class === "queryable" && (this.#questions.get(job.key) ?? 0) !== question) {
          life.after(1, () => reject(new ToolError("Refused: it was asked about.", { kind: "conflict", effect: "none" })))
          return
        }
        this.#effect(job, life)
        if (hangs) return
        life.after(after, () => (breaks ? reject(new Error("The connection broke.")) : resolve({ tool: job.tool, key: job.key })))
      }
      if (!begins) return
      // A request that has left its process is carried out whatever becomes of the process.
      if (leaves) time.after(before, act)
      else life.after(before, act)
    })
  }

  #effect(job: Job, life: Life): void {
    const applied = job.class !== "keyed" || !this.#applied.has(job.key)
    this.#applied.add(job.key)
    this.#world.happened({ ...job, at: this.#world.time.now, instance: life.instance, applied })
  }

  async #reconcile(key: string, life: Life): Promise<Reconciled> {
    const { random, faults } = this.#world
    this.#world.questioned(key, life)
    await life.sleep(random.int(1, 40))
    if (faults.strikes("tool-break", 0.1)) throw new Error("The connection broke.")
    const happened = this.#applied.has(key)
    const forbids = random.chance(0.7)
    if (!happened && forbids) this.#questions.set(key, (this.#questions.get(key) ?? 0) + 1)
    await life.sleep(random.int(1, 40))
    return happened ? { happened: true, result: { adopted: key } } : { happened: false, forbidden: forbids }
  }
}
