import type { EffectClass } from "@reins/events"
import type { Following, Log, LogRecord } from "@reins/log"
import type { Life } from "./life.ts"
import { type Tools, toolsOf } from "./tools.ts"

/** A worker by the one-page contract and without our kit: reads dispatches, runs them one by one, says `finished` in JSON, then commits. */
export class PlainWorker {
  readonly #log: Log
  readonly #life: Life
  readonly #tools: Tools
  readonly #topic: string
  readonly #queues = new Map<number, LogRecord[]>()
  #following: Following | undefined
  #said = 0

  constructor(log: Log, life: Life, tools: Tools, topic: string) {
    this.#log = log
    this.#life = life
    this.#tools = tools
    this.#topic = topic
  }

  async start(group: string): Promise<void> {
    this.#following = await this.#log.follow({
      group,
      instance: this.#life.instance,
      topics: [this.#topic],
      from: (_topic, _partition, committed) => committed?.offset ?? 0,
      assigned: (partition) => void this.#queues.set(partition, []),
      lost: (partition) => void this.#queues.delete(partition),
      records: (_topic, partition, records) => {
        const queue = this.#queues.get(partition)
        if (queue === undefined) return
        queue.push(...records)
        if (queue.length === records.length) void this.#work(partition, queue)
      },
    })
  }

  get idle(): boolean {
    return [...this.#queues.values()].every((queue) => queue.length === 0)
  }

  async stop(): Promise<void> {
    await this.#following?.stop()
    await this.#log.close()
  }

  async #work(partition: number, queue: LogRecord[]): Promise<void> {
    while (queue.length > 0 && this.#queues.get(partition) === queue) {
      const record = queue[0] as LogRecord
      if (record.headers["type"] === "tool-call.dispatched") await this.#run(record).catch(() => undefined)
      queue.shift()
      if (this.#queues.get(partition) !== queue) return
      await this.#following?.commit([{ topic: record.topic, partition, offset: record.offset + 1, note: "" }]).catch(() => undefined)
    }
  }

  async #run(record: LogRecord): Promise<void> {
    const dispatch = JSON.parse(Buffer.from(record.value as Uint8Array).toString("utf8"))
    const { aside } = record
    // What it cannot read it does not run; its deadline says the rest.
    if (aside !== undefined && "fault" in aside) return
    for (const [field, text] of Object.entries(aside?.texts ?? {})) dispatch[field] = JSON.parse(text)
    const { sessionId, toolUseId, attempt, tool, deadlineAt } = dispatch
    if (this.#life.wall() > deadlineAt) return
    const is = ((toolsOf["plain"] ?? []).find(([name]) => name === tool) as readonly [string, EffectClass])[1]
    const job = { tool, class: is, sessionId, toolUseId, key: dispatch.idempotencyKey, attempt, input: JSON.stringify(dispatch.arguments) }
    const signal = new AbortController()
    const stop = this.#life.after(5000, () => signal.abort(new Error("Too slow.")))
    let said: Record<string, unknown>
    try {
      const ran = this.#tools.run(job, this.#life, signal.signal, false)
      // A tool that hangs must not hold its partition up for ever.
      const gaveUp = new Promise<never>((_, reject) => void this.#life.after(6000, () => reject(new Error("It hangs."))))
      said = { content: await Promise.race([ran, gaveUp]) }
    } catch (error) {
      const { effect, retryAfterMs } = error as { effect?: string; retryAfterMs?: number | null }
      said = { outcome: "failed", message: (error as Error).message, effect: effect ?? "maybe", retryAfterMs: retryAfterMs ?? null }
    }
    stop()
    await this.#log.append({
      topic: record.topic,
      partition: record.partition,
      key: () => `${sessionId}/${this.#life.instance}-${this.#said++}`,
      value: Buffer.from(JSON.stringify({ type: "tool-call.finished", sessionId, toolUseId, attempt, ...said })),
      headers: { type: "tool-call.finished", session: sessionId },
      certainty: "always",
    })
  }
}
