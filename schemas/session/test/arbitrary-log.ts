import { type Definition, type SessionEvent, sessionFacts } from "@reins/events"
import { agent, Story, type Told, text, tool, toolUse } from "@reins/session/testing"
import fc from "fast-check"
import { allDone, allHeld, type Call, isStarted } from "../src/index.ts"
import { allow, archive, deny, hold, remove, result, update } from "./answers.ts"

// Logs as they come about, and worse: a scheduler that does what the services would do, holds facts back until they are out of
// date (zombies, late appends), writes them twice, alters them, and mixes in any fact that fits its schema. A log is made of small
// choices, so that fast-check can make a failing one short.

type Choice =
  /** What would come next. */
  | { readonly do: "next"; readonly session: number; readonly which: number }
  /** The same, but held back. */
  | { readonly do: "hold"; readonly session: number; readonly which: number }
  | { readonly do: "release"; readonly which: number }
  | { readonly do: "repeat"; readonly which: number }
  | { readonly do: "alter"; readonly which: number; readonly how: number }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "any"; readonly event: SessionEvent }

const sessionIds = ["sesn_a", "sesn_b", "sesn_c"]
const which = fc.nat({ max: 1000 })

function plausibleIn(session: fc.Arbitrary<number>): fc.Arbitrary<Choice> {
  return fc.oneof(
    { weight: 14, arbitrary: fc.record({ do: fc.constant("next" as const), session, which }) },
    ...[
      fc.record({ do: fc.constant("hold" as const), session, which }),
      fc.record({ do: fc.constant("release" as const), which }),
      fc.record({ do: fc.constant("repeat" as const), which }),
      fc.record({ do: fc.constant("alter" as const), which, how: which }),
      fc.record({ do: fc.constant("wait" as const), ms: fc.nat({ max: 20_000 }) }),
    ].map((arbitrary: fc.Arbitrary<Choice>) => ({ weight: 2, arbitrary })),
  )
}

const plausible = plausibleIn(fc.nat({ max: sessionIds.length - 1 }))

const tools = [
  tool("add"),
  tool("refund", { backend: "http", effect: "unsafe", onUnknown: "hold" }),
  tool("pay", { backend: "http", effect: "unsafe", permission: "always_ask" }),
  tool("look", { permission: "always_ask", onUnknown: "hold" }),
  tool("weather", { backend: "client", effect: "unsafe", claims: false }),
]

type Course = (story: Story) => unknown

/** Says what was thought of beforehand: an answer takes its place among the commands when it is given, also one that is held back. */
const tells =
  (event: SessionEvent): Course =>
  (story) =>
    story.tell(event)

const changes: readonly unknown[] = [
  { title: "Order 17" },
  { title: null, metadata: { customer: "7" } },
  { profile: { name: "support" } },
  { title: 7, metadata: [] },
  [],
]

/** What is asked of a whole session, now and then. */
function closing(story: Story): readonly Course[] {
  const changed = changes[story.records.length % changes.length]
  const given = story.records.length % 3 === 0 ? [tool("add", { description: "Adds." }), tool("pay")] : null
  return [tells(update(story, changed, given)), tells(archive(story)), tells(remove(story))]
}

/** What may be said of a call that nobody has answered yet: by the router first, then by whoever it waits for. */
function answers(story: Story, { toolUseId, state }: Call): readonly Course[] {
  const ofPeople = [
    tells(allow(story, toolUseId)),
    tells(allow(story, toolUseId)),
    tells(deny(story, toolUseId, story.records.length % 2 === 0 ? null : "No.")),
    tells(result(story, toolUseId, [text("17")])),
  ]
  switch (state.is) {
    case "wanted":
      return [tells(hold(story, toolUseId, "approval")), tells(hold(story, toolUseId, "client")), ...ofPeople]
    case "held":
      return [...ofPeople, tells(allow(story, toolUseId, { causedBy: story.known.response })), tells(result(story, toolUseId, []))]
    case "dispatched":
      return [tells(hold(story, toolUseId, "outcome_unknown"))]
    case "done":
      return []
    default:
      return state satisfies never
  }
}

/** The facts that fit a session now: the plain course first. */
function courses(story: Story): readonly Course[] {
  const { session } = story
  const message: Course = (story) => story.message("More.")
  // Seldom what closes a session: nothing comes after it.
  const atLast = story.records.length % 7 === 0 && isStarted(session) ? closing(story) : []
  const anyTime: readonly Course[] = [
    message,
    (story) => story.interrupted(),
    (story) => story.rejected(),
    (story) => story.parked(),
    ...atLast,
  ]
  if (isStarted(session) && session.phase !== "ended" && session.phase !== "parked" && session.breach !== null)
    return [(story) => story.parked(), ...anyTime]
  switch (session.phase) {
    case "absent":
      return [
        (story) => story.started(agent(tools)),
        (story) => story.started(agent(tools)),
        (story) => story.started(agent(tools), { input: null }),
        (story) => story.rejected(),
      ]
    case "ended":
      return [(story) => story.rejected(), ...atLast]
    case "deleted":
      return [(story) => story.rejected(), message, (story) => story.started(agent(tools)), (story) => story.ended()]
    case "parked":
      return [
        (story) => story.resumed(),
        (story) => story.resumed(),
        message,
        (story) => story.interrupted(),
        (story) => story.ended(),
        ...session.calls.slice(0, 1).flatMap(({ toolUseId }) => [tells(allow(story, toolUseId)), tells(result(story, toolUseId, []))]),
        ...atLast,
      ]
    case "idle":
      return session.wake
        ? [
            (story) => story.requested(),
            (story) => story.requested(),
            (story) => story.requested({ compacts: 0 }),
            (story) => story.idled("limit_reached"),
            ...anyTime,
          ]
        : [message, message, ...anyTime, (story) => story.ended()]
    case "settling":
      return [
        (story) => story.idled(),
        (story) => story.idled(),
        (story) => story.idled(),
        (story) => story.requested({ compacts: 2000 }),
        ...anyTime,
      ]
    case "awaiting-model":
      if (session.request.state.is === "failed")
        return [
          (story) => story.requested(),
          (story) => story.requested(session.compaction === undefined ? {} : { compacts: 2000 }),
          (story) => story.requested({ compacts: 2000 }),
          (story) => story.idled("retries_exhausted"),
          ...anyTime,
        ]
      if (session.request.state.is === "answered")
        return [
          (story) => story.compacted(),
          (story) => story.compacted(),
          (story) => story.compacted({ conversationDigest: "0".repeat(64) }),
          ...anyTime,
        ]
      if (session.compaction !== undefined)
        return [
          (story) => story.responded([text("They spoke of orders.")]),
          (story) => story.responded([text("They spoke of")], { stopReason: "max_tokens" }),
          (story) => story.responded([toolUse("toolu_1", "add")]),
          (story) => story.responded([text("They")], { stopReason: "model_context_window_exceeded" }),
          (story) => story.responded([], { content: "no JSON" }),
          (story) => story.modelFailed({ kind: "request_too_large", retryable: false }),
          (story) => story.requested({ instance: "llm-invoker-2", compacts: session.compaction?.budget ?? null }),
          ...anyTime,
        ]
      return [
        (story) => story.responded([text("Let me see."), toolUse("toolu_1", "add", { n: 1 }), toolUse("toolu_2", "refund", {})]),
        (story) => story.responded([toolUse(`toolu_${story.known.turns}`, "add", { n: 1 })]),
        (story) => story.responded([toolUse("toolu_1", "pay", { cents: 5 }), toolUse("toolu_2", "weather")]),
        (story) => story.responded([toolUse("toolu_1", "weather"), toolUse("toolu_2", "refund")]),
        (story) => story.responded([toolUse("toolu_1", "look"), toolUse("toolu_2", "pay", { cents: 5 })]),
        (story) => story.responded([text("Done.")]),
        (story) => story.responded([]),
        (story) => story.responded([{ type: "server_tool_use", id: "s1" }], { stopReason: "pause_turn" }),
        (story) => story.responded([toolUse("toolu_1", "add", {})], { stopReason: "max_tokens" }),
        (story) => story.responded([text("And so"), toolUse("toolu_1", "add", {})], { stopReason: "model_context_window_exceeded" }),
        (story) => story.responded([toolUse("toolu_1", "add"), toolUse("toolu_1", "add")]),
        (story) => story.responded([], { content: "no JSON" }),
        (story) => story.modelFailed({ retryAfterMs: 500 }),
        (story) => story.modelFailed({ kind: "given_up", retryAfterMs: 0 }),
        // A takeover.
        (story) => story.requested({ instance: "llm-invoker-2" }),
        ...anyTime,
      ]
    case "awaiting-tools": {
      const calls = session.calls.flatMap((call): readonly Course[] => {
        const { toolUseId, state } = call
        if (state.is === "done") return []
        const said = answers(story, call)
        if (state.is === "held") return said
        if (state.is === "wanted")
          return [
            (story) => story.dispatched(toolUseId),
            (story) => story.dispatched(toolUseId),
            (story) => story.refused(toolUseId),
            ...said,
          ]
        return [
          ...said,
          (story) => story.completed(toolUseId, "17"),
          (story) => story.completed(toolUseId, [text("17")], { isError: true }),
          (story) => story.failed(toolUseId, { retryAfterMs: 400 }),
          (story) => story.failed(toolUseId, { retryAfterMs: 400, effect: "maybe" }),
          (story) => story.failed(toolUseId, { retryAfterMs: null }),
          (story) => story.timedOut(toolUseId, { retryAfterMs: 500 }),
          (story) => story.outcomeUnknown(toolUseId),
        ]
      })
      const done = allDone(session.calls)
        ? [
            (story: Story): unknown => story.requested(),
            (story: Story): unknown => story.requested(),
            (story: Story): unknown => story.requested({ compacts: 0 }),
          ]
        : []
      const waits: readonly Course[] = allHeld(session.calls)
        ? [(story) => story.idled("requires_action"), (story) => story.idled("requires_action")]
        : []
      return [...calls, ...calls, ...done, ...waits, ...anyTime]
    }
    default:
      return session satisfies never
  }
}

/** Fields by which a fact says what it answers; each altered to what another record might have said. */
const alterations: readonly ((event: SessionEvent) => object)[] = [
  (event) => ("attempt" in event ? { attempt: event.attempt + 1 } : {}),
  (event) => ("attempt" in event ? { attempt: event.attempt - 1 } : {}),
  (event) => ("turn" in event ? { turn: event.turn + 1 } : {}),
  (event) => ("claim" in event ? { claim: "evt_0" } : {}),
  (event) => ("replaces" in event ? { replaces: event.replaces === null ? "evt_0" : null } : {}),
  (event) => ("takes" in event ? { takes: event.takes + 1 } : {}),
  (event) => ("conversationDigest" in event ? { conversationDigest: "0".repeat(64) } : {}),
  (event) => ("toolUseId" in event ? { toolUseId: "toolu_9" } : {}),
  () => ({ causedBy: "evt_0" }),
  (event) => ("argumentsHash" in event ? { argumentsHash: "0".repeat(64) } : {}),
  (event) => (event.type === "tool-call.held" ? { reason: "of a later version" } : {}),
  (event) => ("command" in event ? { command: { ...event.command, offset: event.command.offset + 1 } } : {}),
  (event) => ("commandId" in event ? { commandId: `${event.commandId}x` } : {}),
  () => ({ sessionId: sessionIds[0] as string }),
]

function play(picked: readonly Choice[], begin: Course = () => undefined): Log {
  const first = new Story(sessionIds[0])
  begin(first)
  const stories = [first, ...sessionIds.slice(1).map((id) => first.beside(id))]
  const held: SessionEvent[] = []
  const at = <T>(list: readonly T[], index: number): T | undefined => list[index % Math.max(1, list.length)]
  for (const choice of picked) {
    switch (choice.do) {
      case "next":
      case "hold": {
        const story = stories[choice.session] as Story
        const course = at(courses(story), choice.which)
        if (course === undefined) break
        if (choice.do === "next") course(story)
        else held.push(story.draft(course))
        break
      }
      case "release": {
        const event = at(held, choice.which)
        if (event !== undefined) first.tell(event)
        break
      }
      case "repeat": {
        const told = at(first.records, choice.which)
        if (told !== undefined) first.tell(told.event)
        break
      }
      case "alter": {
        const told = at(first.records.slice(-4), choice.which)
        const alter = at(alterations, choice.how) as (typeof alterations)[number]
        if (told !== undefined) first.tell({ ...told.event, ...alter(told.event) })
        break
      }
      case "wait":
        first.wait(choice.ms)
        break
      case "any":
        first.tell(choice.event)
        break
      default:
        choice satisfies never
    }
  }
  // fast-check prints a failing log by this: a record a line, no more than what tells it from its neighbours.
  return { records: first.records, sessionIds, [fc.toStringMethod]: () => first.records.map(line).join("\n") }
}

function line({ event, at, verdict }: Told<SessionEvent>): string {
  const { sessionId, type, eventId, causedBy, tenant: _, at: __, by: ___, traceparent: ____, ...rest } = event
  return `${at.offset} ${sessionId} ${type} ${eventId}<-${causedBy} ${verdict} ${JSON.stringify(rest).slice(0, 120)}`
}

export interface Log {
  readonly records: readonly Told<SessionEvent>[]
  readonly sessionIds: readonly string[]
  [fc.toStringMethod](): string
}

/** Logs of several sessions in one partition, with everything that the services and their zombies may write. */
export const plausibleLog: fc.Arbitrary<Log> = fc
  .array(plausible, { minLength: 10, maxLength: 80, size: "max" })
  .map((picked) => play(picked))

/** Logs of one session that begins with a call of every kind that someone is asked about: what otherwise seldom comes about. */
export const answeredLog: fc.Arbitrary<Log> = fc
  .array(plausibleIn(fc.constant(0)), { minLength: 10, maxLength: 60, size: "max" })
  .map((picked) =>
    play(picked, (story) =>
      story
        .started(agent(tools))
        .requested()
        .responded(["pay", "look", "weather", "refund"].map((name, n) => toolUse(`toolu_${n + 1}`, name, { n }))),
    ),
  )

interface ZodDef {
  readonly type: string
  readonly innerType?: unknown
  readonly element?: unknown
  readonly shape?: Readonly<Record<string, unknown>>
  readonly entries?: Readonly<Record<string, string>>
}

const ids = fc.integer({ min: 0, max: 12 }).map((n) => `evt_${n}`)
const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`
const texts = fc.constantFrom(
  "[]",
  "{}",
  '"x"',
  '[{"type":"text","text":"Hi."}]',
  '[{"type":"tool_use","id":"toolu_1","name":"add","input":{"n":1}}]',
  '[{"type":"tool_use","id":"toolu_1"}]',
  "[null,3]",
  '[{"type":"tool_use","id":"toolu_2","name":"add"},{"type":"tool_use","id":"toolu_2","name":"add"}]',
  `[{"type":"tool_use","id":"toolu_3","name":"add","input":${deep}}]`,
  deep,
  "",
  "]",
  "no JSON",
  "\ud800",
)
/** Words that mean something to the fold, so that a record at random is not always beside the point. */
const words: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  sessionId: fc.constantFrom(...sessionIds),
  eventId: ids,
  causedBy: fc.option(ids),
  claim: ids,
  replaces: fc.option(ids),
  commandId: fc.constantFrom("start-0", "message-1", "x", "y"),
  toolUseId: fc.constantFrom("toolu_1", "toolu_2", "toolu_3"),
  stopReason: fc.option(fc.constantFrom("tool_use", "end_turn", "max_tokens", "pause_turn", "refusal", "of a later version")),
  reason: fc.constantFrom(
    "end_turn",
    "interrupted",
    "limit_reached",
    "retries_exhausted",
    "requires_action",
    "approval",
    "client",
    "outcome_unknown",
    "of a later version",
  ),
  changes: fc.constantFrom(
    ...["title", "metadata", "profile", "x"].map((name) => `{"${name}":{"a":${deep}}}`),
    '{"title":"x"}',
    "[]",
    "",
    deep,
  ),
  tools: fc.option(
    fc.constantFrom(
      "[]",
      "[null]",
      '[{"name":"add","inputSchema":"{}"}]',
      '[{"name":"add","inputSchema":"[]"}]',
      `[{"name":"add","inputSchema":"{}","x":${deep}}]`,
      `[{"name":"add","inputSchema":${JSON.stringify(`{"a":${deep}}`)}}]`,
      deep,
    ),
  ),
}

/** Anything that the Avro print of a schema lets through: also what its zod pen would not, such as a negative count. */
function arbitraryOf(schema: unknown, name: string): fc.Arbitrary<unknown> {
  const { def } = (schema as { readonly _zod: { readonly def: ZodDef } })._zod
  const word = words[name]
  // An agent has a list of this name.
  if (word !== undefined && def.type !== "array") return word
  const json = ((schema as { meta(): { content?: string } | undefined }).meta()?.content ?? "") === "json"
  switch (def.type) {
    case "string":
      return json ? texts : fc.oneof(fc.string({ maxLength: 5 }), fc.constant(""), fc.constant("__proto__"))
    case "boolean":
      return fc.boolean()
    case "number":
      return fc.oneof({ weight: 6, arbitrary: fc.integer({ min: -1, max: 4 }) }, { weight: 1, arbitrary: fc.maxSafeInteger() })
    case "enum":
      return fc.constantFrom(...Object.keys(def.entries ?? {}))
    case "nullable":
      return fc.option(arbitraryOf(def.innerType, name))
    case "optional":
      return fc.option(arbitraryOf(def.innerType, name), { nil: undefined })
    case "array":
      return fc.array(arbitraryOf(def.element, ""), { maxLength: 2 })
    case "object":
      return objectOf(def.shape ?? {})
    default:
      throw new Error(`No arbitrary for zod ${def.type} at ${name}.`)
  }
}

function objectOf(shape: Readonly<Record<string, unknown>>): fc.Arbitrary<object> {
  return fc.record(Object.fromEntries(Object.entries(shape).map(([name, schema]) => [name, arbitraryOf(schema, name)])), {
    noNullPrototype: true,
  })
}

/** Any fact of the session log. */
export const anyFact: fc.Arbitrary<SessionEvent> = fc.oneof(
  ...(sessionFacts as unknown as readonly Definition[]).map(({ type, schema }) =>
    arbitraryOf(schema, "").map((fields) => ({ ...(fields as object), type }) as unknown as SessionEvent),
  ),
)

/** Plausible logs with any fact at all among their records. */
export const hostileLog: fc.Arbitrary<Log> = fc
  .array(fc.oneof({ weight: 3, arbitrary: plausible }, { weight: 1, arbitrary: anyFact.map((event): Choice => ({ do: "any", event })) }), {
    minLength: 10,
    maxLength: 80,
    size: "max",
  })
  .map((picked) => play(picked))
