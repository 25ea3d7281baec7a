import type { LedgerLine } from "../fixtures/ledger-tools.ts"
import type { JournalLine, LoggedRecord } from "../scenarios/long-session.ts"
import { type Summary, summaryIn, wrongContinuation, wrongTranscript } from "./summaries.ts"

// What must be true of any session, whatever it asked for and whatever befell it. The checks read witnesses that know nothing of each other:
// the log, the effect ledgers of the tools, the model's journal, and what the client was acknowledged. They share no code with the fold; of
// its judgement they use the verdicts, and hold those to the rules as well. Every breach is told, so that a run shows all that is wrong.

export interface Evidence {
  readonly sessionId: string
  /** All records of the session, on `sessions` and on the backends' topics, each topic in its order. */
  readonly records: readonly LoggedRecord[]
  /** Lines of this session only. */
  readonly effects: readonly LedgerLine[]
  /** Of all sessions, by the hash of the body. */
  readonly journal: ReadonlyMap<string, readonly JournalLine[]>
  /** Ids of the commands that its client was acknowledged, in that order. */
  readonly acknowledged: readonly string[]
  /** Tools whose backend keeps a ledger. */
  readonly ledgered: ReadonlySet<string>
}

/** What a session cost beyond its happy path. */
export interface Account {
  turns: number
  calls: number
  effects: number
  /** Effects beyond the first of their call, by class. */
  readonly reruns: Record<string, number>
  unknown: number
  extraModelCalls: number
  takeovers: number
  late: number
  superseded: number
  duplicate: number
  held: number
  /** Answers that counted. */
  allowed: number
  denied: number
  given: number
  /** That took the place of what was said. */
  summaries: number
  /** Requests and answers that the window cut off. */
  tooLong: number
}

export interface Judgement extends Account {
  readonly breaches: readonly string[]
}

export function emptyAccount(): Account {
  return {
    turns: 0,
    calls: 0,
    effects: 0,
    reruns: { pure: 0, idempotent: 0, keyed: 0, queryable: 0, unsafe: 0 },
    unknown: 0,
    extraModelCalls: 0,
    takeovers: 0,
    late: 0,
    superseded: 0,
    duplicate: 0,
    held: 0,
    allowed: 0,
    denied: 0,
    given: 0,
    summaries: 0,
    tooLong: 0,
  }
}

export function addAccount(total: Account, one: Account): void {
  for (const key of Object.keys(one) as (keyof Account)[]) if (key !== "reruns") total[key] += one[key]
  for (const [is, count] of Object.entries(one.reruns)) total.reruns[is] = (total.reruns[is] ?? 0) + count
}

interface Use {
  readonly id: string
  readonly name: string
  readonly response: LoggedRecord
  /** The record that closed it for good, or the interrupt or end that did. */
  closedBy: LoggedRecord | null
  readonly closings: LoggedRecord[]
  readonly dispatches: LoggedRecord[]
  /** While it waits for someone. */
  hold: LoggedRecord | null
  /** The allow under which it may run, and how many there were of calls whose outcome nobody knew. */
  allow: LoggedRecord | null
  reruns: number
}

/** Log time and the tools' clocks are both in whole milliseconds, of one machine. */
const roundingMs = 1

/** Classes whose run stands on a claim read back. */
const claimed = new Set(["keyed", "queryable", "unsafe"])
/** Classes that must have run at most once. */
const once = new Set(["queryable", "unsafe"])

export function judge(evidence: Evidence): Judgement {
  const breaches: string[] = []
  const breach = (text: string): void => void breaches.push(`${evidence.sessionId}: ${text}`)
  const account = emptyAccount()
  const topic = evidence.records.find(({ type }) => type === "session.started")?.topic
  if (topic === undefined) {
    if (evidence.acknowledged.length > 0) breach("I1: its start was acknowledged and it was never started")
    return { ...account, breaches }
  }
  const said = evidence.records.filter((record) => record.topic === topic)
  const log = said.filter(({ verdict }) => verdict === "accepted")
  const onTools = evidence.records.filter((record) => record.topic !== topic)

  checkOrder(said, breach)
  checkOrder(onTools, breach)
  checkCommands(log, evidence.acknowledged, breach)
  const uses = followStory(log, evidence, account, breach)
  checkResults(uses, breach)
  checkClaims(onTools, uses, breach)
  checkEffects(uses, onTools, evidence, account, breach)
  checkCalls(log, evidence, account, breach)

  account.turns = log.filter(({ type }) => type === "model.responded").length
  account.calls = uses.length
  account.effects = evidence.effects.length
  account.unknown = log.filter(({ type }) => type === "tool-call.outcome-unknown").length
  account.takeovers = [...log, ...onTools].filter(
    ({ type, verdict, value }) =>
      verdict === "accepted" && (type === "model.requested" || type === "tool-call.claimed") && value.replaces !== null,
  ).length
  for (const { verdict } of evidence.records) {
    if (verdict === "late") account.late++
    else if (verdict === "superseded") account.superseded++
    else if (verdict === "duplicate") account.duplicate++
  }
  return { ...account, breaches }
}

type Breach = (text: string) => void

/** I12: offsets rise, keys are used once, and what is accepted stands behind what caused it. */
function checkOrder(records: readonly LoggedRecord[], breach: Breach): void {
  const lastOf = new Map<string, number>()
  const keys = new Set<string | null>()
  const seen = new Map<string, number>()
  for (const { topic, offset, key, value } of records) {
    if (offset <= (lastOf.get(topic) ?? -1)) breach(`I12: ${topic}@${offset} stands behind @${lastOf.get(topic)}`)
    lastOf.set(topic, offset)
    if (keys.has(key)) breach(`I12: the key ${key} was used twice`)
    keys.add(key)
    if (value !== null && !seen.has(value.eventId)) seen.set(value.eventId, offset)
  }
  for (const { topic, offset, type, verdict, value } of records) {
    if (verdict !== "accepted" || value.causedBy === null) continue
    const cause = seen.get(value.causedBy)
    if (cause !== undefined && cause > offset && topic === records[0]?.topic)
      breach(`I12: ${type}@${offset} stands before its cause @${cause}`)
  }
}

/**
 * I1: what was acknowledged is in the log once, in the order of the acknowledgements. Nobody remembers what a deleted session has answered: who
 * reads such a command again answers it again.
 */
function checkCommands(log: readonly LoggedRecord[], acknowledged: readonly string[], breach: Breach): void {
  let last = -1
  const deletedAt = log.find(({ type }) => type === "session.deleted")?.offset ?? Number.POSITIVE_INFINITY
  for (const commandId of acknowledged) {
    const found = log.filter(({ value }) => value.commandId === commandId)
    const mayRepeat = found.length > 1 && found.every(({ offset, type }) => type === "command.rejected" && offset > deletedAt)
    if (found.length !== 1 && !mayRepeat) breach(`I1: the acknowledged command ${commandId} is in the log ${found.length} times`)
    const offset = found[0]?.offset ?? last
    if (offset < last) breach(`I1: ${commandId} was acknowledged after what stands behind it`)
    last = Math.max(last, offset)
  }
}

interface Block {
  readonly role: string
  readonly json: string
}

/** Walks the accepted records once: I8, I9, I18 and I21 by what each request must hold, and the tool calls with what became of them. */
function followStory(log: readonly LoggedRecord[], { journal }: Evidence, account: Account, breach: Breach): readonly Use[] {
  const uses: Use[] = []
  let open: Use[] = []
  const queued: string[] = []
  const blocks: Block[] = []
  let turn = 0
  let answered = true
  let stopped = false
  let inTurn = false
  const asks = toolsThatAsk(log)
  let request: LoggedRecord | null = null
  /** By what they may hold of the conversation: that of an ordinary request is `all`. */
  const hashesOfTurn = new Map<string, string>()
  let summary: Summary | null = null
  const say = (role: string, contents: readonly string[]): void => {
    for (const content of contents) for (const json of blocksOf(content)) blocks.push({ role, json })
  }
  /** A summary that comes to nothing leaves what was taken with it where it would have been said. */
  const sayTaken = (): void => {
    say("user", summary?.taken ?? [])
    summary = null
  }
  for (const record of log) {
    const { type, value, offset } = record
    switch (type) {
      case "session.started":
        if (value.input !== null) queued.push(value.input as string)
        break
      case "message.received":
        queued.push(value.content as string)
        break
      case "interrupt.received":
      case "session.ended":
      case "session.deleted":
        // An interrupt of a session at rest does nothing; after an end nothing is accepted.
        stopped ||= inTurn || type !== "interrupt.received"
        for (const use of open) use.closedBy ??= record
        sayTaken()
        break
      case "session.idled":
        // It waits in the middle of its turn.
        if (value.reason === "requires_action") break
        stopped = false
        inTurn = false
        answered = true
        sayTaken()
        break
      case "model.requested": {
        if (stopped) breach(`I18: a request was accepted at @${offset}, after the interrupt`)
        const compacts = (value.compacts ?? null) as number | null
        if (value.attempt === 1) {
          if (request !== null && !answered && compacts === null)
            breach(`I9: request @${offset} was made before turn ${turn} had its answer`)
          for (const use of open) {
            if (use.closedBy === null) breach(`I3: request @${offset} was made while ${use.name} ${use.id} had no result`)
            else blocks.push({ role: "user", json: resultOf(use) })
          }
          open = []
          const taken = queued.splice(0, value.takes as number)
          if (compacts === null) say("user", taken)
          else summary = { taken, text: null }
          hashesOfTurn.clear()
          turn++
          if (value.turn !== turn) breach(`I12: request @${offset} is of turn ${value.turn}, not ${turn}`)
        } else if (answered && request !== null) breach(`I9: attempt ${value.attempt} @${offset} of a turn that had its answer`)
        if (request !== null && !answered && value.attempt > 1 && value.replaces !== null && value.replaces !== request.value.eventId)
          breach(`I11: @${offset} takes over ${value.replaces}, which is not the open claim`)
        answered = false
        inTurn = true
        request = record
        if ((compacts === null) !== (summary === null)) breach(`I8: an attempt of turn ${turn} @${offset} asks for something else`)
        // A summary may be asked for of less of the conversation, if nobody took more.
        const asks = compacts === null ? "all" : `${compacts} characters`
        if ((hashesOfTurn.get(asks) ?? value.bodyHash) !== value.bodyHash) breach(`I8: the attempts of turn ${turn} ask different things`)
        hashesOfTurn.set(asks, value.bodyHash as string)
        const body = journal.get(value.bodyHash as string)?.[0]?.body
        if (body !== undefined) checkBody(body, blocks, compacts, `turn ${turn} @${offset}`, breach)
        break
      }
      case "model.failed":
        if (value.kind === "request_too_large") account.tooLong++
        break
      case "model.responded": {
        if (answered) breach(`I9: turn ${turn} has a second accepted response @${offset}`)
        answered = true
        if (value.claim !== request?.value.eventId) breach(`I9: the response @${offset} answers a claim that was not open`)
        if (!journal.has(String(request?.value.bodyHash))) breach(`I8: the model never got the bytes whose hash turn ${turn} recorded`)
        if (value.stopReason === "model_context_window_exceeded") account.tooLong++
        if (summary !== null) {
          summary.text = summaryIn(record)
          // What is none is a failure of this attempt, and another may follow.
          answered = summary.text !== null
          break
        }
        for (const json of blocksOf(value.content as string)) {
          blocks.push({ role: "assistant", json })
          const block = JSON.parse(json) as { type: string; id: string; name: string }
          if (block.type !== "tool_use") continue
          const use: Use = {
            id: block.id,
            name: block.name,
            response: record,
            closedBy: null,
            closings: [],
            dispatches: [],
            hold: null,
            allow: null,
            reruns: 0,
          }
          if (uses.some(({ id }) => id === block.id)) breach(`I3: the tool_use id ${block.id} was used twice`)
          uses.push(use)
          open.push(use)
        }
        break
      }
      case "context.compacted": {
        const wrong = summary === null ? "no summary was asked for" : wrongContinuation(value.content as string, summary)
        if (wrong !== null) breach(`I8: what the conversation goes on with @${offset}: ${wrong}`)
        if (value.claim !== request?.value.eventId) breach(`I9: the summary @${offset} is of a claim that was not open`)
        account.summaries++
        blocks.length = 0
        say("user", [value.content as string])
        sayTaken()
        break
      }
      case "tool-call.held":
      case "approval.given":
      case "result.received": {
        const use = open.find(({ id, closedBy }) => id === value.toolUseId && closedBy === null)
        if (use !== undefined) waits(use, record, account)
        else if (type === "tool-call.held") breach(`I17: ${value.toolUseId} is held @${offset} and is no open call`)
        break
      }
      case "tool-call.dispatched":
      case "tool-call.refused":
      case "tool-call.completed":
      case "tool-call.outcome-unknown":
      case "tool-call.failed":
      case "tool-call.timed-out": {
        const use = uses.find(({ id }) => id === value.toolUseId)
        if (use === undefined) {
          breach(`I3: ${type}@${offset} is of a call that nobody had asked for`)
          break
        }
        if (type === "tool-call.dispatched") {
          if (use.closedBy !== null)
            breach(`I18: ${use.name} ${use.id} was dispatched @${offset} after it was closed by ${use.closedBy.type}`)
          if (asks.has(use.name) && use.allow === null)
            breach(`I17: ${use.name} ${use.id} was dispatched @${offset} and nobody had allowed it`)
          if (use.hold !== null) breach(`I17: ${use.name} ${use.id} was dispatched @${offset} while it was held`)
          use.dispatches.push(record)
          if (value.attempt !== use.dispatches.length)
            breach(`I11: @${offset} is attempt ${value.attempt} and the ${use.dispatches.length}. accepted`)
        } else if (
          type === "tool-call.refused" ||
          type === "tool-call.completed" ||
          type === "tool-call.outcome-unknown" ||
          value.retryAfterMs === null
        ) {
          use.closings.push(record)
          if (use.closedBy !== null) breach(`I3: ${use.name} ${use.id} was closed by ${use.closedBy.type} and again by ${type}@${offset}`)
          use.closedBy = record
        } else if (value.effect !== "none") {
          // One allow, one run that may have had an effect.
          use.allow = null
        }
        break
      }
      default:
        break
    }
  }
  return uses
}

/** Tools that have to be allowed each time, by the agent as it was resolved. */
function toolsThatAsk(log: readonly LoggedRecord[]): ReadonlySet<string> {
  const tools: readonly { readonly name: string; readonly permission?: string | null }[] =
    log.find(({ type }) => type === "session.started")?.value.agent.tools ?? []
  return new Set(tools.filter(({ permission }) => permission === "always_ask").map(({ name }) => name))
}

/** A call waits, or someone says something about one that does: what names neither its hold nor, before it left, its response changes nothing. */
function waits(use: Use, record: LoggedRecord, account: Account): void {
  const { type, value } = record
  if (type === "tool-call.held") {
    account.held++
    use.hold = record
    use.allow = null
    return
  }
  const early = use.dispatches.length === 0 && use.allow === null && value.causedBy === use.response.value.eventId
  if (!early && (use.hold === null || value.causedBy !== use.hold.value.eventId)) return
  if (type === "result.received" || value.decision === "deny") {
    if (type === "result.received") account.given++
    else account.denied++
    use.closings.push(record)
    use.closedBy = record
  } else {
    account.allowed++
    if (use.hold?.value.reason === "outcome_unknown") use.reruns++
    use.allow = record
  }
  use.hold = null
}

/** The tool_result block by the record that closed the call; the words that an interrupt leaves are not the log's. */
function resultOf({ id, closedBy }: Use): string {
  const value = closedBy?.value
  const base = { type: "tool_result", tool_use_id: id }
  switch (closedBy?.type) {
    case "tool-call.completed":
    case "result.received":
      return canonical({ ...base, content: JSON.parse(value.content as string), ...(value.isError ? { is_error: true } : {}) })
    case "interrupt.received":
    case "session.ended":
    case "session.deleted":
    case undefined:
      return canonical({ ...base, content: "*", is_error: true })
    default:
      return canonical({ ...base, content: value.message, is_error: true })
  }
}

function blocksOf(content: string): readonly string[] {
  return (JSON.parse(content) as unknown[]).map(canonical)
}

/** I8 and I21: the request that the model got is exactly what the log says before it, block by block; of one for a summary what it adds is left out. */
function checkBody(body: string, expected: readonly Block[], compacts: number | null, where: string, breach: Breach): void {
  if (compacts !== null && compacts > 0) {
    const first = JSON.parse(expected[0]?.json ?? "{}") as { text?: string }
    const wrong = wrongTranscript(body, compacts, String(first.text).slice(0, beginningLength))
    if (wrong !== null) breach(`I8: the request for a summary of ${where} ${wrong}`)
    return
  }
  const { messages } = JSON.parse(body) as { messages: { role: string; content: unknown[] }[] }
  const got = messages.flatMap(({ role, content }) => content.map((block) => ({ role, json: canonical(block) })))
  if (compacts !== null) got.pop()
  if (got.length !== expected.length) {
    breach(`I8: the request of ${where} has ${got.length} blocks, the log before it makes ${expected.length}`)
    return
  }
  for (const [index, block] of got.entries()) {
    const wanted = expected[index] as Block
    if (block.role === wanted.role && (block.json === wanted.json || isInterrupted(block.json, wanted.json))) continue
    breach(`I8: block ${index} of the request of ${where} is ${block.role} ${block.json}, not ${wanted.role} ${wanted.json}`)
    return
  }
}

/** How much of the first thing that was said must be in a transcript. */
const beginningLength = 20

function isInterrupted(got: string, wanted: string): boolean {
  if (!wanted.includes('"content":"*"')) return false
  const block = JSON.parse(got) as { content?: unknown }
  return canonical({ ...block, content: "*" }) === wanted && typeof block.content === "string" && block.content.startsWith("Interrupted")
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, one]) => `${JSON.stringify(key)}:${canonical(one)}`).join(",")}}`
}

/** I3: a call is closed once; nothing stays open once the session rests. */
function checkResults(uses: readonly Use[], breach: Breach): void {
  for (const { id, name, closedBy, closings } of uses) {
    if (closings.length > 1) breach(`I3: ${name} ${id} has ${closings.length} results`)
    if (closedBy === null) breach(`I3: ${name} ${id} has no result`)
  }
}

/** I11 on the backends' topics: of one attempt, every accepted claim but the first takes over the one before it. */
function checkClaims(onTools: readonly LoggedRecord[], uses: readonly Use[], breach: Breach): void {
  const standing = new Map<string, LoggedRecord>()
  for (const record of onTools) {
    if (record.type !== "tool-call.claimed" || record.verdict !== "accepted") continue
    const { toolUseId, attempt, replaces } = record.value
    if (!uses.some(({ id }) => id === toolUseId)) breach(`I7: ${toolUseId} was claimed and nobody had asked for it`)
    const call = `${toolUseId}/${attempt}`
    const before = standing.get(call)
    if (before === undefined ? replaces !== null : replaces !== before.value.eventId)
      breach(`I11: the claim @${record.offset} on ${call} replaces ${replaces}, the standing one is ${before?.value.eventId}`)
    standing.set(call, record)
  }
}

/** I4, I5, I6, I7. */
function checkEffects(
  uses: readonly Use[],
  onTools: readonly LoggedRecord[],
  { effects, ledgered }: Evidence,
  account: Account,
  breach: Breach,
): void {
  for (const line of effects) {
    const use = uses.find(({ id }) => id === line.toolUseId)
    if (use === undefined) {
      breach(`I7: ${line.tool} ran for ${line.toolUseId}, which nobody asked for`)
      continue
    }
    if (line.key !== `${line.sessionId}/${line.toolUseId}`) breach(`I4: ${line.tool} ran with the key ${line.key}`)
    const dispatch = use.dispatches.find(({ value }) => line.attempt === null || value.attempt === line.attempt)
    if (dispatch === undefined) breach(`I6: ${line.tool} ${line.toolUseId} ran at attempt ${line.attempt}, which was never decided`)
    else if (dispatch.timestamp > line.at + roundingMs)
      breach(`I6: ${line.tool} ${line.toolUseId} ran at ${line.at}, its dispatch was logged at ${dispatch.timestamp}`)
    if (!claimed.has(line.class)) continue
    const claim = onTools.find(
      ({ type, verdict, value }) =>
        type === "tool-call.claimed" &&
        verdict === "accepted" &&
        value.toolUseId === line.toolUseId &&
        (line.attempt === null || value.attempt === line.attempt),
    )
    if (claim === undefined) breach(`I6: the ${line.class} ${line.tool} ${line.toolUseId} ran without an accepted claim`)
    else if (claim.timestamp > line.at + roundingMs)
      breach(`I6: ${line.tool} ${line.toolUseId} ran at ${line.at}, its first claim was logged at ${claim.timestamp}`)
  }
  for (const { id, name, closings, reruns } of uses) {
    if (!ledgered.has(name)) continue
    const lines = effects.filter(({ toolUseId }) => toolUseId === id)
    const [first] = lines
    const [closing] = closings
    if (closing?.type === "tool-call.completed" && closing.value.isError !== true && lines.length === 0)
      breach(`I5: ${name} ${id} is said to be completed and never ran`)
    if (first === undefined) continue
    account.reruns[first.class] = (account.reruns[first.class] ?? 0) + lines.length - 1
    if (once.has(first.class)) {
      if (lines.length > 1 + reruns) breach(`I4: the ${first.class} ${name} ${id} ran ${lines.length} times`)
      const none = closing?.type === "tool-call.refused" || closing?.value.effect === "none"
      if (none) breach(`I5: ${name} ${id} ran and is said to have had no effect (${closing?.type}: ${closing?.value.message})`)
    }
    if (first.class === "keyed") {
      // The backend keeps one effect a key: two keys for one call would be two.
      const applied = new Set(lines.map(({ key }) => key)).size
      if (applied !== 1) breach(`I4: the keyed ${name} ${id} had ${applied} effects`)
    }
  }
}

/** I9: a physical call stands on an accepted claim that was logged before; more than one a turn are counted. */
function checkCalls(log: readonly LoggedRecord[], { journal }: Evidence, account: Account, breach: Breach): void {
  const byHash = new Map<string, LoggedRecord[]>()
  for (const record of log) {
    if (record.type !== "model.requested") continue
    const hash = record.value.bodyHash as string
    byHash.set(hash, [...(byHash.get(hash) ?? []), record])
  }
  for (const [hash, requests] of byHash) {
    const calls = journal.get(hash) ?? []
    if (calls.length > requests.length) breach(`I9: a request was made ${calls.length} times and claimed ${requests.length} times`)
    const [first] = calls
    const [claim] = requests
    if (first !== undefined && claim !== undefined && claim.timestamp > first.at + roundingMs)
      breach(`I9: turn ${claim.value.turn} was asked for at ${first.at}, its claim was logged at ${claim.timestamp}`)
    account.extraModelCalls += Math.max(0, calls.length - 1)
  }
}
