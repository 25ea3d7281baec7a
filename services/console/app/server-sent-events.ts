/** One frame of a stream of server-sent events. */
export interface Frame {
  readonly event: string
  /** The last id that the stream has given, also by a frame before this one. */
  readonly id: string
  readonly data: string
}

/**
 * Reads `text/event-stream` as it comes, cut anywhere (WHATWG HTML, 9.2.6). By hand, because EventSource cannot send the key as a header.
 * Text goes in; whole frames come out.
 */
export class FrameParser {
  #rest = ""
  #event = ""
  #id = ""
  #data: string[] = []

  push(text: string): readonly Frame[] {
    const frames: Frame[] = []
    // A lone CR at the end may be half of a CRLF: it is kept for the next piece.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?=[^])/)
    this.#rest = lines.pop() ?? ""
    for (const line of lines) {
      if (line !== "") this.#field(line)
      else if (this.#data.length > 0) {
        frames.push({ event: this.#event === "" ? "message" : this.#event, id: this.#id, data: this.#data.join("\n") })
        this.#event = ""
        this.#data = []
      } else this.#event = ""
    }
    return frames
  }

  #field(line: string): void {
    const colon = line.indexOf(":")
    if (colon === 0) return
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "")
    if (name === "data") this.#data.push(value)
    else if (name === "event") this.#event = value
    else if (name === "id" && !value.includes("\0")) this.#id = value
  }
}
