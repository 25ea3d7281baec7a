import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { after, test } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { newInstance, openLog, readConfig, toolsTopicSettings } from "@reins/runtime"
import { Bench, linesOf, recordsOf, root, until } from "./harness.ts"
import { pythonWith } from "./python.ts"

// A tool is a consumer in any language (P10): a plain Python program that knows schemas/WORKERS.md and nothing of ours serves a backend.
// Runs against REINS_TEST_KAFKA where a runner has started one.

const client = "kafka-python==3.0.12"

/** JSON as the codec passes it on to the model, without the spaces that Python puts into it. */
function compact(text: string): string {
  return text.startsWith("{") ? JSON.stringify(JSON.parse(text)) : text
}

const skip = await skipWithoutKafka()
const bench = new Bench()
after(() => bench.close())

test("a plain Python program serves a backend: declared, dispatched and answered in JSON", { skip, timeout: 180_000 }, async (t) => {
  const interpreter = pythonWith(client, "kafka")
  if ("missing" in interpreter) {
    assert.notEqual(process.env["REINS_REQUIRE_KAFKA"], "1", interpreter.missing)
    t.skip(`NOT TESTED, there is no Python with a Kafka client: ${interpreter.missing}`)
    return
  }
  await bench.telling(async () => {
    const kafka = await sharedKafka({ registry: true })
    const env = { ...kafka.env, REINS_TOPIC_PREFIX: `py-${randomBytes(4).toString("hex")}`, REINS_PARTITIONS: "3" }
    assert.equal((await bench.run(["topics", "apply"], env)).code, 0)
    const config = readConfig(env)
    const { log } = await openLog(config, newInstance("test"))
    await log.applyTopics([toolsTopicSettings(config.prefix, 3, "stock")])
    await log.close()
    const ledger = bench.path("stock.jsonl")
    const worker = bench.start(
      "stock_worker.py",
      interpreter.path,
      [join(root, "test/fixtures/stock_worker.py"), kafka.bootstrap, env.REINS_TOPIC_PREFIX, ledger],
      {},
    )
    await until(() => worker.stdout.includes("ready") || worker.over, "the Python worker is ready")
    const services = await bench.reins(["up"], env).ready()
    const agent = bench.path("agent.json")
    writeFileSync(
      agent,
      JSON.stringify({ model: "claude-sonnet-5-5", tools: ["count", "reserve", "scrap"].map((name) => ({ name, backend: "stock" })) }),
    )
    const prompt =
      '[[call count {"sku":"A-7"}; call reserve {"sku":"B-2"}; call count {"sku":"none"}; call scrap {"sku":"A-7"}; call count {"sku":7}]]'
    const ran = await bench.run(["run", prompt, "--agent", agent, "--session", "sesn_python", "--json", "--timeout", "90"], env)
    assert.equal(ran.code, 0, ran.stderr)
    const records = recordsOf((await bench.run(["events", "sesn_python", "--jsonl"], env)).stdout)
    const results = records
      .filter(({ type }) => type === "tool-call.completed")
      .map(({ value }) => JSON.parse(value["content"] as string) as unknown)
    assert.deepEqual(
      new Set(results),
      new Set(['{"sku": "A-7", "count": 12}', '{"sku": "B-2", "count": 0}', "There is no none."].map(compact)),
    )
    assert.equal(records.filter(({ type, value }) => type === "tool-call.completed" && value["isError"] === true).length, 1)
    // What must not run twice is refused for a worker that does not claim; what does not fit its schema never leaves.
    const refused = records.filter(({ type }) => type === "tool-call.refused")
    assert.deepEqual(
      refused.map(({ value }) => String(value["code"])).toSorted((a, b) => a.localeCompare(b)),
      ["invalid_arguments", "unauthorized"],
    )
    const effects = linesOf<{ tool: string; key: string }>(ledger)
    assert.deepEqual(
      effects.map(({ tool }) => tool).toSorted((a, b) => a.localeCompare(b)),
      ["count", "count", "reserve"],
    )
    assert.equal(new Set(effects.map(({ key }) => key)).size, 3)
    worker.kill("SIGTERM")
    services.kill("SIGTERM")
    assert.equal((await services.ended).code, 0)
  })
})
