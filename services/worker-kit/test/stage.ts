import { type ToolEvent, topicNames } from "@reins/events"
import { type Log, partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { type RunningProcess, readConfig, startProcess } from "@reins/runtime"
import type { Verdict } from "@reins/session"
import { type ToolDefinition, toolsBackend, worker } from "../src/index.ts"
import { backend } from "./given.ts"

const config = readConfig({ REINS_LOG_LEVEL: "silent", REINS_PARTITIONS: "4", REINS_DRAIN_MS: "50" })
const topic = topicNames(config.prefix).tools(backend)

interface Seen {
  readonly event: ToolEvent
  readonly verdict: Verdict
}

/** One worker process on the real runtime. */
export interface Worker {
  readonly instance: string
  readonly running: RunningProcess
  /** Dead at once, as by SIGKILL, and off the group's list. */
  kill(): void
}

/** A broker in memory, workers that run on it as they do in production, and a hand that plays the router. */
export class Stage implements AsyncDisposable {
  readonly #broker = new MemoryBroker()
  readonly #workers: Worker[] = []
  readonly #killed = new Set<Worker>()
  readonly #seen = new Map<string, Seen>()
  readonly #waiting = new Set<() => void>()
  #router: { readonly log: Log; readonly codec: Codec } | undefined

  /** Starts a worker of the backend with these tools, as a member of its group. */
  async start(instance: string, tools: readonly ToolDefinition[]): Promise<Worker> {
    const log: MemoryLog = this.#broker.connect()
    const opened = { log, codec: await Codec.open(this.#broker.registry) }
    const running = await startProcess({
      config,
      services: [backend],
      backends: [backend],
      build: ({ me }) => [worker(toolsBackend(backend, backend, tools), me)],
      instance,
      opened,
      failed: (error) => {
        throw error
      },
      observe: ({ event, verdict, topic: from }) => {
        if (from !== topic) return
        // What is folded first is what counts: another reader, or the same one after a rebalance, folds the same.
        if (!this.#seen.has(event.eventId)) this.#seen.set(event.eventId, { event: event as ToolEvent, verdict })
        for (const wake of this.#waiting) wake()
      },
    })
    const started: Worker = {
      instance,
      running,
      kill: () => {
        this.#killed.add(started)
        log.kill()
        log.expire()
      },
    }
    this.#workers.push(started)
    return started
  }

  /** Appends a record as the router would. */
  async send(event: ToolEvent): Promise<void> {
    this.#router ??= { log: this.#broker.connect(), codec: await Codec.open(this.#broker.registry) }
    const { log, codec } = this.#router
    await log.append({
      topic,
      partition: partitionOf(event.sessionId, config.partitions),
      key: () => `${event.sessionId}/${event.eventId}`,
      value: codec.encode("tools", event),
      headers: { type: event.type, session: event.sessionId },
      certainty: "once",
    })
  }

  /** What a fold has made of the records so far, in the order in which they were folded. */
  seen(toolUseId: string): readonly Seen[] {
    return [...this.#seen.values()].filter(({ event }) => event.toolUseId === toolUseId)
  }

  /** The first accepted result of this call. */
  finished(toolUseId: string): Promise<Extract<ToolEvent, { type: "tool-call.finished" }>> {
    return this.until(() => {
      for (const { event, verdict } of this.seen(toolUseId)) if (event.type === "tool-call.finished" && verdict === "accepted") return event
      return undefined
    })
  }

  /** Waits until something is so. */
  until<T>(look: () => T | undefined): Promise<T> {
    return new Promise((resolve) => {
      const wake = (): void => {
        const found = look()
        if (found === undefined) return
        this.#waiting.delete(wake)
        resolve(found)
      }
      this.#waiting.add(wake)
      wake()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#workers) {
      if (this.#killed.has(one)) {
        // A dead process has no timers and no runs; this one still has them, though nothing of it reaches the log.
        await one.running.loop.drain(0)
        continue
      }
      await one.running.stop()
      await one.running.log.close()
    }
    await this.#router?.log.close()
  }
}
