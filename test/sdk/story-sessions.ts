import assert from "node:assert/strict"
import { calling, ordersAgent, type Step, said, type Teller, weatherTool } from "./teller.ts"
import { Watch } from "./watch.ts"

export function sessionSteps(teller: Teller): readonly Step[] {
  const { sessions } = teller.client.beta
  const shape = "BetaManagedAgentsSession"
  return [
    {
      name: "a session without a first event is idle, and is retrieved as it was answered",
      async run() {
        const { agent, environment, session } = await teller.opened(ordersAgent, { title: "Orders", metadata: { ticket: "17" } })
        assert.equal(session.status, "idle")
        assert.equal(session.title, "Orders")
        assert.deepEqual(session.metadata, { ticket: "17" })
        assert.equal(session.environment_id, environment.id)
        assert.equal(session.archived_at, null)
        assert.equal(session.budget, null)
        assert.deepEqual([session.resources, session.vault_ids, session.outcome_evaluations], [[], [], []])
        assert.equal(session.usage.input_tokens ?? 0, 0)
        const { created_at: _, updated_at: __, archived_at: ___, metadata: ____, ...snapshot } = agent
        assert.deepEqual(session.agent, snapshot)
        const { stats: ____s, ...retrieved } = await teller.retrieved(session.id)
        const { stats: ____t, ...created } = session
        assert.deepEqual(retrieved, created)
      },
    },
    {
      name: "initial events start the work at once",
      async run() {
        const { session } = await teller.opened({}, { initial_events: [said("Hello.")] })
        assert.ok(["running", "idle"].includes(session.status), session.status)
        const done = await teller.until("the first turn is over", async () => {
          const events = await teller.history(session.id)
          return events.at(-1)?.type === "session.status_idle" ? events : null
        })
        assert.equal(done[0]?.type, "user.message")
        assert.equal(done.filter(({ type }) => type === "agent.message").length, 1)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "Hello again.")
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "what a session may not begin with is refused, and leaves no session behind",
      async run() {
        const { agent, environment } = await teller.opened()
        const at = { agent: agent.id, environment_id: environment.id }
        const create = (params: object): PromiseLike<unknown> => sessions.create(params as never)
        await teller.refused("sessions.create", { status: 400 }, () => create({ agent: agent.id }))
        await teller.refused("sessions.create", { status: 400 }, () => create({ environment_id: environment.id }))
        await teller.refused("sessions.create", { status: [400, 404] }, () => create({ ...at, agent: "agent_nobody" }))
        await teller.refused("sessions.create", { status: [400, 404] }, () =>
          create({ ...at, agent: { type: "agent", id: agent.id, version: 9 } }),
        )
        await teller.refused("sessions.create", { status: [400, 404] }, () => create({ ...at, environment_id: "env_nowhere" }))
        await teller.refused("sessions.create", { status: 400 }, () => create({ ...at, initial_events: [{ type: "user.interrupt" }] }))
        await teller.refused("sessions.create", { status: 400 }, () =>
          create({ ...at, initial_events: Array.from({ length: 51 }, () => said("Hello.")) }),
        )
        await teller.refused("sessions.create", { status: 400 }, () => create({ ...at, metadata: { n: 1 } }))
        const page = await teller.page("sessions.list", "BetaManagedAgentsSessionsBidirectionalPageCursor", () =>
          sessions.list({ agent_id: agent.id }),
        )
        assert.equal(page.data.length, 1)
      },
    },
    {
      name: "an update says what changed and only that; the tools of an idle session can be exchanged",
      async run() {
        const { session } = await teller.opened({}, { title: "Old", metadata: { a: "1", b: "2" } })
        const watch = await Watch.open(teller, session.id)
        const update = (params: Parameters<typeof sessions.update>[1]): Promise<typeof session> =>
          teller.answer("sessions.update", shape, () => sessions.update(session.id, params))

        assert.equal((await update({ title: "New" })).title, "New")
        const titled = await watch.next("session.updated")
        assert.deepEqual(Object.keys(titled).sort(), ["id", "processed_at", "title", "type"])
        assert.equal(titled.title, "New")

        assert.deepEqual((await update({ metadata: { a: null, c: "3" } })).metadata, { b: "2", c: "3" })
        const relabelled = await watch.next("session.updated")
        assert.deepEqual(relabelled.metadata, { b: "2", c: "3" })
        assert.equal(relabelled.title, undefined)

        await update({ title: "New" })
        const retooled = await update({ agent: { tools: [weatherTool] } })
        assert.deepEqual(retooled.agent.tools, [weatherTool])
        const event = await watch.next("session.updated")
        assert.deepEqual(event.agent?.tools, [weatherTool], "an update that changes nothing was told")
        assert.deepEqual((await teller.retrieved(session.id)).agent, retooled.agent)
        await teller.refused("sessions.update", { status: 400 }, () => sessions.update(session.id, { vault_ids: ["vlt_1"] }))

        await teller.say(session.id, calling(["get_weather", { city: "Oslo" }]))
        const use = await watch.next("agent.custom_tool_use")
        await watch.required()
        await teller.send(session.id, {
          type: "user.custom_tool_result",
          custom_tool_use_id: use.id,
          content: [{ type: "text", text: "4" }],
        })
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "while it runs, a session is neither archived nor deleted nor given other tools; interrupted, it is",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<hang>>")
        await watch.next("span.model_request_start")
        assert.equal((await teller.retrieved(session.id)).status, "running")
        await teller.refused("sessions.archive", { status: [400, 409] }, () => sessions.archive(session.id))
        await teller.refused("sessions.delete", { status: [400, 409] }, () => sessions.delete(session.id))
        await teller.refused("sessions.update", { status: 409 }, () => sessions.update(session.id, { agent: { tools: [weatherTool] } }))
        const titled = await teller.answer("sessions.update", shape, () => sessions.update(session.id, { title: "Busy" }))
        assert.equal(titled.title, "Busy")
        await watch.next("session.updated")
        await teller.interrupt(session.id)
        await watch.idle("end_turn")
        await watch.close()
        // No waiting: what the stream has said is true of the resource.
        const archived = await teller.answer("sessions.archive", shape, () => sessions.archive(session.id))
        assert.equal(archived.status, "terminated")
      },
    },
    {
      name: "an archived session is terminated, keeps its history, takes nothing any more, and is archived once",
      async run() {
        const { agent, session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        const archive = (): Promise<typeof session> => teller.answer("sessions.archive", shape, () => sessions.archive(session.id))
        const archived = await archive()
        assert.equal(archived.status, "terminated")
        assert.ok(archived.archived_at !== null)
        await watch.next("session.status_terminated")
        assert.equal(watch.all("session.thread_status_terminated").length, 1)
        assert.equal((await archive()).archived_at, archived.archived_at)
        await teller.refused("sessions.events.send", { status: 409 }, () =>
          sessions.events.send(session.id, { events: [said("Still there?")] }),
        )
        const types = (await teller.history(session.id)).map(({ type }) => type)
        assert.ok(types.includes("agent.message") && types.at(-1) === "session.status_terminated", types.join())
        assert.equal(types.filter((type) => type === "session.status_terminated").length, 1)
        const list = async (include_archived: boolean): Promise<number> =>
          (
            await teller.page("sessions.list", "BetaManagedAgentsSessionsBidirectionalPageCursor", () =>
              sessions.list({ agent_id: agent.id, include_archived }),
            )
          ).data.length
        assert.deepEqual([await list(false), await list(true)], [0, 1])
        await watch.close()
        await teller.answer("sessions.delete", "BetaManagedAgentsDeletedSession", () => sessions.delete(session.id))
        await teller.refused("sessions.retrieve", { status: 404 }, () => sessions.retrieve(session.id))
      },
    },
    {
      name: "a deleted session says so last, ends its streams, and is not there any more",
      async run() {
        const { agent, environment, session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        const deleted = await teller.answer("sessions.delete", "BetaManagedAgentsDeletedSession", () => sessions.delete(session.id))
        assert.equal(deleted.id, session.id)
        await watch.deleted()
        await watch.close({ deleted: true })
        const gone: readonly (readonly [name: string, make: () => PromiseLike<unknown>])[] = [
          ["sessions.retrieve", () => sessions.retrieve(session.id)],
          ["sessions.update", () => sessions.update(session.id, { title: "No" })],
          ["sessions.archive", () => sessions.archive(session.id)],
          ["sessions.delete", () => sessions.delete(session.id)],
          ["sessions.events.list", () => sessions.events.list(session.id)],
          ["sessions.events.send", () => sessions.events.send(session.id, { events: [said("Hello?")] })],
          ["sessions.events.stream", () => sessions.events.stream(session.id)],
        ]
        for (const [name, make] of gone) await teller.refused(name, { status: 404 }, make)
        const page = await teller.page("sessions.list", "BetaManagedAgentsSessionsBidirectionalPageCursor", () =>
          sessions.list({ agent_id: agent.id, include_archived: true }),
        )
        assert.deepEqual(page.data, [])
        // Nothing refers to its environment any more.
        await teller.answer("environments.delete", "BetaEnvironmentDeleteResponse", () =>
          teller.client.beta.environments.delete(environment.id),
        )
      },
    },
  ]
}
