import type { Append, Blobs, Commit, Following, FollowOptions, Log, Placed } from "@reins/log"
import type { AnyService, Performing } from "@reins/runtime"

// A process that can die at any point at which it touches the outside: before an append and after it stands, before a blob is put and after,
// before what is read is folded and after, before an effect and after it, before a commit and after, before anything is removed and after. The
// production code knows nothing of it: the log, the blob store and the services that it is given are wrapped.

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
  /** From which offset each topic was read first: above 0 where something told of what stands before. */
  readonly readFrom: Map<string, number> = new Map()
  readonly died: Promise<void>
  readonly #die: () => void
  readonly #crashAt: CrashAt | null
  #counts: boolean
  #dead = false

  /** `counts`: whether its points count from the beginning; otherwise from `count` on. */
  constructor(crashAt: CrashAt | null, counts: boolean, die: () => void) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.died = promise
    this.#crashAt = crashAt
    this.#counts = counts
    this.#die = () => {
      resolve()
      die()
    }
  }

  get dead(): boolean {
    return this.#dead
  }

  /** From now on it counts what it comes to, and dies. */
  count(): void {
    this.#counts = true
  }

  /** Comes to a point. False where the process is dead: whoever asks does nothing more. */
  #at(point: string): boolean {
    if (this.#dead) return false
    if (!this.#counts) return true
    const n = (this.passed.get(point) ?? 0) + 1
    this.passed.set(point, n)
    if (this.#crashAt === null || this.#crashAt.point !== point || this.#crashAt.n !== n) return true
    this.#dead = true
    this.#die()
    return false
  }

  async #around<T>(what: string, act: () => Promise<T>): Promise<T> {
    if (!this.#at(`${what} before`)) return never()
    const done = await act()
    return this.#at(`${what} after`) ? done : never()
  }

  log(inner: Log): Log {
    return new MortalLog(inner, {
      at: (point) => this.#at(point),
      around: (what, act) => this.#around(what, act),
      dead: () => this.#dead,
      readFrom: (topic, from) => {
        if (!this.readFrom.has(placeOf(topic))) this.readFrom.set(placeOf(topic), from)
      },
    })
  }

  blobs(inner: Blobs): Blobs {
    return {
      place: inner.place,
      put: (sessionId, bytes) => this.#around("put blob", () => inner.put(sessionId, bytes)),
      get: (sessionId, sha256) => (this.#dead ? never() : inner.get(sessionId, sha256)),
      list: () => inner.list(),
      collect: (blob, olderThanMs) => this.#around("collect blob", () => inner.collect(blob, olderThanMs)),
      removeSession: (sessionId) => this.#around("remove blobs", () => inner.removeSession(sessionId)),
    }
  }

  services(services: readonly AnyService[]): readonly AnyService[] {
    return services.map((service) => {
      const perform = service.perform?.bind(service)
      if (perform === undefined) return service
      return {
        ...service,
        perform: (work: unknown, performing: Performing) =>
          this.#around(`effect ${service.name}${nameOf(work)}`, () => perform(work, performing)),
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

/** What an append says: of a snapshot also how its session stands, of a tombstone that it is one. */
function said({ value, headers }: Append): string {
  if (value === null) return "tombstone"
  return [headers["type"] ?? "command", ...(headers["status"] === undefined ? [] : [headers["status"]])].join(" ")
}

function never<T>(): Promise<T> {
  return new Promise(() => {})
}

/** What a log that is wrapped tells its process. */
interface Hooks {
  readonly at: (point: string) => boolean
  readonly around: <T>(what: string, act: () => Promise<T>) => Promise<T>
  readonly dead: () => boolean
  readonly readFrom: (topic: string, from: number) => void
}

class MortalLog implements Log {
  readonly #inner: Log
  readonly #hooks: Hooks
  readonly remove?: NonNullable<Log["remove"]>
  readonly rewrite?: NonNullable<Log["rewrite"]>

  constructor(inner: Log, hooks: Hooks) {
    this.#inner = inner
    this.#hooks = hooks
    const { remove, rewrite } = inner
    if (remove !== undefined)
      this.remove = (topic, partition, offsets) =>
        hooks.around(`remove ${placeOf(topic)}`, () => remove.call(inner, topic, partition, offsets))
    if (rewrite !== undefined) this.rewrite = () => hooks.around("rewrite", () => rewrite.call(inner))
  }

  get kind(): Log["kind"] {
    return this.#inner.kind
  }

  get absenceGraceMs(): number {
    return this.#inner.absenceGraceMs
  }

  // Not async: what is appended in one turn of the event loop must reach the log in that turn, or it would not leave in one batch.
  append(append: Append): Promise<Placed> {
    const what = `append ${placeOf(append.topic)} ${said(append)}`
    if (!this.#hooks.at(`${what} before`)) return never()
    return this.#inner.append(append).then(
      (placed) => (this.#hooks.at(`${what} after`) ? placed : never<Placed>()),
      (error: unknown) => (this.#hooks.dead() ? never<Placed>() : Promise.reject(error as Error)),
    )
  }

  withdraw(topic: string, partition: number): void {
    if (!this.#hooks.dead()) this.#inner.withdraw(topic, partition)
  }

  replay(...args: Parameters<Log["replay"]>): ReturnType<Log["replay"]> {
    return this.#inner.replay(...args)
  }

  bounds(topic: string): ReturnType<Log["bounds"]> {
    return this.#inner.bounds(topic)
  }

  async follow(options: FollowOptions): Promise<Following> {
    const alive = (): boolean => !this.#hooks.dead()
    const from: FollowOptions["from"] = (topic, partition, committed) => {
      const where = options.from?.(topic, partition, committed) ?? 0
      void Promise.resolve(where).then(
        (offset) => this.#hooks.readFrom(topic, offset),
        () => undefined,
      )
      return where
    }
    const inner = await this.#inner.follow({
      ...options,
      ...(options.from === undefined ? {} : { from }),
      assigned: (partition) => void (alive() && options.assigned?.(partition)),
      lost: (partition) => void (alive() && options.lost?.(partition)),
      caughtUp: (topic, partition) => void (alive() && options.caughtUp?.(topic, partition)),
      failed: (error) => void (alive() && options.failed?.(error)),
      records: (topic, partition, records) => {
        if (!this.#hooks.at(`deliver ${placeOf(topic)}`)) return never<void>()
        return options.records(topic, partition, records)
      },
    })
    if (this.#hooks.dead()) return never()
    return {
      partitions: () => inner.partitions(),
      alive: () => alive() && inner.alive(),
      add: (topic) => (alive() ? inner.add(topic) : never<void>()),
      pause: (topic, partition) => inner.pause(topic, partition),
      resume: (topic, partition, from) => void (alive() && inner.resume(topic, partition, from)),
      commit: (commits: readonly Commit[]) => this.#hooks.around("commit", () => inner.commit(commits)),
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
