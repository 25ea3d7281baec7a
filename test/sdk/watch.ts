// A client of a session's stream as the documentation tells one to be: it opens the stream, lists what was before, and where the stream
// breaks off it opens another one, lists again and skips what it has seen.

import assert from "node:assert/strict"
import type {
  BetaManagedAgentsSessionEvent,
  BetaManagedAgentsStreamSessionEvents,
  EventStreamParams,
} from "@anthropic-ai/sdk/resources/beta/sessions"
import { type HeardEvent, orderingProblems, previewProblems } from "./ordering.ts"
import { expectExactShape, ShapeError } from "./shapes.ts"
import { Teller } from "./teller.ts"

export type StreamEvent = BetaManagedAgentsStreamSessionEvents
type Persisted = BetaManagedAgentsSessionEvent
type Of<Type extends StreamEvent["type"]> = Extract<StreamEvent, { readonly type: Type }>
type Idle = Of<"session.status_idle">

interface SseStream extends AsyncIterable<StreamEvent> {
  readonly controller: AbortController
}

export class Watch {
  readonly #teller: Teller
  /** For what happens in the background: a harness is asked between the calls of the story, and never twice at once. */
  readonly #aside: Teller
  readonly #sessionId: string
  readonly #deltas: NonNullable<EventStreamParams["event_deltas"]>
  /** The frames of each connection, as they came. */
  readonly #connections: StreamEvent[][] = []
  /** Every event once, at the place where it was processed; a message that still waits stands where it was queued. */
  readonly #heard: Persisted[] = []
  /** What the list held already when the stream had been opened. */
  #before: ReadonlySet<string> = new Set()
  #read = 0
  #controller: AbortController | null = null
  #stopped = false
  #failure: unknown = null
  #loop: Promise<void> = Promise.resolve()
  #wake: () => void = () => undefined
  /** The session was deleted while no stream was open, so that its last event was heard by nobody. */
  gone = false
  /** How often the stream broke off. */
  reconnects = 0

  private constructor(teller: Teller, sessionId: string, deltas: NonNullable<EventStreamParams["event_deltas"]>) {
    const { between: _, ...context } = teller.context
    this.#teller = teller
    this.#aside = new Teller(teller.client, context)
    this.#sessionId = sessionId
    this.#deltas = deltas
  }

  /** Resolves when the stream is open: what happens from now on is heard. */
  static async open(teller: Teller, sessionId: string, deltas: NonNullable<EventStreamParams["event_deltas"]> = []): Promise<Watch> {
    const watch = new Watch(teller, sessionId, deltas)
    const stream = await watch.#connect(teller)
    watch.#before = new Set((await teller.history(sessionId)).map(({ id }) => id))
    watch.#loop = watch.#follow(stream)
    return watch
  }

  get heard(): readonly Persisted[] {
    return this.#heard
  }

  get frames(): readonly StreamEvent[] {
    return this.#connections.flat()
  }

  async #connect(teller: Teller): Promise<SseStream> {
    const { client } = teller
    const stream = await teller.call("sessions.events.stream", () =>
      client.beta.sessions.events.stream(this.#sessionId, this.#deltas.length === 0 ? {} : { event_deltas: this.#deltas }),
    )
    this.#controller = stream.controller
    // Let go while it was being opened: nobody else would close it.
    if (this.#stopped) stream.controller.abort()
    this.#teller.streams.add(this)
    this.#connections.push([])
    return stream
  }

  async #follow(first: SseStream): Promise<void> {
    try {
      for (let stream = first; ; ) {
        const broken = await this.#drain(stream)
        if (this.#stopped || this.#heard.at(-1)?.type === "session.deleted") return
        this.reconnects += 1
        assert.ok(this.reconnects < 200, `the stream breaks off again and again: ${String(broken)}`)
        const next = await this.#reconnect()
        if (next === null) return
        stream = next
      }
    } catch (error) {
      if (!this.#stopped) this.#failure = error
    } finally {
      this.#stopped = true
      this.#wake()
    }
  }

  /** Another stream, and what was missed between the two; null where the session has gone meanwhile. */
  async #reconnect(): Promise<SseStream | null> {
    const end = performance.now() + this.#teller.patienceMs
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      if (this.#stopped) return null
      try {
        const stream = await this.#connect(this.#aside)
        for (const event of await this.#aside.history(this.#sessionId))
          if (!this.#before.has(event.id) && !this.#teller.sdk.droppedFromStreams.includes(event.type)) this.#take(event)
        return stream
      } catch (error) {
        if (error instanceof this.#teller.sdk.errors.notFound) {
          this.gone = true
          return null
        }
        // Whoever is being restarted does not answer yet.
        const { status, cause } = error as { readonly status?: number; readonly cause?: unknown }
        if (
          error instanceof assert.AssertionError ||
          cause instanceof ShapeError ||
          (status !== undefined && status < 500) ||
          performance.now() > end
        )
          throw error
      }
    }
  }

  async #drain(stream: SseStream): Promise<unknown> {
    try {
      for await (const frame of stream) {
        expectExactShape("BetaManagedAgentsStreamSessionEvents", frame)
        this.#connections.at(-1)?.push(frame)
        if (frame.type !== "event_start" && frame.type !== "event_delta") this.#take(frame)
        this.#wake()
      }
      return null
    } catch (error) {
      if (error instanceof assert.AssertionError || error instanceof ShapeError) throw error
      return error
    }
  }

  #take(event: Persisted): void {
    const at = this.#heard.findLastIndex(({ id }) => id === event.id)
    const known = this.#heard[at]
    if (known === undefined) this.#heard.push(event)
    else if (known.processed_at === null && event.processed_at !== null) {
      this.#heard.push(event)
    } else if (known.processed_at !== null && event.processed_at === null) {
      // A reconnect lists the newest state of what the stream says again; nothing new.
    } else if (this.reconnects === 0) {
      throw new assert.AssertionError({ message: `the stream said ${event.type} ${event.id} twice` })
    } else assert.deepEqual(event, known, "an event changed")
    this.#wake()
  }

  /** The next event of this type, behind the one found last. Waits for it. */
  async next<Type extends Persisted["type"]>(
    type: Type,
    such: (event: Extract<Persisted, { readonly type: Type }>) => boolean = () => true,
  ): Promise<Extract<Persisted, { readonly type: Type }>> {
    const found = await this.#wait(type, () => {
      const at = this.#heard.findIndex((event, i) => i >= this.#read && event.type === type && such(event as never))
      if (at < 0) return null
      this.#read = at + 1
      return this.#heard[at] as Extract<Persisted, { readonly type: Type }>
    })
    return found
  }

  /** The next `session.status_idle`, which must have stopped for this reason. */
  async idle(reason: Idle["stop_reason"]["type"]): Promise<Extract<Persisted, { readonly type: "session.status_idle" }>> {
    const idle = await this.next("session.status_idle")
    assert.equal(idle.stop_reason.type, reason, `${JSON.stringify(idle)}\n${this.#told()}`)
    return idle
  }

  /** The next `requires_action`, with the ids of what is waited for. */
  async required(): Promise<readonly string[]> {
    const { stop_reason: reason } = await this.idle("requires_action")
    assert.ok(reason.type === "requires_action")
    return reason.event_ids
  }

  /** The first fragment of a preview; a stream that broke off may have missed it for ever. */
  async preview(): Promise<void> {
    await this.#wait("a preview", () => (this.reconnects > 0 || this.frames.some(({ type }) => type === "event_delta") ? true : null))
  }

  /** All of a type that have been heard. */
  all<Type extends Persisted["type"]>(type: Type): readonly Extract<Persisted, { readonly type: Type }>[] {
    return this.#heard.filter((event): event is Extract<Persisted, { readonly type: Type }> => event.type === type)
  }

  async #wait<T>(what: string, look: () => T | null): Promise<T> {
    const end = performance.now() + this.#teller.patienceMs
    for (;;) {
      const found = look()
      if (found !== null) return found
      if (this.#failure !== null) throw this.#failure
      if (this.#stopped) throw new Error(`The stream has ended before ${what}.\n${this.#told()}`)
      const left = end - performance.now()
      if (left <= 0) throw new Error(`Waited ${this.#teller.patienceMs} ms in vain for ${what}.\n${this.#told()}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  #told(): string {
    return this.#heard.map((event) => `  ${JSON.stringify(event).slice(0, 300)}`).join("\n")
  }

  /** Resolves when the session has said that it is deleted, as its last word, and the server has ended the stream. */
  async deleted(): Promise<void> {
    await this.#wait("the end of the stream", () => (this.#stopped ? true : null))
    if (this.#failure !== null) throw this.#failure
    if (!this.gone) assert.equal(this.#heard.at(-1)?.type, "session.deleted")
  }

  /** Lets go of the stream, and asks nothing of what was heard. */
  letGo(): void {
    this.#stopped = true
    this.#controller?.abort()
  }

  /** Lets go of the stream and holds everything that was heard to the rules; with the list where there still is one. */
  async close(options: { readonly deleted?: boolean } = {}): Promise<void> {
    if (options.deleted !== true) await this.#agree()
    this.letGo()
    await this.#loop
    if (this.#failure !== null) throw this.#failure
    const dropped = this.#teller.sdk.droppedFromStreams
    const order = this.#heard as unknown as readonly HeardEvent[]
    assert.deepEqual(orderingProblems(order, { dropped, fromTheMiddle: this.#before.size > 0 }), [], this.#told())
    for (const frames of this.#connections) {
      // Where a connection was cut, so were its previews.
      const whole = frames === this.#connections.at(-1)
      const problems = previewProblems(frames as unknown as readonly HeardEvent[], this.#deltas)
      assert.deepEqual(
        problems.filter((problem) => whole || !problem.startsWith("O9 at the end")),
        [],
      )
    }
  }

  /** List and stream are two ways to the same history: same ids, same order, same events. */
  async #agree(): Promise<void> {
    const list = await this.#teller.history(this.#sessionId)
    assert.equal(new Set(list.map(({ id }) => id)).size, list.length, "the list says an event twice")
    assert.deepEqual(orderingProblems(list as unknown as readonly HeardEvent[]), [], JSON.stringify(list))
    const dropped = this.#teller.sdk.droppedFromStreams
    const processed = (events: readonly Persisted[]): readonly Persisted[] =>
      events.filter(({ id, type, processed_at }) => processed_at !== null && !this.#before.has(id) && !dropped.includes(type))
    const listed = processed(list)
    await this.#wait("all that is listed", () => {
      const ids = new Set(processed(this.#heard).map(({ id }) => id))
      return listed.every(({ id }) => ids.has(id)) ? true : null
    })
    const heard = processed(this.#heard).slice(0, listed.length)
    assert.deepEqual(
      heard.map(({ id, type }) => `${type} ${id}`),
      listed.map(({ id, type }) => `${type} ${id}`),
      "list and stream tell different stories",
    )
    assert.deepEqual(heard, listed, "list and stream tell an event differently")
  }
}
