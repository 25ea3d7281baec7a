import { randomBytes } from "node:crypto"
import type { BetaManagedAgentsAgent } from "@anthropic-ai/sdk/resources/beta/agents/agents"
import type { BetaEnvironment } from "@anthropic-ai/sdk/resources/beta/environments/environments"
import type { AgentSaved, EnvironmentSaved, KeySaved, TopicNames } from "@reins/events"
import { AppendRejectedError, type Following, type Log, type LogRecord } from "@reins/log"
import { type Codec, decodeRecord } from "@reins/log/codec"
import { type AgentEntry, DirectoryFold, type EnvironmentEntry, type KeyEntry, type Verdict } from "@reins/session"
import { ApiError, unavailable } from "../http/errors.ts"
import { learn } from "../projection/learn.ts"
import { iso } from "../projection/rereader.ts"
import { ReadPlace } from "../read-place.ts"

type Fact = AgentSaved | EnvironmentSaved

export interface DirectoryOptions {
  readonly log: Log
  readonly codec: Codec
  readonly topics: TopicNames
  readonly instance: string
  readonly answerTimeoutMs: number
  readonly failed: (error: Error) => void
}

/** Agents, environments and API keys, followed into memory. The gateways are the writers of agents and environments; the fold decides between them. */
export class Directory {
  readonly fold: DirectoryFold = new DirectoryFold()
  readonly #options: DirectoryOptions
  readonly #saving = new Map<string, { readonly promise: Promise<Verdict>; readonly resolve: (verdict: Verdict) => void }>()
  readonly #places: { readonly agents: ReadPlace; readonly keys: ReadPlace }
  readonly #behind = new Set<string>()
  #following: readonly Following[] = []
  #stopped = false

  constructor(options: DirectoryOptions) {
    this.#options = options
    const { log, topics, answerTimeoutMs } = options
    const placeIn = (topic: string): ReadPlace => new ReadPlace(log, topic, answerTimeoutMs)
    this.#places = { agents: placeIn(topics.agents), keys: placeIn(topics.keys) }
  }

  async start(): Promise<void> {
    const { log, topics, instance, failed } = this.#options
    const follow = async (topic: string, family: "agents" | "keys"): Promise<Following> => {
      this.#behind.add(topic)
      const standing = (await log.bounds(topic))[0]?.end ?? 0
      return await log.follow({
        instance: `${instance}-${family}`,
        topics: [topic],
        records: (_topic, _partition, records) => this.#read(family, records),
        caughtUp: () => {
          this.#behind.delete(topic)
          this.#places[family].reached(0, standing)
        },
        failed,
      })
    }
    this.#following = await Promise.all([follow(topics.agents, "agents"), follow(topics.keys, "keys")])
  }

  ready(): boolean {
    return this.#behind.size === 0
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#following.map((following) => following.stop()))
  }

  /** Resolves when every save that stands in the log now is known here. Throws 503 where that cannot be found out. */
  async caughtUp(): Promise<void> {
    await this.#places.agents.caughtUp()
  }

  /** Appends a save and resolves with what the fold makes of it. Throws 503 where that cannot be found out. */
  async save(fact: Fact): Promise<Verdict> {
    const { log, codec, topics, answerTimeoutMs } = this.#options
    const known = this.fold.verdictOf(fact.eventId)
    if (known !== undefined) return known
    const saving = this.#saving.get(fact.eventId)
    if (saving !== undefined) return await saving.promise
    const { promise, resolve, reject } = Promise.withResolvers<Verdict>()
    this.#saving.set(fact.eventId, { promise, resolve })
    const timer = setTimeout(
      () => reject(unavailable("The log has not answered in time. The same request sent again has no second effect.")),
      answerTimeoutMs,
    )
    log
      .append({
        topic: topics.agents,
        partition: 0,
        key: () => `${fact.id}/${randomBytes(8).toString("hex")}`,
        value: codec.encode("agents", fact),
        headers: { type: fact.type },
        certainty: "once",
      })
      .catch((error: unknown) => {
        if (error instanceof AppendRejectedError)
          reject(new ApiError(413, "request_too_large", `The log does not take this: ${error.message}`))
        // Where the outcome is unknown it may have landed, and reading tells.
      })
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#saving.delete(fact.eventId)
    }
  }

  async #read(family: "agents" | "keys", records: readonly LogRecord[]): Promise<void> {
    const { codec } = this.#options
    for (const record of records) {
      if (record.value !== null) {
        let decoded = decodeRecord(codec, family, record)
        if (!decoded.ok && "unknownSchema" in decoded) {
          await learn(codec, decoded.unknownSchema, () => this.#stopped)
          decoded = decodeRecord(codec, family, record)
        }
        if (decoded.ok) {
          const fact = decoded.said as unknown as Fact | KeySaved
          this.fold.apply(fact, record.timestamp)
          const verdict = this.fold.verdictOf(fact.eventId)
          if (verdict !== undefined) this.#saving.get(fact.eventId)?.resolve(verdict)
        }
      }
      this.#places[family].reached(0, record.offset + 1)
    }
  }

  // --- what the resources look like

  entryOfAgent(tenant: string, id: string): AgentEntry | null {
    const entry = this.fold.agents.get(id)
    return entry === undefined || entry.tenant !== tenant ? null : entry
  }

  /** A version of an agent, the newest unless given; null where there is none of this tenant. */
  agent(tenant: string, id: string, version?: number): BetaManagedAgentsAgent | null {
    const entry = this.entryOfAgent(tenant, id)
    return entry === null ? null : agentResource(entry, version)
  }

  entryOfEnvironment(tenant: string, id: string): EnvironmentEntry | null {
    const entry = this.fold.environments.get(id)
    return entry === undefined || entry.tenant !== tenant ? null : entry
  }

  environment(tenant: string, id: string): BetaEnvironment | null {
    const entry = this.entryOfEnvironment(tenant, id)
    return entry === null ? null : environmentResource(entry)
  }

  /** The key with this hash that is not revoked. One that is unknown may have been made a moment ago. */
  async key(hash: string): Promise<KeyEntry | null> {
    const known = this.fold.keyOf(hash)
    if (known !== null) return known
    await this.#places.keys.caughtUp()
    return this.fold.keyOf(hash)
  }
}

export function agentResource(entry: AgentEntry, version?: number): BetaManagedAgentsAgent | null {
  const one = version === undefined ? entry.versions.at(-1) : entry.versions[version - 1]
  if (one === undefined) return null
  return {
    ...(JSON.parse(one.agent) as Omit<BetaManagedAgentsAgent, "id" | "type" | "version" | "created_at" | "updated_at" | "archived_at">),
    id: entry.id,
    type: "agent",
    version: one.version,
    created_at: iso(entry.createdAt),
    updated_at: iso(one.savedAt),
    archived_at: entry.archivedAt === null ? null : iso(entry.archivedAt),
  }
}

export function environmentResource(entry: EnvironmentEntry): BetaEnvironment {
  return {
    ...(JSON.parse(entry.environment) as Omit<BetaEnvironment, "id" | "type" | "created_at" | "updated_at" | "archived_at">),
    id: entry.id,
    type: "environment",
    created_at: iso(entry.createdAt),
    updated_at: iso(entry.changedAt),
    archived_at: entry.archivedAt === null ? null : iso(entry.archivedAt),
  }
}
