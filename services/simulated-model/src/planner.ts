import { fillArguments } from "./arguments.ts"
import { numbersIn, refersBack } from "./arithmetic.ts"
import { type Chain, callKey, chainOf, type MadeCall } from "./chain.ts"
import { directivesOf, type Speech, type WantedCall } from "./directive.ts"
import type { MessagesRequest, Tool } from "./messages.ts"
import type { Said, SaidBlock } from "./script.ts"
import { asksForSummary, isSummaryAlone, summarize } from "./summary.ts"
import { stems, type Token, tokensOf } from "./tokens.ts"
import { type Fit, fitsOf, isActing, isConditional } from "./tool-fit.ts"

/** Every text of this model begins so: nobody shall take it for a language model's. */
const label = "[simulated]"

/** Calls of one turn; what a prompt asks beyond this is a misreading. */
const callsPerTurnMax = 16
/** How much of a prompt is read; a longer one is material, and its request stands at its beginning. */
const promptCharactersMax = 4000
const promptTokensMax = 800
/** How much of a result is quoted, and of how many. */
const quotedCharactersMax = 1500
const quotedResultsMax = 20

/**
 * Decides what the model says next, from the request alone: the same conversation always gets the same answer.
 *
 * The prompt is cut into steps ("then") and each step into clauses, of which each may call for one tool; the calls of a step are made
 * together, and the next step can use their results. A call that the conversation already has is not made again, so that every chain
 * of turns ends.
 */
export function plan(request: MessagesRequest): Said {
  const chain = chainOf(request)
  const tools = request.tool_choice?.type === "none" ? [] : (request.tools ?? []).filter((tool) => tool.input_schema !== undefined)
  if (isSummaryAlone(request)) return answer(request, `${label} I go on from the summary: nothing in it is left to do.`)
  if (asksForSummary(chain.prompt)) return answer(request, `${label} ${summarize(request)}`)
  const directives = directivesOf(chain.prompt, tools)
  if (directives !== null) {
    if ("unreadable" in directives) return answer(request, `${label} I cannot read the directive: ${directives.unreadable}.`)
    const next = directives.callsOf(chain.turns.length)
    if (next !== null) return callTools(next, null)
    return directives.speech === null ? answer(request, report(chain, [])) : speak(request, directives.speech)
  }
  const { calls, notes } = nextCalls(request, tools, chain)
  if (calls.length > 0) {
    const names = [...new Set(calls.map((call) => call.name))].join(", ")
    return callTools(calls, `${label} ${chain.turns.length === 0 ? "I call" : "Next I call"} ${names}.`)
  }
  if (chain.turns.length === 0 && chain.unspoken.length === 0) return answer(request, introduction(request, notes))
  return answer(request, report(chain, notes))
}

function callTools(calls: readonly WantedCall[], preface: string | null): Said {
  const blocks: SaidBlock[] = calls.map(({ name, input }) => ({ type: "tool_use", name, input }))
  return { content: preface === null ? blocks : [{ type: "text", text: preface }, ...blocks], stopReason: "tool_use" }
}

/** A last word, cut where the request allows no more tokens (at four bytes a token, as usage counts them). */
function answer(request: MessagesRequest, text: string): Said {
  const bytes = Buffer.from(text)
  const bytesMax = request.max_tokens * 4
  if (bytes.length <= bytesMax) return { content: [{ type: "text", text }], stopReason: "end_turn" }
  const cut = new TextDecoder().decode(bytes.subarray(0, bytesMax)).replace(/\uFFFD+$/, "")
  return { content: [{ type: "text", text: cut }], stopReason: "max_tokens" }
}

/** A slow answer: the same for the same order, part by part, with characters of every width in it. */
function speak(request: MessagesRequest, { partCount, apartMs, thinks }: Speech): Said {
  const parts = [`${label} `]
  for (let part = 1; part <= partCount; part++) parts.push(`Part ${part} of ${partCount}, größer, 部分, 🧵. `)
  const said = answer(request, parts.join(""))
  const [block] = said.content
  if (block?.type !== "text") return said
  // Where the request allows no more tokens, the last parts are missing or cut.
  let from = 0
  const deltas: string[] = []
  for (const { length } of parts) {
    if (from < block.text.length) deltas.push(block.text.slice(from, from + length))
    from += length
  }
  const thinking: SaidBlock = { type: "thinking", thinking: `I was told to say ${partCount} parts.`, signature: "c2ltdWxhdGVk" }
  return { ...said, content: [...(thinks ? [thinking] : []), { ...block, parts: deltas }], deltaDelayMs: apartMs }
}

/** What is still to be called, and a sentence for each clause that a tool almost fitted. */
function nextCalls(request: MessagesRequest, tools: readonly Tool[], chain: Chain): { calls: WantedCall[]; notes: string[] } {
  const notes: string[] = []
  const unclaimed = chain.turns.flat()
  /** Everything known before the step at hand, oldest first. */
  const known: (readonly MadeCall[])[] = [chain.earlier]
  const choice = request.tool_choice
  const offered = choice?.type === "tool" ? tools.filter((tool) => tool.name === choice.name) : tools
  const text = chain.prompt.slice(0, promptCharactersMax)
  let mayAct = true
  for (const step of stepsOf(text, offered, numbersIn(known))) {
    const wanted: WantedCall[] = []
    for (const [i, clause] of step.entries()) {
      mayAct &&= !isConditional(clause.tokens)
      const before = step[i - 1]
      const last = offered.find((tool) => tool.name === wanted.at(-1)?.name)
      const inherited = before === undefined || !mayAct ? null : inheritedTool(clause, before, last)
      wanted.push(...callsOf(clause, step, text, offered, known, notes, mayAct, inherited))
    }
    const open: WantedCall[] = []
    const made: MadeCall[] = []
    for (const call of wanted) {
      // The same call may be wanted several times ("three times"): each that was made stands for one that was wanted.
      const at = unclaimed.findIndex((other) => callKey(other.name, other.input) === callKey(call.name, call.input))
      if (at < 0) open.push(call)
      else made.push(...unclaimed.splice(at, 1))
    }
    if (open.length > 0) return { calls: open.slice(0, choice?.disable_parallel_tool_use === true ? 1 : callsPerTurnMax), notes }
    known.push(made)
  }
  // Asked to call in any case, it calls, whatever it could find; once: the API would go on for ever, as long as it is told to.
  if ((choice?.type === "any" || choice?.type === "tool") && chain.turns.length === 0) {
    const tokens = tokensOf(text).slice(0, promptTokensMax)
    const tool = fitsOf(offered, tokens, [], true)[0]?.tool ?? offered[0]
    if (tool !== undefined) {
      const { input } = fillArguments(tool, tokens, {
        text,
        around: [],
        results: numbersIn(known),
        carried: carriedFrom(known.flat()),
        trigger: null,
      })
      return { calls: [{ name: tool.name, input }], notes }
    }
  }
  return { calls: [], notes }
}

interface Clause {
  readonly tokens: readonly Token[]
  /** How often: "three times". */
  readonly repeat: number
}

/** "Refund order 17 by 500 cents and order 18 by 700 cents": a clause that opens as the one before goes on, goes on with its verb. */
function inheritedTool(clause: Clause, before: Clause, tool: Tool | undefined): Fit | null {
  const first = clause.tokens[0]
  if (tool === undefined || first === undefined || !isActing(tool) || !before.tokens.slice(1).some((token) => token.stem === first.stem))
    return null
  return { tool, score: 0, trigger: null }
}

/** What one clause calls for: the best tool whose every required argument can be found. */
function callsOf(
  clause: Clause,
  step: readonly Clause[],
  text: string,
  tools: readonly Tool[],
  known: readonly (readonly MadeCall[])[],
  notes: string[],
  mayAct: boolean,
  inherited: Fit | null,
): WantedCall[] {
  const results = numbersIn(known)
  const around = step.filter((other) => other !== clause).flatMap((other) => other.tokens)
  let nearest: string | null = null
  const carried = carriedFrom(known.flat())
  for (const fit of [...(inherited === null ? [] : [inherited]), ...fitsOf(tools, clause.tokens, results, mayAct)]) {
    const { tool, trigger } = fit
    const { input, missing, others } = fillArguments(tool, clause.tokens, {
      text,
      around: fit === inherited ? [] : around,
      results,
      carried,
      trigger,
    })
    if (missing.length === 0) {
      if (nearest !== null) notes.push(nearest)
      return [input, ...others].flatMap((one) => Array.from({ length: clause.repeat }, () => ({ name: tool.name, input: one })))
    }
    if (fit !== inherited)
      nearest ??= `${tool.name} would fit, but I cannot find its ${missing.map((name) => JSON.stringify(name)).join(" and ")} in the prompt.`
  }
  const [first, last] = [clause.tokens[0], clause.tokens.at(-1)]
  if (
    nearest === null &&
    known.flat().length > 0 &&
    results.length === 0 &&
    first !== undefined &&
    last !== undefined &&
    refersBack(clause.tokens)
  ) {
    nearest = `${JSON.stringify(text.slice(first.start, last.end))} needs an answer that I did not get.`
  }
  if (nearest !== null && !notes.includes(nearest)) notes.push(nearest)
  return []
}

/** What "it" may mean: the arguments of the calls before and the fields of their results, the newest last. */
function carriedFrom(known: readonly MadeCall[]): Map<string, unknown> {
  const carried = new Map<string, unknown>()
  for (const call of known) {
    for (const [name, value] of Object.entries(call.input)) carried.set(name, value)
    if (call.failed) continue
    try {
      const fields: unknown = JSON.parse(call.result)
      if (typeof fields === "object" && fields !== null && !Array.isArray(fields))
        for (const [name, value] of Object.entries(fields)) carried.set(name, value)
    } catch {
      // A result in plain words has no fields.
    }
  }
  return carried
}

const separators = new Set([",", ";", "?", "!", ".", "\n", "and", "also"])
const dieWords = stems("dice die roll number time")

/** Steps, in order, each of clauses that stand side by side. */
function stepsOf(prompt: string, tools: readonly Tool[], resultsBefore: readonly number[]): Clause[][] {
  const tokens = tokensOf(prompt).slice(0, promptTokensMax)
  const steps: Clause[][] = []
  let from = 0
  const close = (to: number): void => {
    steps.push(...clausesOf(tokens.slice(from, to), tools, resultsBefore))
  }
  for (const [i, token] of tokens.entries()) {
    const word = token.kind === "quoted" ? "" : token.text.toLowerCase()
    const length =
      word === "then" || word === "afterwards"
        ? 1
        : word === "after" && ["that", "this"].includes(tokens[i + 1]?.text.toLowerCase() ?? "")
          ? 2
          : 0
    if (length === 0) continue
    close(i)
    from = i + length
  }
  close(tokens.length)
  return steps.filter((step) => step.length > 0)
}

/**
 * Cuts a step where a new request begins: at a separator after which the words call for a tool by themselves. "Add 2 and 3, and tell me
 * the time" has two clauses, because "3" alone calls for nothing. A clause that needs the answer of one before it opens a step of its own.
 */
function clausesOf(tokens: readonly Token[], tools: readonly Tool[], resultsBefore: readonly number[]): Clause[][] {
  const fragments: Token[][] = [[]]
  for (const token of tokens) {
    if (token.kind !== "quoted" && separators.has(token.text.toLowerCase())) fragments.push([token])
    else fragments.at(-1)?.push(token)
  }
  const merged: Token[][] = []
  let calling = false
  for (const fragment of fragments) {
    // A number that is not known yet may still be what the fragment is about, so any number stands in for it here.
    const calls = fitsOf(tools, fragment, resultsBefore.length > 0 ? resultsBefore : [0, 0], true).length > 0
    const last = merged.at(-1)
    if (last === undefined || (calls && calling)) merged.push([...fragment])
    else last.push(...fragment)
    calling ||= calls
  }
  const steps: Clause[][] = [[]]
  for (const [i, words] of merged.entries()) {
    if (i > 0 && refersBack(words)) steps.push([])
    steps.at(-1)?.push(repeated(trimmed(words)))
  }
  return steps.map((step) => step.filter((clause) => clause.tokens.length > 0))
}

/** Without the separators at its ends. */
function trimmed(words: readonly Token[]): Token[] {
  let from = 0
  let to = words.length
  const separates = (token: Token | undefined): boolean =>
    token !== undefined && token.kind !== "quoted" && separators.has(token.text.toLowerCase())
  while (from < to && separates(words[from])) from += 1
  while (to > from && separates(words[to - 1])) to -= 1
  return words.slice(from, to)
}

/** Takes "twice", "three times" or "5 dice" out of the words. */
function repeated(words: readonly Token[]): Clause {
  for (const [i, token] of words.entries()) {
    const word = token.kind === "word" ? token.text.toLowerCase() : ""
    const once = word === "twice" ? 2 : word === "thrice" ? 3 : 0
    if (once > 0) return { tokens: words.toSpliced(i, 1), repeat: once }
    const next = words[i + 1]
    if (token.kind !== "number" || token.value === undefined || next === undefined || !Number.isInteger(token.value) || token.value < 1)
      continue
    const times =
      next.text.toLowerCase() === "times" &&
      words[i + 2]?.value === undefined &&
      !["the", "that", "it", "("].includes(words[i + 2]?.text.toLowerCase() ?? "")
    const things =
      dieWords.has((next.stem === "random" ? words[i + 2] : next)?.stem ?? "") &&
      next.stem !== "time" &&
      words.slice(0, i).some((before) => ["roll", "pick", "draw", "toss", "giv", "give", "random"].includes(before.stem)) &&
      words[i - 1]?.stem !== "and" &&
      words[i - 1]?.stem !== "to"
    if (!times && !things) continue
    return { tokens: times ? words.toSpliced(i, 2) : words.toSpliced(i, 1), repeat: Math.min(token.value, callsPerTurnMax) }
  }
  return { tokens: words, repeat: 1 }
}

function report(chain: Chain, notes: readonly string[]): string {
  const made = [...chain.unspoken, ...chain.turns.flat()]
  const lines = made
    .slice(-quotedResultsMax)
    .map(
      (call) =>
        `${call.name} ${shortened(JSON.stringify(call.input), 300)} ${call.failed ? "failed" : "answered"}: ${shortened(call.result, quotedCharactersMax)}`,
    )
  if (made.length > lines.length) lines.unshift(`(${made.length - lines.length} earlier results are left out here.)`)
  const failed = made.filter((call) => call.failed).length
  const tail = notes.map((note) => `\nWhat I could not do: ${note}`).join("")
  if (made.length === 0) return `${label} There was nothing to call.${tail}`
  if (made.length === 1) return `${label} ${lines[0] ?? ""}${tail}`
  const turns = chain.turns.length
  const head = `${made.length} calls in ${turns} ${turns === 1 ? "turn" : "turns"}${failed === 0 ? "" : `, ${failed} of them failed`}.`
  return `${label} ${head}\n${lines.map((line) => `- ${line}`).join("\n")}${tail}`
}

function introduction(request: MessagesRequest, notes: readonly string[]): string {
  const names = (request.tools ?? []).map((tool) => tool.name)
  const offered = names.length === 0 ? "I was offered no tools." : `I was offered these tools: ${names.join(", ")}.`
  const why = names.length === 0 ? "" : notes.length > 0 ? ` ${notes.join(" ")}` : " Nothing in the prompt calls for one of them."
  return `${label} I am not a language model but a small deterministic planner that calls tools, so that Reins runs without a key. ${offered}${why}`
}

function shortened(text: string, charactersMax: number): string {
  if (text === "") return "(nothing)"
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax)}… (${text.length - charactersMax} more characters)`
}
