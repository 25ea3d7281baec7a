import type { JSX } from "preact"
import { memo } from "preact/compat"
import type { Placed, Waiting } from "./api.ts"
import { CallView } from "./call-view.tsx"
import { Badge, type Inspecting, Line } from "./line.tsx"
import { LongText } from "./long-text.tsx"
import type { Previews } from "./timeline.ts"
import { between, type Entry, type Item, textOf, usageOf } from "./transcript.ts"
import { count, duration, visibleProse } from "./visible.ts"

interface Shared extends Inspecting {
  readonly sessionId: string
  readonly running: boolean
}

interface TranscriptProps extends Shared {
  readonly entries: readonly Entry[]
  /** Nothing is missing before the first entry, so that its requests can be numbered. */
  readonly whole: boolean
  readonly previews: Previews["shown"]
  readonly waiting: readonly Waiting[]
}

/** The session from top to bottom: what was said to it, and request by request what came of it. */
export function TranscriptView(props: TranscriptProps): JSX.Element {
  const { entries, whole, previews, waiting, ...shared } = props
  const last = entries.findLast((entry) => entry.is === "request")
  return (
    <ol class="transcript" aria-label="Transcript">
      {entries.map((entry) => (
        <EntryView
          key={entry.key}
          entry={entry}
          numbered={whole}
          // Only those whom they concern are drawn again when they change.
          previews={entry === last && entry.is === "request" && entry.end === null ? previews : none}
          waiting={entry.is === "request" ? ofEntry(entry.items, waiting) : none}
          {...shared}
          running={entry === last && shared.running}
          inspected={holds(entry, shared.inspected) ? shared.inspected : null}
        />
      ))}
    </ol>
  )
}

const none: readonly never[] = []

function ofEntry(items: readonly Item[], waiting: readonly Waiting[]): readonly Waiting[] {
  const found = waiting.filter(({ event_id: id }) => items.some((item) => item.is === "call" && item.use.event.id === id))
  return found.length === 0 ? none : found
}

function holds(entry: Entry, eventId: string | null): boolean {
  return eventId !== null && eventsOf(entry).some(({ event }) => event.id === eventId)
}

function eventsOf(entry: Entry): readonly Placed[] {
  if (entry.is !== "request") return [entry.placed]
  return [
    entry.start,
    entry.end,
    ...entry.items.flatMap((item) => (item.is === "call" ? [item.use, ...item.confirmations, item.result] : [item.placed])),
  ].filter((placed) => placed !== null)
}

interface EntryProps extends Shared {
  readonly entry: Entry
  readonly numbered: boolean
  readonly previews: Previews["shown"]
  readonly waiting: readonly Waiting[]
}

/** The grouping is made anew with every event; an entry is drawn anew only where one of its own events is another. */
const EntryView = memo(EntryOnce, (before: EntryProps, after: EntryProps) => {
  const [a, b] = [eventsOf(before.entry), eventsOf(after.entry)]
  return (
    before.entry.is === after.entry.is &&
    a.length === b.length &&
    a.every((placed, index) => placed === b[index]) &&
    numberOf(before) === numberOf(after) &&
    before.inspected === after.inspected &&
    before.running === after.running &&
    before.previews === after.previews &&
    // The overview is read anew all the time; what it says of a call that waits seldom changes.
    before.waiting.length === after.waiting.length &&
    before.waiting.every((one, index) => one.event_id === after.waiting[index]?.event_id && one.reason === after.waiting[index].reason)
  )
})

function numberOf({ entry, numbered }: EntryProps): number | null {
  return entry.is === "request" && numbered ? entry.number : null
}

function EntryOnce(props: EntryProps): JSX.Element {
  const { entry } = props
  switch (entry.is) {
    case "said":
      return (
        <li class="entry said">
          <Line label={entry.placed.event.processed_at === null ? "Queued" : "User"} placed={entry.placed} {...props}>
            <div class="prose">
              <LongText text={visibleProse(textOf(entry.placed.event["content"]))} />
            </div>
          </Line>
        </li>
      )
    case "request":
      return <RequestView {...props} entry={entry} />
    case "note":
      return (
        <li class="entry note">
          <NoteView placed={entry.placed} {...props} />
        </li>
      )
    case "plumbing":
      return (
        <li class="entry plumbing">
          <Line label="" placed={entry.placed} {...props}>
            <code>{entry.placed.event.type}</code>
          </Line>
        </li>
      )
    default:
      return entry satisfies never
  }
}

function RequestView(props: EntryProps & { readonly entry: Extract<Entry, { readonly is: "request" }> }): JSX.Element {
  const { entry, previews, waiting, ...shared } = props
  const { start, end, items } = entry
  const usage = usageOf(end)
  const took = between(start, end)
  const number = numberOf(props)
  const failed = end?.event["is_error"] === true
  return (
    <li class="entry request" aria-label={number === null ? "Model request" : `Turn ${number}`}>
      <div class="line request-head">
        <h2>{number === null ? "Turn" : `Turn ${number}`}</h2>
        <p>
          {end === null ? (
            <span>{shared.running ? "the model answers…" : "no answer"}</span>
          ) : (
            <>
              {failed && <span class="bad">no answer</span>}
              {usage !== null && !failed && (
                <span>
                  {count(usage.input)} in{usage.cached > 0 ? ` (${count(usage.cached)} cached)` : ""} · {count(usage.output)} out
                </span>
              )}
              {took !== null && <span>{duration(took)}</span>}
            </>
          )}
        </p>
        <span class="badges">
          {start !== null && <Badge placed={start} {...shared} />}
          {end !== null && <Badge placed={end} {...shared} />}
        </span>
      </div>
      {items.map((item) => (
        <ItemView key={item.is === "call" ? item.use.event.id : item.placed.event.id} item={item} waiting={waiting} {...shared} />
      ))}
      {previews.map(({ id, type, text }) =>
        type === "agent.thinking" ? (
          <div class="line" key={id}>
            <span class="label">Agent</span>
            <p class="thinking-now">thinking…</p>
          </div>
        ) : (
          <div class="line" key={id}>
            <span class="label">Agent</span>
            <div class="prose preview" aria-busy="true">
              {visibleProse(text)}
              <span class="caret" aria-hidden="true" />
            </div>
          </div>
        ),
      )}
    </li>
  )
}

function ItemView({
  item,
  waiting,
  ...shared
}: Omit<EntryProps, "entry" | "previews" | "numbered"> & { readonly item: Item }): JSX.Element {
  switch (item.is) {
    case "message":
      return (
        <Line label="Agent" placed={item.placed} {...shared}>
          <div class="prose">
            <LongText text={visibleProse(textOf(item.placed.event["content"]))} />
          </div>
        </Line>
      )
    case "thinking":
      return (
        <Line label="Agent" placed={item.placed} {...shared}>
          <details class="thinking">
            <summary>thought about it</summary>
            <p>
              The API says that the model thought and not what. The words, where the provider gives them, stand in the record behind the
              number at the side.
            </p>
          </details>
        </Line>
      )
    case "call":
      return <CallView call={item} waiting={waiting.find(({ event_id: id }) => id === item.use.event.id) ?? null} {...shared} />
    case "error":
      return <NoteView placed={item.placed} {...shared} />
    case "plumbing":
      return (
        <Line label="" placed={item.placed} {...shared}>
          <code class="plumbing">{item.placed.event.type}</code>
        </Line>
      )
    default:
      return item satisfies never
  }
}

function NoteView({ placed, ...shared }: { readonly placed: Placed } & Shared): JSX.Element {
  const { event } = placed
  const error = event["error"] as
    | { readonly message?: unknown; readonly type?: unknown; readonly retry_status?: { readonly type?: unknown } }
    | undefined
  if (event.type === "session.error")
    return (
      <Line label="Error" placed={placed} {...shared}>
        <p class="bad">
          {visibleProse(typeof error?.message === "string" ? error.message : "Something went wrong.")}{" "}
          <span class="kind">
            {typeof error?.type === "string" ? error.type : "error"}
            {error?.retry_status?.type === "retrying" ? ", tried again" : ""}
          </span>
        </p>
      </Line>
    )
  return (
    <Line label="" placed={placed} {...shared}>
      <p>{noteOf(placed)}</p>
    </Line>
  )
}

function noteOf({ event }: Placed): string {
  const stop = (event["stop_reason"] as { readonly type?: unknown } | null | undefined)?.type
  switch (event.type) {
    case "session.status_idle":
      if (stop === "end_turn") return "End of the turn"
      if (stop === "requires_action") return "Waiting for an answer"
      return `Stopped: ${(typeof stop === "string" ? stop : "idle").replaceAll("_", " ")}`
    case "session.status_rescheduled":
      return "The model will be asked again"
    case "session.status_terminated":
      return "The session has ended"
    case "session.deleted":
      return "The session was deleted"
    case "session.updated":
      return "The session was changed"
    case "user.interrupt":
      return "Interrupted by a person"
    case "user.tool_confirmation":
      return event["result"] === "allow" ? "A call was allowed" : "A call was denied"
    default:
      return event.type
  }
}
