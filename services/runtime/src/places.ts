import { erasesHeader, type LogRecord } from "@reins/log"

/** Where a session stands in its partition: a few numbers each, since there may be a million of them. */
export interface Place {
  /** Of all its records. */
  first: number
  newest: number
  /** Of its records but `session.deleted`, which stays; -1: there are none. */
  newestCopy: number
  /** Up to this offset everything has its tombstone, or was looked at and is none; -1: nothing. */
  erasedTo: number
  /** Log time of its newest record. */
  touchedAt: number
  /** What the newest snapshot of it that was read covers, and where that stands in `snapshots`; -1: there is none. */
  covered: number
  snapshotAt: number
  /** The oldest offset that no snapshot covers, and how many records there are from there; -1: all are covered. */
  uncoveredFrom: number
  uncovered: number
  /** Records up to here are in the state that it was restored with; -1: it was not. */
  restored: number
}

/** A snapshot as it was read, whatever became of its state. */
export interface SnapshotRead {
  readonly at: number
  readonly offset: number
  readonly first: number
  readonly newestCopy: number
  readonly erasedTo: number
}

/**
 * What of each session stands in a partition and what of that is covered by snapshots.
 *
 * W1 A successor needs nothing below the low watermark but the snapshots: every record below it is covered by the newest snapshot of its
 *    session, as read back. Snapshots are read in the order of their topic, so what a zombie writes late is seen as what it is: less.
 * W2 Tombstones of a session are appended in the order of what they erase, and the log keeps that order (G2). So the newest tombstone tells
 *    that every older record of its session has one too, whoever wrote it and wherever its writer died.
 */
export class Places {
  readonly #places = new Map<string, Place>()
  /** Sessions with records that no snapshot covers. */
  readonly #uncovered = new Map<string, Place>()
  /** Sessions of which more is erased than their snapshot says. It is written again; nothing has to be read for it. */
  readonly #outdated = new Map<string, Place>()
  /** How many records of backends' topics were folded, and how many of them were there when all was last removed. */
  readonly #beside = new Map<string, number>()
  readonly #removed = new Map<string, number>()
  #snapshots = 0
  #restoredMax = -1

  /** A record of `sessions`, whatever the fold makes of it. `stays`: it is never erased. */
  read(sessionId: string, offset: number, timestamp: number, stays = false): void {
    const place = this.#place(sessionId, offset)
    if (offset > place.newest) place.newest = offset
    if (timestamp > place.touchedAt) place.touchedAt = timestamp
    if (!stays && offset > place.newestCopy) place.newestCopy = offset
    if (offset > place.covered) this.#uncover(sessionId, place, offset)
    place.uncovered++
  }

  /** A tombstone of `sessions` as it is read. */
  readTombstone({ offset, headers }: LogRecord): void {
    const { session, [erasesHeader]: erases } = headers
    if (session !== undefined && erases !== undefined && /^\d{1,15}$/.test(erases)) this.tombstoned(session, Number(erases), offset)
  }

  /** A tombstone at offset `at` erases the record at `to`: a successor has to know, from the tombstone or from a snapshot. */
  tombstoned(sessionId: string, to: number, at: number): void {
    const place = this.#places.get(sessionId)
    if (place === undefined || to <= place.erasedTo) return
    place.erasedTo = to
    if (at > place.newest) place.newest = at
    if (at > place.covered) this.#uncover(sessionId, place, at)
  }

  /** Up to here everything was looked at, and what is to go has its tombstone. */
  erased(sessionId: string, to: number): void {
    const place = this.#places.get(sessionId)
    if (place === undefined || to <= place.erasedTo) return
    place.erasedTo = to
    if (place.snapshotAt >= 0 && to >= place.newestCopy) this.#outdated.set(sessionId, place)
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
  erasableFrom(sessionId: string): number | null {
    const place = this.#places.get(sessionId)
    const erasedTo = place?.erasedTo ?? -1
    if (place !== undefined && place.newestCopy > erasedTo) return Math.max(place.first, erasedTo + 1)
    return this.besideCount(sessionId) > (this.#removed.get(sessionId) ?? 0) ? erasedTo + 1 : null
  }

  // --- snapshots

  /** A snapshot of `snapshots` as it is read. */
  readSnapshot(sessionId: string, { at, offset, first, newestCopy, erasedTo }: SnapshotRead): void {
    const place = this.#place(sessionId, first)
    if (first < place.first) place.first = first
    if (newestCopy > place.newestCopy) place.newestCopy = newestCopy
    if (erasedTo >= place.erasedTo) {
      place.erasedTo = erasedTo
      this.#outdated.delete(sessionId)
    }
    if (place.snapshotAt < 0) this.#snapshots++
    place.covered = offset
    place.snapshotAt = at
    if (place.newest <= offset) {
      place.uncoveredFrom = -1
      place.uncovered = 0
      this.#uncovered.delete(sessionId)
    } else {
      // Which of the newer records is the first is not known any more; from here on all are.
      place.uncoveredFrom = -1
      this.#uncover(sessionId, place, offset + 1)
    }
  }

  /** The snapshot that a session is restored with. What it covers is not read any more, so what it knows of it is all that is known. */
  restored(sessionId: string, { offset, first, newestCopy, erasedTo }: SnapshotRead): void {
    const place = this.#places.get(sessionId)
    if (place === undefined) return
    place.restored = offset
    place.first = Math.min(place.first, first)
    place.newestCopy = Math.max(place.newestCopy, newestCopy)
    place.erasedTo = Math.max(place.erasedTo, erasedTo)
    if (offset > this.#restoredMax) this.#restoredMax = offset
    if (place.newest < offset) place.newest = offset
    // The newest snapshot is an older one: what it lacks has to be read again by whoever comes next.
    if (place.covered < offset) this.#uncover(sessionId, place, place.covered + 1)
  }

  /** Whether this record is in the state already that its session was restored with. */
  isRestored(sessionId: string, offset: number): boolean {
    return offset <= this.#restoredMax && offset <= (this.#places.get(sessionId)?.restored ?? -1)
  }

  /** The newest record that may be in such a state; -1 where nothing was restored. */
  get restoredTo(): number {
    return this.#restoredMax
  }

  of(sessionId: string): Readonly<Place> | undefined {
    return this.#places.get(sessionId)
  }

  /** How many sessions have a snapshot. */
  get snapshotCount(): number {
    return this.#snapshots
  }

  /** The oldest offset that a successor needs; `next` where snapshots cover everything (W1). */
  lowWatermark(next: number): number {
    let mark = next
    for (const { uncoveredFrom } of this.#uncovered.values()) if (uncoveredFrom < mark) mark = uncoveredFrom
    return mark
  }

  /** Sessions of which a snapshot is to be written, the longest uncovered first. */
  *toSnapshot(): Iterable<{ readonly sessionId: string; readonly place: Readonly<Place> }> {
    for (const [sessionId, place] of this.#uncovered) yield { sessionId, place }
    for (const [sessionId, place] of this.#outdated) if (!this.#uncovered.has(sessionId)) yield { sessionId, place }
  }

  /** Not in order: a tombstone is known from its acknowledgement, before what stands below it is read. */
  #uncover(sessionId: string, place: Place, from: number): void {
    if (place.uncoveredFrom >= 0 && place.uncoveredFrom <= from) return
    place.uncoveredFrom = from
    this.#uncovered.set(sessionId, place)
  }

  #place(sessionId: string, first: number): Place {
    let place = this.#places.get(sessionId)
    if (place === undefined) {
      place = {
        first,
        newest: -1,
        newestCopy: -1,
        erasedTo: -1,
        touchedAt: 0,
        covered: -1,
        snapshotAt: -1,
        uncoveredFrom: -1,
        uncovered: 0,
        restored: -1,
      }
      this.#places.set(sessionId, place)
    }
    return place
  }
}
