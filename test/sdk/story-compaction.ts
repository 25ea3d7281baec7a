import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { textOf } from "./story-turns.ts"
import type { Step, Teller } from "./teller.ts"
import { Watch } from "./watch.ts"

/** Conversations that outgrow the model's window. */
export function compactionSteps(teller: Teller): readonly Step[] {
  /** The events of a turn that had to be made room for, from the first request on. */
  const told = ["span.model_request_start", "span.model_request_end", "agent.thread_context_compacted"]
  return [
    {
      name: "a conversation that nears the window is compacted before its next turn, and what was before stays readable",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, "<<fill>> My name is Ada.")
        await watch.idle("end_turn")
        const before = watch.heard.length
        await teller.say(session.id, "Hello again.")
        await watch.idle("end_turn")
        const types = watch.heard.slice(before).map(({ type }) => type)
        const from = types.indexOf("span.model_request_start")
        assert.deepEqual(types.slice(from, from + 6), [...told, "span.model_request_start", "agent.message", "span.model_request_end"])
        assert.equal(watch.all("agent.message").length, 2, "a summary is no message")
        const history = await teller.history(session.id)
        assert.deepEqual(
          history.flatMap((event) => (event.type === "user.message" ? event.content : [])).map((block) => "text" in block && block.text),
          ["<<fill>> My name is Ada.", "Hello again."],
        )
        await watch.close()
      },
    },
    {
      name: "a request that is too long for the model is compacted and asked again",
      async run() {
        const { session } = await teller.opened()
        const watch = await Watch.open(teller, session.id)
        await teller.say(session.id, `<<too long ${randomBytes(6).toString("hex")}>> Hello.`)
        await watch.idle("end_turn")
        const [compacted] = await teller.history(session.id, { types: ["agent.thread_context_compacted"] })
        assert.equal(compacted?.type, "agent.thread_context_compacted")
        const ends = watch.all("span.model_request_end")
        assert.deepEqual(
          ends.map(({ is_error }) => is_error),
          [true, false, false],
        )
        assert.match(watch.all("agent.message").map(textOf).join(""), /^\[simulated\]/)
        await watch.close()
      },
    },
  ]
}
