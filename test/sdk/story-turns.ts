import assert from "node:assert/strict"
import type { BetaManagedAgentsAgentMessageEvent } from "@anthropic-ai/sdk/resources/beta/sessions"
import { calling, ordersAgent, type Step, type Teller } from "./teller.ts"
import { Watch } from "./watch.ts"

/** A picture of one dot. */
const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

export function textOf({ content }: BetaManagedAgentsAgentMessageEvent): string {
  return content.map((block) => (block.type === "text" ? block.text : "")).join("")
}

export function turnSteps(teller: Teller): readonly Step[] {
  const { sessions } = teller.client.beta
  return [
    {
      name: "a turn is told on the stream in its order, and the resource agrees with its last word",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        const [message] = await teller.say(session.id, "Hello.")
        await watch.idle("end_turn")
        const after = await teller.retrieved(session.id)
        assert.equal(after.status, "idle")
        const told = watch.heard.filter(({ processed_at }) => processed_at !== null)
        const [first] = told
        assert.deepEqual([first?.type, first?.id], ["user.message", message?.id])
        const types = told.map(({ type }) => type)
        assert.deepEqual(types.slice(1, 3).sort(), ["session.status_running", "session.thread_status_running"])
        const rest = [
          "span.model_request_start",
          "agent.message",
          "span.model_request_end",
          "session.thread_status_idle",
          "session.usage",
          "session.status_idle",
        ]
        assert.deepEqual(
          types.slice(3),
          rest.filter((type) => !teller.sdk.droppedFromStreams.includes(type)),
        )
        const [end] = watch.all("span.model_request_end")
        const [usage] = await teller.history(session.id, { types: ["session.usage"] })
        assert.ok(usage?.type === "session.usage")
        assert.equal(end?.is_error, false)
        assert.ok(end.model_usage.input_tokens > 0 && end.model_usage.output_tokens > 0)
        assert.equal(usage.usage.input_tokens, end.model_usage.input_tokens)
        assert.equal(usage.usage.output_tokens, end.model_usage.output_tokens)
        assert.equal(after.usage.input_tokens, usage.usage.input_tokens)
        assert.ok(Date.parse(after.updated_at) >= Date.parse(session.updated_at))
        const [running] = watch.all("session.thread_status_running")
        assert.equal(running?.agent_name, session.agent.name)
        await watch.close()
      },
    },
    {
      name: "the model hears what was said before",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["get_order", { id: "17" }]))
        await watch.next("agent.message", (event) => textOf(event).includes("4200"))
        await watch.idle("end_turn")
        await teller.say(session.id, calling(["get_order", { id: "18" }]))
        await watch.next("agent.message", (event) => textOf(event).includes('"18"'))
        await watch.idle("end_turn")
        const [first, second] = watch.all("span.model_request_end").map(({ model_usage }) => model_usage.input_tokens)
        assert.ok((second ?? 0) > (first ?? 0), "the second request was no longer than the first")
        await watch.close()
      },
    },
    {
      name: "a message that comes while it works waits, and is said again when it is taken",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, calling(["count_stock", { ms: 1500 }]))
        await watch.next("agent.mcp_tool_use")
        const [queued] = await teller.say(session.id, "And hello.")
        assert.ok(queued?.type === "user.message")
        assert.equal(queued.processed_at ?? null, null)
        await watch.next("user.message", ({ id, processed_at }) => id === queued.id && (processed_at ?? null) !== null)
        await watch.next("agent.message")
        await watch.idle("end_turn")
        const said = watch.heard.filter(({ id }) => id === queued.id)
        assert.deepEqual(
          said.map(({ processed_at }) => processed_at === null),
          [true, false],
        )
        const listed = (await teller.history(session.id)).filter(({ id }) => id === queued.id)
        assert.deepEqual(listed, said.slice(1))
        await watch.close()
      },
    },
    {
      name: "a picture and a document reach the history as they were sent",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        const content = [
          { type: "text" as const, text: "What is this?" },
          { type: "image" as const, source: { type: "base64" as const, media_type: "image/png", data: dot } },
          {
            type: "document" as const,
            source: { type: "text" as const, media_type: "text/plain" as const, data: "Order 17." },
            title: "Orders",
          },
        ]
        await teller.send(session.id, { type: "user.message", content })
        const message = await watch.next("user.message")
        assert.deepEqual(message.content, content)
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "thinking shows as having happened, and as nothing else",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<think>> Hello.")
        await watch.next("agent.thinking")
        await watch.next("agent.message")
        await watch.idle("end_turn")
        assert.doesNotMatch(JSON.stringify(watch.heard), /orders come first/)
        // The signed thought goes back to the model with the next question.
        await teller.say(session.id, "Hello again.")
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "previews grow into the final message, for those who asked for them",
      async run() {
        const { session } = await teller.opened(ordersAgent)
        const plain = await Watch.open(teller, session.id)
        const watch = await Watch.open(teller, session.id, ["agent.message", "agent.thinking"])
        await teller.say(
          session.id,
          `<<slowly>> <<think>> ${calling(["get_order", { id: "17" }], ["get_order", { id: "18" }], ["get_order", { id: "19" }])}`,
        )
        await watch.idle("end_turn")
        await plain.idle("end_turn")

        let snapshot: BetaManagedAgentsAgentMessageEvent | undefined
        let grown = 0
        const finals: BetaManagedAgentsAgentMessageEvent[] = []
        for (const frame of watch.frames) {
          const before = snapshot
          snapshot = teller.sdk.accumulate(snapshot, frame)
          if (frame.type === "event_delta") {
            grown += 1
            assert.ok(snapshot !== undefined && textOf(snapshot).length > (before === undefined ? 0 : textOf(before).length))
          }
          if (frame.type !== "agent.message") continue
          assert.deepEqual(snapshot, frame)
          if (before?.id === frame.id) assert.ok(textOf(frame).startsWith(textOf(before)))
          finals.push(frame)
          snapshot = undefined
        }
        const started = watch.frames.flatMap((frame) => (frame.type === "event_start" ? [frame.event] : []))
        if (watch.reconnects === 0) {
          // How many depends on how busy the machine is.
          assert.ok(grown > 0, "no fragment came before the end")
          assert.ok(started.some(({ type, id }) => type === "agent.message" && finals.some((final) => final.id === id)))
          assert.ok(started.some(({ type, id }) => type === "agent.thinking" && watch.all("agent.thinking").some((one) => one.id === id)))
        }
        assert.ok(plain.frames.every(({ type }) => type !== "event_start" && type !== "event_delta"))
        assert.ok((await teller.history(session.id)).every(({ type }) => !type.startsWith("event_")))
        await watch.close()
        await plain.close()
        await teller.refused("sessions.events.stream", { status: 400 }, () =>
          sessions.events.stream(session.id, { event_deltas: ["agent.tool_use"] as never }),
        )
      },
    },
    {
      name: "an interrupt in the middle of a preview leaves no message behind it",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id, ["agent.message"])
        await teller.say(session.id, "<<stall>>")
        await watch.next("span.model_request_start")
        await watch.preview()
        await teller.interrupt(session.id)
        await watch.next("user.interrupt")
        await watch.next("span.model_request_end")
        await watch.idle("end_turn")
        assert.equal(watch.all("agent.message").length, 0)
        await watch.close()
      },
    },
    {
      name: "a refusal stops the turn and says so",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<refuse>>")
        const idle = await watch.idle("refusal")
        assert.equal(idle.stop_details?.type, "refusal")
        await watch.close()
      },
    },
    {
      name: "a request that fails for good is an error, and the next message starts afresh",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<fail>>")
        const { error } = await watch.next("session.error")
        assert.equal(error.type, "model_request_failed_error")
        assert.equal(error.retry_status.type, "exhausted")
        await watch.idle("retries_exhausted")
        assert.equal(watch.all("span.model_request_end")[0]?.is_error, true)
        assert.equal((await teller.retrieved(session.id)).status, "idle")
        await teller.say(session.id, "Hello.")
        await watch.next("agent.message")
        await watch.idle("end_turn")
        await watch.close()
      },
    },
    {
      name: "a model that is overloaded is asked again, and the session says that it waits",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, `<<overloaded 2 ${session.id}>> Hello.`)
        for (const _ of [1, 2]) {
          const { error } = await watch.next("session.error")
          assert.equal(error.type, "model_overloaded_error")
          assert.equal(error.retry_status.type, "retrying")
          await watch.next("session.status_rescheduled")
          await watch.next("session.status_running")
        }
        await watch.next("agent.message")
        await watch.idle("end_turn")
        assert.equal(watch.all("agent.message").length, 1)
        await watch.close()
      },
    },
  ]
}
