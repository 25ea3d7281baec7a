// The model of the story: the simulated model's planner, with marks in a prompt that make it slow, silent, thoughtful, unwilling or broken.
// It acts on the last prompt alone, also where an interrupt left earlier ones unanswered beside it.
//
//   <<hang>>              no answer, until whoever asks gives up
//   <<slowly>>            the answer comes in small pieces
//   <<stall>>             the answer begins and never ends
//   <<think>>             it thinks before it speaks
//   <<refuse>>            it stops with a refusal
//   <<fail>>              the request is refused as broken: nothing to be tried again
//   <<fill>>              the answer says that the window is nearly full
//   <<too long KEY>>      the first request for this KEY is refused as too long for the window
//   <<overloaded 2 KEY>>  the first two requests for this KEY are answered 529

import process from "node:process"
import {
  type Answer,
  type Call,
  cut,
  fails,
  hangs,
  type MessagesRequest,
  planned,
  type Script,
  startSimulatedModel,
  trickles,
} from "@reins/simulated-model"

type Message = MessagesRequest["messages"][number]

/** Behind the first words of an answer, before its last. */
const stalledBytes = 900

/** How often the model has been asked for a key, over all sessions: keys are unique. */
const overloads = new Map<string, number>()

export const storyScript: Script = async (call: Call): Promise<Answer> => {
  const { prompt, messages } = ofLastPrompt(call.request.messages)
  const overload = /<<overloaded (\d+) (\S+)>>/.exec(prompt)
  if (overload !== null) {
    const [, times, key = ""] = overload
    const before = overloads.get(key) ?? 0
    overloads.set(key, before + 1)
    if (before < Number(times)) return fails("overloaded_error", { retryAfter: "0" })
  }
  const tooLong = /<<too long (\S+)>>/.exec(prompt)
  if (tooLong !== null && !overloads.has(tooLong[0])) {
    overloads.set(tooLong[0], 1)
    return fails("invalid_request_error", { message: "prompt is too long: 210000 tokens > 200000 maximum" })
  }
  if (prompt.includes("<<hang>>")) return hangs()
  if (prompt.includes("<<fail>>")) return fails("invalid_request_error")
  if (prompt.includes("<<refuse>>")) return { content: [{ type: "text", text: "[simulated] I would rather not." }], stopReason: "refusal" }
  const answer = offered(await planned({ ...call, request: { ...call.request, messages } }), call.request)
  const thought = prompt.includes("<<think>>") ? thoughtful(answer) : answer
  if (!("content" in thought)) return thought
  if (prompt.includes("<<fill>>")) return { ...thought, usage: { input_tokens: 190_000 } }
  if (prompt.includes("<<stall>>")) return cut(thought, stalledBytes, "hang")
  return prompt.includes("<<slowly>>") ? trickles(thought, 60, 10) : thought
}

/** The conversation with nothing but the last text of its last prompt, and that text. */
function ofLastPrompt(messages: readonly Message[]): { readonly prompt: string; readonly messages: readonly Message[] } {
  const isText = (block: { readonly type: string }): block is { readonly type: "text"; readonly text: string } => block.type === "text"
  const at = messages.findLastIndex(({ role, content }) => role === "user" && (typeof content === "string" || content.some(isText)))
  const message = messages[at]
  if (message === undefined) return { prompt: "", messages }
  if (typeof message.content === "string") return { prompt: message.content, messages }
  const texts = message.content.filter(isText)
  const last = texts.at(-1)
  if (last === undefined) return { prompt: "", messages }
  const content = message.content.filter((block) => block === last || !isText(block))
  return { prompt: last.text, messages: messages.with(at, { ...message, content }) }
}

/** A prompt names a tool as its backend does; the model knows it by the name that it was offered. */
function offered(answer: Answer, { tools = [] }: MessagesRequest): Answer {
  if (!("content" in answer)) return answer
  const names = tools.map(({ name }) => name)
  return {
    ...answer,
    content: answer.content.map((block) => {
      if (block.type !== "tool_use" || names.includes(block.name)) return block
      return { ...block, name: names.find((name) => name.endsWith(`__${block.name}`)) ?? block.name }
    }),
  }
}

function thoughtful(answer: Answer): Answer {
  if (!("content" in answer)) return answer
  const thinking = { type: "thinking", thinking: "[simulated] The orders come first.", signature: "c2lnbmVkIGJ5IG5vYm9keQ==" } as const
  return { ...answer, content: [thinking, ...answer.content] }
}

if (import.meta.main) {
  const model = await startSimulatedModel({ script: storyScript, port: Number(process.argv[2] ?? 0), callsMax: 0 })
  process.stdout.write(`${model.url}\n`)
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void model.stop())
}
