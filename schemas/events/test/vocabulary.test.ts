import assert from "node:assert/strict"
import { describe, it } from "node:test"
import {
  agentGiven,
  contentGiven,
  definitions,
  fixedTopics,
  httpSettings,
  sessionFacts,
  shippedBackends,
  toolFacts,
  toolGiven,
  toolsTopic,
  topicNames,
} from "../src/index.ts"

describe("the vocabulary", () => {
  it("has for every word a meaning in one sentence, who says it, who hears it, and an example that fits", () => {
    for (const { type, recordName, meaning, saidBy, heardBy, schema, example } of definitions) {
      assert.match(meaning, /^[A-Z].*\.$/s, recordName)
      assert.ok(saidBy.length > 0 && heardBy.length > 0, recordName)
      const { type: said, ...fields } = example as { readonly type: string }
      assert.equal(said, type)
      // Strict: an example with a field that the schema does not have would mislead.
      assert.deepEqual(schema.strict().parse(fields), fields, recordName)
    }
  })

  it("says each word once per topic, and each record name once", () => {
    const words = definitions.map(({ family, type }) => `${family}/${type}`)
    assert.equal(new Set(words).size, words.length)
    assert.equal(new Set(definitions.map(({ recordName }) => recordName)).size, definitions.length)
  })

  it("has facts in the past tense and requests in the imperative", () => {
    const past = /(ed|held|given|timed-out|outcome-unknown)$/
    for (const { type } of [...sessionFacts, ...toolFacts]) assert.match(type, past)
    for (const { type } of definitions.filter(({ family }) => family === "commands")) assert.doesNotMatch(type, past)
  })

  it("puts the same envelope around every fact", () => {
    const envelope = ["eventId", "sessionId", "tenant", "at", "by", "causedBy", "traceparent"]
    for (const { recordName, schema } of [...sessionFacts, ...toolFacts]) {
      assert.deepEqual(Object.keys(schema.shape).slice(0, envelope.length), envelope, recordName)
    }
  })
})

describe("topics", () => {
  it("keep the session log compacted for ever and timed by the log", () => {
    const sessions = fixedTopics.find(({ suffix }) => suffix === "sessions")
    assert.equal(sessions?.cleanup, "compact")
    assert.equal(sessions?.config["retention.ms"], "-1")
    // Also those that no timer reads: a broker refuses a record stamped by a clock that is hours ahead.
    for (const topic of [...fixedTopics, toolsTopic]) assert.equal(topic.config["message.timestamp.type"], "LogAppendTime", topic.suffix)
  })

  it("keep what is looked up by id compacted, in one partition, and previews for minutes, beside their session", () => {
    const topic = (suffix: string) => fixedTopics.find((one) => one.suffix === suffix)
    for (const suffix of ["agents", "keys", "tool-declarations"]) {
      assert.deepEqual([topic(suffix)?.cleanup, topic(suffix)?.coPartitioned], ["compact", false], suffix)
    }
    assert.deepEqual([topic("deltas")?.cleanup, topic("deltas")?.coPartitioned], ["delete", true])
    assert.equal(topic("deltas")?.config["retention.ms"], String(10 * 60_000))
    // Who may read the agents need not see the hashes of the keys.
    const families = definitions.map(({ type, family }) => `${family} ${type}`)
    for (const word of ["agents agent.saved", "agents environment.saved", "keys key.saved", "deltas model.previewed"])
      assert.ok(families.includes(word), word)
    const key = definitions.find(({ type }) => type === "key.saved")
    assert.deepEqual(Object.keys(key?.schema.shape ?? {}), ["eventId", "tenant", "at", "by", "id", "name", "hash", "revoked"])
  })

  it("have names under a prefix, and a tool topic tells its backend", () => {
    const names = topicNames("reins")
    assert.equal(names.tools("my.tools"), "reins.tools.my.tools")
    assert.deepEqual([names.agents, names.keys, names.deltas], ["reins.agents", "reins.keys", "reins.deltas"])
    assert.equal(names.backendOf("reins.tools.my.tools"), "my.tools")
    assert.equal(names.backendOf("reins.sessions"), null)
    assert.equal(names.backendOf("other.tools.http"), null)
    assert.deepEqual(shippedBackends, ["http", "function"])
  })
})

describe("what a person may write", () => {
  it("an agent needs a model; the rest has defaults", () => {
    assert.deepEqual(agentGiven.parse({ model: "m" }), {
      name: "agent",
      model: "m",
      maxTokens: 4096,
      tools: [],
      toolsets: [],
      params: {},
      limits: {},
    })
    for (const wrong of [
      {},
      { model: "" },
      { model: 7 },
      { model: "m", maxTokens: 0 },
      { model: "m", modle: "m" },
      { model: "m", limits: { turn: 1 } },
    ])
      assert.equal(agentGiven.safeParse(wrong).success, false, JSON.stringify(wrong))
  })

  it("a tool has a name that the Messages API takes, and no field that nobody knows", () => {
    assert.ok(toolGiven.safeParse({ name: "get_order-2", backend: "http" }).success)
    for (const wrong of [
      { name: "get order", backend: "http" },
      { name: "x".repeat(129), backend: "http" },
      { name: "add", backend: "a/b" },
      { name: "add" },
      { name: "add", backend: "function", effect: "harmless" },
      { name: "add", backend: "function", timeoutMs: 0 },
      { name: "add", backend: "function", schema: {} },
    ])
      assert.equal(toolGiven.safeParse(wrong).success, false, JSON.stringify(wrong))
  })

  it("a tool says whether a person is asked, and a set of tools names its backend and its server", () => {
    assert.ok(toolGiven.safeParse({ name: "x".repeat(128), backend: "http", permission: "always_ask", onUnknown: "hold" }).success)
    for (const wrong of [{ permission: "ask" }, { onUnknown: true }])
      assert.equal(toolGiven.safeParse({ name: "add", backend: "http", ...wrong }).success, false, JSON.stringify(wrong))
    const withSet = (toolset: object): boolean => agentGiven.safeParse({ model: "m", toolsets: [toolset] }).success
    assert.ok(
      withSet({ backend: "shell", server: "files", enabled: false, tools: { read: { enabled: true, permission: "always_allow" } } }),
    )
    for (const wrong of [
      {},
      { backend: "shell" },
      { server: "files" },
      { backend: "a/b", server: "files" },
      { backend: "shell", server: "" },
      { backend: "shell", server: "files", tools: [] },
      { backend: "shell", server: "files", tools: { read: { backend: "x" } } },
    ])
      assert.equal(withSet(wrong), false, JSON.stringify(wrong))
  })

  it("a header is one line", () => {
    assert.ok(httpSettings.safeParse({ url: "http://127.0.0.1/", headers: { "x-key": "v" } }).success)
    for (const headers of [{ "x-key": "a\r\nhost: b" }, { "x key": "v" }, { "x-key": "a\0" }])
      assert.equal(httpSettings.safeParse({ url: "http://127.0.0.1/", headers }).success, false, JSON.stringify(headers))
  })

  it("content is text or blocks, and blocks keep what we do not know", () => {
    assert.deepEqual(contentGiven.parse([{ type: "of a later version", x: [1] }]), [{ type: "of a later version", x: [1] }])
    for (const wrong of ["", [], [{}], [{ type: 1 }], { type: "text" }, null, 7]) assert.equal(contentGiven.safeParse(wrong).success, false)
  })
})
