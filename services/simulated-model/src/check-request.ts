import type { MessagesRequest } from "./messages.ts"

/** A request that the API would refuse: the sentence is meant for whoever wrote the request. */
export class BadRequest extends Error {
  override readonly name = "BadRequest"
}

/** The fields of `POST /v1/messages` at SDK 1.12.0, beta fields included. The API refuses any other. */
const knownFields = new Set([
  "model",
  "max_tokens",
  "messages",
  "cache_control",
  "container",
  "diagnostics",
  "inference_geo",
  "metadata",
  "output_config",
  "service_tier",
  "speed",
  "stop_sequences",
  "stream",
  "system",
  "temperature",
  "thinking",
  "tool_choice",
  "tools",
  "top_k",
  "top_p",
  "user_profile_id",
  "workspace_id",
  "billing_policy",
  "compaction",
  "context_management",
  "fallback_credit_token",
  "fallbacks",
  "mcp_servers",
  "output_format",
  "thread",
])

const toolName = /^[a-zA-Z0-9_-]{1,64}$/
const toolUseId = /^[a-zA-Z0-9_-]+$/

type Json = Readonly<Record<string, unknown>>
type Block = Json & { readonly type: string }

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

function refuse(sentence: string): never {
  throw new BadRequest(sentence)
}

/**
 * Refuses what the API refuses, in its order of words where they are known. Pairing of tool_use and tool_result is checked to the
 * letter, because every test of the harness sends its conversation through here:
 *
 * P1 every tool_use of an assistant message is answered in the very next message, each exactly once;
 * P2 a tool_result answers a tool_use of the message before it, and nothing else;
 * P3 the results come first in their message, text after them;
 * P4 a tool_use id is used once in a conversation.
 */
export function checkRequest(body: string): MessagesRequest {
  let request: unknown
  try {
    request = JSON.parse(body)
  } catch (error) {
    return refuse(`The request body is not valid JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (!isObject(request)) return refuse("The request body must be a JSON object.")
  if (typeof request["model"] !== "string" || request["model"] === "") {
    refuse(request["model"] === undefined ? "model: Field required" : "model: Input should be a non-empty string")
  }
  const maxTokens = request["max_tokens"]
  if (maxTokens === undefined) refuse("max_tokens: Field required")
  if (!Number.isInteger(maxTokens) || (maxTokens as number) < 1) refuse("max_tokens: Input should be an integer greater than or equal to 1")
  for (const field of Object.keys(request)) if (!knownFields.has(field)) refuse(`${field}: Extra inputs are not permitted`)
  const stream = request["stream"]
  if (stream !== undefined && typeof stream !== "boolean") refuse("stream: Input should be a valid boolean")
  const temperature = request["temperature"]
  if (temperature !== undefined && (typeof temperature !== "number" || temperature < 0 || temperature > 1)) {
    refuse("temperature: Input should be a number between 0 and 1")
  }
  checkSystem(request["system"])
  const names = checkTools(request["tools"])
  checkToolChoice(request["tool_choice"], names)
  checkMessages(request["messages"])
  return request as unknown as MessagesRequest
}

function checkSystem(system: unknown): void {
  if (system === undefined || typeof system === "string") return
  if (!Array.isArray(system)) refuse("system: Input should be a string or a list of text blocks")
  for (const [i, block] of system.entries()) {
    if (!isObject(block) || block["type"] !== "text" || typeof block["text"] !== "string")
      refuse(`system.${i}: Input should be a text block`)
    if (block["text"] === "") refuse(`system.${i}: text content blocks must be non-empty`)
  }
}

function checkTools(tools: unknown): ReadonlySet<string> {
  const names = new Set<string>()
  if (tools === undefined) return names
  if (!Array.isArray(tools)) refuse("tools: Input should be a list")
  for (const [i, tool] of (tools as readonly unknown[]).entries()) {
    if (!isObject(tool)) refuse(`tools.${i}: Input should be an object`)
    const name = tool["name"]
    // Tools that the API itself runs have a dated type and no schema of ours; only their name is looked at.
    const custom = tool["type"] === undefined || tool["type"] === "custom"
    if (typeof name !== "string") {
      if (custom) refuse(`tools.${i}.custom.name: Field required`)
      continue
    }
    if (!toolName.test(name)) refuse(`tools.${i}.custom.name: String should match pattern '${toolName.source}'`)
    if (names.has(name)) refuse(`tools: Tool names must be unique. ${JSON.stringify(name)} is there twice.`)
    names.add(name)
    if (!custom) continue
    if (tool["description"] !== undefined && typeof tool["description"] !== "string")
      refuse(`tools.${i}.custom.description: Input should be a string`)
    const schema = tool["input_schema"]
    if (schema === undefined) refuse(`tools.${i}.custom.input_schema: Field required`)
    if (!isObject(schema) || schema["type"] !== "object") refuse(`tools.${i}.custom.input_schema.type: Input should be 'object'`)
  }
  return names
}

function checkToolChoice(choice: unknown, names: ReadonlySet<string>): void {
  if (choice === undefined) return
  if (!isObject(choice) || !["auto", "any", "tool", "none"].includes(String(choice["type"])))
    refuse("tool_choice: Input should have type auto, any, tool or none")
  if (names.size === 0 && choice["type"] !== "none") refuse("tool_choice: tool_choice may only be specified while providing tools")
  if (choice["type"] === "tool" && !names.has(String(choice["name"])))
    refuse(`tool_choice: Tool ${JSON.stringify(choice["name"])} not found in provided tools`)
}

function checkMessages(messages: unknown): void {
  if (messages === undefined) refuse("messages: Field required")
  if (!Array.isArray(messages)) refuse("messages: Input should be a list")
  if (messages.length === 0) refuse("messages: at least one message is required")
  /** What the message before asked for and nobody has answered yet (P1, P2). */
  const asked = new Set<string>()
  let askedAt = 0
  const used = new Set<string>()
  let roleBefore: unknown
  /** Whether text was said since the last assistant message (P3); neighbours of one role are one message to the API. */
  let said = false
  let answered = new Set<string>()
  for (const [i, message] of (messages as readonly unknown[]).entries()) {
    const at = `messages.${i}`
    if (!isObject(message)) refuse(`${at}: Input should be an object`)
    const role = message["role"]
    if (role !== "user" && role !== "assistant" && role !== "system") refuse(`${at}.role: Input should be 'user', 'assistant' or 'system'`)
    for (const field of Object.keys(message))
      if (field !== "role" && field !== "content") refuse(`${at}.${field}: Extra inputs are not permitted`)
    if (i === 0 && role !== "user") refuse('messages: first message must use the "user" role')
    if (role !== roleBefore && role === "assistant") {
      refuseUnanswered(asked, askedAt)
      askedAt = i
      answered = new Set()
      said = false
    }
    roleBefore = role
    for (const [j, block] of contentOf(message["content"], at).entries()) {
      const where = `${at}.content.${j}`
      switch (block.type) {
        case "tool_use":
          if (role !== "assistant") refuse(`${where}: \`tool_use\` blocks can only be in \`assistant\` messages`)
          checkToolUse(block, where)
          if (used.has(String(block["id"]))) refuse(`${where}: \`tool_use\` ids must be unique; ${String(block["id"])} was used before`)
          used.add(String(block["id"]))
          asked.add(String(block["id"]))
          break
        case "tool_result": {
          if (role !== "user") refuse(`${where}: \`tool_result\` blocks can only be in \`user\` messages`)
          const id = checkToolResult(block, where)
          if (answered.has(id))
            refuse(`${where}: each tool_use must have a single result. Found multiple \`tool_result\` blocks with id: ${id}`)
          if (!asked.has(id)) {
            refuse(
              `${where}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${id}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`,
            )
          }
          if (said) refuse(`${where}: \`tool_result\` blocks must come first in the content of the message, before any text`)
          asked.delete(id)
          answered.add(id)
          break
        }
        case "text":
          if (typeof block["text"] !== "string") refuse(`${where}.text: Input should be a valid string`)
          if (block["text"] === "") refuse(`${where}: text content blocks must be non-empty`)
          if (role !== "assistant") said = true
          break
        default:
          // Blocks of other kinds pass: their rules are the provider's, and new kinds appear.
          if (role !== "assistant") said = true
      }
    }
    if (role !== "assistant") refuseUnanswered(asked, askedAt, messages[i + 1])
  }
  if (roleBefore === "assistant") {
    refuseUnanswered(asked, askedAt)
    refuse("This model does not support assistant message prefill. The conversation must end with a user message.")
  }
}

/** P1. A neighbour of the same role that follows is still the same message. */
function refuseUnanswered(asked: ReadonlySet<string>, askedAt: number, next?: unknown): void {
  if (asked.size === 0 || (isObject(next) && next["role"] === "user")) return
  refuse(
    `messages.${askedAt}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${[...asked].join(", ")}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`,
  )
}

function contentOf(content: unknown, at: string): readonly Block[] {
  if (typeof content === "string") {
    if (content === "") refuse(`${at}: all messages must have non-empty content`)
    return [{ type: "text", text: content }]
  }
  if (content === undefined) refuse(`${at}.content: Field required`)
  if (!Array.isArray(content)) refuse(`${at}.content: Input should be a string or a list of blocks`)
  if (content.length === 0) refuse(`${at}: all messages must have non-empty content`)
  for (const [j, block] of content.entries()) {
    if (!isObject(block) || typeof block["type"] !== "string") refuse(`${at}.content.${j}.type: Field required`)
  }
  return content as readonly Block[]
}

function checkToolUse(block: Json, where: string): void {
  if (typeof block["id"] !== "string" || !toolUseId.test(block["id"]))
    refuse(`${where}.tool_use.id: String should match pattern '${toolUseId.source}'`)
  if (typeof block["name"] !== "string" || block["name"] === "") refuse(`${where}.tool_use.name: Field required`)
  if (!isObject(block["input"])) refuse(`${where}.tool_use.input: Input should be a valid dictionary`)
}

function checkToolResult(block: Json, where: string): string {
  const id = block["tool_use_id"]
  if (typeof id !== "string") refuse(`${where}.tool_result.tool_use_id: Field required`)
  const isError = block["is_error"]
  if (isError !== undefined && typeof isError !== "boolean") refuse(`${where}.tool_result.is_error: Input should be a valid boolean`)
  const content = block["content"]
  if (content === undefined || typeof content === "string") return id
  if (!Array.isArray(content)) refuse(`${where}.tool_result.content: Input should be a string or a list of blocks`)
  for (const [k, inner] of content.entries()) {
    if (!isObject(inner) || typeof inner["type"] !== "string") refuse(`${where}.tool_result.content.${k}.type: Field required`)
    if (inner["type"] === "text" && typeof inner["text"] !== "string")
      refuse(`${where}.tool_result.content.${k}.text: Input should be a valid string`)
  }
  return id
}
