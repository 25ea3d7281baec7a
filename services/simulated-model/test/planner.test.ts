import assert from "node:assert/strict"
import { test } from "node:test"
import { checkRequest } from "../src/check-request.ts"
import type { JsonSchema, Message, MessagesRequest, Tool } from "../src/messages.ts"
import { plan } from "../src/planner.ts"

type Properties = Readonly<Record<string, JsonSchema>>
type Input = Readonly<Record<string, unknown>>

function tool(name: string, description: string, properties: Properties, required: readonly string[] = Object.keys(properties)): Tool {
  return { name, description, input_schema: { type: "object", properties, required } }
}

const text: JsonSchema = { type: "string" }
const whole: JsonSchema = { type: "integer" }

const add = tool("add", "Add numbers up", { numbers: { type: "array", items: { type: "number" } } })
const calculate = tool("calculate", "Evaluate an arithmetic expression", { expression: text })
const currentTime = tool("current_time", "The current date and time", { timezone: text }, [])
const randomNumber = tool("random_number", "A random whole number between min and max", { min: whole, max: whole })
const wait = tool("wait", "Wait for some milliseconds", { ms: whole })
const remember = tool("remember", "Keep a fact for later", { key: text, value: text })
const recall = tool("recall", "Find a fact again", { key: text })
const getOrder = tool("get_order", "Look an order up", { id: text })
const refund = tool("refund", "Refund an order", { id: text, cents: { type: "integer", minimum: 1 } })
const weather = tool("get_weather", "The weather of a city", { city: text, unit: { type: "string", enum: ["celsius", "fahrenheit"] } }, [
  "city",
])
const sendEmail = tool("send_email", "Send an e-mail", { to: text, subject: text, body: text })
const readFile = tool("read_file", "Read a file", { path: text })
const search = tool("search", "Search the web", { query: text, limit: whole }, ["query"])

const echo = tool("echo", "Returns what it is given", { text }, [])

const everything = [
  echo,
  add,
  calculate,
  currentTime,
  randomNumber,
  wait,
  remember,
  recall,
  getOrder,
  refund,
  weather,
  sendEmail,
  readFile,
  search,
]

/** Answers that real tools would give: enough for the chain to go on. */
function answerOf(name: string, input: Input): string {
  switch (name) {
    case "add":
      return String((input["numbers"] as number[]).reduce((sum, number) => sum + number, 0))
    case "calculate": {
      const [, a, operator, b] = /^(-?\d+) ([-+*]) (-?\d+)$/.exec(String(input["expression"])) ?? []
      return String(operator === "*" ? Number(a) * Number(b) : operator === "+" ? Number(a) + Number(b) : Number(a) - Number(b))
    }
    case "random_number":
      return "4"
    case "get_order":
      return JSON.stringify({ id: input["id"], status: "shipped", total: 1999 })
    default:
      return "done"
  }
}

interface Story {
  /** Each turn's calls, as `name {"json"}`. */
  readonly turns: readonly (readonly string[])[]
  readonly answer: string
}

/** Lets the planner run a whole chain, answering its calls; every request on the way has to pass the checks of the API. */
function tell(
  prompt: string,
  tools: readonly Tool[] = everything,
  more: Partial<MessagesRequest> = {},
  before: readonly Message[] = [],
): Story {
  const messages: Message[] = [...before, { role: "user", content: prompt }]
  const turns: string[][] = []
  for (;;) {
    assert.ok(turns.length < 30, "the chain does not end")
    const request: MessagesRequest = { model: "m", max_tokens: 4000, messages, ...(tools.length === 0 ? {} : { tools }), ...more }
    checkRequest(JSON.stringify(request))
    const said = plan(request)
    assert.deepEqual(plan(JSON.parse(JSON.stringify(request)) as MessagesRequest), said, "the same request gets the same answer")
    const content = said.content.map((block, i) => (block.type === "tool_use" ? { ...block, id: `t${messages.length}_${i}` } : block))
    const calls = content.filter((block) => block.type === "tool_use")
    if (calls.length === 0) {
      const [only] = said.content
      assert.ok(only?.type === "text" && said.content.length === 1)
      assert.notEqual(said.stopReason, "tool_use")
      return { turns, answer: only.text }
    }
    assert.equal(said.stopReason, "tool_use")
    turns.push(calls.map((call) => `${call.name} ${JSON.stringify(call.input)}`))
    messages.push({ role: "assistant", content })
    messages.push({
      role: "user",
      content: calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: answerOf(call.name, call.input) })),
    })
  }
}

const cases: readonly (readonly [prompt: string, turns: readonly (readonly string[])[], tools?: readonly Tool[]])[] = [
  // Side by side, and one after the other.
  [
    "What is 17 * 23, and what time is it in Tokyo? Then add 100 to the product.",
    [['calculate {"expression":"17 * 23"}', 'current_time {"timezone":"Asia/Tokyo"}'], ['add {"numbers":[100,391]}']],
  ],
  [
    "What is 17 * 23, and what time is it in Tokyo? Then add 100 to the product.",
    [['calculate {"expression":"17 * 23"}', 'current_time {"timezone":"Asia/Tokyo"}'], ['calculate {"expression":"100 + 391"}']],
    [calculate, currentTime],
  ],
  ["add 2 and 3, and tell me the time", [['add {"numbers":[2,3]}', "current_time {}"]]],
  ["What is 12 * 7, and what is the weather in Paris?", [['calculate {"expression":"12 * 7"}', 'get_weather {"city":"Paris"}']]],
  [
    "multiply 12 by 7 then subtract 4 from the result then double it",
    [['calculate {"expression":"12 * 7"}'], ['calculate {"expression":"84 - 4"}'], ['calculate {"expression":"80 * 2"}']],
  ],
  ["wait 2 seconds, then tell me the time", [['wait {"ms":2000}'], ["current_time {}"]]],
  // Orders.
  ["Where is order 17?", [['get_order {"id":"17"}']]],
  ["Where are orders 17, 18 and 19?", [['get_order {"id":"17"}', 'get_order {"id":"18"}', 'get_order {"id":"19"}']]],
  ["Refund order 17 by 500 cents", [['refund {"id":"17","cents":500}']]],
  ["Refund 500 cents for order 17", [['refund {"id":"17","cents":500}']]],
  ["Refund order ORD-17 by $5", [['refund {"id":"ORD-17","cents":500}']]],
  ["Get order 17, then refund it by 500 cents", [['get_order {"id":"17"}'], ['refund {"id":"17","cents":500}']]],
  ["Refund order 17 by 500 cents and order 18 by 700 cents", [['refund {"id":"17","cents":500}', 'refund {"id":"18","cents":700}']]],
  // What changes something wants to be asked for in so many words, without an if.
  ["Don't refund order 17 by 500 cents", [['get_order {"id":"17"}']]],
  ["If order 17 is late, refund it by 500 cents", [['get_order {"id":"17"}']]],
  ["Refund it by 500 cents", [], [refund]],
  // Numbers.
  ["roll a number between 1 and 6 three times", [Array.from({ length: 3 }, () => 'random_number {"min":1,"max":6}')]],
  ["Roll two dice", [Array.from({ length: 2 }, () => 'random_number {"min":1,"max":6}')]],
  ["Pick a random number between -5 and 5", [['random_number {"min":-5,"max":5}']]],
  ["What is (3 + 4) * 12 divided by 2?", [['calculate {"expression":"(3 + 4) * 12 / 2"}']]],
  ["What is 15% of 240?", [['calculate {"expression":"15 / 100 * 240"}']]],
  ["Sum up 1,000 and 2.5 and -3", [['add {"numbers":[1000,2.5,-3]}']]],
  ["Was ist 12 × 7?", [['calculate {"expression":"12 * 7"}']]],
  ["roll two dice and add them", [Array.from({ length: 2 }, () => 'random_number {"min":1,"max":6}'), ['add {"numbers":[4,4]}']]],
  ["Add 1, 2 and 3. Then divide the sum by 4.", [['add {"numbers":[1,2,3]}'], ['calculate {"expression":"6 / 4"}']]],
  // Places, files, addresses, plain words.
  [
    "What time is it in New York, Paris and Tokyo?",
    [
      [
        'current_time {"timezone":"America/New_York"}',
        'current_time {"timezone":"Europe/Paris"}',
        'current_time {"timezone":"Asia/Tokyo"}',
      ],
    ],
  ],
  ["How cold is it in San Francisco, in fahrenheit?", [['get_weather {"city":"San Francisco","unit":"fahrenheit"}']]],
  ["read the file notes/todo.txt", [['read_file {"path":"notes/todo.txt"}']]],
  ["search for red shoes", [['search {"query":"red shoes"}']]],
  ["echo hello world", [['echo {"text":"hello world"}']]],
  ["remember that the door code is 4711", [['remember {"key":"door code","value":"4711"}']]],
  ["recall the door code", [['recall {"key":"door code"}']]],
  [
    'Send an email to bob@example.com with subject "Hi" and body "How are you, and then what?"',
    [['send_email {"to":"bob@example.com","subject":"Hi","body":"How are you, and then what?"}']],
  ],
  // Nothing fits.
  ["Hello there", []],
  ["What is the square root of 16?", []],
  ["Where is my order?", []],
]

for (const [prompt, turns, tools] of cases) {
  test(`plans: ${prompt}`, () => {
    const story = tell(prompt, tools)
    assert.deepEqual(story.turns, turns)
    assert.ok(story.answer.startsWith("[simulated] "), story.answer)
  })
}

test("the answer quotes every result and every failure as it came", () => {
  const request: MessagesRequest = {
    model: "m",
    max_tokens: 1000,
    tools: [getOrder],
    messages: [
      { role: "user", content: "Where are orders 17 and 18?" },
      {
        role: "assistant",
        content: [
          { type: "tool_use", id: "a", name: "get_order", input: { id: "17" } },
          { type: "tool_use", id: "b", name: "get_order", input: { id: "18" } },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "a", content: [{ type: "text", text: "on a ship" }] },
          { type: "tool_result", tool_use_id: "b", content: "no such order", is_error: true },
        ],
      },
    ],
  }
  assert.deepEqual(plan(request), {
    content: [
      {
        type: "text",
        text: '[simulated] 2 calls in 1 turn, 1 of them failed.\n- get_order {"id":"17"} answered: on a ship\n- get_order {"id":"18"} failed: no such order',
      },
    ],
    stopReason: "end_turn",
  })
})

test("a follow-up prompt knows what came before it", () => {
  const before: Message[] = [
    { role: "user", content: "What is 17 * 23?" },
    { role: "assistant", content: [{ type: "tool_use", id: "a", name: "calculate", input: { expression: "17 * 23" } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: "391" }] },
    { role: "assistant", content: "[simulated] 391" },
  ]
  assert.deepEqual(tell("Now subtract 91 from the result", [calculate], {}, before).turns, [['calculate {"expression":"391 - 91"}']])
})

test("a prompt that arrives together with results is the new prompt, and the results are still told", () => {
  const said = plan({
    model: "m",
    max_tokens: 1000,
    tools: [getOrder],
    messages: [
      { role: "user", content: "Where is order 17? Then where is order 18?" },
      { role: "assistant", content: [{ type: "tool_use", id: "a", name: "get_order", input: { id: "17" } }] },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "a", content: "on a ship" },
          { type: "text", text: "Never mind." },
        ],
      },
    ],
  })
  assert.deepEqual(said.content, [{ type: "text", text: '[simulated] get_order {"id":"17"} answered: on a ship' }])
})

test("what almost fits is named, with what is missing", () => {
  assert.match(tell("Refund order 17", [refund]).answer, /^\[simulated\] .*refund would fit, but I cannot find its "cents" in the prompt/)
})

test("without tools it says what it is", () => {
  assert.match(tell("What is 2 + 2?", []).answer, /^\[simulated\] I am not a language model .* I was offered no tools\.$/)
})

test("a step that needs an answer which failed is named, not passed over in silence", () => {
  const said = plan({
    model: "m",
    max_tokens: 1000,
    tools: [calculate],
    messages: [
      { role: "user", content: "What is 2 * 3? Then multiply the result by 7." },
      { role: "assistant", content: [{ type: "tool_use", id: "a", name: "calculate", input: { expression: "2 * 3" } }] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: "out of order", is_error: true }] },
    ],
  })
  assert.match(
    said.content[0]?.type === "text" ? said.content[0].text : "",
    /failed: out of order\nWhat I could not do: "multiply the result by 7" needs/,
  )
})

test("tool_choice is obeyed", () => {
  assert.deepEqual(tell("What is 2 + 2?", [calculate], { tool_choice: { type: "none" } }).turns, [])
  assert.deepEqual(tell("What is 2 * 3?", [calculate, getOrder], { tool_choice: { type: "tool", name: "get_order" } }).turns, [
    ['get_order {"id":"2"}'],
  ])
  assert.deepEqual(tell("Hello", [currentTime], { tool_choice: { type: "any" } }).turns, [["current_time {}"]])
  const alone = tell("Where are orders 17 and 18?", [getOrder], { tool_choice: { type: "auto", disable_parallel_tool_use: true } })
  assert.deepEqual(alone.turns, [['get_order {"id":"17"}'], ['get_order {"id":"18"}']])
})

test("an answer longer than max_tokens is cut and says so", () => {
  const said = plan({ model: "m", max_tokens: 10, messages: [{ role: "user", content: "Hello" }] })
  assert.equal(said.stopReason, "max_tokens")
  assert.equal(said.content[0]?.type === "text" && Buffer.byteLength(said.content[0].text), 40)
})

test("schemas as zod writes them, and odd ones, are read", () => {
  const nullable = tool("get_order", "", { id: { anyOf: [{ type: "string" }, { type: "null" }] }, verbose: { type: "boolean" } })
  assert.deepEqual(tell("Where is order 17?", [nullable]).turns, [['get_order {"id":"17","verbose":false}']])
  const nested = tool("book_room", "", {
    stay: {
      type: "object",
      properties: { from: { type: "string", format: "date" }, nights: { type: ["integer", "null"] } },
      required: ["from", "nights"],
    },
  })
  assert.deepEqual(tell("Book a room from 2026-12-01 for 3 nights", [nested]).turns, [
    ['book_room {"stay":{"from":"2026-12-01","nights":3}}'],
  ])
  assert.deepEqual(tell("ping", [{ name: "ping", input_schema: { type: "object" } }]).turns, [["ping {}"]])
})

test("a very long prompt costs no more than its beginning", () => {
  const stories = ["1+".repeat(2_000_000), "a".repeat(4_000_000), "[[".repeat(2_000_000), "_".repeat(4_000_000)].map((long) => tell(long))
  // The first characters hold an expression; the test is that all of this ends at all, which a quadratic reader would not.
  assert.deepEqual(
    stories.map((story) => story.turns.length),
    [1, 0, 0, 0],
  )
})

test("a conversation is summarised when that is asked for, and what follows a summary is the prompt", () => {
  const planOf = (...messages: readonly Message[]): ReturnType<typeof plan> =>
    plan({ model: "m", max_tokens: 1000, tools: [echo], messages })
  const ask = "Write the summary that will stand in place of everything above."
  const asked = planOf(
    { role: "user", content: `[[call echo {"text":"a"}]]` },
    { role: "assistant", content: "Done." },
    { role: "user", content: ask },
  )
  const summary = JSON.stringify(asked.content)
  assert.match(summary, /\[simulated\] Asked: /)
  assert.ok(!summary.includes("[["), "an order that is quoted is no order")
  const before = "It was summarised. <summary>Asked: 17 * 23?</summary>"
  assert.equal(planOf({ role: "user", content: before }).stopReason, "end_turn")
  const next = planOf({ role: "user", content: `${before}\n[[call echo {"text":"b"}]]` })
  assert.deepEqual(
    next.content.map((block) => block.type),
    ["tool_use"],
  )
})
