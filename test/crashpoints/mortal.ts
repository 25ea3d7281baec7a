import type { Append, Commit, Following, FollowOptions, Log, Placed } from "@reins/log"
import type { AnyService, Performing } from "@reins/runtime"

// A process that can die at any point at which it touches the outside: before an append and after it stands, before what is read is folded
// and after, before an effect and after it, before a commit and after. The production code knows nothing of it: the log and the services that
// it is given are wrapped.

/** Where a process dies: at the n-th time, from 1, that it comes to this point. */
export interface CrashAt {
  readonly point: string
  readonly n: number
}

/** As it stands in REINS_CRASH_AT. */
export function readCrashAt(text: string): CrashAt {
  const cut = text.lastIndexOf(":")
  const n = Number(text.slice(cut + 1))
  if (cut < 1 || !Number.isInteger(n) || n < 1)
    throw new RangeError(`${JSON.stringify(text)} is no point and number, as in "commit before:2".`)
  return { point: text.slice(0, cut), n }
}

export class Mortal {
  /** How often each point was come to, in the order in which they were first met. */
  readonly passed: Map<string, number> = new Map()
  readonly #die: () => void
  #crashAt: CrashAt | null
  #counting = true
  #dead = false

  constructor(crashAt: CrashAt | null, die: () => void) {
    this.#crashAt = crashAt
    this.#die = die
  }

  get dead(): boolean {
    return this.#dead
  }

  /** From now on it lives, and nothing that it does is counted: the run is over. */
  spare(): void {
    this.#crashAt = null
    this.#counting = false
  }

  /** Comes to a point. False where the process is dead: whoever asks does nothing more. */
  #at(point: string): boolean {
    if (this.#dead) return false
    if (!this.#counting) return true
    const n = (this.passed.get(point) ?? 0) + 1
    this.passed.set(point, n)
    if (this.#crashAt === null || this.#crashAt.point !== point || this.#crashAt.n !== n) return true
    this.#dead = true
    this.#die()
    return false
  }

  log(inner: Log): Log {
    return new MortalLog(
      inner,
      (point) => this.#at(point),
      () => this.#dead,
    )
  }

  services(services: readonly AnyService[]): readonly AnyService[] {
    return services.map((service) => {
      const perform = service.perform?.bind(service)
      if (perform === undefined) return service
      return {
        ...service,
        perform: async (work: unknown, performing: Performing) => {
          const what = `effect ${service.name}${nameOf(work)}`
          if (!this.#at(`${what} before`)) return never()
          const drafts = await perform(work, performing)
          return this.#at(`${what} after`) ? drafts : never()
        },
      }
    })
  }

  /** To be called for every record once it is folded: the read-back. */
  folded({ topic, event }: { readonly topic: string; readonly event: { readonly type: string } }): void {
    this.#at(`read back ${placeOf(topic)} ${event.type}`)
  }
}

/** The tool of a call, where the work is one. */
function nameOf(work: unknown): string {
  const { call } = work as { call?: { dispatch?: { tool?: string } | null } }
  return call?.dispatch?.tool === undefined ? "" : ` ${call.dispatch.tool}`
}

/** The topic without its prefix and backend. */
function placeOf(topic: string): string {
  const found = /\.(tools\.|)([^.]+)$/.exec(topic)
  return found?.[1] === "tools." ? "tools" : (found?.[2] ?? topic)
}

function never<T>(): Promise<T> {
  return new Promise(() => {})
}

class MortalLog implements Log {
  readonly #inner: Log
  readonly #at: (point: string) => boolean
  readonly #dead: () => boolean

  constructor(inner: Log, at: (point: string) => boolean, dead: () => boolean) {
    this.#inner = inner
    this.#at = at
    this.#dead = dead
  }

  get kind(): Log["kind"] {
    return this.#inner.kind
  }

  get absenceGraceMs(): number {
    return this.#inner.absenceGraceMs
  }

  // Not async: what is appended in one turn of the event loop must reach the log in that turn, or it would not leave in one batch.
  append(append: Append): Promise<Placed> {
    const what = `append ${placeOf(append.topic)} ${append.headers["type"] ?? "command"}`
    if (!this.#at(`${what} before`)) return never()
    return this.#inner.append(append).then(
      (placed) => (this.#at(`${what} after`) ? placed : never<Placed>()),
      (error: unknown) => (this.#dead() ? never<Placed>() : Promise.reject(error as Error)),
    )
  }

  withdraw(topic: string, partition: number): void {
    if (!this.#dead()) this.#inner.withdraw(topic, partition)
  }

  replay(...args: Parameters<Log["replay"]>): ReturnType<Log["replay"]> {
    return this.#inner.replay(...args)
  }

  bounds(topic: string): ReturnType<Log["bounds"]> {
    return this.#inner.bounds(topic)
  }

  async follow(options: FollowOptions): Promise<Following> {
    const alive = (): boolean => !this.#dead()
    const inner = await this.#inner.follow({
      ...options,
      assigned: (partition) => void (alive() && options.assigned?.(partition)),
      lost: (partition) => void (alive() && options.lost?.(partition)),
      caughtUp: (topic, partition) => void (alive() && options.caughtUp?.(topic, partition)),
      failed: (error) => void (alive() && options.failed?.(error)),
      records: (topic, partition, records) => {
        if (!this.#at(`deliver ${placeOf(topic)}`)) return never<void>()
        return options.records(topic, partition, records)
      },
    })
    if (this.#dead()) return never()
    return {
      partitions: () => inner.partitions(),
      alive: () => alive() && inner.alive(),
      add: (topic) => (alive() ? inner.add(topic) : never<void>()),
      commit: async (commits: readonly Commit[]) => {
        if (!this.#at("commit before")) return never<void>()
        await inner.commit(commits)
        if (!this.#at("commit after")) return never<void>()
      },
      stop: () => inner.stop(),
    }
  }

  members(group: string): ReturnType<Log["members"]> {
    return this.#inner.members(group)
  }

  applyTopics(...args: Parameters<Log["applyTopics"]>): ReturnType<Log["applyTopics"]> {
    return this.#inner.applyTopics(...args)
  }

  verifyTopics(...args: Parameters<Log["verifyTopics"]>): ReturnType<Log["verifyTopics"]> {
    return this.#inner.verifyTopics(...args)
  }

  describeTopics(): ReturnType<Log["describeTopics"]> {
    return this.#inner.describeTopics()
  }

  close(): Promise<void> {
    return this.#inner.close()
  }
}
