// Text of models, tools and clients, made fit to be seen. It is always put on the page as text and never as markup; what is left to do is
// that nothing in it may hide, or pass for something else.

/** Control characters but tab and line feed, marks that turn the direction of text, and characters that have no width. */
const hiding = /[\p{Cc}\p{Cf}\u2028\u2029\u115f\u1160\u3164\uffa0]/gu
/** Joiners and marks that honest prose needs: emoji, Persian, Hebrew. */
const needed = /[\u200c-\u200f\u00ad]/

/** Arguments, results and raw records: every character can be seen. */
export function visible(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(hiding, (char) => (char === "\n" || char === "\t" ? char : spelled(char)))
}

/** Prose: what it needs stays, what controls a terminal or turns the text around is spelled out. */
export function visibleProse(text: string): string {
  return text
    .replaceAll("\r\n", "\n")
    .replace(hiding, (char) => (char === "\n" || char === "\t" || needed.test(char) ? char : spelled(char)))
}

function spelled(char: string): string {
  const code = char.codePointAt(0) ?? 0
  if (code < 0x20) return String.fromCodePoint(0x2400 + code)
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`
}

/**
 * Lays JSON out over lines without reading it: only whitespace between its tokens is added, so that what a person sees is what the text
 * says, number for number and key for key.
 */
export function layOut(json: string): string {
  let out = ""
  let depth = 0
  let inString = false
  for (let index = 0; index < json.length; index++) {
    const char = json[index] as string
    if (inString) {
      out += char
      if (char === "\\") out += json[++index] ?? ""
      else if (char === '"') inString = false
    } else if (char === '"') {
      inString = true
      out += char
    } else if (char === "{" || char === "[") {
      const close = char === "{" ? "}" : "]"
      if (json[index + 1] === close) {
        out += char + close
        index++
      } else out += char + newLine(++depth)
    } else if (char === "}" || char === "]") out += newLine(--depth) + char
    else if (char === ",") out += char + newLine(depth)
    else if (char === ":") out += ": "
    else if (!/\s/.test(char)) out += char
  }
  return out
}

/** Deeper than this, the lines are no longer moved to the right: hostile nesting must not make megabytes of spaces. */
const indentMax = 24

function newLine(depth: number): string {
  return `\n${"  ".repeat(Math.max(0, Math.min(depth, indentMax)))}`
}

/** Texts that hold JSON themselves, opened: for reading, beside the exact form. */
export function unfolded(value: unknown, depth = 0): unknown {
  if (depth > 40) return value
  if (typeof value === "string") {
    if (!/^\s*[[{]/.test(value)) return value
    try {
      return unfolded(JSON.parse(value) as unknown, depth + 1)
    } catch {
      return value
    }
  }
  if (Array.isArray(value)) return value.map((item) => unfolded(item, depth + 1))
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, unfolded(item, depth + 1)]))
  return value
}

export function count(value: number): string {
  return value.toLocaleString("en-US")
}

/** Tokens in few letters: 940, 12.4k, 3.1M. */
export function short(value: number): string {
  if (value < 1000) return String(value)
  if (value < 1_000_000) return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`
  return `${(value / 1_000_000).toFixed(1)}M`
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} days`
}

/** How long ago, in the largest unit that fits. */
export function age(ms: number): string {
  const seconds = Math.max(0, ms) / 1000
  if (seconds < 10) return "now"
  if (seconds < 60) return `${Math.floor(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}
