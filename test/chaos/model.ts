// The simulated model as a process of its own that fails as models do: refused, overloaded, broken, cut in mid-stream, hanging. It keeps a
// journal of every request and a list of every fault. Its parent ends the faults with a message.
//
//   fork("model.ts", [journalFile, faultsFile, seed, faultsPercent, hangMs])   →   { url }

import { createHash } from "node:crypto"
import { appendFileSync } from "node:fs"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { type Answer, cut, fails, planned, type Said, startSimulatedModel } from "@reins/simulated-model"
import type { JournalLine } from "../scenarios/long-session.ts"
import { Random } from "../simulation/random.ts"

export type ModelFaultKind = (typeof modelFaultKinds)[number]
export const modelFaultKinds = ["model-429", "model-529", "model-500", "model-cut", "model-hang"] as const

export interface ModelFaultLine {
  readonly kind: ModelFaultKind
  readonly at: number
}

if (import.meta.main) {
  const [journal, faults, seed, faultsPercent, hangMs] = process.argv.slice(2) as [string, string, string, string, string]
  const random = new Random(Number(seed)).fork("model")
  let failing = true
  let faultCount = 0

  const model = await startSimulatedModel({
    callsMax: 1,
    latencyMs: 300,
    script: async (call): Promise<Answer> => {
      const { body } = call
      const line: JournalLine = { at: Date.now(), sha256: createHash("sha256").update(body).digest("hex"), body }
      appendFileSync(journal, `${JSON.stringify(line)}\n`)
      if (!failing || !random.chance(Number(faultsPercent) / 100)) return planned(call)
      // In turn, so that each kind comes in every run.
      const kind = modelFaultKinds[faultCount++ % modelFaultKinds.length] as ModelFaultKind
      appendFileSync(faults, `${JSON.stringify({ kind, at: Date.now() } satisfies ModelFaultLine)}\n`)
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
