import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import type { TestContext } from "node:test"
import Anthropic from "@anthropic-ai/sdk"
import { type KeySaved, type SessionEvent, topicNames } from "@reins/events"
import { partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker, type MemoryLog } from "@reins/log/memory"
import { type Config, Metrics, readConfig, topicSettings } from "@reins/runtime"
import { pino } from "pino"
import { type Gateway, type GatewayOptions, startGateway } from "../src/index.ts"

const topics = topicNames("t")
const partitions = 2

/** A broker in memory with gateways on real sockets. Nothing beside them runs: nobody hears commands. */
export interface Stage {
  readonly broker: MemoryBroker
  readonly admin: MemoryLog
  readonly codec: Codec
  /** One more gateway, as another process would be. */
  open(options?: Partial<GatewayOptions>): Promise<Opened>
  /** Says a fact of a session, as the service would that says it. */
  say(event: SessionEvent): Promise<{ readonly partition: number; readonly offset: number }>
  /** A key of this tenant, as the CLI saves it. Resolves with the key. */
  key(tenant: string, id: string): Promise<string>
  revoke(tenant: string, id: string): Promise<void>
}

export interface Opened extends Gateway {
  readonly log: MemoryLog
  readonly metrics: Metrics
  readonly config: Config
  /** The unmodified SDK against it. */
  client(options?: ConstructorParameters<typeof Anthropic>[0]): Anthropic
}

export async function stage(t: TestContext): Promise<Stage> {
  const broker = new MemoryBroker()
  const admin = broker.connect()
  await admin.applyTopics(topicSettings("t", partitions, []))
  const codec = await Codec.open(broker.registry)
  let opened = 0
  const saveKey = async (tenant: string, id: string, eventId: string, revoked: boolean): Promise<void> => {
    const saved: KeySaved = {
      type: "key.saved",
      eventId,
      tenant,
      at: 0,
      by: "cli@test",
      id,
      name: id,
      hash: createHash("sha256").update(`rk_${id}`).digest("hex"),
      revoked,
    }
    await admin.append({
      topic: topics.keys,
      partition: 0,
      key: () => `${id}/${eventId}`,
      value: codec.encode("keys", saved),
      headers: { type: saved.type },
      certainty: "once",
    })
  }
  return {
    broker,
    admin,
    codec,
    say: async (event) => {
      const { sessionId, type } = event
      const partition = partitionOf(sessionId, partitions)
      const { offset } = await admin.append({
        topic: topics.sessions,
        partition,
        key: () => `${sessionId}/${event.eventId}`,
        value: codec.encode("sessions", event),
        headers: { type, session: sessionId },
        certainty: "once",
      })
      return { partition, offset }
    },
    open: async (options = {}) => {
      const log = broker.connect()
      const metrics = new Metrics("test")
      const config = readConfig({ REINS_TOPIC_PREFIX: "t", REINS_PARTITIONS: String(partitions) })
      const gateway = await startGateway({
        log,
        codec,
        config,
        metrics,
        logger: pino({ level: "silent" }),
        instance: `gateway-${opened++}`,
        access: "open",
        failed: (error) => {
          throw error
        },
        ...options,
      })
      t.after(() => gateway.stop())
      return {
        ...gateway,
        log,
        metrics,
        config,
        client: (given = {}) => new Anthropic({ baseURL: gateway.url, apiKey: "any", maxRetries: 0, ...given }),
      }
    },
    key: async (tenant, id) => {
      await saveKey(tenant, id, `evt_${id}_made`, false)
      return `rk_${id}`
    },
    revoke: (tenant, id) => saveKey(tenant, id, `evt_${id}_revoked`, true),
  }
}

/** The envelope of an error, as it comes over the wire. */
export interface ErrorBody {
  readonly type: string
  readonly error: { readonly type: string; readonly message: string; readonly details?: Readonly<Record<string, unknown>> }
  readonly request_id: string
}

/** That the API refuses this call: with this status, a sentence and a request id. */
export async function refused(call: PromiseLike<unknown>, status: number, says: RegExp): Promise<void> {
  await assert.rejects(
    async () => await call,
    (error) => {
      assert.ok(error instanceof Anthropic.APIError, String(error))
      assert.equal(error.status, status, error.message)
      assert.match((error.error as ErrorBody).error.message, says)
      assert.match(error.requestID ?? "", /^req_/)
      return true
    },
  )
}
