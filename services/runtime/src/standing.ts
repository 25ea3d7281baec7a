import { erasesHeader, type LogRecord } from "@reins/log"

interface Copies {
  readonly first: number
  newest: number
}

/**
 * What of each session still stands in a partition, as far as erasing it has to know: a few numbers, never the keys.
 *
 * Tombstones of a session are appended in the order of what they erase, and the log keeps that order (G2). So the newest tombstone tells that
 * every older record of its session has one too, whoever wrote it and wherever its writer died.
 */
export class Standing {
  /** Records of `sessions` by session, its `session.deleted` aside, which stays. */
  readonly #copies = new Map<string, Copies>()
  /** Up to this offset everything has its tombstone, or was looked at and is none. */
  readonly #erasedTo = new Map<string, number>()
  /** How many records of backends' topics were folded, and how many of them were there when all was last removed. */
  readonly #beside = new Map<string, number>()
  readonly #removed = new Map<string, number>()

  /** A record of `sessions`, whatever the fold makes of it. */
  read(sessionId: string, offset: number): void {
    const copies = this.#copies.get(sessionId)
    if (copies === undefined) this.#copies.set(sessionId, { first: offset, newest: offset })
    else copies.newest = Math.max(copies.newest, offset)
  }

  /** A tombstone of `sessions` as it is read. */
  readTombstone({ headers }: LogRecord): void {
    const { session, [erasesHeader]: erases } = headers
    if (session !== undefined && erases !== undefined && /^\d{1,15}$/.test(erases)) this.erased(session, Number(erases))
  }

  erased(sessionId: string, to: number): void {
    if (to > this.#erasedToOf(sessionId)) this.#erasedTo.set(sessionId, to)
  }

  /** A record of a backend's topic, in a log that can take those out. */
  readBeside(sessionId: string): void {
    this.#beside.set(sessionId, this.besideCount(sessionId) + 1)
  }

  besideCount(sessionId: string): number {
    return this.#beside.get(sessionId) ?? 0
  }

  removedBeside(sessionId: string, count: number): void {
    this.#removed.set(sessionId, count)
  }

  /** The offset from which records of this session may stand that a deletion has to erase; null where there are none. */
  from(sessionId: string): number | null {
    const erasedTo = this.#erasedToOf(sessionId)
    const copies = this.#copies.get(sessionId)
    if (copies !== undefined && copies.newest > erasedTo) return Math.max(copies.first, erasedTo + 1)
    return this.besideCount(sessionId) > (this.#removed.get(sessionId) ?? 0) ? erasedTo + 1 : null
  }

  #erasedToOf(sessionId: string): number {
    return this.#erasedTo.get(sessionId) ?? -1
  }
}
