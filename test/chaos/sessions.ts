import type { AgentGiven } from "@reins/events"
import { faultsFrom } from "../fixtures/ledger-tools.ts"
import type { Random } from "../simulation/random.ts"
import { canaryOf, longText, modelOf, type Traits, traitsOf, windows } from "./traits.ts"

// What the sessions of a chaos run ask for, and when they are spoken to: drawn from the seed.

/** One command of a client, some time after the one before it was acknowledged. */
export interface Command {
  readonly afterMs: number
  readonly value: { readonly type: string; readonly commandId: string; readonly sessionId: string } & Readonly<Record<string, unknown>>
  /** Sent to a partition where the session does not live; intake is to forward it. */
  readonly misplaced: boolean
}

export interface PlannedSession {
  readonly sessionId: string
  readonly traits: Traits
  readonly startsAtMs: number
  readonly commands: readonly Command[]
}

/** Tools that people are asked about, in the sessions that ask. */
const asked: ReadonlySet<string> = new Set(["note", "ring", "refund"])

/** Tools whose effects a ledger knows. */
export const ledgered: ReadonlySet<string> = new Set(["look", "fix", "note", "charge", "ring", "get_order", "refund"])

export function chaosAgent(
  sessionId: string,
  ordersUrl: string,
  toolTimeoutMs: number,
  traits: Traits,
): Partial<AgentGiven> & { readonly model: string } {
  const { asks } = traits
  const model = modelOf(traits)
  const id = { type: "string" }
  const waiting = (name: string): object => ({
    ...(asks && asked.has(name) ? { permission: "always_ask" } : {}),
    ...(asks && name === "charge" ? { onUnknown: "hold" } : {}),
  })
  return {
    name: "chaos",
    model,
    contextTokens: windows[model],
    // A summary of summaries names nobody, and every body is to be its session's own.
    params: { metadata: { user_id: sessionId } },
    system: "You keep the house.",
    maxTokens: 1024,
    tools: [
      { name: "add", backend: "function" },
      { name: "page", backend: "classes" },
      ...["look", "fix", "note", "charge", "ring"].map((name) => ({ name, backend: "classes", ...waiting(name) })),
      ...(asks ? [{ name: clientTool, backend: "client", inputSchema: { type: "object", properties: { n: { type: "integer" } } } }] : []),
      {
        name: "get_order",
        description: "Looks an order up.",
        backend: "http",
        effect: "pure" as const,
        timeoutMs: toolTimeoutMs,
        inputSchema: { type: "object", properties: { id }, required: ["id"] },
        http: { method: "GET", url: `${ordersUrl}/orders/{id}` },
      },
      {
        name: "refund",
        description: "Refunds an order.",
        backend: "http",
        effect: "keyed" as const,
        timeoutMs: toolTimeoutMs,
        sideEffects: "moves money back to the customer",
        ...waiting("refund"),
        inputSchema: { type: "object", properties: { id, cents: { type: "integer", minimum: 1 } }, required: ["id", "cents"] },
        http: { method: "POST", url: `${ordersUrl}/orders/{id}/refund` },
      },
    ],
  }
}

/** What the client of a session runs itself. */
const clientTool = "count_cash"

const inputs: Readonly<Record<string, (n: number) => string>> = {
  add: (n) => `{"numbers":[${n},1000]}`,
  look: (n) => `{"n":${n}}`,
  fix: (n) => `{"n":${n}}`,
  note: (n) => `{"n":${n}}`,
  charge: (n) => `{"n":${n}}`,
  ring: (n) => `{"n":${n}}`,
  get_order: (n) => `{"id":"o${n}"}`,
  refund: (n) => `{"id":"o${n}","cents":${1 + n}}`,
  [clientTool]: (n) => `{"n":${n}}`,
}

/** So many of them, each at most once. */
function someOf<T>(random: Random, from: readonly T[], count: number): readonly T[] {
  const left = [...from]
  return Array.from({ length: Math.min(count, left.length) }, () => left.splice(random.int(0, left.length - 1), 1)[0] as T)
}

/** One call in so many of the tools that can be told to fail is told to. */
const faultEvery = 8

/** Numbers for calls: each kind of fault comes again and again, whatever the seed. */
class Numbers {
  readonly #random: Random
  #calls = 0
  #faults = 0

  constructor(random: Random) {
    this.#random = random
  }

  next(tool: string): number {
    if (!classTools.has(tool) || ++this.#calls % faultEvery !== 0) return this.#random.int(0, 99_999)
    return faultsFrom + this.#faults++
  }
}

const classTools: ReadonlySet<string> = new Set(["look", "fix", "note", "charge", "ring"])

/** A message that orders so many turns of calls. */
function prompt(random: Random, numbers: Numbers, sessionId: string, part: number, turns: number, { asks, narrow, large }: Traits): string {
  const known = Object.keys(inputs).filter((tool) => asks || tool !== clientTool)
  const groups = Array.from({ length: turns }, (_, turn) => {
    const calls = someOf(random, known, random.int(1, narrow ? 2 : 4)).map((tool) => `call ${tool} ${inputs[tool]?.(numbers.next(tool))}`)
    // One page of a narrow session is up to a third of what its model sees; one of a large session is more than a record holds.
    if (narrow) calls.unshift(page(random, 1500, 6000))
    if (large && turn === 0) calls.push(page(random, 280_000, 380_000))
    return `[[${calls.join("; ")}]]`
  })
  const said = `This is ${sessionId}, part ${part}, ${canaryOf(sessionId)} ${groups.join(" ")}`
  return large && random.chance(0.5) ? longText(`${said} And this is what it is about:`, random.int(270_000, 350_000)) : said
}

function page(random: Random, sizeMin: number, sizeMax: number): string {
  return `call page {"n":${random.int(0, 99_999)},"size":${random.int(sizeMin, sizeMax)}}`
}

export function planSessions(
  random: Random,
  options: {
    readonly sessions: number
    readonly spreadMs: number
    readonly prefix: string
    readonly agentOf: (sessionId: string, traits: Traits) => object
  },
): readonly PlannedSession[] {
  const numbers = new Numbers(random)
  return Array.from({ length: options.sessions }, (_, index) => {
    const sessionId = `sesn_${options.prefix}_${index}`
    const traits = traitsOf(index)
    const input = (part: number, turns: number): { type: string; text: string }[] => [
      { type: "text", text: prompt(random, numbers, sessionId, part, turns, traits) },
    ]
    const later: Command[] = []
    const then = (type: string, afterMs: number, more: object = {}): void => {
      const commandId = `${sessionId}-${later.length + 1}`
      later.push({ afterMs, value: { type, commandId, sessionId, ...more }, misplaced: false })
    }
    if (random.chance(0.15)) then("session.interrupt", 100 + random.int(0, 2999))
    if (random.chance(0.4)) then("message.send", 200 + random.int(0, 5999), { content: input(2, 1 + random.int(0, 1)) })
    if (random.chance(0.15)) then("message.send", random.int(0, 299), { content: input(3, 1) })
    // A summary leaves nothing of what was ordered, so that it takes a message to go on.
    if (traits.narrow) for (let part = 4; part < 7; part++) then("message.send", 500 + random.int(0, 5999), { content: input(part, 2) })
    if (traits.returns) then("message.send", 6000 + random.int(0, 14_000), { content: input(7, 1 + random.int(0, 1)) })
    if (random.chance(0.2)) then("session.end", 500 + random.int(0, 8999))
    const start: Command = {
      afterMs: 0,
      value: {
        type: "session.start",
        commandId: `${sessionId}-0`,
        sessionId,
        title: canaryOf(sessionId),
        agent: options.agentOf(sessionId, traits),
        input: input(1, 2 + random.int(0, 3)),
      },
      // What is forwarded may come after what is sent straight to its place, so such a session is only started.
      misplaced: later.length === 0 && !traits.doomed && random.chance(0.2),
    }
    return { sessionId, traits, startsAtMs: random.int(0, options.spreadMs - 1), commands: [start, ...later] }
  })
}

/** Those that are deleted. */
export function doomedIn(plans: readonly PlannedSession[]): ReadonlySet<string> {
  return new Set(plans.filter(({ traits }) => traits.doomed).map(({ sessionId }) => sessionId))
}

/** What someone says about a held call: mostly yes, sometimes no, and what the client's own tool came to. */
export function answerTo(
  random: Random,
  sessionId: string,
  held: { readonly eventId: string; readonly toolUseId: string; readonly reason: string; readonly argumentsHash: string },
): Command["value"] {
  const { eventId, toolUseId, reason, argumentsHash } = held
  const common = { commandId: `${sessionId}-answer-${eventId}`, sessionId, toolUseId }
  if (reason === "client" || (reason === "outcome_unknown" && random.chance(0.4)))
    return { ...common, type: "result.give", content: [{ type: "text", text: `Counted for ${toolUseId}.` }] }
  const isAllowed = random.chance(0.8)
  return {
    ...common,
    type: "approval.give",
    decision: isAllowed ? "allow" : "deny",
    argumentsHash,
    ...(isAllowed ? {} : { message: "Not now." }),
  }
}
