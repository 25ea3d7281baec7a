export type TokenKind = "word" | "number" | "quoted" | "url" | "email" | "date" | "path" | "code" | "symbol"

export interface Token {
  readonly kind: TokenKind
  /** As written; for a quoted token, without its quotes. */
  readonly text: string
  /** Lower case, stripped of common endings: what words are compared by. */
  readonly stem: string
  /** Where it stands in the text it was cut from. */
  readonly start: number
  readonly end: number
  /** The value of a number, in digits or in words. */
  readonly value?: number
  /** What was glued to the number: `$`, `€`, `%` stand apart and are not here. */
  readonly unit?: string
}

const numberWords = [
  "zero",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
  "ten",
  "eleven",
  "twelve",
  "thirteen",
  "fourteen",
  "fifteen",
  "sixteen",
  "seventeen",
  "eighteen",
  "nineteen",
  "twenty",
]

const pattern = new RegExp(
  [
    String.raw`(?<quoted>"[^"\n]*"|“[^”\n]*”|\u0060[^\u0060\n]*\u0060|(?<![\p{L}\p{N}])'[^'\n]+'(?![\p{L}\p{N}]))`,
    String.raw`(?<url>[a-z][a-z0-9+.-]*:\/\/[^\s"'<>()]+[^\s"'<>().,;:!?])`,
    String.raw`(?<email>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)`,
    String.raw`(?<date>\d{4}-\d{2}-\d{2}(?:T[\d:.]+(?:Z|[+-]\d{2}:?\d{2})?)?(?![\w-]))`,
    String.raw`(?<path>(?:[\w.~-]+)?(?:\/[\w.~-]*[\w~-])+|(?=[\w-]*[a-z_])[\w-]+\.[a-z]{1,5}(?![\p{L}\p{N}.]))`,
    String.raw`(?<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?<unit>ms|secs?|s|mins?|m|hrs?|h|kb|mb|km|kg|c)?(?![\p{L}\p{N}_]|-[\p{L}\p{N}])`,
    String.raw`(?<code>(?=[\p{L}\p{N}_.-]*\p{N})[\p{L}\p{N}]+(?:[_.-][\p{L}\p{N}]+)*)`,
    String.raw`(?<word>\p{L}[\p{L}\p{M}]*(?:['’_-][\p{L}\p{M}]+)*)`,
    String.raw`(?<symbol>\S|\n)`,
  ].join("|"),
  "gu",
)

export function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  for (const match of text.matchAll(pattern)) {
    const found = Object.entries(match.groups ?? {}).find(([kind, value]) => value !== undefined && kind !== "unit")
    if (found === undefined) continue
    const kind = found[0] as TokenKind
    const written = kind === "quoted" ? match[0].slice(1, -1) : match[0]
    const place = { text: written, start: match.index, end: match.index + match[0].length }
    if (kind === "number") {
      const unit = match.groups?.["unit"]
      tokens.push({
        kind,
        stem: written,
        value: Number((match.groups?.["number"] ?? "").replaceAll(",", "")),
        ...place,
        ...(unit === undefined ? {} : { unit }),
      })
      continue
    }
    const value = kind === "word" ? numberWords.indexOf(written.toLowerCase()) : -1
    // "one" is far more often a pronoun than a number; what asks for numbers in words can say 1.
    if (value >= 0 && value !== 1) tokens.push({ kind: "number", stem: written.toLowerCase(), value, ...place })
    else tokens.push({ kind, stem: kind === "word" ? stemOf(written) : written.toLowerCase(), ...place })
  }
  return tokens
}

/** Cuts the endings that keep "refunded", "refunding" and "refunds" from meeting "refund". */
export function stemOf(word: string): string {
  const lower = word.toLowerCase().replace(/['’]s$/, "")
  // "Three times" and "3 times 4" have nothing to do with the time.
  if (lower === "times") return lower
  if (lower.length > 5 && lower.endsWith("ing")) return undouble(lower.slice(0, -3))
  if (lower.length > 4 && lower.endsWith("ied")) return `${lower.slice(0, -3)}y`
  if (lower.length > 4 && lower.endsWith("ies")) return `${lower.slice(0, -3)}y`
  if (lower.length > 4 && lower.endsWith("ed") && !lower.endsWith("eed")) return undouble(lower.slice(0, -2))
  if (lower.length > 3 && lower.endsWith("s") && !/(?:ss|us|is)$/.test(lower)) return unsilent(lower.slice(0, -1))
  return unsilent(lower)
}

function undouble(word: string): string {
  return /([bdgmnprt])\1$/.test(word) && word.length > 3 ? word.slice(0, -1) : unsilent(word)
}

/** "calculate" and "calculating" meet without their last letter. */
function unsilent(word: string): string {
  return word.length > 4 && word.endsWith("e") ? word.slice(0, -1) : word
}

/** The words of a name in snake, kebab or camel case. */
export function nameWordsOf(name: string): string[] {
  return name
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== "")
    .map(stemOf)
}

/** A set of words as their stems. */
export function stems(words: string): ReadonlySet<string> {
  return new Set(words.split(" ").map(stemOf))
}

export const isCapitalised = (token: Token): boolean => token.kind === "word" && /^\p{Lu}/u.test(token.text)

const stopWords = new Set(
  "a an the this that these those it its i me my you your we us our he she they them him her is are was were be been am do does did have has had can could will would shall should may might must please tell give let know want need like just some any all each every with without for from to of in on at by as into about and or but not no if so than too also then what which who whom whose where when why how there here up out".split(
    " ",
  ),
)

export const isStopWord = (word: string): boolean => stopWords.has(word.toLowerCase())
