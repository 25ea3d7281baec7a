import { expressionIn, pointsBack, writtenExpression } from "./arithmetic.ts"
import type { Tool } from "./messages.ts"
import { isStopWord, nameWordsOf, stems, type Token } from "./tokens.ts"

/** How well a tool answers to some words. */
export interface Fit {
  readonly tool: Tool
  readonly score: number
  /** The first word that called for it. */
  readonly trigger: Token | null
}

/** Words that people use for the same thing; a tool that is named by one of them answers to all. */
const likeness: readonly ReadonlySet<string>[] = [
  "random roll dice die pick toss draw chance",
  "time clock hour date",
  "add sum plus total +",
  "multiply product * ×",
  "subtract minus difference",
  "calculate calculator compute calc evaluate math arithmetic expression",
  "wait sleep pause delay",
  "remember memorize memorise note store save",
  "recall remind recollect",
  "weather forecast temperature rain sunny warm cold hot",
  "refund reimburse",
  "search find lookup",
  "email mail",
  "delete remove erase",
  "create make",
  "cancel abort",
  "echo repeat say",
].map(stems)

/** First words of tools that only look: the rest of the name says what at. */
const reading = stems("get list fetch find search lookup look show read check query describe view retrieve load")
const asking = new Set([
  "where",
  "what",
  "how",
  "which",
  "who",
  "when",
  "status",
  "show",
  "get",
  "look",
  "find",
  "check",
  "fetch",
  "list",
  "about",
])
/** First words of tools that change something: these want to be asked for by that very word, or by one like it. */
const acting = stems(
  "refund cancel delete remove create update send pay transfer charge write set post put book buy sell open close start stop restart deploy ship move rename approve reject wait sleep remember forget email notify grant revoke drop insert upload kill execute run reset",
)
const vague = stems("number value data item info current new text name tool all detail string list message")
const negations = new Set(["not", "don't", "dont", "never", "without", "won't", "shouldn't"])
const conditions = new Set(["if", "unless"])

const scoreMin = 2

/** Whether these words make what follows them depend on something. The planner weighs no conditions, so it does not act on one. */
export function isConditional(clause: readonly Token[]): boolean {
  return clause.some((token) => token.kind === "word" && conditions.has(token.text.toLowerCase()))
}

/** The tools that these words call for, the best first; tools that change something only where they may. */
export function fitsOf(tools: readonly Tool[], clause: readonly Token[], results: readonly number[], mayAct: boolean): Fit[] {
  const negated = !mayAct || clause.some((token) => negations.has(token.text.toLowerCase().replace("’", "'")))
  const fits: Fit[] = []
  for (const tool of tools) {
    const fit = fitOf(tool, clause, results, negated)
    if (fit !== null && fit.score >= scoreMin) fits.push(fit)
  }
  const at = (fit: Fit): number => fit.trigger?.start ?? Number.MAX_SAFE_INTEGER
  // Sorting is stable: between equals, the tool that was offered first.
  return fits.sort((a, b) => b.score - a.score || at(a) - at(b))
}

function fitOf(tool: Tool, clause: readonly Token[], results: readonly number[], negated: boolean): Fit | null {
  const all = nameWordsOf(tool.name)
  const first = all[0] ?? ""
  let names = all.filter((word) => !reading.has(word))
  if (names.length === 0) names = all
  let strong = 0
  let weak = 0
  let trigger: Token | null = null
  let unmatched = 0
  // "Divide the sum by 4" speaks of a sum and wants none made.
  const wanting = clause.filter((token, i) => token.kind !== "quoted" && !pointsBack(clause, i))
  for (const name of names) {
    const hit = wanting.find((token) => token.stem === name)
    const alike = hit ?? wanting.find((token) => likeness.some((words) => words.has(name) && words.has(token.stem)))
    if (alike === undefined) {
      if (!vague.has(name)) unmatched += 1
      continue
    }
    if (vague.has(name)) {
      weak += 1
      continue
    }
    strong += hit === undefined ? 2 : 3
    if (trigger === null || alike.start < trigger.start) trigger = alike
  }
  if (
    acting.has(first) &&
    (negated ||
      trigger === null ||
      !clause.some((token) => token.stem === first || likeness.some((words) => words.has(first) && words.has(token.stem))))
  )
    return null
  if (takesExpression(tool)) {
    const expression = expressionIn(clause, results)
    if (expression !== null) {
      // What is only said ("add 2 and 3") belongs first to the tool of that name, if there is one.
      strong += writtenExpression(clause, results) === null ? 2 : 4
      unmatched = 0
      trigger ??= expression.tokens[0] ?? null
    } else if (unmatched === names.length) return null
  }
  const described = new Set(
    nameWordsOf(tool.description ?? "").filter((word) => !isStopWord(word) && word.length > 2 && !all.includes(word) && !vague.has(word)),
  )
  const hits = clause.filter((token) => token.kind === "word" && described.has(token.stem))
  weak += Math.min(new Set(hits.map((token) => token.stem)).size, 3)
  // Without a word of its name a tool that only looks still answers to two words of its description.
  if (strong === 0 && (weak < 2 || hits.length < 2)) return null
  if (reading.has(first) && clause.some((token) => asking.has(token.text.toLowerCase()))) weak += 1
  return { tool, score: strong + weak - unmatched / 2, trigger: trigger ?? hits[0] ?? null }
}

/** Whether a tool changes something, by the first word of its name. */
export function isActing(tool: Tool): boolean {
  return acting.has(nameWordsOf(tool.name)[0] ?? "")
}

function takesExpression(tool: Tool): boolean {
  const properties = tool.input_schema?.["properties"]
  return (
    typeof properties === "object" &&
    properties !== null &&
    Object.keys(properties).some((name) => /expr|formula|calculation|equation/i.test(name))
  )
}
