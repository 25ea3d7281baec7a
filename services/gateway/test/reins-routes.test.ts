import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { partitionOf } from "@reins/log"
import type { RawRecord } from "@reins/session"
import { sha256Hex } from "@reins/session"
import { agent, fact, Story, text, tool, toolUse } from "@reins/session/testing"
import type { Overview } from "../src/reins/overview.ts"
import { type Opened, type Stage, stage } from "./stage.ts"

interface Row {
  readonly event: { readonly id: string; readonly type: string }
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly index: number
}
interface Page<T> {
  readonly data: readonly T[]
  readonly next_page: string | null
}

interface Place {
  readonly partition: number
  readonly offset: number
}

/** The sessions of one log share what must be unique in it: the ids of commands and events. */
const stories = new WeakMap<Stage, Story>()

/** A session whose agent asks for a refund that a person has to allow, up to the answer that asks. */
async function asking(world: Stage, sessionId: string, tenant = "default"): Promise<{ readonly story: Story; readonly responded: Place }> {
  const story = (stories.get(world) ?? new Story()).beside(sessionId)
  stories.set(world, story)
  const input = JSON.stringify([text("Refund order 17, please")])
  story
    .started(agent([tool("refund", { permission: "always_ask" })]), { input, title: `Refund for ${tenant}` })
    .requested()
    .responded([toolUse("toolu_1", "refund", { id: "17", cents: 4200 })])
  let responded: Place | undefined
  for (const { event } of story.records) if (event.sessionId === sessionId) responded = await world.say({ ...event, tenant })
  assert.ok(responded !== undefined)
  return { story, responded }
}

// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- What a route answers is for the caller to say.
async function get<T>(opened: Opened, path: string, key?: string): Promise<{ readonly status: number; readonly body: T }> {
  const response = await fetch(`${opened.url}/reins/v1${path}`, { headers: key === undefined ? {} : { authorization: `Bearer ${key}` } })
  return { status: response.status, body: (await response.json()) as T }
}

describe("/reins/v1", () => {
  it("shows a session with what it waits for: the exact arguments and their hash", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    const { story } = await asking(world, "sesn_a")
    const before = await get<Overview>(opened, "/sessions/sesn_a")
    assert.equal(before.body.state, "running", "the router has not held the call yet")
    await world.say(
      fact("tool-call.held", {
        sessionId: "sesn_a",
        eventId: "evt_held",
        causedBy: story.known.response,
        toolUseId: "toolu_1",
        tool: "refund",
        attempt: 0,
        reason: "approval",
        argumentsHash: sha256Hex(story.call("toolu_1").input),
        message: null,
      }),
    )
    const { status, body } = await get<Overview>(opened, "/sessions/sesn_a")
    assert.equal(status, 200)
    assert.equal(body.state, "waiting")
    assert.equal(body.turns, 1)
    assert.equal(body.excerpt, "Refund order 17, please")
    assert.equal(body.session.title, "Refund for default")
    assert.deepEqual(
      body.waiting_for.map(({ event_id: _, ...rest }) => rest),
      [
        {
          tool: "refund",
          reason: "approval",
          arguments: '{"cents":4200,"id":"17"}',
          arguments_sha256: sha256Hex('{"cents":4200,"id":"17"}'),
          message: null,
        },
      ],
    )
    const { body: list } = await get<Page<Row>>(opened, "/sessions/sesn_a/events")
    assert.equal(list.data.find(({ event }) => event.id === body.waiting_for[0]?.event_id)?.event.type, "agent.tool_use")
    const ids = async (query: string): Promise<readonly string[]> =>
      (await get<Page<Overview>>(opened, `/sessions?${query}`)).body.data.map(({ session }) => session.id)
    assert.deepEqual(await ids("states=waiting"), ["sesn_a"])
    assert.deepEqual(await ids("states=idle&states=ended"), [])
    assert.equal((await get(opened, "/sessions?states=lost")).status, 400)
  })

  it("finds sessions by id, title, agent and first words, and pages through them", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    for (let n = 0; n < 7; n++) await asking(world, `sesn_${n}`)
    const ids = async (query: string): Promise<readonly string[]> =>
      (await get<Page<Overview>>(opened, `/sessions?${query}`)).body.data.map(({ session }) => session.id)
    assert.deepEqual(await ids("q=SESN_3"), ["sesn_3"])
    assert.equal((await ids("q=refund+please+support")).length, 7)
    assert.deepEqual(await ids("q=refund+nothing"), [])
    const seen: string[] = []
    let page: string | null = null
    let pages = 0
    do {
      const cursor: string = page === null ? "" : `&page=${page}`
      const { body } = await get<Page<Overview>>(opened, `/sessions?limit=3${cursor}`)
      seen.push(...body.data.map(({ session }) => session.id))
      page = body.next_page
      pages++
    } while (page !== null)
    assert.equal(pages, 3)
    assert.deepEqual(new Set(seen), new Set([0, 1, 2, 3, 4, 5, 6].map((n) => `sesn_${n}`)))
    assert.equal(seen.length, 7)
    assert.equal((await get(opened, "/sessions?page=made-up")).status, 400)
  })

  it("gives events with their places, in both directions, page by page", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    const { responded } = await asking(world, "sesn_a")
    const { body } = await get<Page<Row>>(opened, "/sessions/sesn_a/events")
    assert.equal(body.next_page, null)
    const use = body.data.find(({ event }) => event.type === "agent.tool_use")
    assert.deepEqual({ topic: use?.topic, partition: use?.partition, offset: use?.offset }, { topic: "t.sessions", ...responded })
    const backwards: Row[] = []
    let page: string | null = null
    do {
      const cursor: string = page === null ? "" : `&page=${page}`
      const next: Page<Row> = (await get<Page<Row>>(opened, `/sessions/sesn_a/events?order=desc&limit=2${cursor}`)).body
      assert.ok(next.data.length <= 2)
      backwards.push(...next.data)
      page = next.next_page
    } while (page !== null)
    assert.deepEqual(backwards.reverse(), body.data)
    const events = await opened.client().beta.sessions.events.list("sesn_a")
    assert.deepEqual(
      events.data.map(({ id }) => id),
      body.data.map(({ event }) => event.id),
      "the same as the API's list",
    )
  })

  it("gives the record behind an event as it stands: bytes, key, headers, schema, what it says", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    const { partition, offset } = (await asking(world, "sesn_a")).responded
    const { status, body } = await get<RawRecord>(opened, `/records/t.sessions/${partition}/${offset}`)
    assert.equal(status, 200)
    assert.deepEqual([body.topic, body.partition, body.offset], ["t.sessions", partition, offset])
    assert.equal(body.key, `sesn_a/${String(body.value?.["eventId"])}`)
    assert.deepEqual(body.headers, { type: "model.responded", session: "sesn_a" })
    assert.equal(body.encoding, "avro")
    assert.equal(body.verdict, "accepted")
    const bytes = Buffer.from(body.value_base64 ?? "", "base64")
    assert.equal(bytes.length, body.value_bytes)
    assert.equal(bytes.readInt32BE(1), body.schema_id)
    const decoded = world.codec.decode(bytes)
    assert.ok(decoded.ok)
    assert.deepEqual(body.value, JSON.parse(JSON.stringify(decoded.said)))
    assert.equal(body.value?.["type"], "model.responded")
  })

  it("gives records that nobody can read with the reason, and JSON as it was written", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    await asking(world, "sesn_a")
    const partition = partitionOf("sesn_a", 2)
    const put = async (topic: string, value: Uint8Array | null, key: string): Promise<number> =>
      (await world.admin.append({ topic, partition, key: () => key, value, headers: {}, certainty: "once" })).offset
    const broken = await put("t.sessions", Buffer.from([0, 0, 0, 0, 9, 1]), "sesn_a/broken")
    const tombstone = await put("t.sessions", null, "sesn_a/gone")
    const command = await put("t.commands", Buffer.from('{"type":"message.send","sessionId":"sesn_a","n":1}'), "sesn_a")
    const read = async (topic: string, offset: number): Promise<RawRecord> =>
      (await get<RawRecord>(opened, `/records/${topic}/${partition}/${offset}`)).body
    const unreadable = await read("t.sessions", broken)
    assert.deepEqual([unreadable.value, unreadable.schema_id, unreadable.verdict], [null, 9, null])
    assert.match(unreadable.problem ?? "", /^The bytes are not a reins\.sessions\.\w+: /)
    const erased = await read("t.sessions", tombstone)
    assert.deepEqual([erased.encoding, erased.value, erased.value_base64, erased.value_bytes], ["none", null, null, 0])
    assert.deepEqual((await read("t.commands", command)).value, { type: "message.send", sessionId: "sesn_a", n: 1 })
  })

  it("is under the API's keys, and another tenant's sessions and records are not there", async (t) => {
    const world = await stage(t)
    const opened = await world.open({ access: "keys" })
    const [acme, other] = [await world.key("acme", "one"), await world.key("other", "two")]
    const { partition, offset } = (await asking(world, "sesn_acme", "acme")).responded
    await asking(world, "sesn_other", "other")
    // A record that lies: it names one tenant, and the session of another.
    const forged = fact("session.started", { sessionId: "sesn_other", tenant: "acme", eventId: "evt_forged" })
    const lie = await world.say(forged)
    const paths = ["/sessions/sesn_acme", "/sessions/sesn_acme/events", `/records/t.sessions/${partition}/${offset}`]
    for (const path of [...paths, "/sessions"]) {
      assert.equal((await get(opened, path)).status, 401, path)
      assert.equal((await get(opened, path, "rk_wrong")).status, 401, path)
      assert.equal((await get(opened, path, acme)).status, 200, path)
    }
    for (const path of paths) assert.equal((await get(opened, path, other)).status, 404, path)
    assert.deepEqual(
      (await get<Page<Overview>>(opened, "/sessions", other)).body.data.map(({ session }) => session.id),
      ["sesn_other"],
    )
    for (const key of [acme, other])
      assert.equal((await get(opened, `/records/t.sessions/${lie.partition}/${lie.offset}`, key)).status, 404)
  })

  it("gives no record of a topic that holds no sessions, of no topic of ours, and of no place", async (t) => {
    const world = await stage(t)
    const opened = await world.open()
    const { partition, offset } = (await asking(world, "sesn_a")).responded
    await world.key("default", "one")
    await world.admin.applyTopics([{ name: "other.sessions", partitions: 2, cleanup: "delete", config: {} }])
    for (const path of [
      "t.keys/0/0",
      "t.agents/0/0",
      "t.dead-letters/0/0",
      "t.tools.nobody/0/0",
      "other.sessions/0/0",
      `t.sessions/${partition}/${offset + 1000}`,
      `t.sessions/99/${offset}`,
      `t.sessions/${partition}/-1`,
    ])
      assert.equal((await get(opened, `/records/${path}`)).status, 404, path)
    for (const path of ["t.sessions/x/0", "t.sessions/0/1e3"]) assert.equal((await get(opened, `/records/${path}`)).status, 400, path)
    assert.equal((await get(opened, "/records/t.sessions")).status, 404)
    assert.equal((await get(opened, "/sessions/sesn_none")).status, 404)
  })
})
