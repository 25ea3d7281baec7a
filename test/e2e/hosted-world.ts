import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type TopicNames, topicNames } from "@reins/events"
import { type Host, type HostOptions, startHost } from "@reins/host"
import { type LogRecord, partitionOf } from "@reins/log"
import { confluentRegistry } from "@reins/log/confluent"
import { newInstance, openLog, type ReadRecord, readConfig, SessionReader, topicSettings } from "@reins/runtime"
import type { Session } from "@reins/session"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { until } from "./harness.ts"

const partitions = 4

/** How far a session has been read. */
interface Look {
  readonly reader: SessionReader
  readonly session: Session
  readonly records: readonly ReadRecord[]
}

/** All services in this process, on the one log or the other, and the pen of a stranger who may write anything anywhere. */
export class HostedWorld {
  readonly names: TopicNames
  readonly model: SimulatedModel
  host: Host
  /** What stopped the host, if anything did: nothing that a stranger writes may. */
  readonly failures: Error[]
  readonly #options: Omit<HostOptions, "failed">
  readonly #dir: string
  readonly #looks = new Map<string, Promise<Look>>()
  #sessions = 0

  private constructor(host: Host, model: SimulatedModel, options: Omit<HostOptions, "failed">, dir: string, failures: Error[]) {
    this.host = host
    this.model = model
    this.failures = failures
    this.names = topicNames(options.config.prefix)
    this.#options = options
    this.#dir = dir
  }

  static async start(
    kafka: Readonly<Record<string, string>> | null,
    given: Partial<Omit<HostOptions, "failed" | "config">> = {},
  ): Promise<HostedWorld> {
    const dir = mkdtempSync(join(tmpdir(), "reins-bad-"))
    const model = await startSimulatedModel()
    const config = readConfig({
      ...kafka,
      REINS_DATA: dir,
      REINS_PARTITIONS: String(partitions),
      REINS_TOPIC_PREFIX: `bad-${randomBytes(4).toString("hex")}`,
      REINS_LOG_LEVEL: "silent",
      REINS_DRAIN_MS: "500",
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "none",
    })
    if (kafka !== null) {
      const { log } = await openLog(config, newInstance("test"))
      await log.applyTopics(topicSettings(config.prefix, config.partitions))
      await log.close()
    }
    const options = { ...given, config }
    const failures: Error[] = []
    const host = await startHost({ ...options, failed: (error) => void failures.push(error) })
    return new HostedWorld(host, model, options, dir, failures)
  }

  /** Stops in peace and starts again over the same log. */
  async restart(): Promise<void> {
    await this.host.stop()
    this.#looks.clear()
    this.host = await startHost({ ...this.#options, failed: (error) => void this.failures.push(error) })
  }

  async stop(): Promise<void> {
    await this.host.stop()
    await this.model.stop()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  /** An id that nobody has used, of a session that lives on this partition. */
  newSession(partition: number): string {
    for (;;) {
      const sessionId = `sesn_${this.#sessions++}`
      if (partitionOf(sessionId, partitions) === partition) return sessionId
    }
  }

  /** Writes a record as it is. */
  async write(
    topic: string,
    partition: number,
    value: Uint8Array | string | null,
    key: string | null,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const bytes = typeof value === "string" ? Buffer.from(value) : value
    const { offset } = await this.host.log.append({ topic, partition, key: () => key, value: bytes, headers, certainty: "always" })
    return offset
  }

  /** Publishes a command to where it belongs. */
  async command(sessionId: string, value: object): Promise<void> {
    await this.write(this.names.commands, partitionOf(sessionId, partitions), JSON.stringify(value), sessionId)
  }

  async startSession(sessionId: string, text: string, agent: object = {}): Promise<void> {
    const standard = { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "echo", backend: "function" }] }
    await this.command(sessionId, { type: "session.start", sessionId, agent: { ...standard, ...agent }, input: [{ type: "text", text }] })
  }

  /** A schema that this build knows nothing of, as a later one may register it. Its id. */
  async foreignSchema(name: string, namespace: string): Promise<number> {
    const schema = JSON.stringify({ type: "record", name, namespace, fields: [{ name: "eventId", type: "string" }] })
    const subject = `${namespace}.${name}`
    const { config } = this.#options
    if (config.kafka !== null) return confluentRegistry({ url: config.kafka.registryUrl }).register(subject, schema)
    const db = new DatabaseSync(join(this.#dir, "reins.db"), { timeout: 5000 })
    const { lastInsertRowid } = db.prepare("INSERT INTO schemas (subject, schema) VALUES (?, ?)").run(subject, schema)
    db.close()
    return Number(lastInsertRowid)
  }

  /** What stands of the session now. Each look reads only what is new since the last one. */
  read(sessionId: string): Promise<{ readonly session: Session; readonly records: readonly ReadRecord[] }> {
    const look = async (before: Look | null): Promise<Look> => {
      const reader = before?.reader ?? (await SessionReader.open(this.host.log, this.host.codec, this.names.prefix, sessionId))
      if (reader === null) throw new Error("There is no session log.")
      const records = [...(before?.records ?? []), ...(await reader.read({ tools: false }))]
      return { reader, session: reader.session, records }
    }
    const last = this.#looks.get(sessionId)
    const next = last === undefined ? look(null) : last.then(look)
    this.#looks.set(sessionId, next)
    return next
  }

  /** The values of the accepted records of one type, once there is one. */
  async said(sessionId: string, type: string, limitMs?: number): Promise<readonly Record<string, unknown>[]> {
    return until(
      async () => {
        const { records } = await this.read(sessionId)
        const found = records.filter((record) => record.type === type && record.verdict === "accepted")
        return found.length > 0 && found.map(({ value }) => value as Record<string, unknown>)
      },
      `${sessionId} says ${type}`,
      limitMs,
    )
  }

  /** Why a command was refused, where its sender looks. */
  async rejection(sessionId: string, commandId: string): Promise<{ readonly code: string; readonly message: string }> {
    return until(async () => {
      const { records } = await this.read(sessionId)
      const found = records.find(({ type, value }) => type === "command.rejected" && value?.["commandId"] === commandId)
      return found !== undefined && (found.value as unknown as { code: string; message: string })
    }, `${commandId} is rejected`)
  }

  async deadLetters(): Promise<readonly LogRecord[]> {
    const found: LogRecord[] = []
    for await (const records of this.host.log.replay(this.names.deadLetters, 0, 0)) found.push(...records)
    return found
  }

  /** A new session on this partition runs from its start to its end of turn, through a tool. */
  async checkHealthy(partition: number): Promise<void> {
    if (this.failures[0] !== undefined) throw this.failures[0]
    const sessionId = this.newSession(partition)
    await this.startSession(sessionId, `[[call echo {"text":"${sessionId}"}]]`)
    const [idled] = await this.said(sessionId, "session.idled")
    if (idled?.["reason"] !== "end_turn") throw new Error(`A healthy session came to ${JSON.stringify(idled)}`)
    const completed = await this.said(sessionId, "tool-call.completed")
    if (completed.length !== 1) throw new Error(`One call was made ${completed.length} times.`)
  }
}
