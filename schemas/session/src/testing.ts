import {
  type Agent,
  type IdleReason,
  type SessionEvent,
  type SessionEventOf,
  sessionFacts,
  type Tool,
  type ToolEvent,
  type ToolEventOf,
  toolFacts,
} from "@reins/events"
import { continuation } from "./compaction.ts"
import { digestOf } from "./conversation.ts"
import { conversationWith } from "./evolve.ts"
import { asking, bodyVersion, requestBodyHash, requestParameters } from "./request-body.ts"
import type { Call, Known, Position, Session, Verdict } from "./session.ts"
import { SessionsFold } from "./sessions-fold.ts"
import { isStarted } from "./summary.ts"
import type { ToolCall } from "./tool-call.ts"
import { ToolsFold } from "./tools-fold.ts"

// For tests: facts with defaults, and a log that grows the way the services would make it grow. Pure like the rest of the
// package: it gives sessions from events, and what a test makes of them is the test's business.

/** A fact of the session log: its example, with these fields instead. */
export function fact<T extends SessionEvent["type"]>(type: T, fields: Partial<SessionEventOf<T>> = {}): SessionEventOf<T> {
  const definition = sessionFacts.find((one) => one.type === type)
  return { ...definition?.example, ...fields, type } as unknown as SessionEventOf<T>
}

/** A fact on the topic of a backend: its example, with these fields instead. */
export function toolFact<T extends ToolEvent["type"]>(type: T, fields: Partial<ToolEventOf<T>> = {}): ToolEventOf<T> {
  const definition = toolFacts.find((one) => one.type === type)
  return { ...definition?.example, ...fields, type } as unknown as ToolEventOf<T>
}

/** A tool of an agent: a pure function that takes any object, unless said otherwise. */
export function tool(name: string, fields: Partial<Tool> = {}): Tool {
  return {
    name,
    description: null,
    backend: "function",
    effect: "pure",
    timeoutMs: 5000,
    inputSchema: '{"type":"object"}',
    sideEffects: null,
    settings: null,
    claims: true,
    encoding: "avro",
    ...fields,
  }
}

/** An agent with these tools and limits that no test meets by chance. */
export function agent(tools: readonly Tool[] = [], fields: Partial<Agent> = {}): Agent {
  return {
    name: "support",
    model: "claude-sonnet-5-5",
    system: '"You help."',
    maxTokens: 1024,
    tools: [...tools],
    params: "{}",
    limits: { turns: 1000, toolCalls: 1000, outputTokens: 1_000_000_000, wallClockMs: 1_000_000_000 },
    ...fields,
  }
}

/** A tool_use block. */
export function toolUse(id: string, name: string, input: unknown = {}): unknown {
  return { type: "tool_use", id, name, input }
}

/** A text block. */
export function text(words: string): unknown {
  return { type: "text", text: words }
}

/** A record as it stands in a log, and what the fold made of it. */
export interface Told<E> {
  readonly event: E
  readonly at: Position
  readonly verdict: Verdict
}

/** One partition of the log, with all that its sessions share. */
interface Partition {
  readonly sessions: SessionsFold
  readonly records: Told<SessionEvent>[]
  readonly tools: Map<string, ToolsFold>
  readonly toolRecords: (Told<ToolEvent> & { readonly backend: string })[]
  now: number
  ids: number
  commands: number
}

function newPartition(): Partition {
  return { sessions: new SessionsFold(), records: [], tools: new Map(), toolRecords: [], now: 1_795_000_000_000, ids: 0, commands: 0 }
}

type Fields<T extends SessionEvent["type"]> = Partial<SessionEventOf<T>>
type ToolFields<T extends ToolEvent["type"]> = Partial<ToolEventOf<T>>

/**
 * One session's log as the services would write it: every method says the next fact that fits the state, with any field changed
 * that a test wants changed. `tell` and `tellTools` say anything at all.
 */
export class Story {
  readonly sessionId: string
  /** The instance that asks the model, and its group. */
  instance = "llm-invoker-1"
  group = "reins.llm-invoker"
  readonly #partition: Partition
  #draft: SessionEvent | null = null
  #drafting = false

  constructor(sessionId = "sesn_1", partition: Partition = newPartition()) {
    this.sessionId = sessionId
    this.#partition = partition
  }

  /** Another session of the same partition. */
  beside(sessionId: string): Story {
    return new Story(sessionId, this.#partition)
  }

  get sessions(): SessionsFold {
    return this.#partition.sessions
  }

  /** The records of the partition's `sessions`, and what the fold made of each. */
  get records(): readonly Told<SessionEvent>[] {
    return this.#partition.records
  }

  /** The records of the partition's tool topics. */
  get toolRecords(): readonly (Told<ToolEvent> & { readonly backend: string })[] {
    return this.#partition.toolRecords
  }

  get tools(): ReadonlyMap<string, ToolsFold> {
    return this.#partition.tools
  }

  /** Log time; every record moves it on by a millisecond. */
  get now(): number {
    return this.#partition.now
  }

  get session(): Session {
    return this.sessions.get(this.sessionId)
  }

  /** The session, which was started. */
  get known(): Known {
    const { session } = this
    if (!isStarted(session)) throw new Error("The story has no session.started yet, or is deleted.")
    return session
  }

  /** What the fold made of the newest record. */
  get verdict(): Verdict | undefined {
    return this.records.at(-1)?.verdict
  }

  get last(): SessionEvent {
    const told = this.records.at(-1)
    if (told === undefined) throw new Error("Nothing was told yet.")
    return told.event
  }

  /** Lets log time pass. */
  wait(ms: number): this {
    this.#partition.now += ms
    return this
  }

  /** The fact that `say` would add now, not yet in the log: what a zombie has in hand, or an append that lands late. */
  draft(say: (story: this) => unknown): SessionEvent {
    this.#drafting = true
    try {
      say(this)
    } finally {
      this.#drafting = false
    }
    if (this.#draft === null) throw new Error("Nothing was said.")
    return this.#draft
  }

  tell(event: SessionEvent): this {
    if (this.#drafting) {
      this.#draft = event
      return this
    }
    const partition = this.#partition
    const at = { offset: partition.records.length, timestamp: ++partition.now }
    partition.records.push({ event, at, verdict: partition.sessions.apply(event, at) })
    return this
  }

  tellTools(backend: string, event: ToolEvent): this {
    const partition = this.#partition
    let fold = partition.tools.get(backend)
    if (fold === undefined) {
      fold = new ToolsFold()
      partition.tools.set(backend, fold)
    }
    const at = { offset: partition.toolRecords.filter((told) => told.backend === backend).length, timestamp: ++partition.now }
    partition.toolRecords.push({ backend, event, at, verdict: fold.apply(event, at) })
    return this
  }

  started(given: Agent = agent(), fields: Fields<"session.started"> = {}): this {
    return this.tell(fact("session.started", { ...this.#by("start"), agent: given, input: JSON.stringify([text("Begin.")]), ...fields }))
  }

  message(words: string, fields: Fields<"message.received"> = {}): this {
    return this.tell(fact("message.received", { ...this.#by("message"), content: JSON.stringify([text(words)]), ...fields }))
  }

  interrupted(fields: Fields<"interrupt.received"> = {}): this {
    return this.tell(fact("interrupt.received", { ...this.#by("interrupt"), ...fields }))
  }

  ended(fields: Fields<"session.ended"> = {}): this {
    return this.tell(fact("session.ended", { ...this.#by("end"), ...fields }))
  }

  resumed(fields: Fields<"session.resumed"> = {}): this {
    return this.tell(fact("session.resumed", { ...this.#by("resume"), ...fields }))
  }

  rejected(fields: Fields<"command.rejected"> = {}): this {
    return this.tell(fact("command.rejected", { ...this.#by("reject"), ...fields }))
  }

  parked(fields: Fields<"session.parked"> = {}): this {
    return this.tell(fact("session.parked", { ...this.#envelope(), ...fields }))
  }

  /** The next turn's request, the retry of a failed one, or the takeover of an open one. */
  requested(fields: Fields<"model.requested"> = {}): this {
    const { session, known } = this
    const compacts = fields.compacts ?? null
    const again = session.phase === "awaiting-model" && (compacts === null || session.compaction !== undefined)
    const takes = again ? 0 : known.queued.length
    const conversation = again ? known.conversation : conversationWith(known, compacts === null ? takes : 0)
    const asked = asking(known.agent, conversation, compacts)
    return this.tell(
      fact("model.requested", {
        ...this.#envelope(again ? session.request.claim : (known.response ?? known.startedBy)),
        turn: again ? known.turns : known.turns + 1,
        attempt: again ? session.request.attempt + 1 : 1,
        takes,
        replaces: again && session.request.state.is === "open" ? session.request.claim : null,
        group: this.group,
        instance: this.instance,
        parameters: requestParameters(asked.agent),
        conversationDigest: digestOf(conversation),
        bodyHash: requestBodyHash(asked.agent, asked.conversation),
        bodyVersion,
        ...fields,
      }),
    )
  }

  responded(content: readonly unknown[], fields: Fields<"model.responded"> = {}): this {
    const asksForTools = content.some((block) => (block as { type?: unknown } | null)?.type === "tool_use")
    return this.tell(
      fact("model.responded", {
        ...this.#answer(),
        content: JSON.stringify(content),
        stopReason: asksForTools ? "tool_use" : "end_turn",
        ...fields,
      }),
    )
  }

  /** The summary that was asked for stands for the conversation. */
  compacted(fields: Fields<"context.compacted"> = {}): this {
    const { session, known } = this
    if (session.phase !== "awaiting-model") throw new Error(`Nobody asked the model: the session is ${session.phase}.`)
    return this.tell(
      fact("context.compacted", {
        ...this.#envelope(known.response),
        turn: known.turns,
        claim: session.request.claim,
        conversationDigest: digestOf(known.conversation),
        utterances: known.conversation?.length ?? 0,
        content: continuation(session.compaction?.summary ?? ""),
        ...fields,
      }),
    )
  }

  modelFailed(fields: Fields<"model.failed"> = {}): this {
    return this.tell(fact("model.failed", { ...this.#answer(), ...fields }))
  }

  refused(toolUseId: string, fields: Fields<"tool-call.refused"> = {}): this {
    const call = this.call(toolUseId)
    return this.tell(fact("tool-call.refused", { ...this.#envelope(this.known.response), toolUseId, tool: call.tool, ...fields }))
  }

  dispatched(toolUseId: string, fields: Fields<"tool-call.dispatched"> = {}): this {
    const call = this.call(toolUseId)
    const given = this.known.agent.tools.find((one) => one.name === call.tool) ?? tool(call.tool)
    return this.tell(
      fact("tool-call.dispatched", {
        ...this.#envelope(this.known.response),
        toolUseId,
        tool: call.tool,
        attempt: call.attempt + 1,
        backend: given.backend,
        effect: given.effect,
        deadlineMs: given.timeoutMs,
        idempotencyKey: `${this.sessionId}/${toolUseId}`,
        ...fields,
      }),
    )
  }

  completed(toolUseId: string, content: unknown = "done", fields: Fields<"tool-call.completed"> = {}): this {
    return this.tell(fact("tool-call.completed", { ...this.#outcome(toolUseId), content: JSON.stringify(content), ...fields }))
  }

  failed(toolUseId: string, fields: Fields<"tool-call.failed"> = {}): this {
    return this.tell(fact("tool-call.failed", { ...this.#outcome(toolUseId), ...fields }))
  }

  timedOut(toolUseId: string, fields: Fields<"tool-call.timed-out"> = {}): this {
    return this.tell(fact("tool-call.timed-out", { ...this.#outcome(toolUseId), ...fields }))
  }

  outcomeUnknown(toolUseId: string, fields: Fields<"tool-call.outcome-unknown"> = {}): this {
    return this.tell(fact("tool-call.outcome-unknown", { ...this.#outcome(toolUseId), ...fields }))
  }

  /** Ends the turn for the reason that is due. */
  idled(reason?: IdleReason, fields: Fields<"session.idled"> = {}): this {
    const { session } = this
    const due = reason ?? (session.phase === "settling" ? session.reason : "limit_reached")
    const causedBy = session.phase === "idle" ? (session.queued.at(-1)?.eventId ?? null) : this.known.response
    return this.tell(fact("session.idled", { ...this.#envelope(causedBy), turn: this.known.turns, reason: due, ...fields }))
  }

  /** The dispatch as its worker gets it. */
  sent(toolUseId: string, fields: ToolFields<"tool-call.dispatched"> = {}): this {
    const { call, state } = this.#open(toolUseId)
    return this.tellTools(
      state.backend,
      toolFact("tool-call.dispatched", {
        ...this.#envelope(state.eventId),
        toolUseId,
        tool: call.tool,
        attempt: call.attempt,
        effect: state.effect,
        idempotencyKey: state.idempotencyKey,
        arguments: call.input,
        deadlineAt: state.deadlineAt,
        sessionOffset: state.offset,
        settings: null,
        ...fields,
      }),
    )
  }

  claimed(toolUseId: string, fields: ToolFields<"tool-call.claimed"> = {}): this {
    const { backend, call } = this.#sent(toolUseId)
    const replaces = call.claim?.claim ?? null
    return this.tellTools(
      backend,
      toolFact("tool-call.claimed", {
        ...this.#envelope(replaces ?? call.dispatch?.eventId ?? null),
        toolUseId,
        attempt: call.attempt,
        group: `reins.tool-workers/${backend}`,
        instance: "worker-1",
        replaces,
        ...fields,
      }),
    )
  }

  finished(toolUseId: string, fields: ToolFields<"tool-call.finished"> = {}): this {
    const { backend, call } = this.#sent(toolUseId)
    const claim = call.claim?.claim ?? null
    return this.tellTools(
      backend,
      toolFact("tool-call.finished", {
        ...this.#envelope(claim ?? call.dispatch?.eventId ?? null),
        toolUseId,
        attempt: call.attempt,
        claim,
        content: '"done"',
        ...fields,
      }),
    )
  }

  cancelled(toolUseId: string, fields: ToolFields<"tool-call.cancelled"> = {}): this {
    const { backend, call } = this.#sent(toolUseId)
    return this.tellTools(
      backend,
      toolFact("tool-call.cancelled", {
        ...this.#envelope(),
        toolUseId,
        attempt: call.attempt,
        deadlineAt: call.deadlineAt,
        ...fields,
      }),
    )
  }

  call(toolUseId: string): Call {
    const call = this.known.calls.find((one) => one.toolUseId === toolUseId)
    if (call === undefined) throw new Error(`The model asked for no call ${toolUseId}.`)
    return call
  }

  toolCall(toolUseId: string): ToolCall {
    return this.#sent(toolUseId).call
  }

  #open(toolUseId: string): { readonly call: Call; readonly state: Extract<Call["state"], { is: "dispatched" }> } {
    const call = this.call(toolUseId)
    if (call.state.is !== "dispatched") throw new Error(`The call ${toolUseId} is ${call.state.is}, not dispatched.`)
    return { call, state: call.state }
  }

  #sent(toolUseId: string): { readonly backend: string; readonly call: ToolCall } {
    for (const [backend, fold] of this.tools) {
      const call = fold.get(this.sessionId, toolUseId)
      if (call !== undefined) return { backend, call }
    }
    throw new Error(`The call ${toolUseId} is on no tool topic.`)
  }

  #envelope(causedBy: string | null = null): { eventId: string; sessionId: string; causedBy: string | null } {
    return { eventId: `evt_${++this.#partition.ids}`, sessionId: this.sessionId, causedBy }
  }

  #by(name: string): { eventId: string; sessionId: string; commandId: string; command: { partition: number; offset: number } } {
    const offset = this.#partition.commands++
    return { ...this.#envelope(), commandId: `${name}-${offset}`, command: { partition: 0, offset } }
  }

  /** What an answer to the open request carries. */
  #answer(): { eventId: string; sessionId: string; causedBy: string | null; claim: string; turn: number; attempt: number } {
    const { session } = this
    if (session.phase !== "awaiting-model") throw new Error(`Nobody asked the model: the session is ${session.phase}.`)
    const { claim, attempt } = session.request
    return { ...this.#envelope(claim), claim, turn: session.turns, attempt }
  }

  /** What an outcome of the open attempt carries. */
  #outcome(toolUseId: string): { eventId: string; sessionId: string; causedBy: string | null; toolUseId: string; attempt: number } {
    const { call, state } = this.#open(toolUseId)
    return { ...this.#envelope(state.eventId), toolUseId, attempt: call.attempt }
  }
}

/**
 * given(what happened).when(what decides).then(what is checked): the shape of every test of a decision.
 * `decides` gets the story, from which a service's test makes the view that its decision looks at.
 */
export function given(tell: (story: Story) => unknown): {
  when<R>(decides: (story: Story) => R): { then(check: (result: R, story: Story) => void): void }
} {
  const story = new Story()
  tell(story)
  return {
    when: (decides) => {
      const result = decides(story)
      return { then: (check) => check(result, story) }
    },
  }
}
