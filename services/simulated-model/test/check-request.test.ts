import assert from "node:assert/strict"
import { test } from "node:test"
import { BadRequest, checkRequest } from "../src/check-request.ts"

type Json = Readonly<Record<string, unknown>>

const use = (...ids: string[]): Json => ({
  role: "assistant",
  content: ids.map((id) => ({ type: "tool_use", id, name: "add", input: {} })),
})
const result = (id: string): Json => ({ type: "tool_result", tool_use_id: id, content: "3" })
const results = (...ids: string[]): Json => ({ role: "user", content: ids.map(result) })
const ask: Json = { role: "user", content: "Add." }
const addTool: Json = { name: "add", input_schema: { type: "object" } }

function requestOf(fields: Json): string {
  return JSON.stringify({ model: "m", max_tokens: 100, messages: [ask], ...fields })
}

const accepted: readonly (readonly [what: string, fields: Json])[] = [
  ["a string for content", {}],
  ["every known block and an unknown one", { messages: [{ role: "user", content: [{ type: "text", text: "a" }, { type: "hologram" }] }] }],
  ["results in another order than the calls", { messages: [ask, use("a", "b"), results("b", "a")] }],
  ["text after the results", { messages: [ask, use("a"), { role: "user", content: [result("a"), { type: "text", text: "go on" }] }] }],
  [
    "results spread over neighbouring user messages, which are one to the API",
    { messages: [ask, use("a", "b"), results("a"), results("b")] },
  ],
  [
    "a result without content, and an error",
    { messages: [ask, use("a"), { role: "user", content: [{ type: "tool_result", tool_use_id: "a", is_error: true }] }] },
  ],
  [
    "thinking before a call",
    {
      messages: [
        ask,
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "", signature: "s" },
            { type: "tool_use", id: "a", name: "add", input: {} },
          ],
        },
        results("a"),
      ],
    },
  ],
  [
    "tools of the API itself beside ours",
    {
      tools: [addTool, { type: "bash_20250124", name: "bash" }, { type: "computer_toolset_20260801" }],
      tool_choice: { type: "tool", name: "add" },
    },
  ],
  [
    "what the harness sends",
    {
      cache_control: { type: "ephemeral" },
      stream: true,
      system: [{ type: "text", text: "You help." }],
      temperature: 0.2,
      thinking: { type: "adaptive" },
      metadata: { user_id: "u" },
    },
  ],
]

for (const [what, fields] of accepted) {
  test(`accepts ${what}`, () => {
    assert.equal(checkRequest(requestOf(fields)).model, "m")
  })
}

const refused: readonly (readonly [what: string, fields: Json, sentence: RegExp])[] = [
  ["no model", { model: undefined }, /^model: Field required$/],
  ["an empty model", { model: "" }, /^model: /],
  ["no max_tokens", { max_tokens: undefined }, /^max_tokens: Field required$/],
  ["max_tokens 0", { max_tokens: 0 }, /^max_tokens: /],
  ["max_tokens 1.5", { max_tokens: 1.5 }, /^max_tokens: /],
  ["no messages", { messages: undefined }, /^messages: Field required$/],
  ["empty messages", { messages: [] }, /^messages: at least one message is required$/],
  ["a field that is not there", { maxTokens: 1 }, /^maxTokens: Extra inputs are not permitted$/],
  ["a field too many in a message", { messages: [{ ...ask, id: 1 }] }, /^messages\.0\.id: Extra inputs/],
  ["a stream that is no boolean", { stream: "yes" }, /^stream: /],
  ["too high a temperature", { temperature: 1.1 }, /^temperature: /],
  ["an empty system block", { system: [{ type: "text", text: "" }] }, /^system\.0: /],
  ["an assistant first", { messages: [{ role: "assistant", content: "Hi" }, ask] }, /first message must use the "user" role/],
  ["a prefill", { messages: [ask, { role: "assistant", content: "Hi" }] }, /must end with a user message/],
  ["an unknown role", { messages: [{ role: "tool", content: "Hi" }] }, /^messages\.0\.role: /],
  ["empty content", { messages: [{ role: "user", content: [] }] }, /non-empty content/],
  ["an empty string", { messages: [{ role: "user", content: "" }] }, /non-empty content/],
  ["an empty text block", { messages: [{ role: "user", content: [{ type: "text", text: "" }] }] }, /text content blocks must be non-empty/],
  ["a block without a type", { messages: [{ role: "user", content: [{ text: "a" }] }] }, /^messages\.0\.content\.0\.type: Field required$/],
  // P1
  [
    "a call without a result, at the end",
    { messages: [ask, use("a")] },
    /^messages\.1: `tool_use` ids were found without `tool_result` blocks immediately after: a\./,
  ],
  ["a call without a result, text in its place", { messages: [ask, use("a"), ask] }, /^messages\.1: .* immediately after: a\./],
  ["one of two calls without a result", { messages: [ask, use("a", "b"), results("a")] }, /immediately after: b\./],
  [
    "a result that comes a turn late",
    { messages: [ask, use("a", "b"), results("a"), use("c"), results("b", "c")] },
    /^messages\.1: .* immediately after: b\./,
  ],
  [
    "two results for one call",
    { messages: [ask, use("a"), results("a", "a")] },
    /^messages\.2\.content\.1: each tool_use must have a single result.*: a$/,
  ],
  [
    "two results in neighbouring messages",
    { messages: [ask, use("a"), results("a"), results("a")] },
    /^messages\.3\.content\.0: each tool_use must have a single result/,
  ],
  // P2
  [
    "a result for nothing",
    { messages: [results("a")] },
    /^messages\.0\.content\.0: unexpected `tool_use_id` found in `tool_result` blocks: a\./,
  ],
  ["a result with another id", { messages: [ask, use("a"), results("A")] }, /unexpected `tool_use_id` .*: A\./],
  [
    "a result of an earlier turn again",
    { messages: [ask, use("a"), results("a"), use("b"), results("b", "a")] },
    /^messages\.4\.content\.1: unexpected `tool_use_id` .*: a\./,
  ],
  // P3
  [
    "text before the results",
    { messages: [ask, use("a"), { role: "user", content: [{ type: "text", text: "go on" }, result("a")] }] },
    /^messages\.2\.content\.1: .* must come first/,
  ],
  // P4
  ["an id used twice in a turn", { messages: [ask, use("a", "a"), results("a")] }, /ids must be unique; a was used before/],
  [
    "an id used in two turns",
    { messages: [ask, use("a"), results("a"), use("a"), results("a")] },
    /^messages\.3\.content\.0: .* a was used before/,
  ],
  [
    "a call by the user",
    { messages: [{ role: "user", content: [{ type: "tool_use", id: "a", name: "add", input: {} }] }] },
    /can only be in `assistant` messages/,
  ],
  ["a result by the assistant", { messages: [ask, { role: "assistant", content: [result("a")] }, ask] }, /can only be in `user` messages/],
  [
    "an input that is no object",
    { messages: [ask, { role: "assistant", content: [{ type: "tool_use", id: "a", name: "add", input: [] }] }, results("a")] },
    /input: Input should be a valid dictionary/,
  ],
  [
    "an id with a space",
    { messages: [ask, { role: "assistant", content: [{ type: "tool_use", id: "a b", name: "add", input: {} }] }, results("a b")] },
    /tool_use\.id: String should match/,
  ],
  [
    "a result whose content is a number",
    { messages: [ask, use("a"), { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: 3 }] }] },
    /tool_result\.content: /,
  ],
  ["two tools of one name", { tools: [addTool, addTool] }, /^tools: Tool names must be unique\./],
  ["a tool name with a dot", { tools: [{ ...addTool, name: "a.b" }] }, /^tools\.0\.custom\.name: String should match/],
  ["a tool name of 65 characters", { tools: [{ ...addTool, name: "a".repeat(65) }] }, /^tools\.0\.custom\.name: /],
  ["a tool without a schema", { tools: [{ name: "add" }] }, /^tools\.0\.custom\.input_schema: Field required$/],
  ["a schema that is no object's", { tools: [{ name: "add", input_schema: { type: "string" } }] }, /input_schema\.type/],
  ["a choice among no tools", { tool_choice: { type: "auto" } }, /^tool_choice: /],
  ["a choice of another tool", { tools: [addTool], tool_choice: { type: "tool", name: "sub" } }, /Tool "sub" not found/],
]

for (const [what, fields, sentence] of refused) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => checkRequest(requestOf(fields)),
      (error: unknown) => (error instanceof BadRequest && sentence.test(error.message) ? true : assert.fail(String(error))),
    )
  })
}

for (const body of ["", "{", "[]", "null", "1", '{"model":NaN}']) {
  test(`refuses the body ${JSON.stringify(body)}`, () => {
    assert.throws(() => checkRequest(body), BadRequest)
  })
}
