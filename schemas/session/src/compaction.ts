import { type Agent, canonicalJson, depthMax, isDeeperThan } from "@reins/events"
import { say, type Utterance, utterances } from "./conversation.ts"

/**
 * How a conversation that nears the model's window is made short: what is asked of the model, and what its answer becomes. All of it is
 * part of `bodyVersion`: the bodies of these requests are rebuilt from the log like any other.
 */

const instruction =
  "The conversation is about to exceed the model's window. Write the summary that will stand in place of everything above, for the one " +
  "who goes on with this work and sees nothing else: what was asked for and by whom, what was done and what came of it (names, numbers, " +
  "ids and paths exactly), what was decided and why, what is still open, and what comes next. Answer with the summary alone; call no tool."

const preface =
  "The conversation before this exceeded the model's window. Here is a summary of it, and nothing else of it is left to see. " +
  "Go on from where it stands; do not greet, repeat or apologise."

/** Parameters that would make a summary something else, such as an object of a schema. */
const unfit: ReadonlySet<string> = new Set(["tool_choice", "output_config", "output_format", "stop_sequences", "context_management"])

const summarising = new WeakMap<Agent, { readonly whole: Agent; readonly transcript: Agent }>()

function agentsOf(agent: Agent): { readonly whole: Agent; readonly transcript: Agent } {
  const known = summarising.get(agent)
  if (known !== undefined) return known
  const params = Object.fromEntries(Object.entries(JSON.parse(agent.params) as object).filter(([name]) => !unfit.has(name)))
  // The tools stay where the conversation has calls: the API wants them described, and what is cached stays cached.
  const whole = { ...agent, params: canonicalJson(agent.tools.length > 0 ? { ...params, tool_choice: { type: "none" } } : params) }
  const { mcp_servers: _, container: __, ...alone } = params as Record<string, unknown>
  const transcript = { ...agent, tools: [], system: null, params: canonicalJson(alone) }
  const agents = { whole, transcript }
  summarising.set(agent, agents)
  return agents
}

/** What a model request is made of. */
export interface Asking {
  readonly agent: Agent
  readonly conversation: Utterance | null
}

/** The request for a summary of the conversation as it stands (`budget` 0), or of a transcript of at most so many characters. */
export function askingForSummary(agent: Agent, conversation: Utterance | null, budget: number): Asking {
  const { whole, transcript } = agentsOf(agent)
  if (budget === 0) return { agent: whole, conversation: say(conversation, "user", blocksOf(instruction)) }
  const text = `<conversation>\n${transcriptOf(conversation, budget)}\n</conversation>\n\n${instruction}`
  return { agent: transcript, conversation: say(null, "user", blocksOf(text)) }
}

/** What a conversation begins with after its summary. */
export function continuation(summary: string): string {
  return blocksOf(`${preface}\n\n<summary>\n${summary}\n</summary>`)
}

function blocksOf(text: string): string {
  return canonicalJson([{ type: "text", text }])
}

/** One block may have this share of a transcript; what one tool said must not be all that is seen. */
const shareOfOne = 8

/**
 * The conversation as text, for a model that cannot be given all of it: long blocks are cut in their middle, and where it is still too
 * long the beginning (what was asked for) and the end (where it stands) are kept.
 */
function transcriptOf(conversation: Utterance | null, budget: number): string {
  const parts = utterances(conversation).flatMap(({ role, blocks }) =>
    blocksIn(blocks).map((block) => cut(`${role}: ${describe(block)}`, Math.floor(budget / shareOfOne))),
  )
  const first = parts[0] ?? ""
  const kept: string[] = []
  let length = first.length
  let left = parts.length - 1
  for (; left > 0; left--) {
    const part = parts[left] as string
    if (length + part.length + 1 > budget) break
    length += part.length + 1
    kept.unshift(part)
  }
  const missing = left > 0 ? [`[${left} parts of the conversation are left out here]`] : []
  return [first, ...missing, ...kept].join("\n")
}

/** What is no JSON (anyone may write into a log) is shown as it is, and what nests without end is not shown. */
function blocksIn(text: string): readonly unknown[] {
  try {
    const blocks = JSON.parse(`[${text}]`) as unknown[]
    return blocks.map((block) => (isDeeperThan(block, depthMax) ? { type: "text", text: "[nests too deep to be shown]" } : block))
  } catch {
    return [{ type: "text", text }]
  }
}

function cut(text: string, most: number): string {
  if (text.length <= most) return text
  const half = Math.floor(most / 2)
  return `${whole(text.slice(0, half))}[${text.length - 2 * half} characters are left out here]${whole(text.slice(-half))}`
}

/** Without the half of a surrogate pair that a cut leaves at either end. */
function whole(text: string): string {
  return text.replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, "")
}

/** A block in words. What is no text (an image, a thought) is named and not shown. */
function describe(block: unknown): string {
  const { type, text, name, input, content, tool_use_id: id } = (block ?? {}) as Record<string, unknown>
  switch (type) {
    case "text":
      return String(text)
    case "tool_use":
      return `[calls ${String(name)} (${String((block as { id?: unknown }).id)}) with ${canonicalJson(input ?? {})}]`
    case "tool_result":
      return `[result of ${String(id)}] ${textOf(content)}`
    default:
      return `[${String(type)}]`
  }
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content
  return Array.isArray(content) ? content.map(describe).join("\n") : ""
}

/** The summary in an answer's content: its text; null where there is none, or where the answer is none to what was asked. */
export function summaryIn(blocks: readonly unknown[], stopReason: string | null): string | null {
  // A summary that ran out of room is still one; a call of a tool or a refusal is none.
  if (stopReason !== "end_turn" && stopReason !== "max_tokens" && stopReason !== "stop_sequence") return null
  const text = blocks
    .flatMap((block) => {
      const { type, text } = (block ?? {}) as { readonly type?: unknown; readonly text?: unknown }
      return type === "text" && typeof text === "string" ? [text] : []
    })
    .join("\n")
    .trim()
  return text === "" ? null : text
}
