import type { ModelPreviewed } from "@reins/events"
import type { Performing } from "@reins/runtime"
import type { AwaitingModel } from "@reins/session"
import type { InvokerLimits } from "./config.ts"
import type { OnDelta } from "./models/model.ts"

/** Previews of all answers of a process leave on common beats, so that many streams share a group commit and do not each pay for one. */
const beatMs = 25

/** What of one block is written and not yet published. */
interface Unpublished {
  readonly kind: "text" | "thinking"
  from: number
  text: string
}

export interface PreviewsOptions {
  readonly session: AwaitingModel
  readonly limits: Pick<InvokerLimits, "previewAfterMs" | "previewEveryMs" | "previewUnitsMax">
  readonly performing: Pick<Performing, "clock" | "signal">
  readonly publish: (said: ModelPreviewed) => Promise<boolean>
}

/**
 * Publishes one answer while it is being written.
 *
 * P1 The fragments of a block form a prefix of its text: in order, without a gap, no half of a surrogate pair.
 * P2 Whoever writes the answer never waits: one publication is under way at most, what comes meanwhile collects up to a limit.
 * P3 An answer that is whole before `previewAfterMs` is never published; nothing is begun after the end, an abort or a loss, for what
 *    follows a gap is shown to nobody.
 */
export class Previews {
  readonly #options: PreviewsOptions
  readonly #blocks = new Map<number, Unpublished>()
  /** Blocks with something to say, in the order in which they began to have it. */
  readonly #fresh = new Set<number>()
  #units = 0
  #notBefore: number | undefined
  #cancelTimer: (() => void) | undefined
  #publishing = false
  #over = false

  constructor(options: PreviewsOptions) {
    this.#options = options
  }

  readonly heard: OnDelta = (index, kind, text) => {
    if (this.#over) return
    const block = this.#blocks.get(index)
    if (block === undefined) this.#blocks.set(index, { kind, from: 0, text })
    else block.text += text
    this.#fresh.add(index)
    this.#units += text.length
    const { clock } = this.#options.performing
    this.#notBefore ??= clock.monotonic() + this.#options.limits.previewAfterMs
    if (this.#units > this.#options.limits.previewUnitsMax) this.end()
    else this.#schedule()
  }

  end(): void {
    this.#over = true
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#blocks.clear()
    this.#fresh.clear()
  }

  #schedule(): void {
    if (this.#over || this.#publishing || this.#cancelTimer !== undefined || this.#fresh.size === 0) return
    const { clock } = this.#options.performing
    const now = clock.monotonic()
    const due = Math.ceil(Math.max(now, this.#notBefore ?? now) / beatMs) * beatMs
    this.#cancelTimer = clock.after(due - now, () => {
      this.#cancelTimer = undefined
      // Counted from when it was due: a timer that is late by a millisecond must not miss the next beat.
      this.#notBefore = due + this.#options.limits.previewEveryMs
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    if (this.#options.performing.signal.aborted) this.end()
    const said = this.#take()
    if (said.length === 0) return
    this.#publishing = true
    const stands = await Promise.all(said.map((one) => this.#options.publish(one)))
    this.#publishing = false
    if (stands.includes(false)) this.end()
    else this.#schedule()
  }

  #take(): readonly ModelPreviewed[] {
    const { sessionId, request } = this.#options.session
    const said: ModelPreviewed[] = []
    for (const index of this.#fresh) {
      const block = this.#blocks.get(index) as Unpublished
      const { kind, from } = block
      const text = withoutHalf(block.text)
      if (kind === "text" && text === "") continue
      block.text = block.text.slice(text.length)
      block.from += text.length
      this.#units -= text.length
      said.push({ type: "model.previewed", sessionId, claim: request.claim, block: index, kind, from, text })
    }
    // A half that stays is fresh again when the other half comes.
    this.#fresh.clear()
    return said
  }
}

/** Without a last half of a surrogate pair: by itself it would be published as another character. */
function withoutHalf(text: string): string {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff ? text.slice(0, -1) : text
}
