import { type Agent, canonicalJson } from "@reins/events"
import { type Asking, askingForSummary } from "./compaction.ts"
import { assertWhole, closing, joint, messagesText, type Utterance, utterances } from "./conversation.ts"
import { emptyHash, type RunningHash, sha256Hex } from "./digest.ts"
import type { AwaitingModel } from "./session.ts"

/** The version of this serialisation; recorded with every request, so that an old log is checked by its own rules. */
export const bodyVersion = 1

interface Frame {
  /** Canonical JSON up to the first message, and after the last. */
  readonly head: string
  readonly tail: string
  readonly parameters: string
}

/** Frames by agent: an agent never changes within a session. */
const frames = new WeakMap<Agent, Frame>()

function frameOf(agent: Agent): Frame {
  const known = frames.get(agent)
  if (known !== undefined) return known
  const tools = agent.tools.map((tool) => ({
    name: tool.name,
    ...(tool.description === null ? {} : { description: tool.description }),
    input_schema: JSON.parse(tool.inputSchema) as unknown,
  }))
  const params = JSON.parse(agent.params) as Record<string, unknown>
  // Prompt caching is on unless the agent says otherwise; `cache_control: null` leaves it out.
  const fields: Record<string, unknown> = { cache_control: { type: "ephemeral" }, ...params }
  if (fields["cache_control"] === null) delete fields["cache_control"]
  Object.assign(fields, { model: agent.model, max_tokens: agent.maxTokens, stream: true })
  if (agent.system !== null) fields["system"] = JSON.parse(agent.system) as unknown
  if (tools.length > 0) fields["tools"] = tools
  const names = Object.keys(fields).filter((name) => fields[name] !== undefined)
  const part = (name: string): string => `${JSON.stringify(name)}:${canonicalJson(fields[name])}`
  const head = names.filter((name) => name < "messages").sort()
  const tail = names.filter((name) => name > "messages").sort()
  const frame: Frame = {
    head: `{${head.map((name) => `${part(name)},`).join("")}"messages":[`,
    tail: `]${tail.map((name) => `,${part(name)}`).join("")}}`,
    parameters: canonicalJson({
      ...params,
      model: agent.model,
      max_tokens: agent.maxTokens,
      systemHash: agent.system === null ? null : sha256Hex(agent.system),
      toolsHash: sha256Hex(canonicalJson(tools)),
    }),
  }
  frames.set(agent, frame)
  return frame
}

/** What the open request of a session is made of, or that which would be asked next. `compacts` as in `model.requested`. */
export function asking(agent: Agent, conversation: Utterance | null, compacts: number | null): Asking {
  return compacts === null ? { agent, conversation } : askingForSummary(agent, conversation, compacts)
}

/** The exact body of the open request of a session. */
export function openRequestBody(session: AwaitingModel): string {
  const asked = asking(session.agent, session.conversation, session.compaction?.budget ?? null)
  return requestBody(asked.agent, asked.conversation)
}

/** The exact body of the model request on this conversation: canonical JSON, the same bytes from the same log in every build. */
export function requestBody(agent: Agent, conversation: Utterance | null): string {
  const frame = frameOf(agent)
  return frame.head + messagesText(conversation) + frame.tail
}

/** What `model.requested` records of the request beside the conversation. */
export function requestParameters(agent: Agent): string {
  return frameOf(agent).parameters
}

/** Running hashes of bodies up to an utterance, per agent, so that the n-th request hashes only what is new in it. */
const runningHashes = new WeakMap<Utterance, { readonly agent: Agent; readonly hash: RunningHash }>()

/** SHA-256 of `requestBody`, at the cost of what is new since the last request of the same conversation. */
export function requestBodyHash(agent: Agent, conversation: Utterance | null): string {
  assertWhole(conversation)
  const frame = frameOf(agent)
  const fresh: Utterance[] = []
  let hash: RunningHash | undefined
  let at = conversation
  for (; at !== null; at = at.before) {
    const known = runningHashes.get(at)
    if (known !== undefined && known.agent === agent) {
      hash = known.hash
      break
    }
    fresh.push(at)
  }
  let role = at?.role ?? null
  hash ??= emptyHash.with(frame.head)
  for (const utterance of fresh.reverse()) {
    hash = hash.with(joint(role, utterance.role) + utterance.blocks)
    role = utterance.role
    runningHashes.set(utterance, { agent, hash })
  }
  return hash.with((role === null ? "" : closing(role)) + frame.tail).hex()
}

/** For tests: the number of utterances a hash would have to read again. */
export function utterancesToHash(agent: Agent, conversation: Utterance | null): number {
  return utterances(conversation).filter((utterance) => runningHashes.get(utterance)?.agent !== agent).length
}
