/** The words of the Messages wire, as far as this model reads or says them. A checked request may hold more; it is left alone. */
export interface TextBlock {
  readonly type: "text"
  readonly text: string
}

export interface ToolUseBlock {
  readonly type: "tool_use"
  readonly id: string
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
}

export interface ToolResultBlock {
  readonly type: "tool_result"
  readonly tool_use_id: string
  readonly content?: string | readonly ContentBlock[]
  readonly is_error?: boolean
}

/** A block that passes through unread: an image, a document, a thinking block, one that is not invented yet. */
export interface OtherBlock {
  readonly type: string
  readonly [field: string]: unknown
}

export type ContentBlock = TextBlock | ToolUseBlock | ToolResultBlock | OtherBlock

export interface Message {
  readonly role: "user" | "assistant" | "system"
  readonly content: string | readonly ContentBlock[]
}

export interface Tool {
  readonly name: string
  readonly type?: string
  readonly description?: string
  readonly input_schema?: JsonSchema
}

export interface JsonSchema {
  readonly [keyword: string]: unknown
}

export interface ToolChoice {
  readonly type: "auto" | "any" | "tool" | "none"
  readonly name?: string
  readonly disable_parallel_tool_use?: boolean
}

export interface MessagesRequest {
  readonly model: string
  readonly max_tokens: number
  readonly messages: readonly Message[]
  readonly stream?: boolean
  readonly tools?: readonly Tool[]
  readonly tool_choice?: ToolChoice
  readonly system?: string | readonly TextBlock[]
}

export type StopReason =
  | "end_turn"
  | "max_tokens"
  | "stop_sequence"
  | "tool_use"
  | "pause_turn"
  | "refusal"
  | "model_context_window_exceeded"

export function isText(block: ContentBlock): block is TextBlock {
  return block.type === "text"
}

export function isToolUse(block: ContentBlock): block is ToolUseBlock {
  return block.type === "tool_use"
}

export function isToolResult(block: ContentBlock): block is ToolResultBlock {
  return block.type === "tool_result"
}

/** Content as blocks: a string is one text block. */
export function blocksOf(content: string | readonly ContentBlock[]): readonly ContentBlock[] {
  return typeof content === "string" ? [{ type: "text", text: content }] : content
}

/** Everything a content says in text, one block a line. */
export function textOf(content: string | readonly ContentBlock[] | undefined): string {
  if (content === undefined) return ""
  return blocksOf(content)
    .map((block) => (isText(block) ? block.text : `(${block.type})`))
    .join("\n")
}
