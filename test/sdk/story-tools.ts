import assert from "node:assert/strict"
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema"
import type { BetaManagedAgentsEventParams } from "@anthropic-ai/sdk/resources/beta/sessions"
import { textOf } from "./story-turns.ts"
import { calling, ordersAgent, type Step, said, type Teller, weatherTool } from "./teller.ts"
import { Watch } from "./watch.ts"

function resultOf(id: string, text: string, isError = false): BetaManagedAgentsEventParams {
  return { type: "user.custom_tool_result", custom_tool_use_id: id, content: [{ type: "text", text }], is_error: isError }
}

function allow(id: string): BetaManagedAgentsEventParams {
  return { type: "user.tool_confirmation", tool_use_id: id, result: "allow" }
}

function deny(id: string, message: string): BetaManagedAgentsEventParams {
  return { type: "user.tool_confirmation", tool_use_id: id, result: "deny", deny_message: message }
}

/** The text of a tool's result. */
function resultText({ content = [] }: { readonly content?: readonly { readonly type: string; readonly text?: unknown }[] }): string {
  return content.map(({ text }) => (typeof text === "string" ? text : "")).join("")
}

export function toolSteps(teller: Teller): readonly Step[] {
  const { sessions } = teller.client.beta

  /** A session about an order that is its own, watched from its beginning. */
  async function ordering(
    order: string,
    params: Parameters<typeof teller.opened>[0] = ordersAgent,
  ): Promise<{ readonly session: { readonly id: string }; readonly watch: Watch; readonly id: string }> {
    const { session } = await teller.opened(params)
    return { session, watch: await Watch.open(teller, session.id), id: teller.named(order).replaceAll(" ", "-") }
  }

  /** How often order `id` was refunded, where the harness can tell. */
  function assertRefunds(id: string, times: number): void {
    const { effects } = teller.context
    if (effects === undefined) return
    const lines = effects().filter(({ tool, input }) => tool === "refund" && (input as { readonly id?: unknown }).id === id)
    assert.equal(lines.length, times, `order ${id} was refunded ${lines.length} times`)
  }

  return [
    {
      name: "a custom tool is run by the client: asked for, waited for, answered, and not twice",
      async run() {
        const { session } = await teller.opened({ tools: [weatherTool] })
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_weather", { city: "Oslo" }]))
        const use = await watch.next("agent.custom_tool_use")
        assert.deepEqual([use.name, use.input], ["get_weather", { city: "Oslo" }])
        assert.deepEqual(await watch.required(), [use.id])
        assert.equal((await teller.retrieved(session.id)).status, "idle")

        const send = (...events: BetaManagedAgentsEventParams[]): PromiseLike<unknown> => sessions.events.send(session.id, { events })
        await teller.refused("sessions.events.send", { status: 400 }, () => send(said("Hello?")))
        await teller.refused("sessions.events.send", { status: [400, 404] }, () => send(resultOf("sevt_nobody", "4")))
        await teller.refused("sessions.events.send", { status: 400 }, () => send(allow(use.id)))

        const [result] = await teller.send(session.id, resultOf(use.id, "4 degrees"))
        assert.ok(result?.type === "user.custom_tool_result" && (result.processed_at ?? null) !== null)
        const heard = await watch.next("user.custom_tool_result")
        assert.deepEqual([heard.id, heard.custom_tool_use_id, resultText(heard)], [result.id, use.id, "4 degrees"])
        await watch.next("agent.message", (event) => textOf(event).includes("4 degrees"))
        await watch.idle("end_turn")

        const before = (await teller.history(session.id)).length
        await teller.send(session.id, resultOf(use.id, "5 degrees"))
        assert.equal((await teller.history(session.id)).length, before, "a second result is in the history")
        await watch.close()
      },
    },
    {
      name: "two custom calls are answered one by one, the second with an error",
      async run() {
        const { session } = await teller.opened({ tools: [weatherTool] })
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_weather", { city: "Oslo" }], ["get_weather", { city: "Rome" }]))
        const oslo = await watch.next("agent.custom_tool_use", ({ input }) => input["city"] === "Oslo")
        const rome = await watch.next("agent.custom_tool_use", ({ input }) => input["city"] === "Rome")
        assert.deepEqual([...(await watch.required())].sort(), [oslo.id, rome.id].sort())
        await teller.send(session.id, resultOf(rome.id, "The line to Rome is dead.", true))
        assert.deepEqual(await watch.required(), [oslo.id])
        await teller.refused("sessions.events.send", { status: 400 }, () => sessions.events.send(session.id, { events: [said("Now?")] }))
        await teller.send(session.id, resultOf(oslo.id, "4 degrees"))
        await watch.next("session.status_running")
        const message = await watch.next("agent.message")
        assert.match(textOf(message), /failed: The line to Rome is dead/)
        assert.match(textOf(message), /answered: 4 degrees/)
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "the SDK's tool runner runs local tools, each call once, in turns and in parallel, and stops when all is done",
      async run() {
        const { session } = await teller.opened({
          tools: [weatherTool, { ...weatherTool, name: "get_tide", description: "Says the tide." }],
        })
        const ran: string[] = []
        const inputSchema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] } as const
        const tools = [
          betaTool({
            name: "get_weather",
            description: "Says the weather of a city.",
            inputSchema,
            run: ({ city }) => {
              ran.push(`weather ${city}`)
              return `${city} has 4 degrees`
            },
          }),
          betaTool({
            name: "get_tide",
            description: "Says the tide.",
            inputSchema,
            run: ({ city }) => {
              ran.push(`tide ${city}`)
              throw new Error(`${city} has no sea`)
            },
          }),
        ]
        const watch = await Watch.open(teller, session.id)
        const turns = [
          calling(["get_weather", { city: "Oslo" }], ["get_tide", { city: "Bern" }]),
          calling(["get_weather", { city: "Rome" }]),
        ]
        await teller.say(session.id, turns.join(" "))
        const calls = await teller.call("sessions.events.toolRunner", async () => {
          const runner = sessions.events.toolRunner(session.id, { tools, maxIdleMs: 500, signal: AbortSignal.timeout(teller.patienceMs) })
          const made: { name: string; isError: boolean; posted: boolean }[] = []
          for await (const { name, isError, posted } of runner) made.push({ name, isError, posted })
          return made
        })
        assert.deepEqual(calls, [
          { name: "get_weather", isError: false, posted: true },
          { name: "get_tide", isError: true, posted: true },
          { name: "get_weather", isError: false, posted: true },
        ])
        const message = await watch.next("agent.message", (event) => textOf(event).includes("Rome has 4 degrees"))
        assert.match(textOf(message), /Bern has no sea/)
        await watch.next("session.status_idle", ({ stop_reason }) => stop_reason.type === "end_turn")

        // One that comes later finds everything answered.
        const later = await teller.call("sessions.events.toolRunner", async () => {
          let made = 0
          const runner = sessions.events.toolRunner(session.id, { tools, maxIdleMs: 200, signal: AbortSignal.timeout(teller.patienceMs) })
          for await (const _ of runner) made += 1
          return made
        })
        assert.equal(later, 0)
        assert.deepEqual(ran, ["weather Oslo", "tide Bern", "weather Rome"])
        await watch.close()
      },
    },
    {
      name: "a tool of a Reins backend that is always allowed is run without asking",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_order", { id: "17" }]))
        const use = await watch.next("agent.mcp_tool_use")
        assert.deepEqual([use.name, use.mcp_server_name, use.input], ["get_order", "orders", { id: "17" }])
        assert.deepEqual([use.evaluated_permission, use.evaluation], ["allow", { type: "always_allow" }])
        const result = await watch.next("agent.mcp_tool_result")
        assert.equal(result.mcp_tool_use_id, use.id)
        assert.equal(result.is_error ?? false, false)
        assert.match(resultText(result), /shipped/)
        await watch.next("agent.message", (event) => textOf(event).includes("shipped"))
        await watch.idle("end_turn")
        assert.equal(watch.all("session.status_idle").length, 1)
        await teller.refused("sessions.events.send", { status: 400 }, () => sessions.events.send(session.id, { events: [allow(use.id)] }))
        await watch.close()
      },
    },
    {
      name: "a tool that fails tells the model, and the turn goes on",
      async run() {
        const { session } = await teller.opened({
          ...ordersAgent,
          tools: [{ type: "mcp_toolset", mcp_server_name: "orders", default_config: { permission_policy: { type: "always_allow" } } }],
        })
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["cancel_order", { id: "17" }], ["get_order", { id: "17" }]))
        await watch.next("agent.message", (event) => /failed: .*shipped/.test(textOf(event)))
        await watch.idle("end_turn")
        const [failed] = watch.all("agent.mcp_tool_result").filter(({ is_error }) => is_error === true)
        assert.match(resultText(failed ?? {}), /Order 17 has been shipped/)
        assert.equal(watch.all("agent.mcp_tool_result").length, 2)
        await watch.close()
      },
    },
    {
      name: "a tool that is switched off is not run, and the model is told",
      async run() {
        const { session, watch, id } = await ordering("off", {
          ...ordersAgent,
          tools: [{ type: "mcp_toolset", mcp_server_name: "orders", configs: [{ name: "refund", enabled: false }] }],
        })
        await teller.say(session.id, calling(["refund", { id, cents: 5 }]))
        await watch.next("agent.message", (event) => textOf(event).includes("failed"))
        await watch.idle("end_turn")
        assertRefunds(id, 0)
        await watch.close()
      },
    },
    {
      name: "what is asked about is held; one allow is one dispatch",
      async run() {
        const { session, watch, id } = await ordering("allowed")
        await teller.say(session.id, calling(["refund", { id, cents: 500 }]))
        const use = await watch.next("agent.mcp_tool_use")
        assert.deepEqual([use.evaluated_permission, use.evaluation], ["ask", { type: "always_ask" }])
        assert.deepEqual(await watch.required(), [use.id])
        assertRefunds(id, 0)
        await teller.refused("sessions.events.send", { status: 400 }, () => sessions.events.send(session.id, { events: [said("Well?")] }))
        await teller.refused("sessions.events.send", { status: 400 }, () =>
          sessions.events.send(session.id, {
            events: [{ type: "user.tool_confirmation", tool_use_id: use.id, result: "perhaps" as never }],
          }),
        )
        await teller.refused("sessions.events.send", { status: 400 }, () =>
          sessions.events.send(session.id, {
            events: [{ type: "user.tool_confirmation", tool_use_id: use.id, result: "allow", deny_message: "But why?" }],
          }),
        )
        await teller.send(session.id, allow(use.id))
        const confirmation = await watch.next("user.tool_confirmation")
        assert.deepEqual([confirmation.tool_use_id, confirmation.result], [use.id, "allow"])
        await watch.next("session.status_running")
        const result = await watch.next("agent.mcp_tool_result")
        assert.match(resultText(result), /"refunded":500/)
        await watch.idle("end_turn")
        assertRefunds(id, 1)
        // The same call again is another call, and is asked about again.
        await teller.say(session.id, calling(["refund", { id, cents: 500 }]))
        const again = await watch.next("agent.mcp_tool_use")
        assert.notEqual(again.id, use.id)
        assert.deepEqual(await watch.required(), [again.id])
        await teller.send(session.id, deny(again.id, "Once is enough."))
        await watch.idle("end_turn")
        assertRefunds(id, 1)
        await watch.close()
      },
    },
    {
      name: "what is denied is not run, and the model reads why",
      async run() {
        const { session, watch, id } = await ordering("denied")
        await teller.say(session.id, calling(["refund", { id, cents: 500 }]))
        const use = await watch.next("agent.mcp_tool_use")
        await watch.required()
        await teller.send(session.id, deny(use.id, "Ask the manager first."))
        const confirmation = await watch.next("user.tool_confirmation")
        assert.deepEqual([confirmation.result, confirmation.deny_message], ["deny", "Ask the manager first."])
        const result = await watch.next("agent.mcp_tool_result")
        assert.equal(result.is_error, true)
        assert.match(resultText(result), /Ask the manager first\./)
        await watch.next("agent.message", (event) => textOf(event).includes("Ask the manager first."))
        await watch.idle("end_turn")
        assertRefunds(id, 0)
        await watch.close()
      },
    },
    {
      name: "a custom call and a confirmation are waited for together and answered one by one",
      async run() {
        const { session, watch, id } = await ordering("both")
        await teller.say(session.id, calling(["get_weather", { city: "Oslo" }], ["refund", { id, cents: 7 }], ["get_order", { id }]))
        const waiting = await watch.required()
        const custom = watch.all("agent.custom_tool_use")[0]?.id ?? ""
        const asked = watch.all("agent.mcp_tool_use").find(({ name }) => name === "refund")?.id ?? ""
        assert.deepEqual([...waiting].sort(), [custom, asked].sort())
        assert.equal(watch.all("agent.mcp_tool_result").length, 1, "the call that needs nobody has not been run")
        await teller.send(session.id, allow(asked))
        assert.deepEqual(await watch.required(), [custom])
        assertRefunds(id, 1)
        await teller.send(session.id, resultOf(custom, "4 degrees"))
        await watch.next("agent.message", (event) => textOf(event).includes("4 degrees"))
        await watch.idle("end_turn")
        assertRefunds(id, 1)
        await watch.close()
      },
    },
    {
      name: "both answers in one request are taken together",
      async run() {
        const { session, watch, id } = await ordering("one-by-one")
        await teller.say(session.id, calling(["refund", { id, cents: 1 }], ["refund", { id, cents: 2 }]))
        const [first = "", second = ""] = await watch.required()
        await teller.send(session.id, allow(first), deny(second, "Not both."))
        await watch.next("session.status_idle", ({ stop_reason }) => stop_reason.type === "end_turn")
        assertRefunds(id, 1)
        const errors = watch.all("agent.mcp_tool_result").map(({ mcp_tool_use_id: use, is_error }) => [use, is_error ?? false])
        assert.deepEqual(Object.fromEntries(errors), { [first]: false, [second]: true })
        await watch.close()
      },
    },
  ]
}
