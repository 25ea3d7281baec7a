import type { Envelope, ModelPreviewed, SessionEvent, ToolEvent, TopicNames } from "@reins/events"
import { type Certainty, erasesHeader, type Log, type LogRecord, type Placed } from "@reins/log"
import { type Codec, encodeToolJson } from "@reins/log/codec"
import type { Clock } from "./clock.ts"
import type { Metrics } from "./metrics.ts"
import type { Draft } from "./service.ts"
import { wellFormed } from "./well-formed.ts"

/** What a fact inherits from its session, and the service that says it. */
export interface Origin {
  readonly tenant: string
  readonly traceparent: string | null
  readonly by: string
}

/** Where and as whom facts are said. */
export interface SpeakerOptions {
  readonly log: Log
  readonly codec: Codec
  readonly metrics: Metrics
  readonly clock: Clock
  readonly topics: TopicNames
  readonly instance: string
  readonly idPrefix: string
}

/** Says facts: stamps the envelope, encodes, appends under a new key each time. Decides nothing and folds nothing. */
export class Speaker {
  readonly #to: SpeakerOptions
  #ids = 0

  constructor(to: SpeakerOptions) {
    this.#to = to
  }

  /** Unique: random per start of the process, counted within. */
  id(): string {
    return `${this.#to.idPrefix}${(this.#ids++).toString(36).padStart(6, "0")}`
  }

  topicOf(draft: Draft): string {
    return draft.on === "sessions" ? this.#to.topics.sessions : this.#to.topics.tools(draft.backend)
  }

  stamp(sessionId: string, { event }: Draft, origin: Origin): SessionEvent | ToolEvent {
    const envelope: Envelope = {
      eventId: `evt_${this.id()}`,
      sessionId,
      tenant: origin.tenant,
      at: this.#to.clock.wall(),
      by: `${origin.by}@${this.#to.instance}`,
      causedBy: event.causedBy ?? null,
      traceparent: origin.traceparent,
    }
    return wellFormed({ ...event, ...envelope })
  }

  async send(partition: number, draft: Draft, event: SessionEvent | ToolEvent, certainty: Certainty): Promise<Placed> {
    const { sessionId, traceparent } = event
    const topic = this.topicOf(draft)
    const headers: Record<string, string> = { type: event.type, session: sessionId }
    if (traceparent !== null) headers["traceparent"] = traceparent
    const isJson = draft.on === "tools" && draft.encoding === "json"
    const placed = await this.#to.log.append({
      topic,
      partition,
      key: () => `${sessionId}/${this.id()}`,
      value: isJson ? encodeToolJson(event as ToolEvent) : this.#to.codec.encode(draft.on, event),
      headers,
      certainty,
    })
    this.#to.metrics.appended.inc(topic, event.type)
    return placed
  }

  /** A tombstone erases the one record whose key it has. Sent until it stands: its order among those of its session is what tells how far they have come. */
  async erase(sessionId: string, { topic, partition, key, offset }: LogRecord): Promise<Placed> {
    const placed = await this.#to.log.append({
      topic,
      partition,
      key: () => key,
      value: null,
      headers: { session: sessionId, [erasesHeader]: String(offset) },
      certainty: "until-withdrawn",
    })
    this.#to.metrics.appended.inc(topic, "tombstone")
    return placed
  }

  /** Whether the log took it. A preview is no fact: it has no envelope, is tried once, and whatever becomes of it harms nothing. */
  async preview(partition: number, said: ModelPreviewed): Promise<boolean> {
    const { log, codec, metrics, topics } = this.#to
    const { type, sessionId } = said
    try {
      await log.append({
        topic: topics.deltas,
        partition,
        key: () => sessionId,
        value: codec.encode("deltas", wellFormed(said)),
        headers: { type, session: sessionId },
        certainty: "once",
      })
    } catch {
      return false
    }
    metrics.appended.inc(topics.deltas, type)
    return true
  }
}
