// The worker as it runs in production, over the memory log and against a real server: dispatches in, facts out.
import assert from "node:assert/strict"
import { test } from "node:test"
import { type EffectClass, type ToolEvent, type ToolEventOf, topicNames } from "@reins/events"
import { partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { readConfig, startProcess } from "@reins/runtime"
import { contract, httpWorker } from "../src/index.ts"
import { closedUrl, serve, serveBytes } from "./server.ts"

const config = readConfig({ REINS_LOG_LEVEL: "silent", REINS_PARTITIONS: "4", REINS_DRAIN_MS: "50" })
const topic = topicNames(config.prefix).tools("http")
type Finished = ToolEventOf<"tool-call.finished">

interface Given {
  readonly settings: Record<string, unknown> | null
  readonly effect?: EffectClass
  readonly input?: Record<string, unknown>
}

/** Runs these calls side by side; what became of each, in their order. */
async function outcomes(calls: readonly Given[]): Promise<readonly Finished[]> {
  const broker = new MemoryBroker()
  const opened = { log: broker.connect(), codec: await Codec.open(broker.registry) }
  const finished = new Map<string, PromiseWithResolvers<Finished>>(calls.map((_, index) => [`toolu_${index}`, Promise.withResolvers()]))
  const running = await startProcess({
    config,
    services: ["tool-workers/http"],
    build: ({ me }) => [httpWorker(me)],
    opened,
    failed: (error) => {
      for (const one of finished.values()) one.reject(error)
    },
    observe: ({ event, verdict }) => {
      if (event.type === "tool-call.finished" && verdict === "accepted") finished.get(event.toolUseId)?.resolve(event)
    },
  })
  try {
    for (const [index, { settings, effect = "pure", input = {} }] of calls.entries()) {
      const sessionId = `sesn_${index}`
      const event: ToolEvent = {
        type: "tool-call.dispatched",
        eventId: `evt_${index}`,
        sessionId,
        tenant: "default",
        at: Date.now(),
        by: "tool-router@test",
        causedBy: null,
        traceparent: null,
        toolUseId: `toolu_${index}`,
        tool: "get_order",
        attempt: 1,
        effect,
        idempotencyKey: `${sessionId}/toolu_${index}`,
        arguments: JSON.stringify(input),
        deadlineAt: Date.now() + 60_000,
        sessionOffset: 0,
        settings: settings === null ? null : JSON.stringify(settings),
      }
      await opened.log.append({
        topic,
        partition: partitionOf(sessionId, config.partitions),
        key: () => sessionId,
        value: opened.codec.encode("tools", event),
        headers: { type: event.type, session: sessionId },
        certainty: "once",
      })
    }
    return await Promise.all([...finished.values()].map(({ promise }) => promise))
  } finally {
    await running.stop()
    await opened.log.close()
  }
}

test("the worker takes every tool of its backend, and is careful unless told", () => {
  const service = httpWorker({ group: "g", instance: "i" })
  assert.equal(service.name, "tool-workers/http")
  assert.deepEqual(service.contract, contract)
  assert.deepEqual(contract.reads, ["tools.http"])
  assert.deepEqual(service.declares, [
    {
      type: "tool.declared",
      backend: "http",
      tool: "*",
      description: null,
      inputSchema: "{}",
      effect: "unsafe",
      timeoutMs: 60_000,
      sideEffects: null,
      claims: true,
      encoding: "avro",
    },
  ])
})

test("dispatches become requests, and answers become facts", async () => {
  await using server = await serve((request, response) => {
    const status = Number(request.url?.slice(1).split("?")[0])
    response.writeHead(status, { "content-type": "application/json", "retry-after": "2" }).end('{"b":1,"a":2}')
  })
  await using broken = await serveBytes((socket) => socket.destroy())
  const gone = await closedUrl()
  const facts = await outcomes([
    { settings: { url: `${server.url}/{status}` }, input: { status: 200, q: "x" } },
    { settings: { url: `${server.url}/404` } },
    { settings: { url: `${server.url}/503` }, effect: "keyed" },
    { settings: { url: broken.url, method: "POST" }, effect: "unsafe" },
    { settings: { url: gone, method: "POST" }, effect: "unsafe" },
    { settings: { url: `${server.url}/{id}` }, effect: "unsafe" },
    { settings: null, effect: "unsafe" },
  ])
  assert.deepEqual(
    facts.map(({ outcome, isError, kind, effect, claim }) => [outcome, isError, kind, effect, claim !== null]),
    [
      ["completed", false, null, "done", false],
      ["completed", true, null, "done", false],
      ["failed", false, "unavailable", "maybe", true],
      ["unknown", false, "unavailable", "maybe", true],
      ["failed", false, "unavailable", "none", true],
      ["failed", false, "validation", "none", true],
      ["failed", false, "validation", "none", true],
    ],
  )
  assert.equal(facts[0]?.content, JSON.stringify('{"a":2,"b":1}'))
  assert.equal(facts[1]?.content, JSON.stringify('HTTP 404 Not Found\n{"b":1,"a":2}'))
  assert.equal(facts[2]?.retryAfterMs, 2000)
  assert.equal(facts[3]?.retryAfterMs, null)
  assert.ok((facts[4]?.retryAfterMs ?? 0) > 0)
  assert.match(facts[5]?.message ?? "", /argument id is missing/)
  assert.deepEqual(server.received.map(({ target, headers }) => `${target} ${String(headers["idempotency-key"])}`).sort(), [
    "/200?q=x sesn_0/toolu_0",
    "/404 sesn_1/toolu_1",
    "/503 sesn_2/toolu_2",
  ])
})
