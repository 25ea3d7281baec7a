import { isCapitalised, isStopWord, type Token } from "./tokens.ts"

/** A value found in the prompt, with the tokens that it was made of. */
export interface Found<T> {
  readonly value: T
  readonly tokens: readonly Token[]
}

/** Places that people name and the zone database does not. */
const otherPlaces: readonly (readonly [place: string, zone: string])[] = [
  ["utc", "UTC"],
  ["gmt", "UTC"],
  ["japan", "Asia/Tokyo"],
  ["china", "Asia/Shanghai"],
  ["beijing", "Asia/Shanghai"],
  ["india", "Asia/Kolkata"],
  ["mumbai", "Asia/Kolkata"],
  ["delhi", "Asia/Kolkata"],
  ["bangalore", "Asia/Kolkata"],
  ["korea", "Asia/Seoul"],
  ["germany", "Europe/Berlin"],
  ["munich", "Europe/Berlin"],
  ["hamburg", "Europe/Berlin"],
  ["france", "Europe/Paris"],
  ["spain", "Europe/Madrid"],
  ["barcelona", "Europe/Madrid"],
  ["italy", "Europe/Rome"],
  ["milan", "Europe/Rome"],
  ["england", "Europe/London"],
  ["switzerland", "Europe/Zurich"],
  ["geneva", "Europe/Zurich"],
  ["california", "America/Los_Angeles"],
  ["san francisco", "America/Los_Angeles"],
  ["seattle", "America/Los_Angeles"],
  ["boston", "America/New_York"],
  ["washington", "America/New_York"],
  ["miami", "America/New_York"],
  ["texas", "America/Chicago"],
  ["dallas", "America/Chicago"],
]

let zones: ReadonlyMap<string, string> | null = null

function zoneOf(place: string): string | undefined {
  zones ??= new Map([
    ...Intl.supportedValuesOf("timeZone").map(
      (zone) => [(zone.split("/").at(-1) ?? zone).replaceAll("_", " ").toLowerCase(), zone] as const,
    ),
    ...otherPlaces,
  ])
  return zones.get(place.toLowerCase())
}

const beforePlaces = new Set(["in", "at", "for", "of", "near", "from", "to"])

/** A time zone by its own name or by the name of a place in it. */
export function timeZoneIn(tokens: readonly Token[], from = 0): Found<string> | null {
  for (let i = from; i < tokens.length; i += 1) {
    const token = tokens[i] as Token
    if (token.kind === "path" && /^[A-Z][A-Za-z]+(?:\/[A-Za-z_+-]+)+$/.test(token.text)) return { value: token.text, tokens: [token] }
    for (const length of [3, 2, 1]) {
      const words = tokens.slice(i, i + length)
      if (words.length < length || words.some((word) => word.kind !== "word")) continue
      // Some places are common words ("Wake", "Easter"): a place stands after a preposition or is written as a name.
      if (!isCapitalised(token) && !beforePlaces.has(tokens[i - 1]?.text.toLowerCase() ?? "")) continue
      const zone = zoneOf(words.map((word) => word.text).join(" "))
      if (zone !== undefined) return { value: zone, tokens: words }
    }
  }
  return null
}

/** Capitalised words that stand together, after a preposition if there is one; a single lower-case word there will do as well. */
export function nameIn(tokens: readonly Token[], from = 0): Found<string> | null {
  const runFrom = (start: number): readonly Token[] => {
    let end = start
    while (end < tokens.length && isCapitalised(tokens[end] as Token) && !isStopWord((tokens[end] as Token).text)) end += 1
    return tokens.slice(start, end)
  }
  const asFound = (words: readonly Token[]): Found<string> => ({ value: words.map((word) => word.text).join(" "), tokens: words })
  let lower: Found<string> | null = null
  for (let i = from; i < tokens.length; i += 1) {
    if (!beforePlaces.has((tokens[i] as Token).text.toLowerCase())) continue
    const words = runFrom(i + 1)
    if (words.length > 0) return asFound(words)
    const next = tokens[i + 1]
    if (lower === null && next?.kind === "word" && !isStopWord(next.text)) lower = asFound([next])
  }
  for (let i = Math.max(from, 1); i < tokens.length; i += 1) {
    const words = runFrom(i)
    if (words.length > 0) return asFound(words)
  }
  return lower
}
