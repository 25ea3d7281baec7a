import assert from "node:assert/strict"
import { textOf } from "./story-turns.ts"
import { calling, ordersAgent, type Step, said, type Teller } from "./teller.ts"
import { Watch } from "./watch.ts"

export function interruptSteps(teller: Teller): readonly Step[] {
  const { sessions } = teller.client.beta

  /** What an interrupt must not break. */
  async function goesOn(watch: Watch, sessionId: string): Promise<void> {
    await teller.say(sessionId, "Hello again.")
    await watch.next("agent.message")
    await watch.idle("end_turn")
    await watch.close()
  }

  return [
    {
      name: "an interrupt while the model is asked ends the turn without a message",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<hang>>")
        await watch.next("span.model_request_start")
        const [sent] = await teller.interrupt(session.id)
        const interrupt = await watch.next("user.interrupt")
        assert.equal(interrupt.id, sent?.id)
        const end = await watch.next("span.model_request_end")
        // Where whoever asked has died meanwhile, another has asked again.
        assert.equal(end.model_request_start_id, watch.all("span.model_request_start").at(-1)?.id)
        await watch.idle("end_turn")
        assert.equal(watch.all("agent.message").length, 0)
        assert.equal((await teller.retrieved(session.id)).status, "idle")
        await goesOn(watch, session.id)
      },
    },
    {
      name: "an interrupt while a tool runs closes the call with an error, and the model is not asked",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["count_stock", { ms: 60_000 }]))
        const use = await watch.next("agent.mcp_tool_use")
        await teller.interrupt(session.id)
        await watch.next("user.interrupt")
        const result = await watch.next("agent.mcp_tool_result")
        assert.deepEqual([result.mcp_tool_use_id, result.is_error], [use.id, true])
        await watch.idle("end_turn")
        assert.equal(watch.all("span.model_request_start").length, 1)
        await goesOn(watch, session.id)
      },
    },
    {
      name: "an interrupt in requires_action gives the open calls up; a late answer is taken and changes nothing",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_weather", { city: "Oslo" }], ["refund", { id: "interrupted", cents: 1 }]))
        await watch.required()
        const [custom] = watch.all("agent.custom_tool_use")
        const [asked] = watch.all("agent.mcp_tool_use")
        await teller.interrupt(session.id)
        await watch.next("user.interrupt")
        await watch.idle("end_turn")
        assert.equal(watch.all("span.model_request_start").length, 1)
        const closed = watch.all("agent.mcp_tool_result").find(({ mcp_tool_use_id: use }) => use === asked?.id)
        assert.equal(closed?.is_error, true)
        const before = (await teller.history(session.id)).length
        await teller.send(session.id, {
          type: "user.custom_tool_result",
          custom_tool_use_id: custom?.id ?? "",
          content: [{ type: "text", text: "4" }],
        })
        assert.equal((await teller.history(session.id)).length, before)
        await goesOn(watch, session.id)
      },
    },
    {
      name: "an interrupt of an idle session does nothing",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.interrupt(session.id)
        await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        assert.equal(watch.all("session.status_running").length, 1)
        await teller.interrupt(session.id)
        assert.equal((await teller.retrieved(session.id)).status, "idle")
        await goesOn(watch, session.id)
      },
    },
    {
      name: "interrupt and message in one request: the turn ends, and the message begins the next",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<hang>>")
        await watch.next("span.model_request_start")
        const [, message] = await teller.send(session.id, { type: "user.interrupt" }, said("Hello instead."))
        await watch.next("user.interrupt")
        await watch.next("span.model_request_end")
        await watch.next("agent.message", (event) => textOf(event) !== "")
        await watch.next("session.status_idle", ({ stop_reason }) => stop_reason.type === "end_turn")
        const processed = watch.heard.filter(({ processed_at }) => processed_at !== null).map(({ id, type }) => ({ id, type }))
        const at = (what: string): number => processed.findIndex(({ id, type }) => id === what || type === what)
        assert.ok(at("user.interrupt") < at(message?.id ?? ""), "the message was taken before the interrupt")
        assert.ok(at(message?.id ?? "") < at("agent.message"))
        assert.equal(watch.all("agent.message").length, 1)
        await watch.close()
      },
    },
    {
      name: "one bad event refuses its whole request",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        const bad: readonly (readonly [what: string, event: object])[] = [
          ["a kind that nobody knows", { type: "user.shrug" }],
          ["an event that only the server sends", { type: "agent.message", content: [] }],
          ["a message without content", { type: "user.message", content: [] }],
          ["a block that a client may not send", { type: "user.message", content: [{ type: "redacted" }] }],
          ["an answer to nothing", { type: "user.custom_tool_result", custom_tool_use_id: "sevt_nothing", content: [] }],
          ["a confirmation of nothing", { type: "user.tool_confirmation", tool_use_id: "sevt_nothing", result: "allow" }],
        ]
        for (const [what, event] of bad)
          await teller.refused(`sessions.events.send of ${what}`, { status: [400, 404] }, () =>
            sessions.events.send(session.id, { events: [said("Hello."), event as never] }),
          )
        await teller.refused("sessions.events.send of nothing", { status: 400 }, () => sessions.events.send(session.id, { events: [] }))
        assert.deepEqual(await teller.history(session.id), [])
        await goesOn(watch, session.id)
      },
    },
  ]
}
