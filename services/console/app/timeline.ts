import type { Place, Placed } from "./api.ts"

/**
 * The events of a session as far as they are known here, in their order. Pages and stream may overlap and come in any order.
 *
 * T1 An event stands once; a message that waited is replaced by itself once a request takes it.
 * T2 Order is that of the log, and what waits comes last: the order of the API's list.
 */
export class Timeline {
  readonly #byId = new Map<string, Placed>()
  #ordered: readonly Placed[] | null = []
  #newest: Place | null = null

  add(events: readonly Placed[]): void {
    for (const placed of events) {
      const known = this.#byId.get(placed.event.id)
      // A page that was read before the stream said more must not undo it.
      if (known !== undefined && !(isQueued(known) && !isQueued(placed))) continue
      this.#byId.set(placed.event.id, placed)
      this.#ordered = null
      const { place } = placed
      if (place !== null && (this.#newest === null || comparePlaces(place, this.#newest) > 0)) this.#newest = place
    }
  }

  get events(): readonly Placed[] {
    this.#ordered ??= [...this.#byId.values()].sort(compare)
    return this.#ordered
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  get(id: string): Placed | undefined {
    return this.#byId.get(id)
  }

  /** For `Last-Event-ID`. */
  get newest(): Place | null {
    return this.#newest
  }
}

function isQueued({ event }: Placed): boolean {
  return event.processed_at === null
}

function compare(a: Placed, b: Placed): number {
  if (isQueued(a) !== isQueued(b)) return isQueued(a) ? 1 : -1
  if (a.place === null || b.place === null) return 0
  return comparePlaces(a.place, b.place)
}

function comparePlaces(a: Place, b: Place): number {
  return a.offset - b.offset || a.index - b.index
}

/** Answers that are still being written, by the id of the event that they will become. */
export class Previews {
  readonly #texts = new Map<string, { readonly type: string; readonly texts: string[] }>()

  /** Takes an `event_start` or `event_delta`. */
  push(event: Readonly<Record<string, unknown>>): void {
    if (event["type"] === "event_start") {
      const { id, type } = event["event"] as { readonly id: string; readonly type: string }
      this.#texts.set(id, { type, texts: [] })
      return
    }
    const preview = this.#texts.get(String(event["event_id"]))
    const delta = event["delta"] as { readonly index?: number; readonly content?: { readonly text?: string } } | undefined
    if (preview === undefined || delta === undefined) return
    const index = delta.index ?? 0
    preview.texts[index] = (preview.texts[index] ?? "") + (delta.content?.text ?? "")
  }

  /** The event itself is there, or its request is over: what was shown beforehand goes. */
  settle(event: { readonly id: string; readonly type: string }): void {
    if (event.type === "span.model_request_end") this.#texts.clear()
    else this.#texts.delete(event.id)
  }

  get shown(): readonly { readonly id: string; readonly type: string; readonly text: string }[] {
    return [...this.#texts].map(([id, { type, texts }]) => ({ id, type, text: texts.join("") }))
  }
}
