import assert from "node:assert/strict"
import type { BetaManagedAgentsSession, SessionListParams } from "@anthropic-ai/sdk/resources/beta/sessions"
import { calling, ordersAgent, type Step, said, type Teller } from "./teller.ts"
import { Watch } from "./watch.ts"

type SessionPage = Awaited<ReturnType<Teller["client"]["beta"]["sessions"]["list"]>>

export function listSteps(teller: Teller): readonly Step[] {
  const { agents, environments, sessions } = teller.client.beta
  const sessionPage = "BetaManagedAgentsSessionsBidirectionalPageCursor"

  const listed = (params: SessionListParams): Promise<SessionPage> => teller.page("sessions.list", sessionPage, () => sessions.list(params))

  async function allOf(params: SessionListParams): Promise<readonly BetaManagedAgentsSession[]> {
    const all: BetaManagedAgentsSession[] = []
    let page = await listed(params)
    for (;;) {
      assert.ok(page.data.length <= (params.limit ?? Infinity))
      all.push(...page.data)
      if (!page.hasNextPage()) return all
      const before = page
      page = await teller.page("sessions.list", sessionPage, () => before.getNextPage())
    }
  }

  const idsOf = (all: readonly { readonly id: string }[]): readonly string[] => all.map(({ id }) => id)

  /** Five sessions of one agent, oldest first. */
  async function five(): Promise<readonly BetaManagedAgentsSession[]> {
    const { agent, environment, session } = await teller.opened()
    const made = [session]
    while (made.length < 5) made.push(await teller.session({ agent: agent.id, environment_id: environment.id, title: String(made.length) }))
    return made
  }

  return [
    {
      name: "sessions are listed newest first or oldest first, page by page, forwards and back",
      async run() {
        const made = idsOf(await five())
        const agent_id = (await teller.retrieved(made[0] ?? "")).agent.id
        const oldest = { agent_id, order: "asc", limit: 2 } as const
        assert.deepEqual(idsOf(await allOf({ agent_id })), made.toReversed())
        assert.deepEqual(idsOf(await allOf({ agent_id, limit: 2 })), made.toReversed())
        assert.deepEqual(idsOf(await allOf(oldest)), made)
        // A page that ends exactly where the list does.
        assert.deepEqual(idsOf(await allOf({ ...oldest, limit: 5 })), made)

        const first = await listed(oldest)
        assert.equal(first.prev_page, null)
        const second = await listed({ ...oldest, page: first.next_page })
        const third = await listed({ ...oldest, page: second.next_page })
        assert.deepEqual([idsOf(first.data), idsOf(second.data), idsOf(third.data)], [made.slice(0, 2), made.slice(2, 4), made.slice(4)])
        assert.equal(third.next_page, null)
        const back = await listed({ ...oldest, page: third.prev_page })
        assert.deepEqual(idsOf(back.data), idsOf(second.data))
        const start = await listed({ ...oldest, page: back.prev_page })
        assert.deepEqual([idsOf(start.data), start.prev_page], [idsOf(first.data), null])
        const forth = await listed({ ...oldest, page: start.next_page })
        assert.deepEqual(idsOf(forth.data), idsOf(second.data))
        // The limit may change between pages.
        assert.deepEqual(idsOf((await listed({ ...oldest, limit: 3, page: first.next_page })).data), made.slice(2, 5))

        await teller.refused("sessions.list", { status: 400 }, () => sessions.list({ agent_id, order: "desc", page: first.next_page }))
        await teller.refused("sessions.list", { status: 400 }, () => sessions.list({ page: "no cursor of anyone" }))
        await teller.refused("sessions.list", { status: 400 }, () => sessions.list({ order: "sideways" as never }))
        await teller.refused("sessions.list", { status: 400 }, () => sessions.list({ statuses: ["asleep" as never] }))
        await teller.refused("sessions.list", { status: 400 }, () => sessions.list({ "created_at[gt]": "yesterday" }))
      },
    },
    {
      name: "sessions that begin while a list is being read do not move its pages",
      async run() {
        const made = await five()
        const [first] = made
        const agent_id = first?.agent.id ?? ""
        const page = await listed({ agent_id, limit: 2 })
        await teller.session({ agent: agent_id, environment_id: first?.environment_id ?? "" })
        const next = await listed({ agent_id, limit: 10, page: page.next_page })
        assert.deepEqual([...idsOf(page.data), ...idsOf(next.data)], idsOf(made).toReversed())
      },
    },
    {
      name: "sessions are found by their time, their status, their agent and its version",
      async run() {
        const made = await five()
        const agent_id = made[0]?.agent.id ?? ""
        const middle = made[2]?.created_at ?? ""
        const times: readonly (readonly [
          key: "created_at[gt]" | "created_at[gte]" | "created_at[lt]" | "created_at[lte]",
          such: (time: string) => boolean,
        ])[] = [
          ["created_at[gt]", (time) => time > middle],
          ["created_at[gte]", (time) => time >= middle],
          ["created_at[lt]", (time) => time < middle],
          ["created_at[lte]", (time) => time <= middle],
        ]
        for (const [key, such] of times)
          assert.deepEqual(
            idsOf(await allOf({ agent_id, order: "asc", [key]: middle })),
            idsOf(made.filter(({ created_at }) => such(created_at))),
            key,
          )
        assert.deepEqual(
          idsOf(await allOf({ agent_id, order: "asc", "created_at[gte]": middle, "created_at[lte]": middle, limit: 1 })),
          idsOf(made.filter(({ created_at }) => created_at === middle)),
        )

        const [idle, busy] = [made[0]?.id ?? "", made[1]?.id ?? ""]
        const watch = await Watch.open(teller, busy)
        await teller.say(busy, "<<hang>>")
        await watch.next("span.model_request_start")
        await teller.answer("sessions.archive", "BetaManagedAgentsSession", () => sessions.archive(idle))
        assert.deepEqual(idsOf(await allOf({ agent_id, statuses: ["running"] })), [busy])
        assert.deepEqual(idsOf(await allOf({ agent_id, order: "asc", statuses: ["running", "idle"] })), idsOf(made.slice(1)))
        assert.deepEqual(idsOf(await allOf({ agent_id, statuses: ["terminated"], include_archived: true })), [idle])
        assert.deepEqual(idsOf(await allOf({ agent_id, order: "asc" })), idsOf(made.slice(1)))
        assert.deepEqual(idsOf(await allOf({ agent_id, order: "asc", include_archived: true })), idsOf(made))
        await teller.interrupt(busy)
        await watch.idle("end_turn")
        await watch.close()
        assert.deepEqual(await allOf({ agent_id, statuses: ["running"] }), [])

        await teller.answer("agents.update", "BetaManagedAgentsAgent", () => agents.update(agent_id, { system: "Newer." }))
        const newer = await teller.session({ agent: agent_id, environment_id: made[0]?.environment_id ?? "" })
        assert.deepEqual(idsOf(await allOf({ agent_id, agent_version: 2 })), [newer.id])
        assert.equal((await allOf({ agent_id, agent_version: 1 })).length, 4)
        assert.deepEqual(await allOf({ agent_id: "agent_nobody" }), [])
      },
    },
    {
      name: "agents and environments are listed page by page, by time, and without those that are archived",
      async run() {
        const made = [await teller.agent(), await teller.agent(), await teller.agent()]
        const [first, second, third] = made
        assert.ok(first !== undefined && second !== undefined && third !== undefined)
        await teller.answer("agents.archive", "BetaManagedAgentsAgent", () => agents.archive(second.id))
        const within = { "created_at[gte]": first.created_at, "created_at[lte]": third.created_at }
        const agentIds = async (include_archived: boolean): Promise<readonly string[]> => {
          const found: string[] = []
          let page = await teller.page("agents.list", "BetaManagedAgentsAgentsPageCursor", () =>
            agents.list({ ...within, include_archived, limit: 1 }),
          )
          for (;;) {
            assert.ok(page.data.length <= 1)
            found.push(...idsOf(page.data))
            if (!page.hasNextPage()) break
            const before = page
            page = await teller.page("agents.list", "BetaManagedAgentsAgentsPageCursor", () => before.getNextPage())
          }
          assert.equal(new Set(found).size, found.length)
          return found.filter((id) => idsOf(made).includes(id)).sort()
        }
        assert.deepEqual(await agentIds(false), [first.id, third.id].sort())
        assert.deepEqual(await agentIds(true), [...idsOf(made)].sort())

        const places = [await teller.environment(), await teller.environment()]
        await teller.answer("environments.archive", "BetaEnvironment", () => environments.archive(places[0]?.id ?? ""))
        const environmentIds = async (include_archived: boolean): Promise<readonly string[]> => {
          const found: string[] = []
          let page = await teller.page("environments.list", "BetaEnvironmentsPageCursor", () =>
            environments.list({ include_archived, limit: 3 }),
          )
          for (;;) {
            found.push(...idsOf(page.data))
            if (!page.hasNextPage()) break
            const before = page
            page = await teller.page("environments.list", "BetaEnvironmentsPageCursor", () => before.getNextPage())
          }
          assert.equal(new Set(found).size, found.length)
          return found.filter((id) => idsOf(places).includes(id)).sort()
        }
        assert.deepEqual(await environmentIds(false), [places[1]?.id])
        assert.deepEqual(await environmentIds(true), [...idsOf(places)].sort())
      },
    },
    {
      name: "the events of a session are listed by type, by time, in both orders and page by page",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_order", { id: "17" }]))
        await watch.idle("end_turn")
        await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        await watch.close()
        const all = await teller.history(session.id)
        assert.ok(all.length > 20, `only ${all.length} events`)
        assert.deepEqual(await teller.history(session.id, { order: "desc" }), all.toReversed())
        assert.deepEqual(await teller.history(session.id, { limit: 3 }), all)
        assert.deepEqual(await teller.history(session.id, { limit: 7, order: "desc" }), all.toReversed())
        const types = ["agent.message", "session.status_idle"] as const
        const some = all.filter(({ type }) => types.some((one) => one === type))
        assert.equal(some.length, 4)
        assert.deepEqual(await teller.history(session.id, { types: [...types] }), some)
        assert.deepEqual(await teller.history(session.id, { types: [...types], limit: 1 }), some)
        assert.deepEqual(await teller.history(session.id, { types: ["session.error"] }), [])
        const middle = all[Math.floor(all.length / 2)]?.processed_at ?? ""
        const timed = (such: (time: string) => boolean): readonly unknown[] => all.filter(({ processed_at }) => such(processed_at ?? ""))
        assert.deepEqual(
          await teller.history(session.id, { "created_at[gt]": middle }),
          timed((time) => time > middle),
        )
        assert.deepEqual(
          await teller.history(session.id, { "created_at[gte]": middle }),
          timed((time) => time >= middle),
        )
        assert.deepEqual(
          await teller.history(session.id, { "created_at[lt]": middle }),
          timed((time) => time < middle),
        )
        assert.deepEqual(
          await teller.history(session.id, { "created_at[lte]": middle }),
          timed((time) => time <= middle),
        )

        const page = await teller.page("sessions.events.list", "BetaManagedAgentsSessionEventsPageCursor", () =>
          sessions.events.list(session.id, { limit: 3 }),
        )
        const list = (params: object): PromiseLike<unknown> => sessions.events.list(session.id, params)
        await teller.refused("sessions.events.list", { status: 400 }, () => list({ order: "desc", page: page.next_page }))
        await teller.refused("sessions.events.list", { status: 400 }, () => list({ page: "no cursor of anyone" }))
        await teller.refused("sessions.events.list", { status: 400 }, () => list({ types: ["agent.shrug"] }))
        await teller.refused("sessions.events.list", { status: 400 }, () => list({ limit: 0 }))
      },
    },
    {
      name: "what is not there is not found, by any way",
      async run() {
        const missing: readonly (readonly [name: string, make: () => PromiseLike<unknown>])[] = [
          ["agents.retrieve", () => agents.retrieve("agent_nobody")],
          ["agents.update", () => agents.update("agent_nobody", { description: "No." })],
          ["agents.archive", () => agents.archive("agent_nobody")],
          ["agents.versions.list", () => agents.versions.list("agent_nobody")],
          ["environments.retrieve", () => environments.retrieve("env_nowhere")],
          ["environments.update", () => environments.update("env_nowhere", { description: "No." })],
          ["environments.archive", () => environments.archive("env_nowhere")],
          ["environments.delete", () => environments.delete("env_nowhere")],
          ["sessions.retrieve", () => sessions.retrieve("sesn_never")],
          ["sessions.update", () => sessions.update("sesn_never", { title: "No" })],
          ["sessions.archive", () => sessions.archive("sesn_never")],
          ["sessions.delete", () => sessions.delete("sesn_never")],
          ["sessions.events.list", () => sessions.events.list("sesn_never")],
          ["sessions.events.send", () => sessions.events.send("sesn_never", { events: [said("Hello?")] })],
          ["sessions.events.stream", () => sessions.events.stream("sesn_never")],
          // An id of another kind, and one that no URL should carry.
          ["sessions.retrieve", () => sessions.retrieve("agent_nobody")],
          ["sessions.retrieve", () => sessions.retrieve("../agents?x=%2e#'")],
        ]
        for (const [name, make] of missing) await teller.refused(name, { status: 404 }, make)
      },
    },
  ]
}
