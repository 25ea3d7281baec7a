import assert from "node:assert/strict"
import { createParser } from "./frames.ts"
import { expectExactShape, expectShape } from "./shapes.ts"
import { ordersAgent, type Step, said, type Teller } from "./teller.ts"
import { Watch } from "./watch.ts"

/** What an SDK cannot show: the wire itself, in both of its generations, and a retry as the SDK would send it. */
export function wireSteps(teller: Teller): readonly Step[] {
  const { client, context } = teller
  const base = client.baseURL.replace(/\/$/, "")
  const key = client.apiKey ?? "any"

  const generations: readonly (readonly [name: string, query: string, headers: Readonly<Record<string, string>>])[] = [
    ["2026-10-21 with a bearer", "", { authorization: `Bearer ${key}`, "anthropic-version": "2026-10-21" }],
    [
      "2023-06-01 with x-api-key",
      "?beta=true",
      { "x-api-key": key, "anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01" },
    ],
  ]
  const [newest = generations[0]] = generations
  assert.ok(newest !== undefined)
  const headers = newest[2]

  async function post(
    path: string,
    body: unknown,
    extra: Readonly<Record<string, string>> = {},
    text = JSON.stringify(body),
  ): Promise<Response> {
    return teller.call(`POST ${path}`, () =>
      fetch(`${base}${path}`, { method: "POST", headers: { "content-type": "application/json", ...headers, ...extra }, body: text }),
    )
  }

  async function bodyOf(response: Response): Promise<{ readonly id: string; readonly error?: { readonly type: string } }> {
    return (await response.json()) as { id: string }
  }

  const steps: Step[] = [
    {
      name: "both generations of the wire are understood",
      async run() {
        for (const [name, query, own] of generations) {
          const made = await teller.call("POST /v1/agents", () =>
            fetch(`${base}/v1/agents${query}`, {
              method: "POST",
              headers: { ...own, "content-type": "application/json", accept: "application/json" },
              body: JSON.stringify({ name: teller.named("agent"), model: { id: "claude-opus-5-5", effort: "high" } }),
            }),
          )
          assert.equal(made.status, 200, name)
          assert.match(made.headers.get("request-id") ?? "", /^req_/, name)
          assert.match(made.headers.get("content-type") ?? "", /^application\/json/, name)
          const agent = await bodyOf(made)
          expectExactShape("BetaManagedAgentsAgent", agent)
          const shown = await teller.call("GET /v1/agents/ID", () => fetch(`${base}/v1/agents/${agent.id}${query}`, { headers: own }))
          assert.deepEqual(await shown.json(), agent, name)
        }
      },
    },
    {
      name: "a broken request is told so and nothing else",
      async run() {
        const cases: readonly (readonly [what: string, status: number, response: () => Promise<Response>])[] = [
          ["no JSON", 400, () => post("/v1/agents", null, {}, "{name:")],
          ["an array", 400, () => post("/v1/agents", [])],
          ["no body", 400, () => post("/v1/agents", null, {}, "")],
          ["JSON too deep", 400, () => post("/v1/agents", null, {}, `{"name":${"[".repeat(5000)}${"]".repeat(5000)}}`)],
          ["no such path", 404, () => post("/v1/telepathy", {})],
        ]
        for (const [what, status, response] of cases) {
          const answer = await response()
          const body = await bodyOf(answer)
          assert.equal(answer.status, status, `${what}: ${JSON.stringify(body)}`)
          expectShape("BetaErrorResponse", body)
          assert.match(answer.headers.get("request-id") ?? "", /^req_/, what)
          assert.doesNotMatch(JSON.stringify(body), /node_modules|at .*\.ts:\d/, what)
        }
      },
    },
    {
      name: "a retry of a request whose answer was lost has no second effect; a repetition has",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        const path = `/v1/sessions/${session.id}/events`
        const message = { events: [said(teller.named("Hello"))] }
        const [first, again, deliberate] = [
          await post(path, message, { "x-stainless-retry-count": "0" }),
          await post(path, message, { "x-stainless-retry-count": "1" }),
          await post(path, message, { "x-stainless-retry-count": "0" }),
        ]
        const ids = await Promise.all(
          [first, again, deliberate].map(async (response) => {
            assert.equal(response.status, 200)
            return ((await response.json()) as { data: readonly { id: string }[] }).data[0]?.id
          }),
        )
        assert.equal(ids[1], ids[0])
        assert.notEqual(ids[2], ids[0])
        await watch.next("user.message", ({ id, processed_at }) => id === ids[2] && (processed_at ?? null) !== null)
        await watch.idle("end_turn")
        await watch.close()
        assert.equal((await teller.history(session.id, { types: ["user.message"] })).length, 2)

        const body = { agent: session.agent.id, environment_id: session.environment_id, title: teller.named("Once") }
        const made = await bodyOf(await post("/v1/sessions", body))
        const retried = await bodyOf(await post("/v1/sessions", body, { "x-stainless-retry-count": "2" }))
        const other = await bodyOf(await post("/v1/sessions", body))
        assert.deepEqual([retried.id === made.id, other.id === made.id], [true, false])

        const agent = { name: teller.named("agent"), model: "claude-opus-5-5" }
        const madeAgent = await bodyOf(await post("/v1/agents", agent))
        assert.equal((await bodyOf(await post("/v1/agents", agent, { "x-stainless-retry-count": "1" }))).id, madeAgent.id)

        const keyed = { "idempotency-key": teller.named("key") }
        const byKey = await bodyOf(await post("/v1/sessions", body, keyed))
        assert.equal((await bodyOf(await post("/v1/sessions", body, keyed))).id, byKey.id)
      },
    },
    {
      name: "every frame names its event and its place, and a stream goes on behind the last place seen",
      ofOneConnection: true,
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const path = `${base}/v1/sessions/${session.id}/events/stream`
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        const all = await teller.history(session.id)
        const read = async (lastEventId: string | null, count: number): Promise<readonly { id: string; event: string; data: string }[]> => {
          const controller = new AbortController()
          const response = await teller.call("GET stream", () =>
            fetch(path, {
              headers: { ...headers, accept: "application/json", ...(lastEventId === null ? {} : { "last-event-id": lastEventId }) },
              signal: AbortSignal.any([controller.signal, AbortSignal.timeout(teller.patienceMs)]),
            }),
          )
          assert.equal(response.status, 200)
          assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/)
          if (lastEventId === null) await teller.say(session.id, "Hello again.")
          const parser = createParser()
          const frames: { id: string; event: string; data: string }[] = []
          const reader = response.body?.getReader()
          assert.ok(reader !== undefined)
          while (frames.length < count) {
            const { done, value } = await reader.read()
            assert.ok(!done, "the stream has ended")
            frames.push(...parser(value))
          }
          controller.abort()
          return frames
        }
        const frames = await read(null, 9)
        for (const { id, event, data } of frames) {
          assert.notEqual(id, "", `a frame of ${event} has no place`)
          assert.equal((JSON.parse(data) as { type: string }).type, event)
        }
        await watch.idle("end_turn")
        await watch.close()
        const history = (await teller.history(session.id)).slice(all.length)
        const idsOf = (some: readonly { readonly data: string }[]): readonly string[] =>
          some.map(({ data }) => (JSON.parse(data) as { id: string }).id)
        assert.deepEqual(
          idsOf(frames),
          history.map(({ id }) => id),
        )
        const rest = await read(frames[2]?.id ?? "", 6)
        assert.deepEqual(idsOf(rest), idsOf(frames.slice(3)))
      },
    },
  ]

  const { unknownKey, stranger } = context
  if (unknownKey !== undefined)
    steps.push({
      name: "a key that nobody knows opens nothing",
      async run() {
        const { session } = await teller.opened()
        await teller.refused("agents.list", { status: 401 }, () => unknownKey.beta.agents.list())
        await teller.refused("sessions.retrieve", { status: 401 }, () => unknownKey.beta.sessions.retrieve(session.id))
        await teller.refused("sessions.retrieve", { status: 401 }, () => unknownKey.beta.sessions.retrieve("sesn_never"))
        await teller.refused("sessions.events.stream", { status: 401 }, () => unknownKey.beta.sessions.events.stream(session.id))
      },
    })
  if (stranger !== undefined)
    steps.push({
      name: "what belongs to another tenant is not there",
      async run() {
        const { agent, environment, session } = await teller.opened()
        const foreign = stranger.beta
        const hidden: readonly (readonly [name: string, make: () => PromiseLike<unknown>])[] = [
          ["agents.retrieve", () => foreign.agents.retrieve(agent.id)],
          ["agents.update", () => foreign.agents.update(agent.id, { description: "Mine." })],
          ["agents.versions.list", () => foreign.agents.versions.list(agent.id)],
          ["environments.retrieve", () => foreign.environments.retrieve(environment.id)],
          ["environments.delete", () => foreign.environments.delete(environment.id)],
          ["sessions.retrieve", () => foreign.sessions.retrieve(session.id)],
          ["sessions.update", () => foreign.sessions.update(session.id, { title: "Mine" })],
          ["sessions.archive", () => foreign.sessions.archive(session.id)],
          ["sessions.delete", () => foreign.sessions.delete(session.id)],
          ["sessions.events.list", () => foreign.sessions.events.list(session.id)],
          ["sessions.events.send", () => foreign.sessions.events.send(session.id, { events: [said("Mine.")] })],
          ["sessions.events.stream", () => foreign.sessions.events.stream(session.id)],
        ]
        for (const [name, make] of hidden) await teller.refused(name, { status: 404 }, make)
        await teller.refused("sessions.create", { status: [400, 404] }, () =>
          foreign.sessions.create({ agent: agent.id, environment_id: environment.id }),
        )
        for await (const one of foreign.sessions.list({ include_archived: true })) assert.notEqual(one.id, session.id)
        assert.deepEqual(await teller.history(session.id), [])
      },
    })
  return steps
}
