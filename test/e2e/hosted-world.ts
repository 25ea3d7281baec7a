import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import Anthropic from "@anthropic-ai/sdk"
import { type TopicNames, topicNames } from "@reins/events"
import { type Host, type HostOptions, startHost } from "@reins/host"
import { type LogRecord, partitionOf, type TopicSettings } from "@reins/log"
import { confluentRegistry } from "@reins/log/confluent"
import { type Config, newInstance, openLog, type ReadRecord, readConfig, SessionReader, topicSettings } from "@reins/runtime"
import type { Session } from "@reins/session"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { type Environment, until } from "./harness.ts"

/** How far a session has been read. */
interface Look {
  readonly reader: SessionReader
  readonly session: Session
  readonly records: readonly ReadRecord[]
}

export interface WorldOptions extends Partial<Omit<HostOptions, "failed" | "config">> {
  /** Other topics than usual, where the log is Kafka. */
  readonly topics?: (topic: TopicSettings, names: TopicNames) => TopicSettings
}

/** What a world is made of. */
interface Parts {
  readonly host: Host
  readonly model: SimulatedModel
  readonly env: Environment
  readonly config: Config
  readonly dir: string
  readonly options: Omit<HostOptions, "failed">
  readonly failures: Error[]
}

/** All services in this process, on the one log or the other, and the pen of a stranger who may write anything anywhere. */
export class HostedWorld {
  readonly names: TopicNames
  readonly model: SimulatedModel
  /** What another process needs to see the same world. */
  readonly env: Environment
  readonly config: Config
  /** Of the data: the log too, where it is embedded. Goes with the world. */
  readonly dir: string
  host: Host
  /** What stopped the host, if anything did: nothing that a stranger writes may. */
  readonly failures: Error[]
  readonly #options: Omit<HostOptions, "failed">
  readonly #looks = new Map<string, Promise<Look>>()
  #sessions = 0

  constructor({ host, model, env, config, dir, options, failures }: Parts) {
    this.host = host
    this.model = model
    this.env = env
    this.config = config
    this.dir = dir
    this.failures = failures
    this.names = topicNames(config.prefix)
    this.#options = options
  }

  /** `given`: the log, unless it is to be embedded, and whatever is to differ. */
  static async start<W extends HostedWorld>(
    this: new (
      parts: Parts,
    ) => W,
    given: Environment = {},
    { topics = (topic) => topic, ...hosted }: WorldOptions = {},
  ): Promise<W> {
    const dir = mkdtempSync(join(tmpdir(), "reins-hosted-"))
    const model = await startSimulatedModel()
    const env: Environment = {
      REINS_DATA: dir,
      REINS_PARTITIONS: "4",
      REINS_TOPIC_PREFIX: `hosted-${randomBytes(4).toString("hex")}`,
      REINS_LOG_LEVEL: "silent",
      REINS_DRAIN_MS: "500",
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "none",
      ...given,
    }
    const config = readConfig(env)
    if (config.kafka !== null) {
      const { log } = await openLog(config, newInstance("test"))
      const names = topicNames(config.prefix)
      await log.applyTopics(topicSettings(config.prefix, config.partitions).map((topic) => topics(topic, names)))
      await log.close()
    }
    const options = { ...hosted, config }
    const failures: Error[] = []
    const host = await startHost({ ...options, failed: (error) => void failures.push(error) })
    return new this({ host, model, env, config, dir, options, failures })
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
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** The unmodified SDK; needs a `gateway`. */
  client(): Anthropic {
    return new Anthropic({ baseURL: `http://127.0.0.1:${this.host.port}`, apiKey: "any", maxRetries: 0 })
  }

  /** An id that nobody has used, of a session that lives on this partition. */
  newSession(partition: number): string {
    for (;;) {
      const sessionId = `sesn_${this.#sessions++}`
      if (this.#partitionOf(sessionId) === partition) return sessionId
    }
  }

  #partitionOf(sessionId: string): number {
    return partitionOf(sessionId, this.config.partitions)
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

  /** Publishes a command of this session to where it belongs. */
  async command(sessionId: string, command: object): Promise<void> {
    await this.write(this.names.commands, this.#partitionOf(sessionId), JSON.stringify({ sessionId, ...command }), sessionId)
  }

  async startSession(sessionId: string, text: string, agent: object = {}): Promise<void> {
    const standard = { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "echo", backend: "function" }] }
    await this.command(sessionId, { type: "session.start", agent: { ...standard, ...agent }, input: [{ type: "text", text }] })
  }

  /** A schema that this build knows nothing of, as a later one may register it. Its id. */
  async foreignSchema(name: string, namespace: string): Promise<number> {
    const schema = JSON.stringify({ type: "record", name, namespace, fields: [{ name: "eventId", type: "string" }] })
    const subject = `${namespace}.${name}`
    const { kafka } = this.config
    if (kafka !== null) return confluentRegistry({ url: kafka.registryUrl }).register(subject, schema)
    const db = new DatabaseSync(join(this.dir, "reins.db"), { timeout: 5000 })
    const { lastInsertRowid } = db.prepare("INSERT INTO schemas (subject, schema) VALUES (?, ?)").run(subject, schema)
    db.close()
    return Number(lastInsertRowid)
  }

  /** What stands of the session now. Each look reads only what is new since the last one. */
  read(sessionId: string): Promise<{ readonly session: Session; readonly records: readonly ReadRecord[] }> {
    const look = async (before: Look | null): Promise<Look> => {
      const reader = before?.reader ?? (await this.#reader(sessionId))
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

  /** What stands on the first partition of a topic, without what stands in the blob store. */
  async records(topic: string = this.names.sessions): Promise<readonly LogRecord[]> {
    const found: LogRecord[] = []
    for await (const records of this.host.log.replay(topic, 0, 0, undefined, { bare: true })) found.push(...records)
    return found
  }

  deadLetters(): Promise<readonly LogRecord[]> {
    return this.records(this.names.deadLetters)
  }

  /** Folded from the beginning of the log as it stands, whatever was read of the session before. */
  async session(sessionId: string): Promise<Session> {
    const reader = await this.#reader(sessionId)
    await reader.read({ tools: false })
    return reader.session
  }

  async #reader(sessionId: string): Promise<SessionReader> {
    const reader = await SessionReader.open(this.host.log, this.host.codec, this.names.prefix, sessionId)
    if (reader === null) throw new Error("There is no session log.")
    return reader
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
