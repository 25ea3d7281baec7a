import type { ToolEvent } from "@reins/events"
import type { Position, Verdict } from "./session.ts"
import { evolveToolCall, type ToolCall } from "./tool-call.ts"

/** The fold of one partition of `tools.<backend>`. */
export class ToolsFold {
  readonly #sessions = new Map<string, Map<string, ToolCall>>()
  /** Newest log time read. */
  timestamp = 0

  get(sessionId: string, toolUseId: string): ToolCall | undefined {
    return this.#sessions.get(sessionId)?.get(toolUseId)
  }

  ofSession(sessionId: string): Iterable<ToolCall> {
    return this.#sessions.get(sessionId)?.values() ?? []
  }

  sessionIds(): Iterable<string> {
    return this.#sessions.keys()
  }

  apply(event: ToolEvent, at: Position): Verdict {
    if (at.timestamp > this.timestamp) this.timestamp = at.timestamp
    let calls = this.#sessions.get(event.sessionId)
    const before = calls?.get(event.toolUseId)
    const { call, verdict } = evolveToolCall(before, event, at)
    if (call !== before && call !== undefined) {
      if (calls === undefined) {
        calls = new Map()
        this.#sessions.set(event.sessionId, calls)
      }
      calls.set(event.toolUseId, call)
    }
    return verdict
  }

  /**
   * Forgets what can no longer matter: closed, or never dispatched, and log time beyond its deadline by `marginMs` (design rule 13).
   * Returns the low watermark: the oldest offset still needed, never between two copies of one dispatch.
   */
  forget(next: number, marginMs: number): number {
    const needed = (call: ToolCall): boolean => this.timestamp <= call.deadlineAt + marginMs || (call.dispatch !== null && call.finished === null && call.cancelled === null)
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
      if (call.lastOffset >= watermark) continue
      const calls = this.#sessions.get(call.sessionId)
      calls?.delete(call.toolUseId)
      if (calls?.size === 0) this.#sessions.delete(call.sessionId)
    }
    return watermark
  }
}
