import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { describe, it } from "node:test"
import { type Agent, canonicalJson } from "@reins/events"
import { agent, Story, text, tool, toolUse } from "@reins/session/testing"
import fc from "fast-check"
import {
  conversationMessages,
  digestOf,
  emptyDigest,
  requestBody,
  requestBodyHash,
  requestParameters,
  say,
  type Utterance,
} from "../src/index.ts"
import { utterancesToHash } from "../src/request-body.ts"
import { plausibleLog } from "./arbitrary-log.ts"

const sha256 = (words: string): string => createHash("sha256").update(words, "utf8").digest("hex")

const block = fc.oneof(
  fc.string({ unit: "binary" }).map(text),
  fc.record({ type: fc.constant("of a later version"), value: fc.jsonValue() }, { noNullPrototype: true }),
)
const talk = fc.array(
  fc.record({ role: fc.constantFrom("user" as const, "assistant" as const), blocks: fc.array(block, { maxLength: 3 }) }),
  {
    minLength: 1,
    maxLength: 12,
  },
)

/** Every state of a conversation as it grows. */
function grown(said: readonly { role: "user" | "assistant"; blocks: readonly unknown[] }[]): (Utterance | null)[] {
  const states: (Utterance | null)[] = [null]
  for (const { role, blocks } of said) states.push(say(states.at(-1) ?? null, role, JSON.stringify(blocks)))
  return states
}

describe("the conversation", () => {
  it("holds every block as it was said, neighbours of one role in one message", () => {
    fc.assert(
      fc.property(talk, (said) => {
        const messages = conversationMessages(grown(said).at(-1) ?? null)
        assert.deepEqual(
          messages.flatMap(({ role, content }) => content.map((block) => ({ role, block }))),
          said.flatMap(({ role, blocks }) => JSON.parse(JSON.stringify(blocks)).map((block: unknown) => ({ role, block }))),
        )
        messages.forEach((message, n) => assert.notEqual(message.role, messages[n + 1]?.role))
      }),
      { numRuns: 100 },
    )
  })

  it("has a digest of every word, its speaker and all that was said before", () => {
    const hello = say(null, "user", '[{"type":"text","text":"Hello."}]')
    const digests = [
      digestOf(null),
      digestOf(hello),
      digestOf(say(null, "assistant", '[{"type":"text","text":"Hello."}]')),
      digestOf(say(null, "user", '[{"type":"text","text":"Hello!"}]')),
      digestOf(say(hello, "user", '[{"type":"text","text":"Hello."}]')),
      digestOf(say(say(null, "user", '[{"type":"text","text":"Oh."}]'), "user", '[{"type":"text","text":"Hello."}]')),
    ]
    assert.equal(new Set(digests).size, digests.length)
    assert.equal(emptyDigest, sha256(""))
    assert.equal(digestOf(hello), sha256(`${sha256("")}\nuser\n{"type":"text","text":"Hello."}`))
  })

  it("answers each tool call of a response exactly once and in order, before anything else (E6), in every log", () => {
    let answered = 0
    fc.assert(
      fc.property(plausibleLog, ({ records, sessionIds }) => {
        const last = new Map<string, Utterance | null>()
        const stories = new Story(sessionIds[0])
        for (const { event } of records) {
          stories.tell(event)
          const session = stories.sessions.get(event.sessionId)
          if (session.phase === "awaiting-model") last.set(event.sessionId, session.conversation)
        }
        for (const conversation of last.values()) {
          const messages = conversationMessages(conversation) as {
            role: string
            content: { type: string; id?: string; tool_use_id?: string }[]
          }[]
          messages.forEach(({ role, content }, n) => {
            const asked = role === "assistant" ? content.filter(({ type }) => type === "tool_use").map(({ id }) => id) : []
            const next = messages[n + 1]?.content ?? []
            assert.deepEqual(
              next.slice(0, asked.length).map(({ tool_use_id }) => tool_use_id),
              asked,
            )
            if (role === "assistant") assert.ok(next.slice(asked.length).every(({ type }) => type !== "tool_result"))
            answered += asked.length
          })
        }
      }),
      { numRuns: 600, seed: 11 },
    )
    assert.ok(answered > 50, `only ${answered} calls were looked at`)
  })
})

const agents: readonly Agent[] = [
  agent(),
  agent([tool("größe", { description: "Grows." }), tool("add", { inputSchema: '{"type":"object","additionalProperties":false}' })]),
  agent([], { system: null, params: '{"temperature":0.2,"zeta":1,"cache_control":null,"metadata":{"b":1,"a":2}}' }),
  agent([], { system: '[{"type":"text","text":"Be kind."}]', params: '{"thinking":{"type":"adaptive"}}' }),
]

describe("the request body", () => {
  it("is the canonical JSON of what is asked", () => {
    fc.assert(
      fc.property(fc.constantFrom(...agents), talk, (given, said) => {
        const conversation = grown(said.map((one) => ({ ...one, blocks: JSON.parse(canonicalJson(one.blocks)) }))).at(-1) ?? null
        const body = JSON.parse(requestBody(given, conversation)) as Record<string, unknown>
        const { messages, ...frame } = body
        assert.deepEqual(messages, conversationMessages(conversation))
        assert.equal(body["model"], given.model)
        assert.equal(body["max_tokens"], given.maxTokens)
        assert.equal(body["stream"], true)
        assert.equal(canonicalJson(frame), requestBody(given, null).replace('"messages":[],', "").replace(',"messages":[]', ""))
        assert.deepEqual(Object.keys(body), Object.keys(body).sort())
      }),
      { numRuns: 60 },
    )
  })

  it("asks for prompt caching unless the agent says otherwise", () => {
    const keys = (given: Agent): unknown => (JSON.parse(requestBody(given, null)) as Record<string, unknown>)["cache_control"]
    assert.deepEqual(keys(agent()), { type: "ephemeral" })
    assert.equal(keys(agent([], { params: '{"cache_control":null}' })), undefined)
    assert.deepEqual(keys(agent([], { params: '{"cache_control":{"type":"ephemeral","ttl":"1h"}}' })), { type: "ephemeral", ttl: "1h" })
  })

  it("has its hash at every prefix, however the hash is come by", () => {
    fc.assert(
      fc.property(fc.constantFrom(...agents), talk, fc.infiniteStream(fc.boolean()), (given, said, also) => {
        // An agent of its own, so that nothing is remembered from another run.
        const own = { ...given }
        for (const conversation of grown(said)) {
          if (also.next().value === true) continue
          assert.equal(requestBodyHash(own, conversation), sha256(requestBody(own, conversation)))
        }
        // From the start, all at once.
        const fresh = { ...given }
        const whole = grown(said).at(-1) ?? null
        assert.equal(requestBodyHash(fresh, whole), sha256(requestBody(fresh, whole)))
      }),
      { numRuns: 100 },
    )
  })

  it("is hashed again only where it is new, and apart for every agent", () => {
    const first = agent()
    // It differs before the messages and after them.
    const second = agent([], { model: "claude-haiku-5-5", maxTokens: 5 })
    let conversation: Utterance | null = null
    for (let turn = 0; turn < 50; turn++) {
      conversation = say(conversation, "user", `[${JSON.stringify(text(`Question ${turn}.`))}]`)
      conversation = say(conversation, "assistant", `[${JSON.stringify(text(`Answer ${turn}.`))}]`)
      assert.equal(utterancesToHash(first, conversation), 2)
      assert.equal(requestBodyHash(first, conversation), sha256(requestBody(first, conversation)))
      assert.equal(utterancesToHash(first, conversation), 0)
    }
    assert.equal(utterancesToHash(second, conversation), 100)
    assert.equal(requestBodyHash(second, conversation), sha256(requestBody(second, conversation)))
    assert.notEqual(requestBodyHash(first, conversation), requestBodyHash(second, conversation))
  })

  it("carries a provider's message back byte for byte", () => {
    const signed =
      '[{"type":"thinking","thinking":"Hm\\u2028","signature":"A\\/b=="},{"type":"tool_use","id":"t","name":"add","input":{"z":1.0,"a":1e2}}]'
    const story = new Story()
      .started(agent([tool("add")]))
      .requested()
      .responded([], { content: signed, stopReason: "tool_use" })
    story.dispatched("t").completed("t", "1").requested()
    assert.ok(requestBody(story.known.agent, story.known.conversation).includes(signed.slice(1, -1)))
    assert.equal(
      story.last.type === "model.requested" && story.last.bodyHash,
      sha256(requestBody(story.known.agent, story.known.conversation)),
    )
  })

  it("has parameters that name what it holds by hash, and not the conversation", () => {
    const given = agent([tool("add")], { params: '{"temperature":0.2}' })
    const parameters = JSON.parse(requestParameters(given)) as Record<string, unknown>
    assert.deepEqual(Object.keys(parameters), ["max_tokens", "model", "systemHash", "temperature", "toolsHash"])
    assert.equal(parameters["systemHash"], sha256('"You help."'))
  })

  it("is this text for this session, in every build of this version", () => {
    const story = new Story().started(agent([tool("add")], { params: '{"temperature":0.2}' })).requested()
    story
      .responded([text("Größe?"), toolUse("toolu_1", "add", { b: 1, a: 2 })])
      .dispatched("toolu_1")
      .completed("toolu_1", "3")
      .requested()
    assert.equal(
      requestBody(story.known.agent, story.known.conversation),
      '{"cache_control":{"type":"ephemeral"},"max_tokens":1024,"messages":[{"content":[{"type":"text","text":"Begin."}],"role":"user"},' +
        '{"content":[{"type":"text","text":"Größe?"},{"type":"tool_use","id":"toolu_1","name":"add","input":{"b":1,"a":2}}],"role":"assistant"},' +
        '{"content":[{"content":"3","tool_use_id":"toolu_1","type":"tool_result"}],"role":"user"}],"model":"claude-sonnet-5-5","stream":true,' +
        '"system":"You help.","temperature":0.2,"tools":[{"input_schema":{"type":"object"},"name":"add"}]}',
    )
  })
})
