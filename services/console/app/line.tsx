import type { JSX } from "preact"
import type { Placed } from "./api.ts"

/** Which record is looked at, and how another one is. */
export interface Inspecting {
  readonly inspected: string | null
  readonly inspect: (eventId: string) => void
}

/** A line of the transcript: who, what, and in the margin where it stands in the log. */
export function Line({
  label,
  placed,
  children,
  ...shared
}: Inspecting & {
  readonly label: string
  readonly placed: Placed
  readonly children: JSX.Element | readonly (JSX.Element | null | false)[]
}): JSX.Element {
  return (
    <div class="line">
      <span class="label">{label}</span>
      <div class="content">{children}</div>
      <span class="badges">
        <Badge placed={placed} {...shared} />
      </span>
    </div>
  )
}

/** The place in the log, and the way to the record that stands there. */
export function Badge({ placed, inspect, inspected }: Inspecting & { readonly placed: Placed }): JSX.Element {
  const { event, place } = placed
  const text = place === null ? "queued" : `${place.partition}:${place.offset}`
  return (
    <button
      class="badge"
      type="button"
      aria-pressed={inspected === event.id}
      aria-label={`Record ${text} of ${event.type}`}
      title={`${event.type}\npartition ${place?.partition ?? "–"}, offset ${place?.offset ?? "–"}`}
      data-event={event.id}
      onClick={() => inspect(event.id)}
    >
      {text}
    </button>
  )
}
