import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { type SessionEvent, topicNames } from "@reins/events"
import { type Host, startHost } from "@reins/host"
import { type Log, partitionOf } from "@reins/log"
import { Codec } from "@reins/log/codec"
import { MemoryBroker } from "@reins/log/memory"
import { KeptSessions, readConfig } from "@reins/runtime"
import type { Position, Verdict } from "@reins/session"
import { type SimulatedModel, startSimulatedModel } from "@reins/simulated-model"
import { until } from "../e2e/harness.ts"

const partitions = 4
const names = topicNames("reins")

/** How often each record of `sessions` was folded by this process, by partition and offset. */
const folded = new Map<string, number>()

/** Everything that a gateway shows: the sessions of its list, and of each what it is and what happened in it. */
async function shown({ port }: Host): Promise<readonly unknown[]> {
  const get = async (path: string): Promise<{ data: Record<string, unknown>[]; next_page?: string | null }> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { "x-api-key": "any", "anthropic-beta": "x" } })
    const body = (await response.json()) as { data: Record<string, unknown>[] }
    assert.equal(response.status, 200, JSON.stringify(body))
    return body
  }
  const all = async (path: string): Promise<Record<string, unknown>[]> => {
    const found: Record<string, unknown>[] = []
    for (let page: string | null | undefined = ""; page != null; ) {
      const { data, next_page } = await get(`${path}${page === "" ? "" : `&page=${encodeURIComponent(page)}`}`)
      found.push(...data)
      page = next_page
    }
    return found
  }
  const sessions = await all("/v1/sessions?limit=100&include_archived=true")
  const told = await Promise.all(
    sessions.map(async (session) => {
      const id = String(session["id"])
      const events = await all(`/v1/sessions/${id}/events?limit=1000`)
      const detail = await get(`/reins/v1/sessions/${id}`)
      return { session, events, detail }
    }),
  )
  // How long a session has lasted depends on when it is asked.
  return JSON.parse(JSON.stringify(told, (key, value: unknown) => (key === "duration_seconds" ? undefined : value))) as unknown[]
}

describe("a process that hosts services and a gateway", { timeout: 180_000 }, () => {
  const broker = new MemoryBroker()
  const admin: Log = broker.connect()
  const failures: Error[] = []
  const hosts = new Set<Host>()
  const apply = KeptSessions.prototype.apply
  let model: SimulatedModel
  let count = 0

  before(async () => {
    model = await startSimulatedModel()
    KeptSessions.prototype.apply = function (this: KeptSessions, event: SessionEvent, at: Position): Verdict {
      const place = `${partitionOf(event.sessionId, partitions)}/${at.offset}`
      folded.set(place, (folded.get(place) ?? 0) + 1)
      return apply.call(this, event, at)
    }
  })

  after(async () => {
    KeptSessions.prototype.apply = apply
    for (const host of hosts) await host.stop()
    await model.stop()
  })

  async function host(services?: readonly string[]): Promise<Host> {
    const config = readConfig({
      REINS_TOPIC_PREFIX: "reins",
      REINS_PARTITIONS: String(partitions),
      REINS_PORT: "0",
      REINS_LOG_LEVEL: "silent",
      REINS_DRAIN_MS: "500",
      ANTHROPIC_BASE_URL: model.url,
      ANTHROPIC_API_KEY: "none",
    })
    const started = await startHost({
      config,
      opened: { log: broker.connect(), codec: await Codec.open(broker.registry) },
      gateway: "open",
      pace: { snapshotRestsMs: 5, commitIntervalMs: 20 },
      failed: (error) => void failures.push(error),
      ...(services === undefined ? {} : { services }),
    })
    hosts.add(started)
    const ready = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${started.port}/readyz`)).ok
    await until(ready, "it is ready")
    return started
  }

  async function stop(one: Host): Promise<void> {
    hosts.delete(one)
    await one.stop()
  }

  async function command(sessionId: string, said: object): Promise<void> {
    await admin.append({
      topic: names.commands,
      partition: partitionOf(sessionId, partitions),
      key: () => sessionId,
      value: Buffer.from(JSON.stringify({ sessionId, commandId: `c${count++}`, ...said })),
      headers: {},
      certainty: "always",
    })
  }

  const agent = { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "echo", backend: "function" }] }
  const input = '[[call echo {"text":"a"}; call echo {"text":"b"}]]'

  /** Sessions that begin, go on, are archived and deleted, all at the same time. */
  async function work(lot: string, begun: readonly string[] = []): Promise<readonly string[]> {
    const ids = Array.from({ length: 12 }, (_, index) => `sesn_${lot}_${index}`)
    await Promise.all(ids.map((id) => command(id, { type: "session.start", agent, input })))
    for (const [index, id] of begun.entries()) {
      await command(id, { type: "message.send", content: input })
      if (index % 4 === 1) await command(id, { type: "session.interrupt" })
    }
    return ids
  }

  /** Nothing has been said for a while. */
  async function quiet(): Promise<void> {
    const ends = async (): Promise<string> => JSON.stringify(await admin.bounds(names.sessions))
    let last = ""
    await until(async () => {
      const before = last
      last = await ends()
      await new Promise((resolve) => setTimeout(resolve, 120))
      return before === last
    }, "all is quiet")
  }

  async function close(ids: readonly string[]): Promise<void> {
    await command(ids[0] as string, { type: "session.archive" })
    await command(ids[1] as string, { type: "session.delete" })
    await command(ids[2] as string, { type: "session.end" })
  }

  it("folds a record once, and shows what a gateway shows that folds alone", async () => {
    const first = await host()
    folded.clear()
    const one = await work("one")
    await quiet()
    await work("two", one)
    await quiet()
    await close(one)
    await quiet()
    assert.ok(folded.size > 300, `${folded.size} records`)
    assert.deepEqual(
      [...folded].filter(([, times]) => times !== 1),
      [],
      "records that were folded more than once",
    )
    const alone = await host([])
    assert.deepEqual(await shown(first), await shown(alone))
    assert.equal((await shown(alone)).length, 23)

    // Another member takes a half of the partitions and gives it back: what is shown of them is folded here meanwhile.
    const two = await work("three", one.slice(3))
    const other = await host()
    await until(() => other.loop.partitions.length === 2 && first.loop.partitions.length === 2, "the partitions are shared out")
    const three = await work("four", two)
    await quiet()
    const expected = await shown(alone)
    assert.deepEqual(await shown(first), expected)
    assert.deepEqual(await shown(other), expected)
    await work("five", three)
    await stop(other)
    await until(() => first.loop.partitions.length === partitions, "the partitions are back")
    await work("six", three.slice(6))
    await quiet()
    await close(three)
    await quiet()
    assert.deepEqual(await shown(first), await shown(alone))
    folded.clear()
    await stop(alone)
    await work("seven", three.slice(6))
    await quiet()
    assert.deepEqual(
      [...folded].filter(([, times]) => times !== 1),
      [],
      "records that were folded more than once",
    )

    // What is restored from snapshots is shown from the beginning all the same.
    await stop(first)
    const again = await host()
    await work("eight", three.slice(6))
    const last = await host([])
    await quiet()
    assert.deepEqual(await shown(again), await shown(last))
    assert.deepEqual(failures, [])
  })
})
