import { expressionIn, inUnitOf, measuredIn, measureOf, operandsIn } from "./arithmetic.ts"
import type { JsonSchema, Tool } from "./messages.ts"
import { type Found, nameIn, timeZoneIn } from "./places.ts"
import { isCapitalised, isStopWord, nameWordsOf, stems, type Token } from "./tokens.ts"

/** Where arguments may be found, beside the words of the clause itself. */
export interface Surroundings {
  /** The text that the tokens were cut from. */
  readonly text: string
  /** The other words of the same step: looked at only for what is named there, never for just any number. */
  readonly around: readonly Token[]
  /** The numbers that "the result" and "them" mean, the newest last. */
  readonly results: readonly number[]
  /** Arguments and results of calls before, by name: what "it" may mean. */
  readonly carried: ReadonlyMap<string, unknown>
  /** The word that called for the tool; what follows it is the tool's free text. */
  readonly trigger: Token | null
}

export interface Filled {
  readonly input: Readonly<Record<string, unknown>>
  /** Required arguments that the prompt does not say. */
  readonly missing: readonly string[]
  /** More of the same call, where the prompt lists several values for one argument: "orders 17, 18 and 19". */
  readonly others: readonly Readonly<Record<string, unknown>>[]
}

interface Slot {
  readonly name: string
  readonly schema: JsonSchema
  readonly type: string
  readonly required: boolean
  /** The words of its name, without "id" and its like. */
  readonly words: readonly string[]
  readonly isId: boolean
}

const idWords = stems("id ids no nr number num code key ref reference sku uuid isbn")
const textWords = stems(
  "text message msg query q content prompt question note body fact topic input subject command cmd value term keyword keyword search description title comment reason instruction sql phrase sentence item task memory thing key name",
)
const placeWords = stems("city location place country town destination origin region address airport")
const personWords = stems("name person user customer recipient who author owner to from")
const pathWords = stems("path file filename filepath directory folder dir")
const urlWords = stems("url uri link href endpoint website page")
const expressionWords = stems("expression formula calculation equation expr")

export function fillArguments(tool: Tool, clause: readonly Token[], surroundings: Surroundings): Filled {
  const slots = slotsOf(tool.input_schema ?? {})
  const filler = new Filler(tool, clause, surroundings, slots)
  filler.fill()
  return filler.outcome()
}

function slotsOf(schema: JsonSchema): Slot[] {
  const properties = asSchema(schema["properties"])
  const required = new Set(Array.isArray(schema["required"]) ? (schema["required"] as readonly unknown[]) : [])
  return Object.entries(properties).map(([name, value]) => {
    const own = resolved(asSchema(value))
    const words = nameWordsOf(name)
    return {
      name,
      schema: own,
      type: typeOf(own),
      required: required.has(name),
      words: words.filter((word) => !idWords.has(word)),
      isId: words.some((word) => idWords.has(word)),
    }
  })
}

const asSchema = (value: unknown): JsonSchema =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonSchema) : {}

/** Of a choice of schemas, the first that is not just null. */
function resolved(schema: JsonSchema): JsonSchema {
  const choices = schema["anyOf"] ?? schema["oneOf"]
  if (!Array.isArray(choices)) return schema
  const first = choices.map(asSchema).find((choice) => choice["type"] !== "null")
  return first === undefined ? schema : { ...schema, ...resolved(first) }
}

function typeOf(schema: JsonSchema): string {
  const type = schema["type"]
  if (typeof type === "string") return type
  if (Array.isArray(type)) return String(type.find((item) => item !== "null") ?? "string")
  if (schema["properties"] !== undefined) return "object"
  if (schema["items"] !== undefined) return "array"
  return "string"
}

const isNumeric = (slot: { readonly type: string }): boolean => slot.type === "integer" || slot.type === "number"

class Filler {
  readonly #tool: Tool
  readonly #clause: readonly Token[]
  readonly #surroundings: Surroundings
  readonly #slots: readonly Slot[]
  readonly #values = new Map<string, unknown>()
  readonly #used = new Set<Token>()
  /** For each slot that took its value from the clause, the last token of it. */
  readonly #ends = new Map<Slot, Token>()

  constructor(tool: Tool, clause: readonly Token[], surroundings: Surroundings, slots: readonly Slot[]) {
    this.#tool = tool
    this.#clause = clause
    this.#surroundings = surroundings
    this.#slots = slots
  }

  /** From the surest way of finding an argument to the least sure, so that a guess never takes what another slot is named for. */
  fill(): void {
    this.#each((slot) => this.#byRange(slot))
    this.#each((slot) => this.#byForm(slot, this.#clause))
    this.#each((slot) => (slot.required ? this.#byPair(slot) : null))
    this.#each((slot) => this.#byName(slot, this.#clause))
    this.#each((slot) => this.#byKind(slot))
    this.#each((slot) => (slot.required ? this.#byOrder(slot) : null))
    this.#fillOptionalNumbers()
    this.#each((slot) =>
      slot.required ? (this.#byForm(slot, this.#surroundings.around) ?? this.#byName(slot, this.#surroundings.around)) : null,
    )
    this.#each((slot) => (slot.required ? this.#byCarrying(slot) : null))
    this.#each((slot) => (slot.required || slot === this.#onlyText() ? this.#byFreeText(slot) : null))
    for (const slot of this.#slots) {
      if (!slot.required || this.#values.has(slot.name)) continue
      if (slot.schema["default"] !== undefined) this.#values.set(slot.name, slot.schema["default"])
      else if (slot.schema["const"] !== undefined) this.#values.set(slot.name, slot.schema["const"])
      else if (slot.type === "boolean") this.#values.set(slot.name, false)
      else if (isTimeZone(slot)) this.#values.set(slot.name, "UTC")
    }
  }

  outcome(): Filled {
    const input: Record<string, unknown> = {}
    for (const slot of this.#slots) if (this.#values.has(slot.name)) input[slot.name] = this.#values.get(slot.name)
    const missing = this.#slots.filter((slot) => slot.required && !this.#values.has(slot.name)).map((slot) => slot.name)
    return { input, missing, others: missing.length > 0 ? [] : this.#others(input) }
  }

  #each(find: (slot: Slot) => Found<unknown> | null): void {
    for (const slot of this.#slots) {
      if (this.#values.has(slot.name)) continue
      const found = find(slot)
      if (found === null) continue
      this.#values.set(slot.name, found.value)
      for (const token of found.tokens) this.#used.add(token)
      const last = found.tokens.at(-1)
      if (last !== undefined && this.#clause.includes(last)) this.#ends.set(slot, last)
    }
  }

  #free(tokens: readonly Token[]): readonly Token[] {
    return tokens.filter((token) => !this.#used.has(token))
  }

  /** "between 1 and 6", "from 1 to 6" for a pair of bounds; a die has its bounds by nature. */
  #byRange(slot: Slot): Found<unknown> | null {
    if (!isNumeric(slot)) return null
    const lower = slot.words.some((word) => ["min", "minimum", "low", "lower", "from", "start"].includes(word))
    const upper = slot.words.some((word) => ["max", "maximum", "high", "upper", "to", "end"].includes(word))
    if (lower === upper) return null
    for (const [i, token] of this.#clause.entries()) {
      if (token.stem !== "between" && token.stem !== "from") continue
      const numbers = operandsIn(this.#clause.slice(i + 1, i + 7), [])
      const wanted = lower ? numbers[0] : numbers[1]
      if (numbers.length >= 2 && wanted !== undefined) return { value: wanted.value, tokens: wanted.tokens }
    }
    if (this.#clause.some((token) => ["dice", "die"].includes(token.stem))) return { value: lower ? 1 : 6, tokens: [] }
    return null
  }

  /** By what a value looks like: an enumeration's word, a URL, a date, an expression, a zone. */
  #byForm(slot: Slot, tokens: readonly Token[]): Found<unknown> | null {
    const free = this.#free(tokens)
    const choices = slot.schema["enum"]
    if (Array.isArray(choices)) {
      for (const choice of choices as readonly unknown[]) {
        const words = nameWordsOf(String(choice))
        const at = free.findIndex((_, i) => words.length > 0 && words.every((word, j) => free[i + j]?.stem === word))
        if (at >= 0) return { value: choice, tokens: free.slice(at, at + words.length) }
      }
      return null
    }
    if (slot.type === "boolean") {
      const at = free.findIndex((token) => slot.words.includes(token.stem))
      if (at < 0) return null
      const before = free[at - 1]?.stem ?? ""
      return { value: !["no", "not", "without", "never", "don't"].includes(before), tokens: free.slice(at, at + 1) }
    }
    if (slot.type === "array") return this.#list(slot, free)
    if (slot.type === "object") return this.#nested(slot)
    if (isNumeric(slot)) return this.#byMeasure(slot, tokens)
    if (slot.type !== "string") return null
    const kinds: readonly (readonly [boolean, Token["kind"]])[] = [
      [slot.schema["format"] === "uri" || named(slot, urlWords), "url"],
      [slot.schema["format"] === "email" || named(slot, new Set(["email", "mail"])) || named(slot, personWords), "email"],
      [
        slot.schema["format"] === "date" ||
          slot.schema["format"] === "date-time" ||
          named(slot, new Set(["date", "day", "since", "until"])),
        "date",
      ],
      [named(slot, pathWords), "path"],
    ]
    for (const [fits, kind] of kinds) {
      const token = fits ? free.find((candidate) => candidate.kind === kind) : undefined
      if (token !== undefined) return { value: token.text, tokens: [token] }
    }
    if (isTimeZone(slot)) return timeZoneIn(free)
    if (named(slot, expressionWords)) return expressionIn(tokens, this.#surroundings.results)
    return null
  }

  /** "$5" is for the cents and "2 seconds" for the milliseconds, wherever they stand. */
  #byMeasure(slot: Slot, tokens: readonly Token[]): Found<number> | null {
    const wanted = measuredIn(slot.name)
    if (wanted === null) return null
    const i = tokens.findIndex((token, at) => !this.#used.has(token) && measureOf(tokens, at)?.kind === wanted.kind)
    return i < 0 ? null : { value: this.#number(slot, tokens[i] as Token, tokens), tokens: [tokens[i] as Token] }
  }

  /** By the words of its name: "city Paris", "order 17" for the id of an order, "500 cents". */
  #byName(slot: Slot, tokens: readonly Token[]): Found<unknown> | null {
    if (slot.type === "array" || slot.type === "object" || slot.type === "boolean" || slot.schema["enum"] !== undefined || isTimeZone(slot))
      return null
    const nouns = slot.isId && slot.words.length === 0 ? this.#nouns() : new Set<string>()
    for (const [i, token] of tokens.entries()) {
      const byOwn = slot.words.includes(token.stem) || (slot.isId && idWords.has(token.stem) && nameWordsOf(slot.name).includes(token.stem))
      if (!byOwn && !nouns.has(token.stem)) continue
      const before = tokens[i - 1]
      if (isNumeric(slot) && before?.value !== undefined && !this.#used.has(before))
        return { value: this.#number(slot, before, tokens), tokens: [before] }
      for (let j = i + 1; j < Math.min(tokens.length, i + 5); j += 1) {
        const next = tokens[j] as Token
        if (this.#used.has(next)) break
        const value = this.#valueOf(slot, next, tokens, byOwn)
        if (value !== undefined) return { value, tokens: [next] }
        if (!["is", "number", "no", "nr", "id", "call", "nam", "name", "of", "with", "the", "=", ":", "#", "to", "by"].includes(next.stem))
          break
      }
    }
    return null
  }

  /** What a token is worth to a slot, if it is a value at all. */
  #valueOf(slot: Slot, token: Token, tokens: readonly Token[], byOwn: boolean): string | number | undefined {
    if (isNumeric(slot)) return token.value === undefined ? undefined : this.#number(slot, token, tokens)
    switch (token.kind) {
      case "quoted":
      case "code":
      case "url":
      case "email":
      case "path":
      case "date":
        return token.text
      case "number":
        return this.#surroundings.text.slice(token.start, token.end)
      case "word": {
        if (isStopWord(token.text)) return undefined
        const marked = /^\p{Lu}[\p{Lu}\p{N}_-]+$/u.test(token.text) || isCapitalised(token)
        // A word right after the slot's own name is its value; after a mere noun it has to look like a name.
        return marked || (byOwn && !idWords.has(token.stem) && !named(slot, textWords)) ? token.text : undefined
      }
      case "symbol":
        return undefined
      default:
        return token.kind satisfies never
    }
  }

  #number(slot: Slot, token: Token, tokens: readonly Token[]): number {
    const value = inUnitOf(slot.name, tokens, tokens.indexOf(token))
    return slot.type === "integer" && !Number.isInteger(value) ? Math.round(value) : value
  }

  /** The words that say what the tool is about: the id of `get_order` is what stands after "order". */
  #nouns(): Set<string> {
    const words = [...nameWordsOf(this.#tool.name), ...nameWordsOf(this.#tool.description ?? "")]
    return new Set(words.filter((word) => word.length > 2 && !isStopWord(word)))
  }

  /** By the kind of thing its name promises: a place, a person, something in quotes. */
  #byKind(slot: Slot): Found<unknown> | null {
    if (
      slot.type !== "string" ||
      slot.schema["enum"] !== undefined ||
      slot.schema["format"] !== undefined ||
      isTimeZone(slot) ||
      named(slot, expressionWords)
    )
      return null
    const free = this.#free(this.#clause)
    if (named(slot, placeWords)) return nameIn(free)
    if (!slot.required) return null
    const quoted = free.find((token) => token.kind === "quoted")
    if (quoted !== undefined) return { value: quoted.text, tokens: [quoted] }
    if (named(slot, personWords) && !named(slot, textWords)) return nameIn(free)
    return null
  }

  /** Numbers and codes in the order in which they appear. */
  #byOrder(slot: Slot): Found<unknown> | null {
    if (isNumeric(slot)) {
      const operand = operandsIn(this.#clause, this.#surroundings.results).find(({ tokens }) =>
        tokens.every((token) => !this.#used.has(token)),
      )
      if (operand === undefined) return null
      const token = operand.tokens.at(-1) as Token
      const value = token.value === undefined || operand.value < 0 ? operand.value : this.#number(slot, token, this.#clause)
      return { value, tokens: operand.tokens }
    }
    if (slot.type !== "string" || slot.schema["enum"] !== undefined || slot.schema["format"] !== undefined || isTimeZone(slot)) return null
    if (
      named(slot, expressionWords) ||
      (named(slot, textWords) && !slot.isId) ||
      named(slot, placeWords) ||
      named(slot, urlWords) ||
      named(slot, pathWords)
    )
      return null
    // An amount is not an id.
    const token = this.#free(this.#clause).find(
      (candidate) =>
        ["number", "code", "quoted"].includes(candidate.kind) && measureOf(this.#clause, this.#clause.indexOf(candidate)) === null,
    )
    return token === undefined ? null : { value: this.#valueOf(slot, token, this.#clause, true), tokens: [token] }
  }

  /** Optional numbers are filled by order only where there are exactly as many numbers left as slots. */
  #fillOptionalNumbers(): void {
    const open = this.#slots.filter(
      (slot) => isNumeric(slot) && !slot.required && !this.#values.has(slot.name) && slot.schema["default"] === undefined,
    )
    const numbers = operandsIn(this.#clause, []).filter(({ tokens }) => tokens.every((token) => !this.#used.has(token)))
    if (open.length > 0 && open.length === numbers.length) this.#each((slot) => (open.includes(slot) ? this.#byOrder(slot) : null))
  }

  /** "the door code is 4711": what stands before "is" is the key, what stands after it the value. */
  #byPair(slot: Slot): Found<unknown> | null {
    const isKey = slot.words.length === 0 || slot.words.includes("name")
    const isValue = slot.words.includes("valu") || slot.words.includes("text") || slot.words.includes("content")
    if (
      slot.type !== "string" ||
      isKey === isValue ||
      this.#slots.filter((other) => other.required && other.type === "string").length !== 2
    )
      return null
    const from = this.#afterTrigger()
    const at = this.#clause.findIndex(
      (token, i) => i > from && (token.text === "is" || token.text === "=" || token.text === "are" || token.text === ":"),
    )
    if (at < 0) return null
    const tokens = isKey ? this.#clause.slice(from, at) : this.#clause.slice(at + 1)
    const text = this.#textOf(tokens)
    return text === "" ? null : { value: isKey ? withoutArticle(text) : text, tokens }
  }

  /** What an earlier call was about, where the clause speaks of "it" or of "the order". */
  #byCarrying(slot: Slot): Found<unknown> | null {
    const value = this.#surroundings.carried.get(slot.name)
    if (value === undefined) return null
    const nouns = this.#nouns()
    const spokenOf = this.#clause.some(
      (token, i) =>
        ["it", "its", "that", "this", "them", "their", "same", "his", "her"].includes(token.text.toLowerCase()) ||
        (token.text.toLowerCase() === "the" && nouns.has(this.#clause[i + 1]?.stem ?? "")),
    )
    if (!spokenOf || (isNumeric(slot) ? typeof value !== "number" : typeof value !== slot.type)) return null
    return { value, tokens: [] }
  }

  /** The one text of a tool that requires nothing: `echo {text?}` still wants to hear something. */
  #onlyText(): Slot | undefined {
    const texts = this.#slots.filter((slot) => slot.type === "string" && named(slot, textWords))
    return texts.length === 1 && !this.#slots.some((slot) => slot.required) ? texts[0] : undefined
  }

  /** Whatever follows the word that called for the tool. */
  #byFreeText(slot: Slot): Found<unknown> | null {
    const alone = this.#slots.filter((other) => other.required).length === 1
    if (slot.type !== "string" || slot.schema["enum"] !== undefined || slot.schema["format"] !== undefined || isTimeZone(slot)) return null
    if (named(slot, expressionWords) || (slot.isId && slot.words.length === 0 && !/key|ref/i.test(slot.name))) return null
    if (
      !(
        named(slot, textWords) ||
        (slot.isId && alone) ||
        (alone && slot.words.length > 0 && !named(slot, placeWords) && !named(slot, urlWords) && !named(slot, pathWords))
      )
    )
      return null
    const tokens = this.#clause.slice(this.#afterTrigger()).filter((token) => !this.#used.has(token))
    const text = this.#textOf(tokens)
    return text === "" ? null : { value: slot.isId ? withoutArticle(text) : text, tokens }
  }

  /** The index of the first word after the trigger that says something. */
  #afterTrigger(): number {
    const trigger = this.#surroundings.trigger
    let from = trigger === null ? 0 : this.#clause.indexOf(trigger) + 1
    const openers = new Set([
      "that",
      "for",
      "about",
      "me",
      "us",
      "to",
      "the",
      "following",
      "this",
      ":",
      "of",
      "a",
      "an",
      "my",
      "what",
      "text",
      "message",
    ])
    const keep = new Set(["my", "the"])
    while (
      from < this.#clause.length - 1 &&
      openers.has((this.#clause[from] as Token).text.toLowerCase()) &&
      !keep.has((this.#clause[from] as Token).text.toLowerCase())
    )
      from += 1
    return from
  }

  #textOf(tokens: readonly Token[]): string {
    const first = tokens[0]
    const last = tokens.at(-1)
    if (first === undefined || last === undefined) return ""
    return this.#surroundings.text
      .slice(first.start, last.end)
      .replace(/[\s.,;!?]+$/, "")
      .trim()
  }

  #list(slot: Slot, free: readonly Token[]): Found<unknown> | null {
    const items = resolved(asSchema(slot.schema["items"]))
    const least = Math.max(Number(slot.schema["minItems"] ?? 1), 1)
    if (isNumeric({ type: typeOf(items) })) {
      const operands = operandsIn(free, this.#surroundings.results)
      // A sum of one number is none: who names one has not said the other.
      const needed = isArithmetic(this.#tool) ? Math.max(least, 2) : least
      return operands.length < needed
        ? null
        : { value: operands.map((operand) => operand.value), tokens: operands.flatMap((operand) => operand.tokens) }
    }
    if (typeOf(items) !== "string") return null
    const choices = items["enum"]
    if (Array.isArray(choices)) {
      const found = free.filter((token) => choices.some((choice) => String(choice).toLowerCase() === token.text.toLowerCase()))
      return found.length < least
        ? null
        : {
            value: found.map((token) => choices.find((choice) => String(choice).toLowerCase() === token.text.toLowerCase())),
            tokens: found,
          }
    }
    for (const kind of ["quoted", "email", "url", "path", "code", "number"] as const) {
      const found = free.filter((token) => token.kind === kind)
      if (found.length >= least) return { value: found.map((token) => token.text), tokens: found }
    }
    const names = free.filter((token, i) => i > 0 && isCapitalised(token) && !isStopWord(token.text))
    return names.length < least ? null : { value: names.map((token) => token.text), tokens: names }
  }

  #nested(slot: Slot): Found<unknown> | null {
    if (slot.schema["properties"] === undefined) return null
    const inner = fillArguments({ name: this.#tool.name, input_schema: slot.schema }, this.#free(this.#clause), this.#surroundings)
    return inner.missing.length > 0 || Object.keys(inner.input).length === 0 ? null : { value: inner.input, tokens: [] }
  }

  /** Values of the same kind that continue a list which one slot has taken the head of. */
  #others(input: Readonly<Record<string, unknown>>): Record<string, unknown>[] {
    for (const [slot, end] of this.#ends) {
      const others: Record<string, unknown>[] = []
      let i = this.#clause.indexOf(end) + 1
      for (;;) {
        const start = i
        while ([",", "and", "or", "&", "\n"].includes(this.#clause[i]?.text.toLowerCase() ?? "")) i += 1
        const head = this.#clause[i]
        if (i === start || head === undefined || this.#used.has(head)) break
        const found = this.#continuation(slot, end, i)
        if (found === null) break
        others.push({ ...input, [slot.name]: found.value })
        i += found.tokens.length
      }
      if (others.length > 0) return others
    }
    return []
  }

  #continuation(slot: Slot, end: Token, i: number): Found<unknown> | null {
    const head = this.#clause[i] as Token
    if (isTimeZone(slot)) {
      const found = timeZoneIn(this.#clause.slice(i, i + 3))
      return found !== null && found.tokens[0] === head ? found : null
    }
    if (named(slot, placeWords) && isCapitalised(head)) {
      let after = i
      while (after < this.#clause.length && isCapitalised(this.#clause[after] as Token)) after += 1
      const tokens = this.#clause.slice(i, after)
      return { value: tokens.map((token) => token.text).join(" "), tokens }
    }
    if (head.kind !== end.kind || !["number", "code", "quoted", "url", "path", "email", "date"].includes(head.kind)) return null
    const value = this.#valueOf(slot, head, this.#clause, true)
    return value === undefined ? null : { value, tokens: [head] }
  }
}

const named = (slot: Slot, words: ReadonlySet<string>): boolean =>
  slot.words.some((word) => words.has(word)) || (slot.words.length === 0 && words.has(nameWordsOf(slot.name)[0] ?? ""))

const withoutArticle = (text: string): string => text.replace(/^(?:the|my|our|that)\s+/i, "")

function isTimeZone(slot: Slot): boolean {
  return /^(?:tz|zone|time_?-?zone.*)$/i.test(slot.name)
}

const arithmeticWords = stems("add sum total multiply average mean product subtract")

export function isArithmetic(tool: Tool): boolean {
  return nameWordsOf(tool.name).some((word) => arithmeticWords.has(word))
}
