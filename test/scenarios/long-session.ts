import assert from "node:assert/strict"
import type { AgentGiven } from "@reins/events"
import type { LedgerLine } from "../fixtures/ledger.ts"

// One long session as data, and what must be true of every run of it, however it was run and whatever was killed meanwhile. The checks
// read three witnesses that know nothing of each other: the log, the tools' effect ledgers, and the model's journal of what it was asked.
// The numbers I… are those of the invariants that the checks hold.

/** One line of `reins events --jsonl`. */
export interface LoggedRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly key: string | null
  readonly type: string
  readonly verdict: "accepted" | "duplicate" | "superseded" | "late" | null
  // biome-ignore lint/suspicious/noExplicitAny: what a stranger reads; the checks below say what they expect in it.
  readonly value: any
}

/** One request as it reached the model. */
export interface JournalLine {
  readonly at: number
  /** Of the bytes of the body. */
  readonly sha256: string
  readonly body: string
}

/** Six calls a turn, in parallel, on three backends: built-in functions, HTTP, and a user's worker file. */
const callsOfATurn: readonly { readonly tool: string; readonly input: string; readonly class: LedgerLine["class"] }[] = [
  { tool: "ring", input: '{"n":"$i"}', class: "unsafe" },
  { tool: "add", input: '{"numbers":["$i",1000]}', class: "pure" },
  { tool: "get_order", input: '{"id":"o$i"}', class: "pure" },
  { tool: "look", input: '{"n":"$i"}', class: "pure" },
  { tool: "refund", input: '{"id":"o$i","cents":"$i"}', class: "keyed" },
  { tool: "note", input: '{"n":"$i"}', class: "keyed" },
]

/** What a call with this number answers, as text. */
const answers: Readonly<Record<string, (n: number) => string>> = {
  add: (n) => String(1000 + n),
  get_order: (n) => JSON.stringify({ id: `o${n}`, status: "shipped" }),
  refund: (n) => JSON.stringify({ id: `o${n}`, refunded: n }),
  look: (n) => JSON.stringify({ tool: "look", n }),
  note: (n) => JSON.stringify({ tool: "note", n }),
  ring: (n) => JSON.stringify({ tool: "ring", n }),
}

export function longSessionAgent(ordersUrl: string): Partial<AgentGiven> & { readonly model: string } {
  const id = { type: "string" }
  return {
    name: "long-session",
    model: "claude-sonnet-5-5",
    system: "You keep the house.",
    maxTokens: 1024,
    params: { temperature: 0.2 },
    limits: { turns: 200, toolCalls: 2000 },
    tools: [
      { name: "add", backend: "function" },
      {
        name: "get_order",
        description: "Looks an order up.",
        backend: "http",
        effect: "pure",
        timeoutMs: 60_000,
        inputSchema: { type: "object", properties: { id }, required: ["id"], additionalProperties: false },
        http: { method: "GET", url: `${ordersUrl}/orders/{id}` },
      },
      {
        name: "refund",
        description: "Refunds an order.",
        backend: "http",
        effect: "keyed",
        timeoutMs: 60_000,
        sideEffects: "moves money back to the customer",
        inputSchema: { type: "object", properties: { id, cents: { type: "integer", minimum: 1 } }, required: ["id", "cents"] },
        http: { method: "POST", url: `${ordersUrl}/orders/{id}/refund` },
      },
      ...["look", "note", "ring"].map((name) => ({ name, backend: "ledger" })),
    ],
  }
}

/** The prompt that makes the simulated model ask for the calls, this many turns of them. Naming the session makes every body its own. */
export function longSessionPrompt(sessionId: string, turns: number): string {
  return `This is ${sessionId}. [[turns ${turns}: ${callsOfATurn.map(({ tool, input }) => `call ${tool} ${input}`).join("; ")}]]`
}

export interface Witnesses {
  readonly sessionId: string
  readonly turns: number
  /** All records of the session, as `reins events --jsonl` prints them. */
  readonly records: readonly LoggedRecord[]
  /** Of the tools; lines of other sessions are left aside. */
  readonly ledger: readonly LedgerLine[]
  readonly journal: readonly JournalLine[]
  /** Whether a process was killed while it ran: only then may something have been done twice, and an outcome be unknown. */
  readonly killed: boolean
}

/** What the checks counted, so that a run can assert that there was something to check. */
export interface Counted {
  readonly unknownOutcomes: number
  /** Model calls beyond one a request, the spend of a crash. */
  readonly extraModelCalls: number
  /** Claims on a call that replaced a dead worker's. */
  readonly takeovers: number
}

const closings = new Set(["tool-call.refused", "tool-call.completed", "tool-call.outcome-unknown"])

/** Whether this record closes its call for good. */
function closes({ type, value }: LoggedRecord): boolean {
  return closings.has(type) || ((type === "tool-call.failed" || type === "tool-call.timed-out") && value.retryAfterMs === null)
}

interface Use {
  readonly id: string
  readonly name: string
  readonly input: unknown
  readonly n: number
  readonly response: LoggedRecord
}

/** Holds a session that has ended to the invariants. */
export function checkLongSession(witnesses: Witnesses): Counted {
  const { sessionId, turns, killed } = witnesses
  const sessionsTopic = witnesses.records.find(({ type }) => type === "session.started")?.topic
  assert.ok(sessionsTopic !== undefined, `${sessionId} was never started`)
  const said = witnesses.records.filter(({ topic }) => topic === sessionsTopic)
  const log = said.filter(({ verdict }) => verdict === "accepted")
  const toolRecords = witnesses.records.filter(({ topic, verdict }) => topic !== sessionsTopic && verdict === "accepted")
  const ledger = witnesses.ledger.filter((line) => line.sessionId === sessionId)
  const of = (type: string): readonly LoggedRecord[] => log.filter((record) => record.type === type)

  // The story as a whole.
  assert.deepEqual(of("session.started").length, 1)
  assert.deepEqual(
    of("session.idled").map(({ value }) => value.reason),
    ["end_turn"],
  )
  assert.equal(log.at(-1)?.type, "session.ended")
  if (!killed)
    assert.deepEqual(
      witnesses.records.filter(({ verdict }) => verdict !== "accepted").map(({ type, offset, verdict }) => `${type}@${offset} ${verdict}`),
      [],
      "without a fault nothing is said twice or too late",
    )
  checkOrder(said)
  const uses = usesOf(log)
  assert.equal(uses.length, turns * callsOfATurn.length)
  checkResults(log, uses, killed)
  checkEffects(log, uses, ledger, killed)
  checkRequests(witnesses, log, uses)

  return {
    unknownOutcomes: of("tool-call.outcome-unknown").length,
    extraModelCalls: extraModelCalls(witnesses, log),
    takeovers: toolRecords.filter(({ type, value }) => type === "tool-call.claimed" && value.replaces !== null).length,
  }
}

/** I12: offsets rise, every key is its own, and every cause stands before what it caused. */
function checkOrder(said: readonly LoggedRecord[]): void {
  const all = new Set(said.map(({ value }) => value.eventId as string))
  const seen = new Set<string>()
  const keys = new Set<string | null>()
  let last = -1
  for (const { offset, key, type, verdict, value } of said) {
    assert.ok(offset > last, `offset ${offset} stands after ${last}`)
    last = offset
    assert.ok(!keys.has(key), `the key ${key} was used twice`)
    keys.add(key)
    // What is not accepted may name a cause that was never accepted either; a cause that stands nowhere here stands on another topic.
    const here = type.startsWith("model.") || all.has(value.causedBy)
    if (verdict === "accepted" && value.causedBy !== null && here)
      assert.ok(seen.has(value.causedBy), `I12: ${type}@${offset} stands before its cause ${value.causedBy}`)
    seen.add(value.eventId)
  }
}

function usesOf(log: readonly LoggedRecord[]): readonly Use[] {
  const uses: Use[] = []
  for (const response of log) {
    if (response.type !== "model.responded") continue
    const blocks = JSON.parse(response.value.content) as { type: string; id: string; name: string; input: Record<string, unknown> }[]
    for (const { type, id, name, input } of blocks) {
      if (type === "tool_use") uses.push({ id, name, input, n: response.value.turn as number, response })
    }
  }
  assert.equal(new Set(uses.map(({ id }) => id)).size, uses.length, "a tool_use id is used once")
  return uses
}

/** I3, and that a result is that of its own call; `pure` and `keyed` calls are completed whatever was killed. */
function checkResults(log: readonly LoggedRecord[], uses: readonly Use[], killed: boolean): void {
  const results = log.filter(closes)
  for (const { value, offset } of results) {
    const use = uses.find(({ id }) => id === value.toolUseId)
    assert.ok(use !== undefined && use.response.offset < offset, `the result at ${offset} answers a call that was asked for before`)
  }
  for (const { id, name, n } of uses) {
    const own = results.filter(({ value }) => value.toolUseId === id)
    assert.equal(own.length, 1, `${name} ${id} has one result, not ${own.map(({ type }) => type).join(", ")}`)
    const [{ type, value }] = own as [LoggedRecord]
    if (type === "tool-call.outcome-unknown" && killed && classOf(name) === "unsafe") continue
    assert.equal(type, "tool-call.completed", `${name} ${id} of turn ${n} came to ${type}: ${value.message}`)
    assert.equal(value.isError, false, `${name} ${id}: ${value.content}`)
    assert.equal(JSON.parse(value.content), answers[name]?.(n), `${name} of turn ${n} got its own answer`)
  }
}

function classOf(tool: string): LedgerLine["class"] {
  const call = callsOfATurn.find((one) => one.tool === tool)
  assert.ok(call !== undefined, `${tool} is no tool of the scenario`)
  return call.class
}

/** I4, I5, I6, I7. */
function checkEffects(log: readonly LoggedRecord[], uses: readonly Use[], ledger: readonly LedgerLine[], killed: boolean): void {
  for (const line of ledger) {
    const use = uses.find(({ id }) => id === line.toolUseId)
    assert.ok(use !== undefined, `I7: ${line.tool} ran for ${line.toolUseId}, which nobody asked for`)
    assert.equal(line.tool, use.name)
    assert.equal(line.key, `${line.sessionId}/${line.toolUseId}`, "the idempotency key is the same at every attempt")
    const dispatch = log.find(
      ({ type, value }) =>
        type === "tool-call.dispatched" && value.toolUseId === line.toolUseId && (line.attempt === null || value.attempt === line.attempt),
    )
    assert.ok(dispatch !== undefined, `I6: ${line.tool} ran at attempt ${line.attempt}, which was never decided`)
    assert.ok(dispatch.timestamp <= line.at, `I6: ${line.tool} ran at ${line.at}, its dispatch was logged at ${dispatch.timestamp}`)
  }
  for (const { id, name, n } of uses) {
    // The built-in functions keep no ledger: they have no effect.
    if (name === "add") continue
    const lines = ledger.filter(({ toolUseId }) => toolUseId === id)
    const completed = log.some(({ type, value }) => type === "tool-call.completed" && value.toolUseId === id)
    if (completed) assert.ok(lines.length >= 1, `I5: ${name} of turn ${n} is said to be completed and never ran`)
    if (classOf(name) === "unsafe") assert.ok(lines.length <= 1, `I4: the unsafe ${name} of turn ${n} ran ${lines.length} times`)
    // The tools of the worker file tell a backend that dedupes their key; the HTTP backend dedupes by itself.
    if (classOf(name) === "keyed") {
      const effects = new Set(lines.filter(({ applied }) => applied).map(({ key }) => key))
      assert.equal(effects.size, 1, `I4: the keyed ${name} of turn ${n} had ${effects.size} effects`)
      if (name === "refund") assert.equal(lines.filter(({ applied }) => applied).length, 1, `I4: the refund of turn ${n} was made twice`)
    }
    if (!killed) assert.equal(lines.length, 1, `${name} of turn ${n} ran once`)
  }
}

/** I8, I9, I21. */
function checkRequests({ journal, turns }: Witnesses, log: readonly LoggedRecord[], uses: readonly Use[]): void {
  const bodies = new Map(journal.map((line) => [line.sha256, line]))
  let before: { head: string; messages: string; tail: string } | undefined
  for (let turn = 1; turn <= turns + 1; turn++) {
    const requests = log.filter(({ type, value }) => type === "model.requested" && value.turn === turn)
    const responses = log.filter(({ type, value }) => type === "model.responded" && value.turn === turn)
    assert.equal(responses.length, 1, `I9: turn ${turn} has one accepted response`)
    const [response] = responses as [LoggedRecord]
    const request = requests.find(({ value }) => value.eventId === response.value.claim)
    assert.ok(request !== undefined, `I9: the response of turn ${turn} answers a request of its turn`)
    const asked = bodies.get(request.value.bodyHash)
    assert.ok(asked !== undefined, `I8: the model got the bytes whose hash turn ${turn} recorded`)
    assert.ok(request.timestamp <= asked.at, `turn ${turn} was asked for after it was logged`)
    for (const other of requests) assert.equal(other.value.bodyHash, request.value.bodyHash, "every attempt asks the same")

    // Bytes, not what they parse to: nothing before the new messages may change, not even in how it is written.
    const body = partsOf(asked.body)
    if (before !== undefined) {
      assert.equal(body.head, before.head)
      assert.equal(body.tail, before.tail)
      assert.ok(body.messages.startsWith(`${before.messages},`), `I8: request ${turn} extends request ${turn - 1}`)
      const added = JSON.parse(`[${body.messages.slice(before.messages.length + 1)}]`) as { role: string; content: unknown[] }[]
      const previous = log.find(({ type, value }) => type === "model.responded" && value.turn === turn - 1)
      assert.deepEqual(
        added.map(({ role }) => role),
        ["assistant", "user"],
      )
      assert.deepEqual(
        added[0]?.content,
        JSON.parse(previous?.value.content),
        `I8: what the model said in turn ${turn - 1} goes back as it was`,
      )
      const results = (added[1]?.content ?? []) as readonly { tool_use_id: string }[]
      assert.deepEqual(
        results.map(({ tool_use_id }) => tool_use_id),
        uses.filter(({ response: { value } }) => value.turn === turn - 1).map(({ id }) => id),
        `I21: the results of turn ${turn - 1} stand in the order of the calls`,
      )
    }
    before = body
  }
}

function partsOf(body: string): { head: string; messages: string; tail: string } {
  const start = body.indexOf('"messages":[') + '"messages":['.length
  const end = body.lastIndexOf('],"model":')
  assert.ok(start > 11 && end > start, "a body has its messages")
  return { head: body.slice(0, start), messages: body.slice(start, end), tail: body.slice(end) }
}

/** I9: a physical call stands on an accepted request; more than one a turn only where somebody was killed. */
function extraModelCalls({ journal, killed, turns }: Witnesses, log: readonly LoggedRecord[]): number {
  const requests = log.filter(({ type }) => type === "model.requested")
  const own = new Set<string>(requests.map(({ value }) => value.bodyHash as string))
  const calls = journal.filter(({ sha256 }) => own.has(sha256))
  for (const hash of own) {
    const asked = calls.filter(({ sha256 }) => sha256 === hash).length
    const allowed = requests.filter(({ value }) => value.bodyHash === hash).length
    assert.ok(asked >= 1 && asked <= allowed, `I9: a request was made ${asked} times and claimed ${allowed} times`)
  }
  const extra = calls.length - (turns + 1)
  if (!killed) assert.equal(extra, 0, "I9: without a fault every turn is asked for once")
  return extra
}
