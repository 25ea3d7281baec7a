import type { ModelPreviewed } from "@reins/events"
import { type ApiEvent, messageEventId, thinkingEventId } from "@reins/session"

interface Answer {
  /** Blocks in the order in which they began, by kind. */
  readonly texts: number[]
  readonly thoughts: number[]
  /** Where each block's next fragment has to begin. */
  readonly next: Map<number, number>
  /** A fragment was lost: what follows would not be a prefix any more. */
  broken: boolean
}

/** Answers that are previewed at the same time; the oldest is forgotten first, and its previews just end. */
const answersMax = 10_000

/**
 * Turns `model.previewed` into `event_start` and `event_delta`: one start per event, fragments that form a prefix. The event itself comes
 * from the session log and is what counts.
 */
export class Previews {
  readonly #answers = new Map<string, Answer>()

  next(said: ModelPreviewed): readonly ApiEvent[] {
    let answer = this.#answers.get(said.claim)
    if (answer === undefined) {
      answer = { texts: [], thoughts: [], next: new Map(), broken: said.from !== 0 }
      this.#answers.set(said.claim, answer)
      for (const oldest of this.#answers.keys()) {
        if (this.#answers.size <= answersMax) break
        this.#answers.delete(oldest)
      }
    }
    if (said.kind === "thinking") {
      if (answer.thoughts.includes(said.block)) return []
      answer.thoughts.push(said.block)
      return [start(thinkingEventId(said.claim, answer.thoughts.length - 1), "agent.thinking")]
    }
    if (said.kind !== "text" || said.text === "" || answer.broken) return []
    const from = answer.next.get(said.block) ?? 0
    // A copy of what was shown says nothing new.
    if (said.from < from) return []
    if (said.from > from) {
      answer.broken = true
      return []
    }
    answer.next.set(said.block, from + said.text.length)
    const id = messageEventId(said.claim)
    const begins = answer.texts.length === 0
    if (!answer.texts.includes(said.block)) answer.texts.push(said.block)
    const delta = {
      type: "event_delta",
      event_id: id,
      delta: { type: "content_delta", index: answer.texts.indexOf(said.block), content: { type: "text", text: said.text } },
    } as unknown as ApiEvent
    return begins ? [start(id, "agent.message"), delta] : [delta]
  }
}

/** Stream-only: it has no id of its own and is never listed. */
function start(id: string, type: string): ApiEvent {
  return { type: "event_start", event: { id, type } } as unknown as ApiEvent
}
