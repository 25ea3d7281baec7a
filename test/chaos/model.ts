// The simulated model as a process of its own that fails as models do: refused, overloaded, broken, cut in mid-stream, hanging; and that
// takes no more than its window holds. It keeps a journal of every request and a list of every fault. Its parent ends the faults with a message;
// the window stays.
//
//   fork("model.ts", [journalFile, faultsFile, seed, faultsPercent, hangMs])   →   { url }

import { createHash } from "node:crypto"
import { appendFileSync } from "node:fs"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { type Answer, type Call, cut, fails, planned, type Said, startSimulatedModel } from "@reins/simulated-model"
import type { JournalLine } from "../scenarios/long-session.ts"
import { Random } from "../simulation/random.ts"
import { windows } from "./traits.ts"

export type ModelFaultKind = (typeof modelFaultKinds)[number]
export const modelFaultKinds = ["model-429", "model-529", "model-500", "model-cut", "model-hang"] as const

/** What a conversation meets that has outgrown the window. */
export type WindowFaultKind = (typeof windowFaultKinds)[number]
export const windowFaultKinds = ["model-400-too-long", "model-413", "model-window-exceeded"] as const

export interface ModelFaultLine {
  readonly kind: ModelFaultKind | WindowFaultKind
  readonly at: number
}

/** Tokens that an answer needs. With less room than this it is cut off where the window ends. */
const answerTokens = 600

/** Whether a request and its answer fit into the window, at four bytes a token. */
function fit({ body, request }: Call): "both" | "the request" | "neither" {
  const window = windows[request.model as keyof typeof windows]
  const tokens = Math.ceil(Buffer.byteLength(body) / 4)
  return tokens > window ? "neither" : tokens + answerTokens > window ? "the request" : "both"
}

if (import.meta.main) {
  const [journal, faults, seed, faultsPercent, hangMs] = process.argv.slice(2) as [string, string, string, string, string]
  const random = new Random(Number(seed)).fork("model")
  let failing = true
  let faultCount = 0
  let refusedCount = 0
  const failsAs = (kind: ModelFaultLine["kind"]): void =>
    appendFileSync(faults, `${JSON.stringify({ kind, at: Date.now() } satisfies ModelFaultLine)}\n`)

  /** In both ways that there are. */
  const tooLong = (): Answer => {
    const kind = refusedCount++ % 2 === 0 ? "model-400-too-long" : "model-413"
    failsAs(kind)
    return kind === "model-413"
      ? fails("request_too_large")
      : fails("invalid_request_error", { message: "prompt is too long: more tokens > the maximum" })
  }

  const model = await startSimulatedModel({
    callsMax: 1,
    latencyMs: 300,
    script: async (call): Promise<Answer> => {
      const { body } = call
      const line: JournalLine = { at: Date.now(), sha256: createHash("sha256").update(body).digest("hex"), body }
      appendFileSync(journal, `${JSON.stringify(line)}\n`)
      const fitting = fit(call)
      if (fitting === "neither") return tooLong()
      if (fitting === "the request") {
        failsAs("model-window-exceeded")
        return { content: [{ type: "text", text: "[simulated] I was about to say" }], stopReason: "model_context_window_exceeded" }
      }
      if (!failing || !random.chance(Number(faultsPercent) / 100)) return planned(call)
      // In turn, so that each kind comes in every run.
      const kind = modelFaultKinds[faultCount++ % modelFaultKinds.length] as ModelFaultKind
      failsAs(kind)
      switch (kind) {
        case "model-429":
          return fails("rate_limit_error", { retryAfter: "1" })
        case "model-529":
          return fails("overloaded_error")
        case "model-500":
          return fails("api_error")
        case "model-cut":
          return cut((await planned(call)) as Said, 1 + random.int(0, 899), random.pick(["reset", "fin", "end"]))
        case "model-hang":
          await sleep(Number(hangMs))
          return cut((await planned(call)) as Said, 1 + random.int(0, 299))
        default:
          return kind satisfies never
      }
    },
  })

  process.on("message", () => {
    failing = false
  })
  // Without its parent nobody needs it.
  process.on("disconnect", () => process.exit(0))
  process.send?.({ url: model.url })
}
