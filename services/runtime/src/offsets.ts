import type { TopicNames } from "@reins/events"
import type { Commit } from "@reins/log"
import type { OwnedPartition } from "./owned-partition.ts"

/** Log time for which closed calls are remembered beyond their deadline: more than brokers' clocks differ. */
const forgetMarginMs = 60_000

/** What is committed of the partitions owned: hints that save time, never correctness (design rule 14). */
export class Offsets {
  readonly #topics: TopicNames
  readonly #committed = new Map<string, string>()

  constructor(topics: TopicNames) {
    this.#topics = topics
  }

  /** The commits that differ from the last ones. */
  due(owned: OwnedPartition): Commit[] {
    const commits: Commit[] = []
    for (const [topic, next] of owned.next) {
      // A command that is read and not judged yet may turn out to be one that nobody can read.
      const judged = topic === this.#topics.commands ? (owned.commands[0]?.offset ?? next) : next
      const buried = owned.buriedBelow(topic, judged)
      const offset = Math.min(this.#watermark(owned, topic, next), buried)
      const mark = `${offset}/${buried}`
      const id = `${topic}/${owned.number}`
      if (this.#committed.get(id) === mark) continue
      this.#committed.set(id, mark)
      const relied = topic === this.#topics.sessions ? reliedNote(owned, this.#topics.snapshots) : ""
      commits.push({ topic, partition: owned.number, offset, note: `read=${buried}${relied}` })
    }
    return commits
  }

  /** The low watermark: the oldest offset that a successor may still need. */
  #watermark(owned: OwnedPartition, topic: string, next: number): number {
    if (topic === this.#topics.commands) return owned.commandsDealtWith(topic)
    const backend = this.#topics.backendOf(topic)
    if (backend !== null) return owned.toolsFold(backend).forget(next, forgetMarginMs, (call) => owned.awaits(call))
    return topic === this.#topics.sessions ? owned.places.lowWatermark(next) : next
  }
}

/** How far unreadable records below a commit were buried, from its note. */
export function buriedTo(note: string | undefined): number {
  return Number((/^read=(\d+)/.exec(note ?? "") ?? [])[1] ?? 0)
}

function reliedNote(owned: OwnedPartition, topic: string): string {
  return ` snapshots=${owned.next.get(topic) ?? 0}/${owned.places.snapshotCount}`
}

/** What a commit of `sessions` says of the snapshots that it relies on. */
export interface Relied {
  /** Snapshots below this offset of `snapshots` were read. */
  readonly next: number
  /** How many sessions had one. */
  readonly count: number
}

/** The snapshots that a commit of `sessions` relies on, from its note; null where it relies on none. */
export function reliedOn(note: string | undefined): Relied | null {
  const [, next, count] = / snapshots=(\d+)\/(\d+)$/.exec(note ?? "") ?? []
  return next === undefined || count === undefined ? null : { next: Number(next), count: Number(count) }
}
