import assert from "node:assert/strict"
import type { EffectClass, ToolEvent, ToolEventOf } from "@reins/events"
import type { Intent, View } from "@reins/runtime"
import { absent, evolveToolCall, type ToolCall, ToolsFold, type Verdict } from "@reins/session"
import { decide, giveUp, type Run } from "../src/decide.ts"

export const backend = "shop"
export const sessionId = "sesn_1"
export const group = "reins.shop"
/** Log time of the first dispatch, and how long its call may take. */
export const beganAt = 1_000_000
export const deadlineMs = 5000

let ids = 0

function envelope(): Pick<ToolEvent, "eventId" | "sessionId" | "tenant" | "at" | "by" | "causedBy" | "traceparent"> {
  return { eventId: `evt_${++ids}`, sessionId, tenant: "acme", at: 0, by: "someone@test", causedBy: null, traceparent: null }
}

export function dispatched(
  effect: EffectClass,
  over: Partial<ToolEventOf<"tool-call.dispatched">> = {},
): ToolEventOf<"tool-call.dispatched"> {
  return {
    ...envelope(),
    type: "tool-call.dispatched",
    toolUseId: "toolu_1",
    tool: "refund",
    attempt: 1,
    effect,
    idempotencyKey: `${sessionId}/toolu_1`,
    arguments: '{"id":"17"}',
    deadlineAt: beganAt + deadlineMs,
    sessionOffset: 3,
    settings: null,
    ...over,
  }
}

export function claimed(instance: string, over: Partial<ToolEventOf<"tool-call.claimed">> = {}): ToolEventOf<"tool-call.claimed"> {
  return { ...envelope(), type: "tool-call.claimed", toolUseId: "toolu_1", attempt: 1, group, instance, replaces: null, ...over }
}

export function finished(claim: string | null, over: Partial<ToolEventOf<"tool-call.finished">> = {}): ToolEventOf<"tool-call.finished"> {
  return {
    ...envelope(),
    type: "tool-call.finished",
    toolUseId: "toolu_1",
    attempt: 1,
    claim,
    outcome: "completed",
    content: '"done"',
    isError: false,
    kind: null,
    message: null,
    effect: "done",
    retryAfterMs: null,
    ...over,
  }
}

export function cancelled(over: Partial<ToolEventOf<"tool-call.cancelled">> = {}): ToolEventOf<"tool-call.cancelled"> {
  return {
    ...envelope(),
    type: "tool-call.cancelled",
    toolUseId: "toolu_1",
    attempt: 1,
    reason: "deadline",
    deadlineAt: beganAt + deadlineMs,
    ...over,
  }
}

/** A log of one backend's topic as some worker has read it, and what that worker has appended beyond. */
export class Topic {
  readonly fold: ToolsFold = new ToolsFold()
  readonly #pending: ToolEvent[] = []
  #offset = 0

  /** Reads a record; the log gave it this time. */
  read(event: ToolEvent, timestamp: number = beganAt): Verdict {
    return this.fold.apply(event, { offset: this.#offset++, timestamp })
  }

  /** Appended by the worker that looks, and not yet read back. */
  pending(...events: readonly ToolEvent[]): this {
    this.#pending.push(...events)
    return this
  }

  /** What the worker `instance` sees. */
  view(
    instance: string,
    over: {
      readonly now?: number
      readonly gone?: readonly string[]
      readonly givenUp?: readonly string[]
      readonly begun?: readonly string[]
      readonly on?: string
    } = {},
  ): View {
    const { now = beganAt, gone = [], givenUp = [], begun = [], on = backend } = over
    return {
      sessionId,
      now,
      group,
      instance,
      session: absent,
      settled: absent,
      sessionsNext: 0,
      unread: false,
      standing: null,
      toolCall: (_, toolUseId) => this.fold.get(sessionId, toolUseId),
      openToolCalls: () => this.#openCalls(on, now),
      declaration: () => undefined,
      declarationsOf: () => [],
      gone: (_, who) => gone.includes(who),
      givenUp: (claim) => givenUp.includes(claim),
      begun: (key) => begun.includes(key),
    }
  }

  decide(instance: string, over: Parameters<Topic["view"]>[1] = {}): readonly Intent<Run>[] {
    return decide(this.view(instance, over), backend)
  }

  giveUp(instance: string, over: Parameters<Topic["view"]>[1] = {}): ReturnType<typeof giveUp> {
    return giveUp(this.view(instance, over), backend)
  }

  *#openCalls(on: string, now: number): Iterable<{ backend: string; call: ToolCall | undefined; ahead: ToolCall }> {
    const toolUseIds = new Set([...this.fold.openOf(sessionId)].map((call) => call.toolUseId))
    for (const event of this.#pending) if (event.type === "tool-call.dispatched") toolUseIds.add(event.toolUseId)
    for (const toolUseId of toolUseIds) {
      const call = this.fold.get(sessionId, toolUseId)
      let ahead = call
      for (const event of this.#pending) {
        if (event.toolUseId === toolUseId) ahead = evolveToolCall(ahead, event, { offset: -1, timestamp: now }).call
      }
      if (ahead !== undefined) yield { backend: on, call, ahead }
    }
  }
}

export function given(...events: readonly ToolEvent[]): Topic {
  const topic = new Topic()
  for (const event of events) assert.equal(topic.read(event), "accepted", event.type)
  return topic
}

/** The one thing that is to be done, which must be to say something. */
export function said(intents: readonly Intent<Run>[]): ToolEvent {
  assert.equal(intents.length, 1, JSON.stringify(intents))
  const [intent] = intents
  assert.ok(intent?.do === "append" && intent.on === "tools", JSON.stringify(intent))
  assert.equal(intent.backend, backend)
  return { ...envelope(), ...intent.event }
}

/** The one thing that is to be done, which must be an effect. */
export function effectOf(intents: readonly Intent<Run>[]): Extract<Intent<Run>, { do: "perform" }> {
  assert.equal(intents.length, 1, JSON.stringify(intents))
  const [intent] = intents
  assert.ok(intent?.do === "perform", JSON.stringify(intent))
  return intent
}
