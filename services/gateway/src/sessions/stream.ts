import type { ServerResponse } from "node:http"
import type { ApiEvent } from "@reins/session"
import { ApiError } from "../http/errors.ts"
import type { EventRow, Place } from "../projection/store.ts"

/** A proxy cuts what is silent for longer. */
const keepAliveMs = 8000
/** A client that leaves so much unread is gone or will not catch up: it reconnects, lists, and goes on. */
const unreadMaxBytes = 4 * 1024 * 1024

export interface StreamsOptions {
  /** How many one credential may have open at a time. */
  readonly perCredentialMax: number
  /** Told how many are open. */
  readonly counted: (count: number) => void
  readonly evicted: () => void
}

/** Server-sent events, by hand: `event:` on every frame (the SDK drops a frame without), `id:` = position in the log. */
export class Streams {
  readonly #open = new Set<Stream>()
  readonly #timer: NodeJS.Timeout
  readonly #openBy = new Map<string, number>()
  readonly #options: StreamsOptions

  constructor(options: StreamsOptions) {
    this.#options = options
    this.#timer = setInterval(() => {
      for (const stream of this.#open) stream.write(": keep-alive\n\n")
    }, keepAliveMs)
    this.#timer.unref()
  }

  /** Throws 429 where this credential has as many open as it may. Holds for the stream that it opens in the same turn. */
  admit(credential: string): void {
    const { perCredentialMax } = this.#options
    if ((this.#openBy.get(credential) ?? 0) < perCredentialMax) return
    throw new ApiError(429, "rate_limit_error", `This key has ${perCredentialMax} event streams open, and may have no more. Close some.`, {
      // By then the keep-alive has shown which clients are gone.
      headers: { "retry-after": String(keepAliveMs / 1000) },
    })
  }

  /** `closed` is called once, be it before this returns. */
  open(credential: string, response: ServerResponse, headers: Readonly<Record<string, string>>, closed: () => void): Stream {
    response.writeHead(200, {
      ...headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      connection: "keep-alive",
      "x-accel-buffering": "no",
    })
    const stream = new Stream(response, this.#options.evicted)
    // A client that has gone while its request was judged does not say so once more.
    if (response.destroyed) {
      closed()
      return stream
    }
    this.#open.add(stream)
    this.#count(credential, 1)
    response.once("close", () => {
      this.#open.delete(stream)
      this.#count(credential, -1)
      closed()
    })
    // Something has to leave now: a client may wait for the first byte before it lists.
    stream.write(": open\n\n")
    return stream
  }

  #count(credential: string, change: 1 | -1): void {
    const left = (this.#openBy.get(credential) ?? 0) + change
    if (left === 0) this.#openBy.delete(credential)
    else this.#openBy.set(credential, left)
    this.#options.counted(this.#open.size)
  }

  /** Ends all, with a hint when to come back. */
  close(): void {
    clearInterval(this.#timer)
    for (const stream of this.#open) stream.end("retry: 1000\n\n")
  }
}

export class Stream {
  readonly #response: ServerResponse
  readonly #evicted: () => void

  constructor(response: ServerResponse, evicted: () => void) {
    this.#response = response
    this.#evicted = evicted
  }

  write(frame: string): void {
    if (this.#response.destroyed || this.#response.writableEnded) return
    if (this.#response.writableLength > unreadMaxBytes) {
      this.#evicted()
      this.#response.destroy()
      return
    }
    this.#response.write(frame)
  }

  /**
   * What a client has missed, as far as it may be left unread. Where there is more, or may be, the stream ends and the client comes back
   * for the rest: were it let go instead, nothing would have left, and it would ask for the same again for ever.
   */
  resume(missed: readonly EventRow[], rowsMax: number): void {
    for (const { event, place } of missed) {
      if (this.#response.writableLength > unreadMaxBytes / 2) return this.end("retry: 0\n\n")
      this.write(frameOf(event, place))
    }
    if (missed.length === rowsMax) this.end("retry: 0\n\n")
  }

  end(last: string): void {
    if (!this.#response.destroyed) this.#response.end(last)
  }
}

/** Frames of events that several clients are given, made once. */
const frames = new WeakMap<ApiEvent, string>()

export function frameOf(event: ApiEvent, place: Place | null): string {
  let frame = frames.get(event)
  if (frame === undefined) {
    const id = place === null ? "" : `id: ${placeText(place)}\n`
    frame = `event: ${event.type}\n${id}data: ${JSON.stringify(event)}\n\n`
    frames.set(event, frame)
  }
  return frame
}

/** `partition.offset.index`, what `Last-Event-ID` brings back. */
export function placeText({ partition, offset, index }: Place): string {
  return `${partition}.${offset}.${index}`
}

export function placeOf(text: string | undefined): Place | null {
  const parts = /^(\d{1,9})\.(\d{1,15})\.(\d{1,6})$/.exec(text ?? "")
  return parts === null ? null : { partition: Number(parts[1]), offset: Number(parts[2]), index: Number(parts[3]) }
}
