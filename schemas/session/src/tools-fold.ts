import type { ToolEvent } from "@reins/events"
import type { Position, Verdict } from "./session.ts"
import { evolveToolCall, isOpen, type ToolCall } from "./tool-call.ts"

/** The fold of one partition of `tools.<backend>`. */
export class ToolsFold {
  readonly #sessions = new Map<string, Map<string, ToolCall>>()
  readonly #open = new Map<string, Map<string, ToolCall>>()
  /** Newest log time read. */
  timestamp = 0

  get(sessionId: string, toolUseId: string): ToolCall | undefined {
    return this.#sessions.get(sessionId)?.get(toolUseId)
  }

  /** The calls of a session that are dispatched, not finished and not cancelled: what someone may still have to act on. */
  openOf(sessionId: string): Iterable<ToolCall> {
    return this.#open.get(sessionId)?.values() ?? []
  }

  /** Sessions with open calls. */
  openSessions(): Iterable<string> {
    return this.#open.keys()
  }

  apply(event: ToolEvent, at: Position): Verdict {
    if (at.timestamp > this.timestamp) this.timestamp = at.timestamp
    const before = this.#sessions.get(event.sessionId)?.get(event.toolUseId)
    const { call, verdict } = evolveToolCall(before, event, at)
    if (call !== before && call !== undefined) {
      put(this.#sessions, call)
      if (isOpen(call)) put(this.#open, call)
      else remove(this.#open, call)
    }
    return verdict
  }

  /** Puts what a record says in the place of what was folded of it while a part of it could not be read. */
  mend(event: ToolEvent): void {
    const call = this.get(event.sessionId, event.toolUseId)
    if (call?.dispatch?.eventId === event.eventId && event.type === "tool-call.dispatched") this.#replace({ ...call, dispatch: event })
    else if (call?.finished?.eventId === event.eventId && event.type === "tool-call.finished")
      this.#replace({ ...call, finished: { ...call.finished, result: { ...call.finished.result, content: event.content } } })
  }

  #replace(call: ToolCall): void {
    put(this.#sessions, call)
    if (isOpen(call)) put(this.#open, call)
  }

  /**
   * Forgets what can no longer matter: closed, or never dispatched, and log time beyond its deadline by `marginMs` (design rule 13).
   * What its session still waits for (`awaited`) is kept however old it is: a router that forgot a result would believe that the call
   * never ran, and send it again. Returns the low watermark: the oldest offset still needed, never between two copies of one dispatch.
   */
  forget(next: number, marginMs: number, awaited: (call: ToolCall) => boolean = () => false): number {
    const needed = (call: ToolCall): boolean => this.timestamp <= call.deadlineAt + marginMs || isOpen(call) || awaited(call)
    let watermark = next
    const spans: ToolCall[] = []
    for (const calls of this.#sessions.values()) {
      for (const call of calls.values()) {
        if (needed(call)) watermark = Math.min(watermark, call.firstOffset)
        else spans.push(call)
      }
    }
    for (let moved = true; moved; ) {
      moved = false
      for (const call of spans) {
        if (call.firstOffset < watermark && call.lastOffset >= watermark) {
          watermark = call.firstOffset
          moved = true
        }
      }
    }
    for (const call of spans) {
      if (call.lastOffset < watermark) remove(this.#sessions, call)
    }
    return watermark
  }
}

function put(index: Map<string, Map<string, ToolCall>>, call: ToolCall): void {
  const calls = index.get(call.sessionId)
  if (calls === undefined) index.set(call.sessionId, new Map([[call.toolUseId, call]]))
  else calls.set(call.toolUseId, call)
}

function remove(index: Map<string, Map<string, ToolCall>>, call: ToolCall): void {
  const calls = index.get(call.sessionId)
  calls?.delete(call.toolUseId)
  if (calls?.size === 0) index.delete(call.sessionId)
}
