import { type LogRecord, LogUnavailableError } from "../log.ts"
import { asError, brokerErrorType, type Connections, type Link } from "./client.ts"
import { decodeRecords, type Fetched, fetchExchange, UnreadableBatchError } from "./fetch.ts"
import { listOffset } from "./offsets.ts"

/** One partition of one topic as it is being read. */
export interface Position {
  readonly topic: string
  readonly partition: number
  /** The offset to ask for next. */
  next: number
  /** What stood here at the first answer; delivered up to here, the position has caught up. */
  target: number | undefined
  caughtUp: boolean
  /** Its records are with the reader, or its start is being looked up. */
  busy: boolean
  /** Nothing came although more stands here: ask for it alone, to tell a hole from an answer that was full. */
  alone: boolean
  ended: boolean
  /** Since when the brokers have denied that it exists. */
  missingSince: number | undefined
  /** It cannot be asked for at the moment, and is tried again then. */
  heldUntil: number
  holdMs: number
}

export interface Reader {
  /** Where the reader already is, if it knows. */
  position(topic: string, partition: number): number | undefined
  records(topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void>
  caughtUp(topic: string, partition: number): void
  failed(error: Error): void
}

/** How long a broker holds an answer back while nothing is new. */
const longWaitMs = 200
/** The same while a position waits to be asked for again, and must not wait for the others' answer. */
const shortWaitMs = 10
/**
 * A poll that brings only what the reader has folded at its own acknowledgements is put off a little, longer every time: in a
 * process that writes what it reads, every append would cost a poll of its own for nothing. Others' records wait so long at most.
 */
const pauseMaxMs = 10
/** Between two tries where no broker answers at all, and where one partition has no leader that answers. */
const backoffMaxMs = 1000
const holdMaxMs = 250
const missingMaxMs = 30_000

interface Poll {
  readonly positions: readonly Position[]
  readonly index: 0 | 1
  waiting: boolean
  abandoned: boolean
}

/** What is in flight to one broker. */
interface Lane {
  current: Poll | undefined
  /** By connection: whether an abandoned poll is still being answered there. */
  readonly taken: [boolean, boolean]
  /** How long the next poll is put off, and until when. */
  pauseMs: number
  pausedUntil: number
}

/**
 * The fetch loop: one request per broker for everything that is read from it, each partition from a position of our own. kafkajs's
 * consumer is not used for reading: it forgets positions in every rebalance, jumps where an offset is out of range, and hangs on
 * batches that the log cleaner emptied.
 *
 * F1 A position is in one request at a time, and never while its records are with the reader.
 * F2 `next` moves only over what was delivered, or over what holds no record for a reader.
 * F3 An offset that does not exist is a failure, unless it lies before the log's start: then reading goes on at the start.
 */
export class Fetcher {
  readonly #link: Link
  readonly #reader: Reader
  readonly #positions = new Set<Position>()
  readonly #lanes = new Map<number, Lane>()
  readonly #inFlight = new Set<Position>()
  #stopped = false
  #pumping = false
  #again = false
  #backoffMs = 0
  #resting: NodeJS.Timeout | undefined
  #stale = false
  #turn = 0

  constructor(link: Link, reader: Reader) {
    this.#link = link
    this.#reader = reader
  }

  add(topic: string, partition: number, from: number): Position {
    const position: Position = {
      topic,
      partition,
      next: from,
      target: undefined,
      caughtUp: false,
      busy: false,
      alone: false,
      ended: false,
      missingSince: undefined,
      heldUntil: 0,
      holdMs: 0,
    }
    this.#positions.add(position)
    // A long poll under way knows nothing of this position. Its answer is not waited for: what it brings is asked for again.
    for (const lane of this.#lanes.values()) {
      lane.pausedUntil = 0
      if (lane.current?.waiting === true && !lane.taken[1 - lane.current.index]) this.#abandon(lane, lane.current)
    }
    this.#pump()
    return position
  }

  remove(position: Position): void {
    position.ended = true
    this.#positions.delete(position)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#resting)
    for (const position of this.#positions) position.ended = true
    this.#positions.clear()
  }

  #abandon(lane: Lane, poll: Poll): void {
    poll.abandoned = true
    lane.taken[poll.index] = true
    lane.current = undefined
    for (const position of poll.positions) this.#inFlight.delete(position)
  }

  /** Starts a poll to every broker that has none and could have one. */
  #pump(): void {
    if (this.#pumping) {
      this.#again = true
      return
    }
    this.#pumping = true
    queueMicrotask(() => void this.#run())
  }

  async #run(): Promise<void> {
    try {
      do {
        this.#again = false
        if (this.#stopped || this.#positions.size === 0 || this.#resting !== undefined) return
        const connections = await this.#link.open()
        const topics = new Set<string>()
        for (const position of this.#positions) topics.add(position.topic)
        if (this.#stale || !connections.knows(topics)) {
          await connections.refresh([...topics])
          this.#stale = false
        }
        if (!this.#stopped) this.#startPolls(connections)
      } while (this.#again)
    } catch (error) {
      this.#rest(error)
    } finally {
      this.#pumping = false
    }
  }

  #startPolls(connections: Connections): void {
    const byNode = new Map<number, Position[]>()
    const now = performance.now()
    let short = false
    for (const position of this.#positions) {
      if (position.busy) {
        short = true
        continue
      }
      if (this.#inFlight.has(position) || position.heldUntil > now) continue
      const node = connections.leader(position.topic, position.partition)
      if (node < 0) {
        this.#hold(position, connections.partitionCount(position.topic) === undefined)
        continue
      }
      const known = byNode.get(node)
      if (known === undefined) byNode.set(node, [position])
      else known.push(position)
    }
    for (const [node, idle] of byNode) {
      let lane = this.#lanes.get(node)
      if (lane === undefined) {
        lane = { current: undefined, taken: [false, false], pauseMs: 0, pausedUntil: 0 }
        this.#lanes.set(node, lane)
      }
      if (lane.current !== undefined || lane.pausedUntil > now) continue
      const alone = idle.find((position) => position.alone)
      const index = lane.taken[0] ? 1 : 0
      const positions = alone === undefined ? inTurn(idle, this.#turn++) : [alone]
      // Nobody waits for news where it is not even known yet what stands.
      const unknown = alone !== undefined || positions.some((position) => position.target === undefined)
      void this.#poll(
        connections,
        node,
        lane,
        { positions, index, waiting: false, abandoned: false },
        unknown ? 0 : short ? shortWaitMs : longWaitMs,
      )
    }
  }

  async #poll(connections: Connections, node: number, lane: Lane, poll: Poll, waitMs: number): Promise<void> {
    lane.current = poll
    poll.waiting = waitMs === longWaitMs
    const asked: { topic: string; partition: number; offset: number }[] = []
    for (const position of poll.positions) {
      this.#inFlight.add(position)
      this.#skipKnown(position)
      if (this.#settleCatchUp(position)) return
      asked.push({ topic: position.topic, partition: position.partition, offset: position.next })
    }
    let failure: unknown
    let fetched: readonly Fetched[] = []
    try {
      fetched = (await connections.exchange(node, poll.index, fetchExchange(asked, waitMs))).fetched
    } catch (error) {
      failure = error
    }
    if (poll.abandoned) {
      lane.taken[poll.index] = false
    } else {
      lane.current = undefined
      for (const position of poll.positions) this.#inFlight.delete(position)
    }
    if (this.#stopped) return
    if (failure !== undefined) {
      if (brokerErrorType(failure) === undefined) {
        this.#link.drop(connections)
        // The lanes belong to the connections that are gone; their polls are being rejected.
        if (this.#lanes.get(node) === lane) this.#lanes.delete(node)
        this.#rest(failure)
        return
      }
      for (const position of poll.positions) this.#hold(position, false)
      this.#pump()
      return
    }
    if (!poll.abandoned) {
      this.#backoffMs = 0
      const news = this.#take(connections, poll, fetched)
      lane.pauseMs = news ? 0 : Math.min(pauseMaxMs, Math.max(1, lane.pauseMs * 2))
      if (!news) {
        lane.pausedUntil = performance.now() + lane.pauseMs
        setTimeout(() => {
          lane.pausedUntil = 0
          this.#pump()
        }, lane.pauseMs)
      }
    }
    this.#pump()
  }

  /** Hands on what came. False where all of it was known already. */
  #take(connections: Connections, poll: Poll, fetched: readonly Fetched[]): boolean {
    let bytes = 0
    let news = false
    for (const one of fetched) bytes += one.batches.length
    let at = 0
    for (const one of fetched) {
      // Answers come in the order of the request, topic by topic; where they do not, the slow way finds them.
      let position = poll.positions[at++]
      if (position?.topic !== one.topic || position.partition !== one.partition) {
        position = poll.positions.find((candidate) => candidate.topic === one.topic && candidate.partition === one.partition)
      }
      if (position === undefined || position.ended) continue
      if (one.errorCode !== 0) {
        news = true
        this.#trouble(connections, position, one)
        continue
      }
      position.missingSince = undefined
      position.holdMs = 0
      position.alone = false
      position.target ??= one.lastStableOffset
      if (one.batches.length === 0) {
        if (position.next < one.lastStableOffset) {
          // Nothing at all came, so this is no full answer: whatever stood up to here was compacted away.
          if (bytes === 0) position.next = one.lastStableOffset
          else position.alone = true
        }
        this.#settleCatchUp(position)
        continue
      }
      if (this.#deliver(position, one)) news = true
      if (this.#stopped) return news
    }
    return news || bytes === 0
  }

  /** Hands the records of one answer on; false where the reader has them all. */
  #deliver(position: Position, fetched: Fetched): boolean {
    let decoded: ReturnType<typeof decodeRecords>
    let told: void | Promise<void> = undefined
    try {
      this.#skipKnown(position)
      decoded = decodeRecords(fetched, position.next)
      if (decoded.records.length > 0) told = this.#reader.records(position.topic, position.partition, decoded.records)
    } catch (error) {
      this.#fail(asError(error))
      return true
    }
    const news = decoded.records.length > 0 || !position.caughtUp
    if (told === undefined) {
      this.#advance(position, decoded.next)
      return news
    }
    position.busy = true
    told.then(
      () => {
        position.busy = false
        this.#advance(position, decoded.next)
        this.#pump()
      },
      (error: unknown) => {
        position.busy = false
        if (!position.ended) this.#fail(asError(error))
      },
    )
    return news
  }

  #advance(position: Position, next: number): void {
    if (next > position.next) position.next = next
    this.#settleCatchUp(position)
  }

  #skipKnown(position: Position): void {
    try {
      const known = this.#reader.position(position.topic, position.partition)
      if (known !== undefined && known > position.next) position.next = known
    } catch (error) {
      this.#fail(asError(error))
    }
  }

  /** Says once that a position has caught up. True where the reader ended everything on hearing it. */
  #settleCatchUp(position: Position): boolean {
    if (position.ended || position.caughtUp || position.target === undefined || position.next < position.target) return this.#stopped
    position.caughtUp = true
    try {
      this.#reader.caughtUp(position.topic, position.partition)
    } catch (error) {
      this.#fail(asError(error))
    }
    return this.#stopped
  }

  #trouble(connections: Connections, position: Position, { errorCode, topic, partition }: Fetched): void {
    if (errorCode === 1) {
      position.busy = true
      void this.#repair(connections, position)
      return
    }
    if (errorCode === 29 || errorCode === 30) {
      this.#fail(new LogUnavailableError(`Reading ${topic} is not allowed. Grant READ on the topic to this principal.`))
      return
    }
    if (errorCode === 2) {
      this.#fail(new UnreadableBatchError(topic, partition, position.next, "the broker says that it is corrupt"))
      return
    }
    // Another leader, or the same one not ready yet: ask who leads and go on.
    this.#hold(position, errorCode === 3)
  }

  /** Leaves a position out for a moment; who leads it is asked before it is tried again. */
  #hold(position: Position, missing: boolean): void {
    const now = performance.now()
    position.holdMs = Math.min(holdMaxMs, Math.max(20, position.holdMs * 2))
    position.heldUntil = now + position.holdMs
    if (missing) {
      position.missingSince ??= now
      if (now - position.missingSince > missingMaxMs) {
        this.#fail(new LogUnavailableError(`${position.topic}[${position.partition}] does not exist any more.`))
        return
      }
    }
    setTimeout(() => {
      position.heldUntil = 0
      this.#stale = true
      this.#pump()
    }, position.holdMs)
  }

  /** F3. */
  async #repair(connections: Connections, position: Position): Promise<void> {
    const { topic, partition } = position
    try {
      const [start, end] = await Promise.all([
        listOffset(connections, topic, partition, "start"),
        listOffset(connections, topic, partition, "end"),
      ])
      if (position.ended) return
      if (position.next < start) position.next = start
      else if (position.next > end) {
        this.#fail(
          new LogUnavailableError(
            `${topic}[${partition}] should be read from offset ${position.next}, but it ends at ${end}: records that were acknowledged are missing.`,
          ),
        )
        return
      }
      position.busy = false
      this.#pump()
    } catch (error) {
      position.busy = false
      if (brokerErrorType(error) === undefined) this.#rest(error)
      else this.#hold(position, false)
      this.#pump()
    }
  }

  /** Tries again a little later. */
  #rest(error: unknown): void {
    if (this.#stopped || this.#resting !== undefined) return
    if (error instanceof TypeError || error instanceof RangeError) {
      this.#fail(error)
      return
    }
    this.#stale = true
    this.#backoffMs = Math.min(backoffMaxMs, Math.max(20, this.#backoffMs * 2))
    this.#resting = setTimeout(() => {
      this.#resting = undefined
      this.#pump()
    }, this.#backoffMs)
  }

  #fail(error: Error): void {
    if (this.#stopped) return
    this.stop()
    this.#reader.failed(error)
  }
}

/** Another order every time, because what does not fit into one answer has to come first in a later one; topic by topic, as requests are built. */
function inTurn(list: readonly Position[], turn: number): readonly Position[] {
  const at = turn % list.length
  const topics = new Map<string, Position[]>()
  for (let index = 0; index < list.length; index++) {
    const position = list[(at + index) % list.length] as Position
    const known = topics.get(position.topic)
    if (known === undefined) topics.set(position.topic, [position])
    else known.push(position)
  }
  return topics.size === 1 ? ([...topics.values()][0] as Position[]) : [...topics.values()].flat()
}
