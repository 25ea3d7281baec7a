// Who tells the story: every call to the API goes through here, so that every answer is held to the SDK's types and a harness can kill and
// restart what it likes between any two calls.

import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import Anthropic from "@anthropic-ai/sdk"
import { accumulateManagedAgentsEvent } from "@anthropic-ai/sdk/lib/sessions/accumulate"
import type { AgentCreateParams, BetaManagedAgentsAgent, BetaManagedAgentsCustomToolParams } from "@anthropic-ai/sdk/resources/beta/agents"
import type { BetaEnvironment } from "@anthropic-ai/sdk/resources/beta/environments"
import type {
  BetaManagedAgentsEventParams,
  BetaManagedAgentsSendSessionEvents,
  BetaManagedAgentsSession,
  BetaManagedAgentsSessionEvent,
  EventListParams,
  SessionCreateParams,
} from "@anthropic-ai/sdk/resources/beta/sessions"
import type { OrdersLine } from "./orders.ts"
import { expectExactShape, expectShape, isObject } from "./shapes.ts"

// oxlint-disable-next-line typescript/no-explicit-any -- A class of errors, however it is made.
type ErrorClass = abstract new (...args: any[]) => Error

/** A generation of the SDK: the same methods, other classes. Everything that the story does not ask of the client itself. */
export interface Sdk {
  readonly name: string
  readonly errors: {
    readonly badRequest: ErrorClass
    readonly authentication: ErrorClass
    readonly notFound: ErrorClass
    readonly conflict: ErrorClass
  }
  readonly accumulate: typeof accumulateManagedAgentsEvent
  /** Events that this SDK does not know and therefore drops from a stream. */
  readonly droppedFromStreams: readonly string[]
}

export const newestSdk: Sdk = {
  name: "the newest SDK",
  errors: {
    badRequest: Anthropic.BadRequestError,
    authentication: Anthropic.AuthenticationError,
    notFound: Anthropic.NotFoundError,
    conflict: Anthropic.ConflictError,
  },
  accumulate: accumulateManagedAgentsEvent,
  droppedFromStreams: [],
}

/** What a harness gives to the story beside the client. */
export interface StoryContext {
  /** Default: the one that this package is tested with. */
  readonly sdk?: Sdk
  /** Is awaited before every call, with its name: the place to kill and restart. What it resolves with must answer again. */
  readonly between?: (call: string) => Promise<void>
  /** The lines that the backend `orders` has written (ORDERS_LEDGER), where the harness can read them. */
  readonly effects?: () => readonly OrdersLine[]
  /** A client whose key nobody knows; only where keys are asked for. */
  readonly unknownKey?: Anthropic
  /** A client of another tenant; only where there are tenants. */
  readonly stranger?: Anthropic
  /** How long anything may take that must happen. Far above what it takes: it ends a fault, not a busy machine. */
  readonly patienceMs?: number
}

/** A piece of the story that stands alone: it makes what it needs, and holds with any other before it. */
export interface Step {
  readonly name: string
  /** It reads a connection by hand, which nobody reopens after a kill. */
  readonly ofOneConnection?: true
  run(): Promise<void>
}

interface Refusal {
  readonly status: number | readonly number[]
  readonly errorCode?: string
  readonly message?: RegExp
}

export interface Opened {
  readonly agent: BetaManagedAgentsAgent
  readonly environment: BetaEnvironment
  readonly session: BetaManagedAgentsSession
}

export class Teller {
  readonly client: Anthropic
  readonly context: StoryContext
  readonly sdk: Sdk
  readonly patienceMs: number
  /** Streams that are open; a step that fails leaves its own behind. */
  readonly streams: Set<{ letGo(): void }> = new Set()

  constructor(client: Anthropic, context: StoryContext) {
    this.client = client
    this.context = context
    this.sdk = context.sdk ?? newestSdk
    this.patienceMs = context.patienceMs ?? 60_000
  }

  /** A step that ends with nothing left open, also where it fails. */
  step({ name, run }: Step): Step {
    return {
      name,
      run: async () => {
        try {
          await run()
        } finally {
          for (const stream of this.streams) stream.letGo()
          this.streams.clear()
        }
      },
    }
  }

  async call<T>(name: string, make: () => PromiseLike<T>): Promise<T> {
    await this.context.between?.(name)
    return make()
  }

  /** A call whose answer must be exactly of this type of the SDK. */
  async answer<T>(name: string, type: string, make: () => PromiseLike<T>): Promise<T> {
    const value = await this.call(name, make)
    assert.ok(isObject(value), `${name} answered ${JSON.stringify(value)}`)
    held(name, type, value)
    assert.match(value["_request_id"] as string, /^req_\w+$/, `${name}: the answer has no request-id`)
    return value
  }

  /** A call for one page; what is checked is the body as it came. */
  async page<T>(name: string, type: string, make: () => PromiseLike<T>): Promise<T> {
    const page = await this.call(name, make)
    held(name, type, (page as unknown as { readonly body: unknown }).body)
    return page
  }

  /** A call that must be refused, with the class, the body and the request id that belong to the status. */
  async refused(name: string, { status, errorCode, message }: Refusal, make: () => PromiseLike<unknown>): Promise<void> {
    const thrown: unknown = await this.call(name, make).then(
      (value) => assert.fail(`${name} was not refused but answered ${JSON.stringify(value)}`),
      (error: unknown) => error,
    )
    const error = thrown as { status?: number; error?: unknown; requestID?: string | null }
    const allowed: readonly number[] = typeof status === "number" ? [status] : status
    assert.ok(
      error.status !== undefined && allowed.includes(error.status),
      `${name} was to be refused with ${String(status)}: ${String(thrown)}`,
    )
    const { errors } = this.sdk
    const classes = new Map<number, ErrorClass>([
      [400, errors.badRequest],
      [401, errors.authentication],
      [404, errors.notFound],
      [409, errors.conflict],
    ])
    const expected = classes.get(error.status)
    if (expected !== undefined) assert.ok(thrown instanceof expected, `${name}: ${String(thrown)} is no ${expected.name}`)
    assert.match(error.requestID ?? "", /^req_\w+$/, `${name}: the refusal has no request id`)
    const body = error.error
    expectShape("BetaErrorResponse", body)
    const { request_id, error: inner } = body as {
      request_id: string
      error: { type: string; message: string; details?: { error_code?: string } }
    }
    assert.equal(request_id, error.requestID, `${name}: header and body name different requests`)
    assert.notEqual(inner.message, "", `${name}: a refusal without a word`)
    if (error.status === 404) assert.equal(inner.type, "not_found_error")
    if (error.status === 401) assert.equal(inner.type, "authentication_error")
    if (error.status === 400) assert.equal(inner.type, "invalid_request_error")
    if (errorCode !== undefined) assert.equal(inner.details?.error_code, errorCode, name)
    if (message !== undefined) assert.match(inner.message, message, name)
  }

  // What most steps begin with.

  /** A name that nobody else has. */
  named(what: string): string {
    return `${what} ${randomBytes(6).toString("hex")}`
  }

  agent(params: Partial<AgentCreateParams> = {}): Promise<BetaManagedAgentsAgent> {
    return this.answer("agents.create", "BetaManagedAgentsAgent", () =>
      this.client.beta.agents.create({ name: this.named("agent"), model: "claude-opus-5-5", ...params }),
    )
  }

  environment(): Promise<BetaEnvironment> {
    return this.answer("environments.create", "BetaEnvironment", () =>
      this.client.beta.environments.create({ name: this.named("environment"), config: { type: "self_hosted" } }),
    )
  }

  session(params: SessionCreateParams): Promise<BetaManagedAgentsSession> {
    return this.answer("sessions.create", "BetaManagedAgentsSession", () => this.client.beta.sessions.create(params))
  }

  /** A session of an agent of its own. */
  async opened(agent: Partial<AgentCreateParams> = {}, session: Partial<SessionCreateParams> = {}): Promise<Opened> {
    const made = await this.agent(agent)
    const environment = await this.environment()
    return { agent: made, environment, session: await this.session({ agent: made.id, environment_id: environment.id, ...session }) }
  }

  retrieved(sessionId: string): Promise<BetaManagedAgentsSession> {
    return this.answer("sessions.retrieve", "BetaManagedAgentsSession", () => this.client.beta.sessions.retrieve(sessionId))
  }

  async send(
    sessionId: string,
    ...events: BetaManagedAgentsEventParams[]
  ): Promise<NonNullable<BetaManagedAgentsSendSessionEvents["data"]>> {
    const { data } = await this.answer("sessions.events.send", "BetaManagedAgentsSendSessionEvents", () =>
      this.client.beta.sessions.events.send(sessionId, { events }),
    )
    assert.ok(data !== undefined, "the events that were sent are not given back")
    assert.deepEqual(
      data.map(({ type }) => type),
      events.map(({ type }) => type),
    )
    for (const { id } of data) assert.match(id, /^sevt_/)
    return data
  }

  say(sessionId: string, text: string): Promise<NonNullable<BetaManagedAgentsSendSessionEvents["data"]>> {
    return this.send(sessionId, said(text))
  }

  interrupt(sessionId: string): Promise<NonNullable<BetaManagedAgentsSendSessionEvents["data"]>> {
    return this.send(sessionId, { type: "user.interrupt" })
  }

  /** The whole history, page by page as the SDK does it. */
  async history(sessionId: string, params: EventListParams = {}): Promise<readonly BetaManagedAgentsSessionEvent[]> {
    const all: BetaManagedAgentsSessionEvent[] = []
    let page = await this.page("sessions.events.list", "BetaManagedAgentsSessionEventsPageCursor", () =>
      this.client.beta.sessions.events.list(sessionId, params),
    )
    for (;;) {
      all.push(...page.data)
      if (!page.hasNextPage()) return all
      const before = page
      page = await this.page("sessions.events.list", "BetaManagedAgentsSessionEventsPageCursor", () => before.getNextPage())
    }
  }

  /** Asks until it is so; for what an API says of itself only when asked. */
  async until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
    const end = performance.now() + this.patienceMs
    for (;;) {
      const found = await look()
      if (found !== null) return found
      if (performance.now() > end) throw new Error(`Waited ${this.patienceMs} ms in vain: ${what}.`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

function held(name: string, type: string, value: unknown): void {
  try {
    expectExactShape(type, value)
  } catch (error) {
    throw new Error(`${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
  timesOf(name, value)
}

/** Types say only that a time is a string. */
function timesOf(name: string, value: unknown): void {
  if (Array.isArray(value)) for (const item of value) timesOf(name, item)
  else if (isObject(value))
    for (const [key, item] of Object.entries(value)) {
      // What a model or a tool said is its own affair.
      if (key === "input" || key === "metadata" || key === "input_schema") continue
      if (key.endsWith("_at") && typeof item === "string")
        assert.match(item, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, `${name}: ${key}`)
      else timesOf(name, item)
    }
}

export function said(text: string): { type: "user.message"; content: [{ type: "text"; text: string }] } {
  return { type: "user.message", content: [{ type: "text", text }] }
}

/** Calls of one turn, as the simulated model is told to make them. */
export function calling(...calls: readonly (readonly [name: string, input: object])[]): string {
  return `[[${calls.map(([name, input]) => `call ${name} ${JSON.stringify(input)}`).join("; ")}]]`
}

export const weatherTool: BetaManagedAgentsCustomToolParams = {
  type: "custom",
  name: "get_weather",
  description: "Says the weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
}

/** The backend `orders` as an MCP server: asks for everything but what reads. */
export const ordersAgent: Pick<AgentCreateParams, "tools" | "mcp_servers"> = {
  mcp_servers: [{ type: "url", name: "orders", url: "reins:orders" }],
  tools: [
    weatherTool,
    {
      type: "mcp_toolset",
      mcp_server_name: "orders",
      configs: [
        { name: "get_order", permission_policy: { type: "always_allow" } },
        { name: "count_stock", permission_policy: { type: "always_allow" } },
      ],
    },
  ],
}
