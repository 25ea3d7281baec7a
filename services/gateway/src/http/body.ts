import type { IncomingMessage } from "node:http"
import { ApiError, invalid } from "./errors.ts"

/** What a body may be, each with its reason. */
export interface BodyLimits {
  /** As the hosted API has it. */
  readonly bytesMax: number
  /** Nothing of use nests deeper, and much of what is done with a value takes a stack as deep as it is. */
  readonly depthMax: number
  /** Objects, lists, strings, numbers: a list of a million zeros is small on the wire and large once it is parsed and judged. */
  readonly valuesMax: number
  /** How long what comes after the limit is read and thrown away, so that a client that is still writing can read its answer. */
  readonly lingerMs: number
}

export const defaultBodyLimits: BodyLimits = { bytesMax: 32 * 1024 * 1024, depthMax: 100, valuesMax: 200_000, lingerMs: 500 }

/** Reads a body, and keeps no more of it than it may have. */
export async function readBody(request: IncomingMessage, { bytesMax, lingerMs }: BodyLimits): Promise<Uint8Array> {
  const encoding = request.headers["content-encoding"]
  if (encoding !== undefined && encoding !== "identity")
    throw invalid("content-encoding: compressed bodies are not taken; send the body as it is.")
  const announced = Number(request.headers["content-length"] ?? 0)
  const chunks: Buffer[] = []
  let length = 0
  let tooLong = announced > bytesMax
  await new Promise<void>((resolve, reject) => {
    let linger: NodeJS.Timeout | undefined
    const done = (): void => {
      clearTimeout(linger)
      resolve()
    }
    const cut = (): void => {
      tooLong = true
      chunks.length = 0
      linger ??= setTimeout(done, lingerMs)
    }
    if (tooLong) cut()
    request.on("data", (chunk: Buffer) => {
      if (tooLong) return
      length += chunk.length
      if (length > bytesMax) cut()
      else chunks.push(chunk)
    })
    request.once("end", done)
    // Nobody is there to read this; it ends the request all the same. What had ended before says nothing any more.
    const gone = (): void => {
      clearTimeout(linger)
      reject(invalid("body: the connection ended before the body did."))
    }
    request.on("error", gone)
    request.once("close", gone)
    if (request.destroyed) gone()
  })
  if (tooLong) throw new ApiError(413, "request_too_large", `A request may have ${bytesMax} bytes.`, { headers: { connection: "close" } })
  return Buffer.concat(chunks)
}

/** JSON as a request may hold it: an object in UTF-8 without a mark, and nothing in it that reads differently elsewhere. */
export function parseJson(bytes: Uint8Array, limits: BodyLimits): unknown {
  let text: string
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw invalid("body: not UTF-8.")
  }
  if (text.startsWith("\u{feff}")) throw invalid("body: begins with a byte order mark; leave it out.")
  new Scan(text, limits).run()
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(`body: not JSON: ${(error as Error).message.slice(0, 200)}`)
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("body: must be a JSON object.")
  return value
}

const forbidden: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"])

const quote = 0x22
const comma = 0x2c
const minus = 0x2d
const colon = 0x3a
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** An object or a list that is open where the scan stands. */
interface Open {
  /** Null for a list. */
  readonly names: Set<string> | null
  name: string
  index: number
}

/**
 * Looks for what JSON.parse lets pass: depth, size, a name twice in one object, names that reach into prototypes, halves of surrogate
 * pairs, numbers that are none. Once over the text, without recursion and without going back, before anything is built from it; what is
 * no JSON at all is left to the parser to name.
 */
class Scan {
  readonly #text: string
  readonly #limits: BodyLimits
  readonly #open: Open[] = []
  #expectsName = false
  #values = 0
  /** Where the next quote and the next backslash stand, as far as they have been looked for. */
  #nextQuote = -1
  #nextBackslash = -1

  constructor(text: string, limits: BodyLimits) {
    this.#text = text
    this.#limits = limits
  }

  run(): void {
    const text = this.#text
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === quote) {
        const end = this.#string(at + 1)
        if (end === null) return
        at = end
      } else if (code === openBrace || code === openBracket) this.#enter(code === openBrace)
      else if (code === closeBrace || code === closeBracket) {
        this.#open.pop()
        this.#expectsName = false
      } else if (code === comma) this.#next()
      else if (code === colon) this.#expectsName = false
      else if (code === minus || isDigit(code)) at = this.#number(at)
    }
  }

  #fault(message: string): Error {
    const place = this.#open.map(({ names, name, index }) => (names === null ? index : name.slice(0, 100))).join("/")
    return invalid(`${place === "" ? "body" : place}: ${message}`)
  }

  #count(): void {
    if (++this.#values > this.#limits.valuesMax) throw invalid(`body: holds more than ${this.#limits.valuesMax} values.`)
  }

  #enter(isObject: boolean): void {
    if (this.#open.length >= this.#limits.depthMax) throw invalid(`body: nests deeper than ${this.#limits.depthMax}.`)
    this.#count()
    this.#open.push({ names: isObject ? new Set() : null, name: "", index: 0 })
    this.#expectsName = isObject
  }

  #next(): void {
    const open = this.#open.at(-1)
    if (open === undefined) return
    if (open.names === null) {
      open.index++
      this.#count()
    } else this.#expectsName = true
  }

  /** Where the string that begins here ends; null where it does not. */
  #string(from: number): number | null {
    const text = this.#text
    let at = from
    for (;;) {
      if (this.#nextQuote < at) this.#nextQuote = indexOrEnd(text, '"', at)
      if (this.#nextBackslash < at) this.#nextBackslash = indexOrEnd(text, "\\", at)
      if (this.#nextQuote === text.length) return null
      if (this.#nextQuote < this.#nextBackslash) break
      at = this.#nextBackslash + 2
    }
    const end = this.#nextQuote
    const escaped = at > from
    if (!escaped && !this.#expectsName) return end
    let value = text.slice(from, end)
    if (escaped) {
      try {
        value = JSON.parse(`"${value}"`) as string
      } catch {
        return end
      }
    }
    if (this.#expectsName) this.#name(value)
    if (escaped && !value.isWellFormed()) throw this.#fault("holds half of a surrogate pair; send whole characters.")
    return end
  }

  #name(value: string): void {
    const open = this.#open.at(-1)
    if (open === undefined || open.names === null) return
    this.#count()
    open.name = value
    if (forbidden.has(value)) throw this.#fault(`a field may not be called ${value}.`)
    if (open.names.has(value)) throw this.#fault(`the field ${JSON.stringify(value.slice(0, 100))} stands twice in one object.`)
    open.names.add(value)
  }

  /** Where the number that begins here has its last character. */
  #number(from: number): number {
    const text = this.#text
    let end = from + 1
    while (end < text.length && isOfNumber(text.charCodeAt(end))) end++
    const number = text.slice(from, end)
    if (Math.abs(Number(number)) === Infinity) throw this.#fault(`${number.slice(0, 40)} is larger than a number can be.`)
    return end - 1
  }
}

function indexOrEnd(text: string, what: string, from: number): number {
  const at = text.indexOf(what, from)
  return at === -1 ? text.length : at
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39
}

/** Digits, sign, point, exponent. */
function isOfNumber(code: number): boolean {
  return isDigit(code) || code === 0x2b || code === minus || code === 0x2e || code === 0x45 || code === 0x65
}
