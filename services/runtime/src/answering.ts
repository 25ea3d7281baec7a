import type { LogRecord } from "@reins/log"

/** A command that was answered, or sent on, and is not dealt with yet. */
interface Open {
  readonly command: LogRecord
  /** Of the session whose fact answers it; null where it is sent on. */
  readonly sessionId: string | null
  /** Where its answer stands in `sessions`, once the log has acknowledged it. */
  at: number | undefined
}

/**
 * The commands of a partition whose answers are under way. The committed offset stays below each of them until its answer is accepted, so that
 * whoever comes next hears it again.
 *
 * An answer is judged on what was known when it was said, and a zombie's facts may land before it. It is then superseded, or of a session that
 * was deleted in between, whose blobs are gone with it: the command is heard again, and refused, as what it became can come to nothing.
 */
export class Answering {
  readonly #open = new Map<number, Open>()
  /** Offsets of commands that became a fact once, which lost. */
  readonly #lost = new Set<number>()

  offsets(): Iterable<number> {
    return this.#open.keys()
  }

  add(command: LogRecord, sessionId: string | null): Open {
    const open = { command, sessionId, at: undefined }
    this.#open.set(command.offset, open)
    return open
  }

  /** It is dealt with. */
  settle(offset: number): void {
    this.#open.delete(offset)
    this.#lost.delete(offset)
  }

  isOpen(open: Open): boolean {
    return this.#open.get(open.command.offset) === open
  }

  /** The command, to be heard again; undefined where it is dealt with already. */
  lose(offset: number): LogRecord | undefined {
    const open = this.#open.get(offset)
    if (open === undefined) return undefined
    this.#open.delete(offset)
    this.#lost.add(offset)
    return open.command
  }

  hasLost(offset: number): boolean {
    return this.#lost.has(offset)
  }

  /** Answers that stand below `next` and were not folded: nobody can read them. */
  passed(next: number): readonly Open[] {
    return [...this.#open.values()].filter(({ at }) => at !== undefined && at < next)
  }
}
