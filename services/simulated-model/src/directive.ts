import type { JsonSchema, Tool } from "./messages.ts"

/** A call that the planner wants made. */
export interface WantedCall {
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
}

/** What a prompt orders in so many words, or why it cannot be read. */
export type Directives = Orders | { readonly unreadable: string }

export interface Orders {
  readonly turnCount: number
  /** How the last answer is said, where the prompt orders that. */
  readonly speech: Speech | null
  /** The calls of a turn, from 0; null past the last. Made on demand: each request of a long chain needs one of them. */
  callsOf(turn: number): readonly WantedCall[] | null
}

/** A slow answer of many parts. */
export interface Speech {
  readonly partCount: number
  readonly apartMs: number
  /** With a thinking block before it. */
  readonly thinks: boolean
}

interface Group {
  readonly calls: readonly WantedCall[]
  /** How many turns it stands for, or null where it is one turn without a number. */
  readonly count: number | null
}

/** Turns of one directive; more is a typing error and not a test. */
const turnsMax = 10_000
const partsMax = 10_000
const apartMaxMs = 60_000

/**
 * Reads the directives of a prompt, in order; null where it has none:
 *
 *     [[call add {"a":1,"b":2}]]                                one turn
 *     [[call add {"a":1,"b":2}; call get_order {"id":"17"}]]    one turn, calls in parallel
 *     [[turns 10: call echo {"n":"$i"}]]                        ten turns; $i is the number of the turn, from 1
 *     [[say 40 parts 50 ms apart]]                              the last answer: a text of 40 deltas, so far apart
 *     [[think; say 40 parts 50 ms apart]]                       the same after a block of thinking
 *
 * The arguments may be left out where they are empty. A string that is just "$i" becomes a number where the tool's schema wants one.
 */
export function directivesOf(prompt: string, tools: readonly Tool[]): Directives | null {
  const opening = /\[\[\s*(?=(?:call|turns|say|think)\b)/g
  const groups: Group[] = []
  let speech: Speech | null = null
  for (let match = opening.exec(prompt); match !== null; match = opening.exec(prompt)) {
    const reader = new Reader(prompt, match.index + match[0].length)
    try {
      if (/say|think/y.test(prompt.slice(reader.at, reader.at + 5))) speech = readSpeech(reader)
      else groups.push(readGroup(reader))
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error
      return { unreadable: `${error.message} at "${prompt.slice(match.index, reader.at + 20)}"` }
    }
    opening.lastIndex = reader.at
  }
  if (groups.length === 0 && speech === null) return null
  return {
    speech,
    turnCount: groups.reduce((sum, { count }) => sum + (count ?? 1), 0),
    callsOf(turn: number): readonly WantedCall[] | null {
      let before = 0
      for (const { calls, count } of groups) {
        if (turn < before + (count ?? 1)) return count === null ? calls : calls.map((call) => numberedCall(call, turn - before + 1, tools))
        before += count ?? 1
      }
      return null
    },
  }
}

class Unreadable extends Error {}

class Reader {
  readonly text: string
  at: number

  constructor(text: string, at: number) {
    this.text = text
    this.at = at
  }

  /** Takes what the pattern, which must be sticky, finds here. */
  take(pattern: RegExp): string | null {
    pattern.lastIndex = this.at
    const match = pattern.exec(this.text)
    if (match === null) return null
    this.at += match[0].length
    return match[1] ?? match[0]
  }

  need(pattern: RegExp, what: string): string {
    const taken = this.take(pattern)
    if (taken === null) throw new Unreadable(`${what} is missing`)
    return taken
  }
}

function readSpeech(reader: Reader): Speech {
  const thinks = reader.take(/think\s*;\s*/y) !== null
  const partCount = Number(reader.need(/say\s+(\d+)\s+parts?/y, '"say" with a number of parts'))
  const apartMs = Number(reader.take(/\s+(\d+)\s*ms\s+apart/y) ?? 0)
  if (partCount < 1 || partCount > partsMax) throw new Unreadable(`the number of parts must be from 1 to ${partsMax}`)
  if (apartMs > apartMaxMs) throw new Unreadable(`the parts may be ${apartMaxMs} ms apart at most`)
  reader.need(/\s*\]\]/y, '"]]"')
  return { partCount, apartMs, thinks }
}

function readGroup(reader: Reader): Group {
  const count = reader.take(/turns\s+(\d+)\s*:\s*/y)
  if (count !== null && (Number(count) < 1 || Number(count) > turnsMax))
    throw new Unreadable(`the number of turns must be from 1 to ${turnsMax}`)
  const calls: WantedCall[] = []
  for (;;) {
    reader.need(/\s*call\s+/y, '"call"')
    const name = reader.need(/[a-zA-Z0-9_-]+/y, "the name of a tool")
    reader.take(/\s*/y)
    calls.push({ name, input: reader.text[reader.at] === "{" ? readObject(reader, name) : {} })
    if (reader.take(/\s*\]\]/y) !== null) break
    reader.need(/\s*;/y, '";" or "]]"')
  }
  return { calls, count: count === null ? null : Number(count) }
}

/** A JSON object, found by its brackets: `]]` may well be inside it. */
function readObject(reader: Reader, name: string): Record<string, unknown> {
  const start = reader.at
  let depth = 0
  let quoted = false
  for (; reader.at < reader.text.length; reader.at += 1) {
    const char = reader.text[reader.at]
    if (quoted) {
      if (char === "\\") reader.at += 1
      else if (char === '"') quoted = false
    } else if (char === '"') quoted = true
    else if (char === "{" || char === "[") depth += 1
    else if (char === "}" || char === "]") {
      depth -= 1
      if (depth > 0) continue
      reader.at += 1
      try {
        return JSON.parse(reader.text.slice(start, reader.at)) as Record<string, unknown>
      } catch {
        throw new Unreadable(`the arguments of ${name} are not JSON`)
      }
    }
  }
  throw new Unreadable(`the arguments of ${name} do not end`)
}

function numberedCall({ name, input }: WantedCall, i: number, tools: readonly Tool[]): WantedCall {
  return { name, input: numbered(input, i, tools.find((tool) => tool.name === name)?.input_schema) as WantedCall["input"] }
}

/** Puts the number of the turn in the place of `$i`. */
function numbered(value: unknown, i: number, schema: unknown): unknown {
  const keywords = (typeof schema === "object" && schema !== null ? schema : {}) as JsonSchema
  if (typeof value === "string") {
    if (value === "$i" && (keywords["type"] === "integer" || keywords["type"] === "number")) return i
    return value.replaceAll("$i", String(i))
  }
  if (Array.isArray(value)) return value.map((item) => numbered(item, i, keywords["items"]))
  if (typeof value !== "object" || value === null) return value
  const properties = (keywords["properties"] ?? {}) as JsonSchema
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, numbered(item, i, properties[key])]))
}
