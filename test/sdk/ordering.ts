// The ordering rules of a session's events, checked on what a client was told: pure, and of the wire alone. Section 2 of the wire spec.
//
// O1  `session.usage` stands directly before each `session.status_idle`, and the thread's idle, with the same stop reason, before that.
// O2  Nothing follows `session.status_idle` until something new: an event of the client, an update, an error, an end (which first answers what
//     it closes).
// O3  The model and the tools it asks for are heard of only while the session runs, and it is said once that it does.
// O4  A model request is one span: its end names its start; what the model said stands between the two.
// O5  A call is asked for once and answered at most once, after it was asked for. A turn that ended has answered all that it was asked,
//     except for custom calls that an interrupt gave up. Where it stopped for want of help (retries_exhausted), open calls go on with it.
// O6  `requires_action` names exactly the open calls that wait for the client.
// O7  Every id occurs once, except that a waiting message is said again when it is taken. Times do not run backwards.
// O8  After `session.status_terminated` comes nothing but an update or the deletion; after `session.deleted` nothing at all.
// O9  A preview starts once per id, grows in place, is a prefix of the final event, and the final event comes last.

/** Any event, of either SDK generation. */
export interface HeardEvent {
  readonly type: string
  readonly [field: string]: unknown
}

export interface OrderingOptions {
  /** Event types that this SDK drops from a stream, so that their absence proves nothing. */
  readonly dropped?: readonly string[]
  /** The events are a piece of a session that had begun before; what it did before is not known. */
  readonly fromTheMiddle?: boolean
  /**
   * The session waits for what the API has no word for: a person who is asked again about a call that was confirmed before, or of which
   * nobody knows what became of it, and who may say its result. O6 then takes any open call, and a result is something new (O2).
   */
  readonly asksAgain?: boolean
}

const clientEvents = /^user\./
const ofTheTurn = /^(agent\.|span\.)/
const uses = new Set(["agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"])
/** What answers a call, and under which key it names it. */
const answers: Readonly<Record<string, string>> = {
  "agent.tool_result": "tool_use_id",
  "agent.mcp_tool_result": "mcp_tool_use_id",
  "user.custom_tool_result": "custom_tool_use_id",
  "user.tool_result": "tool_use_id",
}

interface OpenCall {
  readonly type: string
  readonly asks: boolean
  confirmed: boolean
}

/** Sentences about what breaks a rule in persisted events in their order; none where all is well. */
export function orderingProblems(events: readonly HeardEvent[], options: OrderingOptions = {}): readonly string[] {
  return new Ordering(options).read(events)
}

class Ordering {
  readonly #options: OrderingOptions
  readonly #problems: string[] = []
  readonly #ids = new Map<string, HeardEvent>()
  readonly #calls = new Map<string, OpenCall>()
  readonly #answered = new Set<string>()
  #status: "unknown" | "idle" | "running" | "rescheduling" | "terminated" | "deleted"
  /** Whether anything has been heard since the last idle that may wake the session. */
  #woken = true
  #span: string | null = null
  #interrupted = false
  #lastTime = ""
  #at = 0

  constructor(options: OrderingOptions) {
    this.#options = options
    this.#status = options.fromTheMiddle === true ? "unknown" : "idle"
  }

  read(events: readonly HeardEvent[]): readonly string[] {
    for (const [i, event] of events.entries()) {
      this.#at = i
      this.#identity(event)
      // Only now is a waiting message part of the order; until then it is a promise.
      if (event["processed_at"] === null) continue
      this.#event(event, events)
    }
    if (this.#span !== null && this.#status === "idle") this.#wrong("O4", "a model request is still open at the end")
    return this.#problems
  }

  #wrong(rule: string, what: string): void {
    this.#problems.push(`${rule} at ${this.#at}: ${what}`)
  }

  #identity(event: HeardEvent): void {
    const id = event["id"]
    if (typeof id !== "string" || id === "") {
      this.#wrong("O7", `${event.type} has no id`)
      return
    }
    const before = this.#ids.get(id)
    if (before !== undefined && !(before["processed_at"] === null && event["processed_at"] !== null && before.type === event.type))
      this.#wrong("O7", `${event.type} ${id} occurs again`)
    this.#ids.set(id, event)
    const time = event["processed_at"]
    if (typeof time !== "string") return
    if (Number.isNaN(Date.parse(time))) this.#wrong("O7", `${event.type} was processed at ${time}`)
    if (Date.parse(time) < Date.parse(this.#lastTime)) this.#wrong("O7", `${event.type} is earlier than what stands before it`)
    this.#lastTime = time
  }

  #event(event: HeardEvent, events: readonly HeardEvent[]): void {
    const { type } = event
    if (this.#status === "deleted") this.#wrong("O8", `${type} comes after session.deleted`)
    if (this.#status === "terminated" && type !== "session.deleted" && type !== "session.updated")
      this.#wrong("O8", `${type} comes after session.status_terminated`)
    if (this.#isSaidResult(type)) this.#woken = true
    if (this.#status === "idle" && !this.#woken && !mayFollowIdle(type) && !this.#isEnding(events))
      this.#wrong("O2", `${type} follows session.status_idle`)
    if (clientEvents.test(type) || type === "session.error") this.#woken = true
    if (type === "user.interrupt") this.#interrupted = true
    if (type === "user.message") this.#interrupted = false

    if (ofTheTurn.test(type)) this.#turn(event)
    const answeredBy = answers[type]
    if (answeredBy !== undefined) this.#answer(type, event[answeredBy] as string)
    if (type === "user.tool_confirmation") this.#confirmation(event["tool_use_id"] as string)
    this.#statusEvent(event, events)
  }

  #isSaidResult(type: string): boolean {
    return this.#options.asksAgain === true && answers[type] !== undefined
  }

  /** Whether this is an answer to a call that the end closes, which directly follows. */
  #isEnding(events: readonly HeardEvent[]): boolean {
    const next = events.slice(this.#at).find(({ type }) => answers[type] === undefined)
    return next !== events[this.#at] && next?.type === "session.thread_status_terminated"
  }

  #turn(event: HeardEvent): void {
    const { type } = event
    // A result may come while others are waited for: the client's denial is answered at once.
    const isResult = answers[type] !== undefined
    if (!isResult && (this.#status === "idle" || this.#status === "rescheduling"))
      if (!(type === "span.model_request_end" && this.#interrupted))
        this.#wrong("O3", `${type} is heard of while the session is ${this.#status}`)
    if (type === "span.model_request_start") {
      if (this.#span !== null) this.#wrong("O4", "a model request starts inside another")
      this.#span = event["id"] as string
    } else if (type === "span.model_request_end") {
      if (event["model_request_start_id"] !== this.#span && this.#status !== "unknown")
        this.#wrong("O4", `a span ends that names ${event["model_request_start_id"] as string}, not ${this.#span ?? "an open one"}`)
      this.#span = null
    } else if (!isResult && type !== "agent.thread_context_compacted" && this.#span === null && this.#status !== "unknown")
      this.#wrong("O4", `${type} stands outside of a model request`)
    if (!uses.has(type)) return
    const asks = type === "agent.custom_tool_use" || event["evaluated_permission"] === "ask"
    this.#calls.set(event["id"] as string, { type, asks, confirmed: false })
  }

  #answer(type: string, id: string): void {
    if (this.#answered.has(id)) this.#wrong("O5", `${type} answers ${id} again`)
    else if (!this.#calls.has(id) && this.#options.fromTheMiddle !== true)
      this.#wrong("O5", `${type} answers ${id}, which nobody asked for`)
    this.#answered.add(id)
    this.#calls.delete(id)
  }

  #confirmation(id: string): void {
    const call = this.#calls.get(id)
    if (call !== undefined) call.confirmed = true
    else if (this.#options.fromTheMiddle !== true) this.#wrong("O5", `${id} is confirmed, which is no open call`)
  }

  #statusEvent(event: HeardEvent, events: readonly HeardEvent[]): void {
    switch (event.type) {
      case "session.status_running":
        if (this.#status === "running") this.#wrong("O3", "it is said twice that the session runs")
        this.#status = "running"
        break
      case "session.status_rescheduled":
        if (this.#status === "idle") this.#wrong("O3", "an idle session is rescheduled")
        this.#status = "rescheduling"
        break
      case "session.status_idle":
        this.#idle(event, events)
        break
      case "session.status_terminated":
        this.#status = "terminated"
        break
      case "session.deleted":
        this.#status = "deleted"
        break
      default:
    }
  }

  #idle(event: HeardEvent, events: readonly HeardEvent[]): void {
    const dropped = this.#options.dropped ?? []
    let before = this.#at - 1
    if (!dropped.includes("session.usage")) {
      if (events[before]?.type !== "session.usage")
        this.#wrong("O1", `${events[before]?.type ?? "nothing"} stands before session.status_idle`)
      before -= 1
    }
    const thread = events[before]
    if (thread?.type !== "session.thread_status_idle") this.#wrong("O1", "the thread was not idle before the session")
    else if (JSON.stringify(thread["stop_reason"]) !== JSON.stringify(event["stop_reason"]))
      this.#wrong("O1", "thread and session stopped for different reasons")
    if (this.#span !== null) this.#wrong("O4", "the session is idle in the middle of a model request")
    this.#span = null
    const reason = event["stop_reason"] as { readonly type?: string; readonly event_ids?: readonly string[] } | undefined
    const waiting = [...this.#calls].filter(([, { asks, confirmed }]) => asks && !confirmed).map(([id]) => id)
    if (reason?.type === "requires_action") {
      const given = reason.event_ids ?? []
      if (given.length === 0) this.#wrong("O6", "it requires action on nothing")
      const again = this.#options.asksAgain === true ? given.filter((id) => this.#calls.has(id) && !waiting.includes(id)) : []
      if (this.#options.fromTheMiddle !== true && JSON.stringify([...given].sort()) !== JSON.stringify([...waiting, ...again].sort()))
        this.#wrong("O6", `it requires action on ${JSON.stringify(given)}, and ${JSON.stringify(waiting)} wait`)
    } else if (reason?.type !== "retries_exhausted") {
      const left = [...this.#calls].filter(([, { type }]) => !(type === "agent.custom_tool_use" && this.#interrupted))
      for (const [id, { type }] of left) this.#wrong("O5", `the turn ended (${reason?.type ?? "?"}) and ${type} ${id} has no result`)
      this.#calls.clear()
    }
    this.#status = "idle"
    this.#woken = false
  }
}

function mayFollowIdle(type: string): boolean {
  return (
    clientEvents.test(type) ||
    ["session.status_running", "session.thread_status_running", "session.updated", "session.error", "session.deleted"].includes(type) ||
    ["session.status_terminated", "session.thread_status_terminated"].includes(type)
  )
}

/** O9, for the frames of one connection in their order: persisted events, `event_start` and `event_delta`. */
export function previewProblems(frames: readonly HeardEvent[], asked: readonly string[]): readonly string[] {
  const problems: string[] = []
  const previews = new Map<string, { readonly type: string; readonly texts: string[]; final: boolean; cut: boolean }>()
  for (const [i, frame] of frames.entries()) {
    const wrong = (what: string): void => void problems.push(`O9 at ${i}: ${what}`)
    if (frame.type === "event_start") {
      const { id, type } = frame["event"] as { readonly id: string; readonly type: string }
      if (!asked.includes(type)) wrong(`${type} was started, which nobody asked for`)
      if (previews.has(id)) wrong(`${id} starts again`)
      if (frames.slice(0, i).some((one) => one["id"] === id)) wrong(`${id} starts after its final event`)
      previews.set(id, { type, texts: [], final: false, cut: false })
    } else if (frame.type === "event_delta") {
      const id = frame["event_id"] as string
      const { index = 0, content } = frame["delta"] as { readonly index?: number; readonly content: { readonly text: string } }
      const preview = previews.get(id)
      if (preview === undefined) wrong(`${id} grows before it starts`)
      else if (preview.final || preview.cut) wrong(`${id} grows after its end`)
      else if (preview.type !== "agent.message") wrong(`${preview.type} has no text to grow`)
      else if (index > preview.texts.length) wrong(`${id} leaves out a block`)
      else preview.texts[index] = (preview.texts[index] ?? "") + content.text
    } else if (frame.type === "span.model_request_end") {
      // What has no final event by now will have none: the request was cut off.
      for (const preview of previews.values()) preview.cut ||= !preview.final
    } else {
      const preview = previews.get(frame["id"] as string)
      if (preview === undefined) continue
      if (preview.final) wrong(`${frame["id"] as string} is final twice`)
      if (preview.type !== frame.type) wrong(`${preview.type} became ${frame.type}`)
      const content = (frame["content"] ?? []) as readonly { readonly text?: string }[]
      for (const [block, text] of preview.texts.entries())
        if (!(content[block]?.text ?? "").startsWith(text)) wrong(`the preview ${JSON.stringify(text)} is no prefix of the final text`)
      preview.final = true
    }
  }
  for (const [id, { final, cut }] of previews) if (!final && !cut) problems.push(`O9 at the end: ${id} started and has no final event`)
  return problems
}
