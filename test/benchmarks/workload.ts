import process from "node:process"
import type { Model } from "@reins/llm-invoker"
import { type Log, partitionOf } from "@reins/log"
import { type Backend, defineTool, toolsBackend } from "@reins/worker-kit"
import { z } from "zod"

// The workload of every shape: a turn is one model call and one tool call. The model answers at once from inside the process, so that what is
// measured is the harness; the tool is `unsafe`, the class with the most records. About 500 bytes a record, as in the floor.

const asked = '"tool_use_id":"toolu_'
const padding = "x".repeat(300)

/** Asks for one tool call a turn until the conversation holds `turns` of them. Knows nothing but the request, like any model. */
export function instantModel(turns: number): Model {
  return {
    provider: "bench",
    ask: async ({ body }) => {
      // The number of the last call answered, read from the end: the model must not cost more than the harness.
      const last = body.lastIndexOf(asked)
      const done = last < 0 ? 0 : Number.parseInt(body.slice(last + asked.length), 10) + 1
      const usage = { inputTokens: 100, outputTokens: 20, cacheReadTokens: 0, cacheWriteTokens: 0 }
      const common = { message: '{"type":"message","role":"assistant"}', model: "bench", usage, requestId: null }
      if (done >= turns) return { ...common, content: '[{"type":"text","text":"Done."}]', stopReason: "end_turn" }
      return {
        ...common,
        content: JSON.stringify([{ type: "tool_use", id: `toolu_${done}`, name: "work", input: { n: done, padding } }]),
        stopReason: "tool_use",
      }
    },
  }
}

/** The one tool: does nothing, answers at once. */
export function benchBackend(): Backend {
  const work = defineTool({
    name: "work",
    description: "Does nothing.",
    input: z.object({ n: z.number(), padding: z.string() }),
    effect: "unsafe",
    run: () => padding,
  })
  return toolsBackend("tool-workers/bench", "bench", [work])
}

/** Publishes the command that starts one session of the workload, and waits for nothing. */
export function publishStart(log: Log, commandsTopic: string, partitions: number, sessionId: string, turns: number): void {
  const command = {
    type: "session.start",
    commandId: `start-${sessionId}`,
    sessionId,
    agent: {
      name: "bench",
      model: "bench",
      tools: [{ name: "work", backend: "bench" }],
      limits: { turns: turns + 10, toolCalls: turns + 10, outputTokens: 1_000_000_000 },
    },
    input: [{ type: "text", text: "Go." }],
  }
  void log.append({
    topic: commandsTopic,
    partition: partitionOf(sessionId, partitions),
    key: () => sessionId,
    value: Buffer.from(JSON.stringify(command)),
    headers: {},
    certainty: "always",
  })
}

/** What a run of S sessions × N turns came to. */
export interface Figures {
  readonly sessions: number
  readonly turns: number
  readonly turnsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** CPU of the measuring process per turn, which noise of the machine moves less than time. */
  readonly cpuMsPerTurn: number
}

/** Collects when each turn of each session ended. */
export class Stopwatch {
  readonly #sessions: number
  readonly #turns: number
  readonly #last = new Map<string, number>()
  readonly #latencies: number[] = []
  readonly #done = new Set<string>()
  #began = 0
  #ended = 0
  #cpu = process.cpuUsage()
  #cpuUs = 0
  #finish: () => void = () => undefined
  readonly finished: Promise<void>

  constructor(sessions: number, turns: number) {
    this.#sessions = sessions
    this.#turns = turns
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  begin(): void {
    this.#began = performance.now()
    this.#cpu = process.cpuUsage()
  }

  /** A turn of this session begins, the first or the next; its number is counted from 1. */
  turn(sessionId: string, turn: number): void {
    const now = performance.now()
    const before = this.#last.get(sessionId)
    this.#last.set(sessionId, now)
    if (before !== undefined) this.#latencies.push(now - before)
    if (turn > this.#turns && !this.#done.has(sessionId)) {
      this.#done.add(sessionId)
      if (this.#done.size === this.#sessions) {
        this.#ended = now
        const { user, system } = process.cpuUsage(this.#cpu)
        this.#cpuUs = user + system
        this.#finish()
      }
    }
  }

  figures(): Figures {
    const sorted = this.#latencies.sort((a, b) => a - b)
    const at = (share: number): number => Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(2))
    return {
      sessions: this.#sessions,
      turns: this.#turns,
      turnsPerSecond: Math.round((this.#sessions * this.#turns) / ((this.#ended - this.#began) / 1000)),
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      cpuMsPerTurn: Number((this.#cpuUs / 1000 / this.#sessions / this.#turns).toFixed(3)),
    }
  }
}
