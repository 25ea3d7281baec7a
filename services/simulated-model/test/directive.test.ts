import assert from "node:assert/strict"
import { test } from "node:test"
import { directivesOf } from "../src/directive.ts"
import type { MessagesRequest, Tool } from "../src/messages.ts"
import { plan } from "../src/planner.ts"

const getOrder: Tool = { name: "get_order", input_schema: { type: "object", properties: { id: { type: "string" } } } }
const echo: Tool = {
  name: "echo",
  input_schema: { type: "object", properties: { n: { type: "integer" }, list: { type: "array", items: { type: "number" } } } },
}

/** The calls of every turn, or the error. */
function turnsOf(prompt: string, tools: readonly Tool[]): unknown {
  const directives = directivesOf(prompt, tools)
  if (directives === null || "unreadable" in directives) return directives
  assert.equal(directives.callsOf(directives.turnCount), null)
  return Array.from({ length: directives.turnCount }, (_, turn) => directives.callsOf(turn))
}

test("a prompt without a directive orders nothing", () => {
  assert.equal(turnsOf("call [[me]] and array[[0]]", []), null)
})

test("each group is a turn; calls in one group are made together", () => {
  assert.deepEqual(turnsOf('Please [[call add {"a":1,"b":2}; call now]] and [[ call get_order {"id":"]]"} ]] thanks', []), [
    [
      { name: "add", input: { a: 1, b: 2 } },
      { name: "now", input: {} },
    ],
    [{ name: "get_order", input: { id: "]]" } }],
  ])
})

test("an answer may be ordered slow and in many parts, alone or after calls, with thinking before it", () => {
  const speechOf = (prompt: string): unknown => {
    const directives = directivesOf(prompt, [])
    return directives === null || "unreadable" in directives ? directives : [directives.turnCount, directives.speech]
  }
  assert.deepEqual(speechOf("[[say 40 parts 50 ms apart]]"), [0, { partCount: 40, apartMs: 50, thinks: false }])
  assert.deepEqual(speechOf("Now [[ think; say 1 part ]] please"), [0, { partCount: 1, apartMs: 0, thinks: true }])
  assert.deepEqual(speechOf("[[call now]] [[say 2 parts 5ms apart]]"), [1, { partCount: 2, apartMs: 5, thinks: false }])
  assert.deepEqual(speechOf("[[call now]]"), [1, null])
  for (const bad of ["[[say hello]]", "[[think]]", "[[say 0 parts]]", "[[say 3 parts 70000 ms apart]]", "[[say 3 parts slowly]]"])
    assert.ok("unreadable" in (speechOf(bad) as object), bad)
})

test("turns repeat, and $i is the number of the turn, as a number where the schema wants one", () => {
  assert.deepEqual(
    turnsOf('[[turns 2: call echo {"n":"$i","list":["$i",[7]]}; call get_order {"id":"$i"}]] [[call unknown {"at":"turn $i"}]]', [
      getOrder,
      echo,
    ]),
    [
      [
        { name: "echo", input: { n: 1, list: [1, [7]] } },
        { name: "get_order", input: { id: "1" } },
      ],
      [
        { name: "echo", input: { n: 2, list: [2, [7]] } },
        { name: "get_order", input: { id: "2" } },
      ],
      [{ name: "unknown", input: { at: "turn $i" } }],
    ],
  )
})

for (const [prompt, reason] of [
  ["[[call add {]]", /arguments/],
  ['[[call add {"a":1,}]]', /the arguments of add are not JSON/],
  ["[[call ]]", /the name of a tool is missing/],
  ["[[call add", /";" or "\]\]" is missing/],
  ["[[turns 0: call add]]", /from 1 to/],
  ["[[turns x: call add]]", /"call" is missing/],
] as const) {
  test(`an unreadable directive is named, not guessed: ${prompt}`, () => {
    const directives = directivesOf(prompt, [])
    assert.ok(directives !== null && "unreadable" in directives)
    assert.match(directives.unreadable, reason)
    const said = plan({ model: "m", max_tokens: 100, messages: [{ role: "user", content: prompt }] })
    assert.ok(said.content[0]?.type === "text" && said.content[0].text.startsWith("[simulated] I cannot read the directive: "))
  })
}

test("the turn is counted from the conversation alone, since the prompt that has the directive", () => {
  const messages: MessagesRequest["messages"][number][] = [
    { role: "user", content: "[[call get_order]]" },
    { role: "assistant", content: [{ type: "tool_use", id: "old", name: "get_order", input: {} }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "old" }] },
    { role: "assistant", content: "[simulated] done" },
    { role: "user", content: '[[turns 3: call get_order {"id":"$i"}]]' },
  ]
  for (const turn of [1, 2, 3]) {
    assert.deepEqual(plan({ model: "m", max_tokens: 100, messages, tools: [getOrder] }), {
      content: [{ type: "tool_use", name: "get_order", input: { id: String(turn) } }],
      stopReason: "tool_use",
    })
    messages.push({ role: "assistant", content: [{ type: "tool_use", id: `t${turn}`, name: "get_order", input: { id: String(turn) } }] })
    messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: `t${turn}`, content: `order ${turn}` }] })
  }
  const last = plan({ model: "m", max_tokens: 1000, messages, tools: [getOrder] })
  assert.equal(last.stopReason, "end_turn")
  assert.match(
    last.content[0]?.type === "text" ? last.content[0].text : "",
    /^\[simulated\] 3 calls in 3 turns\.\n- .*order 1\n- .*order 2\n- .*order 3$/,
  )
})
