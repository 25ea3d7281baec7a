import type { MadeCall } from "./chain.ts"
import type { Found } from "./places.ts"
import { stemOf, type Token } from "./tokens.ts"

const operators: ReadonlyMap<string, string> = new Map([
  ["+", "+"],
  ["-", "-"],
  ["−", "-"],
  ["*", "*"],
  ["×", "*"],
  ["·", "*"],
  ["/", "/"],
  ["÷", "/"],
  ["^", "^"],
  ["plus", "+"],
  ["minus", "-"],
  ["times", "*"],
  ["x", "*"],
  ["multiplied", "*"],
  ["divided", "/"],
  ["over", "/"],
  ["mod", "%"],
  ["modulo", "%"],
])

/** Words that stand for a number which a tool has answered, when an article is before them: "the product", "that result". */
const resultNouns = new Set([
  "product",
  "result",
  "sum",
  "total",
  "answer",
  "difference",
  "quotient",
  "number",
  "value",
  "output",
  "outcome",
])
const pluralNouns = new Set(["results", "numbers", "values", "answers", "sums", "products", "rolls", "both"])
const articles = new Set(["the", "that", "this", "its", "previous", "last", "your", "first", "second"])
const pronouns = new Set(["it", "that", "this", "them", "these", "those", "both"])

/** Whether the noun at `i` points back at a result; "the sum of 1 and 2" does not. */
export function pointsBack(tokens: readonly Token[], i: number): boolean {
  const token = tokens[i]
  return (
    token !== undefined &&
    (resultNouns.has(token.text.toLowerCase()) || pluralNouns.has(token.text.toLowerCase())) &&
    articles.has(tokens[i - 1]?.text.toLowerCase() ?? "") &&
    tokens[i + 1]?.stem !== "of"
  )
}

/** "it" as a thing, not as in "what time is it". */
function isPronounAt(tokens: readonly Token[], i: number): boolean {
  const word = tokens[i]?.text.toLowerCase() ?? ""
  if (!pronouns.has(word) || tokens[i - 1]?.stem === "is" || tokens[i + 1]?.stem === "is") return false
  // "that" and "this" before a noun are articles, and after "remember" they open a sentence: only at an end do they stand for something.
  return (
    word === "it" ||
    word === "them" ||
    word === "both" ||
    tokens[i + 1] === undefined ||
    tokens[i + 1]?.kind === "symbol" ||
    ["to", "by", "from", "and", "with"].includes(tokens[i + 1]?.stem ?? "")
  )
}

/** Whether these words need an answer that came before them. */
export function refersBack(tokens: readonly Token[]): boolean {
  return tokens.some((_, i) => pointsBack(tokens, i) || isPronounAt(tokens, i))
}

interface Operand {
  readonly text: string
  readonly value: number
  readonly at: number
  readonly tokens: readonly Token[]
}

/** The number at `i`, with its sign, or the result that the words at `i` point back at. */
function operandAt(tokens: readonly Token[], i: number, results: readonly number[], weak: boolean): Operand | null {
  const token = tokens[i]
  if (token === undefined) return null
  if (token.value !== undefined) {
    const sign = tokens[i - 1]
    const before = tokens[i - 2]
    const negative =
      sign !== undefined &&
      (sign.text === "-" || sign.text === "−") &&
      sign.end === token.start &&
      (before === undefined || (before.value === undefined && before.text !== ")" && before.end < sign.start))
    const value = negative ? -token.value : token.value
    return { text: negative ? `(${value})` : String(value), value, at: i, tokens: negative ? [sign, token] : [token] }
  }
  const result = results.at(-1)
  if (result === undefined || !(pointsBack(tokens, i) || (weak && isPronounAt(tokens, i)))) return null
  return resultOperand(result, token, i)
}

function resultOperand(result: number, token: Token, at: number): Operand {
  return { text: result < 0 ? `(${result})` : String(result), value: result, at, tokens: [token] }
}

const plurals = new Set(["them", "these", "those", "both"])

/** All that "them" or "the numbers" at `i` mean, where that is more than one. */
function operandsAt(tokens: readonly Token[], i: number, results: readonly number[], weak: boolean): readonly Operand[] {
  const token = tokens[i]
  const word = token?.text.toLowerCase() ?? ""
  const plural = plurals.has(word) ? weak && isPronounAt(tokens, i) : pluralNouns.has(word) && pointsBack(tokens, i)
  if (token !== undefined && plural && results.length > 1) return results.map((result) => resultOperand(result, token, i))
  const operand = operandAt(tokens, i, results, weak)
  return operand === null ? [] : [operand]
}

/** The numbers in these words; `results` are what "the result" and "them" mean, the newest last. */
export function operandsIn(tokens: readonly Token[], results: readonly number[]): readonly Operand[] {
  const all = (weak: boolean): Operand[] => tokens.flatMap((_, i) => operandsAt(tokens, i, results, weak))
  const strong = all(false)
  return strong.length >= 2 ? strong : all(true)
}

const round = (value: number): string => String(Number(value.toPrecision(15)))

/** An arithmetic expression that is written down ("17 * 23", "12 times 7", "15% of 80") or said with a verb ("add 100 to the product"). */
export function expressionIn(tokens: readonly Token[], results: readonly number[]): Found<string> | null {
  return writtenExpression(tokens, results) ?? saidExpression(tokens, results)
}

export function writtenExpression(tokens: readonly Token[], results: readonly number[]): Found<string> | null {
  let best: Found<string> | null = null
  for (let start = 0; start < tokens.length; start += 1) {
    const parts: string[] = []
    let depth = 0
    let whole = 0
    let wholeLength = 0
    let operations = 0
    let wantsOperand = true
    let i = start
    while (i < tokens.length) {
      const token = tokens[i] as Token
      const word = token.text.toLowerCase()
      if (wantsOperand) {
        if (token.text === "(") {
          parts.push("(")
          depth += 1
          i += 1
          continue
        }
        if (articles.has(word) && pointsBack(tokens, i + 1)) i += 1
        const signed = token.text === "-" && tokens[i + 1]?.value !== undefined && parts.length > 0
        if (signed) i += 1
        const operand = operandAt(tokens, i, results, operations > 0)
        if (operand === null) break
        parts.push(signed && !operand.text.startsWith("(") ? `(-${operand.text})` : operand.text)
        wantsOperand = false
        i += 1
        if (tokens[i]?.text === "%" && tokens[i + 1]?.stem === "of") {
          parts.push("/ 100 *")
          operations += 1
          wantsOperand = true
          i += 2
          continue
        }
      } else if (token.text === ")" && depth > 0) {
        parts.push(")")
        depth -= 1
        i += 1
      } else {
        const operator = operators.get(word)
        if (operator === undefined) break
        i += (word === "multiplied" || word === "divided") && tokens[i + 1]?.stem === "by" ? 2 : 1
        parts.push(operator)
        operations += 1
        wantsOperand = true
        continue
      }
      if (depth === 0 && operations > 0 && !wantsOperand) {
        whole = i
        wholeLength = parts.length
      }
    }
    if (whole === 0) continue
    if (best === null || whole - start > best.tokens.length)
      best = { value: tidy(parts.slice(0, wholeLength).join(" ")), tokens: tokens.slice(start, whole) }
    // What starts inside a whole expression is shorter than it.
    start = whole - 1
  }
  return best
}

const tidy = (expression: string): string => expression.replaceAll("( ", "(").replaceAll(" )", ")")

const joining: ReadonlyMap<string, string> = new Map([
  ["add", "+"],
  ["sum", "+"],
  ["total", "+"],
  ["increas", "+"],
  ["subtract", "-"],
  ["differenc", "-"],
  ["decreas", "-"],
  ["reduc", "-"],
  ["multiply", "*"],
  ["product", "*"],
  ["divid", "/"],
])
const scaling: ReadonlyMap<string, string> = new Map([
  ["doubl", "* 2"],
  ["tripl", "* 3"],
  ["halv", "/ 2"],
  ["half", "/ 2"],
])

function saidExpression(tokens: readonly Token[], results: readonly number[]): Found<string> | null {
  const operands = operandsIn(tokens, results)
  for (const [i, token] of tokens.entries()) {
    const scale = scaling.get(token.stem)
    const first = operands[0]
    if (scale !== undefined && first !== undefined) return { value: `${first.text} ${scale}`, tokens: [token, ...first.tokens] }
    if (token.stem === "squar" && tokens[i + 1]?.stem !== "root" && first !== undefined)
      return { value: `${first.text} * ${first.text}`, tokens: [token, ...first.tokens] }
    const joined = joining.get(stemOf(token.text))
    if (joined === undefined || pointsBack(tokens, i) || operands.length < 2) continue
    const terms = operands.map((operand) => operand.text)
    // "Subtract 3 from 10" names what is taken away first.
    if (joined === "-" && tokens.some((word) => word.stem === "from") && token.stem === "subtract") terms.reverse()
    return { value: terms.join(` ${joined} `), tokens: [token, ...operands.flatMap((operand) => operand.tokens)] }
  }
  return null
}

/** The numbers that "the result" and "them" mean: those of the newest step that answered any, of calls about numbers if there are such. */
export function numbersIn(steps: readonly (readonly MadeCall[])[]): readonly number[] {
  for (const counts of [(call: MadeCall): boolean => isAboutNumbers(call.input), (): boolean => true]) {
    for (const step of [...steps].reverse()) {
      const numbers = step.flatMap((call) => (call.failed || !counts(call) ? [] : (numberOf(call.result) ?? [])))
      if (numbers.length > 0) return numbers
    }
  }
  return []
}

function isAboutNumbers(input: unknown): boolean {
  return Object.values(input as Record<string, unknown>).some(
    (value) =>
      typeof value === "number" ||
      (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "number")) ||
      (typeof value === "string" && /\d\s*[-+*/^%]\s*[\d(]/.test(value)),
  )
}

const resultFields = ["result", "value", "sum", "total", "product", "answer", "output", "number"]

/** The number that a result says, where it says one and not several. */
function numberOf(result: string): number | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(result)
  } catch {
    const said = /=\s*(-?\d+(?:\.\d+)?)\s*\.?$/.exec(result.trim())?.[1]
    const only = result.match(/(?<![\w.-])-?\d+(?:\.\d+)?(?![\w:-])/g)
    const text = said ?? (only?.length === 1 ? only[0] : undefined)
    return text === undefined ? null : Number(text)
  }
  if (typeof parsed === "number") return parsed
  if (typeof parsed === "string") return parsed.trim() !== "" && Number.isFinite(Number(parsed)) ? Number(parsed) : null
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return null
  const fields = parsed as Record<string, unknown>
  for (const field of resultFields) if (typeof fields[field] === "number") return fields[field]
  const numbers = Object.values(fields).filter((value) => typeof value === "number")
  return numbers.length === 1 ? (numbers[0] as number) : null
}

const millisecondsIn: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["millisecond", 1],
  ["s", 1000],
  ["sec", 1000],
  ["second", 1000],
  ["m", 60_000],
  ["min", 60_000],
  ["minut", 60_000],
  ["h", 3_600_000],
  ["hr", 3_600_000],
  ["hour", 3_600_000],
])

const currencies = new Set(["dollar", "euro", "usd", "eur", "pound", "franc", "$", "€", "£"])

/** What a number in the prompt measures, where it says so: "2 seconds", "500 cents", "$5". */
export function measureOf(
  tokens: readonly Token[],
  i: number,
): { readonly kind: "duration"; readonly milliseconds: number } | { readonly kind: "money"; readonly cents: number } | null {
  const token = tokens[i]
  if (token?.value === undefined) return null
  const next = tokens[i + 1]
  const unit = token.unit ?? (next?.kind === "word" || next?.kind === "symbol" ? next.stem : "")
  const factor = millisecondsIn.get(unit)
  if (factor !== undefined && (token.unit !== undefined || unit.length > 1))
    return { kind: "duration", milliseconds: Number(round(token.value * factor)) }
  if (unit === "cent") return { kind: "money", cents: token.value }
  if (currencies.has(unit) || currencies.has(tokens[i - 1]?.text ?? "")) return { kind: "money", cents: Number(round(token.value * 100)) }
  return null
}

/** What a property measures, by its name, and in which unit: the unit stands last, as in `timeoutMs`. */
export function measuredIn(property: string): { readonly kind: "duration" | "money"; readonly per: number } | null {
  if (/(?:^|_)ms$|[a-z]Ms$|millis(?:econds)?$/.test(property)) return { kind: "duration", per: 1 }
  if (/seconds?$/i.test(property)) return { kind: "duration", per: 1000 }
  if (/minutes?$/i.test(property)) return { kind: "duration", per: 60_000 }
  if (/cents?$/i.test(property)) return { kind: "money", per: 1 }
  if (/(?:amount|price|dollars|euros|usd|eur)$/i.test(property)) return { kind: "money", per: 100 }
  return null
}

/** The number at `i` in the unit of the property. */
export function inUnitOf(property: string, tokens: readonly Token[], i: number): number {
  const measure = measureOf(tokens, i)
  const wanted = measuredIn(property)
  if (measure === null || measure.kind !== wanted?.kind) return tokens[i]?.value ?? 0
  return Number(round((measure.kind === "duration" ? measure.milliseconds : measure.cents) / wanted.per))
}
