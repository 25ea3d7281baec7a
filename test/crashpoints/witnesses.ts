import { createHash } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { planned, startSimulatedModel } from "@reins/simulated-model"
import type { EffectLine } from "../chaos/classes.ts"
import { type Judgement, judge } from "../chaos/oracle.ts"
import type { WholeLog } from "../chaos/read-log.ts"
import { linesOf } from "../e2e/harness.ts"
import { startOrders } from "../fixtures/orders.ts"
import type { JournalLine, LoggedRecord } from "../scenarios/long-session.ts"
import { goldenAgent, goldenPrompt, ledgered } from "./golden-session.ts"

/** The commands of one golden session, and what its client is to see acknowledged. */
export interface GoldenCommands {
  readonly start: object
  readonly end: object
  readonly ids: readonly string[]
}

/** The world around the golden sessions of a run: the model, the HTTP backend and their books. It outlives every process that dies. */
export class Witnesses {
  readonly #dir = mkdtempSync(join(tmpdir(), "reins-crash-"))
  readonly #journal = new Map<string, JournalLine[]>()
  readonly #closing: (() => Promise<unknown>)[] = []
  #ordersUrl = ""
  #modelUrl = ""

  get ledger(): string {
    return join(this.#dir, "effects.jsonl")
  }

  get modelUrl(): string {
    return this.#modelUrl
  }

  async open(): Promise<this> {
    const orders = await startOrders(this.ledger)
    const model = await startSimulatedModel({
      callsMax: 1,
      script: (call) => {
        const sha256 = createHash("sha256").update(call.body).digest("hex")
        const line = { at: Date.now(), sha256, body: call.body }
        this.#journal.set(sha256, [...(this.#journal.get(sha256) ?? []), line])
        return planned(call)
      },
    })
    this.#closing.push(
      () => orders.close(),
      () => model.stop(),
    )
    this.#ordersUrl = orders.url
    this.#modelUrl = model.url
    return this
  }

  commands(sessionId: string): GoldenCommands {
    const ids = [`start-${sessionId}`, `end-${sessionId}`]
    return {
      start: {
        type: "session.start",
        commandId: ids[0],
        sessionId,
        agent: goldenAgent(this.#ordersUrl),
        input: [{ type: "text", text: goldenPrompt(sessionId) }],
      },
      end: { type: "session.end", commandId: ids[1], sessionId },
      ids,
    }
  }

  /** Holds an ended golden session to the invariants, and two readings of its log to each other. */
  judge(sessionId: string, whole: WholeLog, again: WholeLog): Judgement {
    const records = whole.records.get(sessionId) ?? []
    const breaches: string[] = []
    const idled = records.filter(({ type, verdict }) => type === "session.idled" && verdict === "accepted")
    const reasons = idled.map(({ value }) => String(value.reason)).join()
    if (reasons !== "end_turn") breaches.push(`I2: ${sessionId} came to ${reasons}`)
    for (const request of whole.requestsDiffering)
      if (request.startsWith(`${sessionId} `)) breaches.push(`I13: rebuilt otherwise: ${request}`)
    if (again.digests.get(sessionId) !== whole.digests.get(sessionId)) breaches.push(`I13: two readers come to two states of ${sessionId}`)
    const judgement = judge({
      sessionId,
      records,
      effects: linesOf<EffectLine>(this.ledger).filter((line) => line.sessionId === sessionId),
      journal: this.#journal,
      acknowledged: this.commands(sessionId).ids,
      ledgered,
    })
    return { ...judgement, breaches: [...breaches, ...judgement.breaches, ...incomplete(records)] }
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing.map((close) => close()))
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

/** A crash is no reason for a call to fail: it completes, or nobody can say whether it took effect. */
function incomplete(records: readonly LoggedRecord[]): readonly string[] {
  return records
    .filter(
      ({ type, verdict, value }) =>
        verdict === "accepted" &&
        (type === "tool-call.refused" || ((type === "tool-call.failed" || type === "tool-call.timed-out") && value.retryAfterMs === null)),
    )
    .map(({ type, offset, value }) => `P4: ${value.toolUseId} came to ${type}@${offset}: ${value.message}`)
}
