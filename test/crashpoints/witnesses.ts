import { createHash } from "node:crypto"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { topicNames } from "@reins/events"
import { folderOf, type Log, type LogRecord } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import { planned, startSimulatedModel } from "@reins/simulated-model"
import type { EffectLine } from "../chaos/classes.ts"
import { addAccount, emptyAccount, type Judgement, judge } from "../chaos/oracle.ts"
import { readWholeLog, type WholeLog } from "../chaos/read-log.ts"
import { startOrders } from "../fixtures/orders.ts"
import type { JournalLine, LoggedRecord } from "../scenarios/long-session.ts"
import { ledgered } from "./golden-session.ts"
import { type StoryName, stories } from "./stories.ts"
import { cleaned, isDeletion, type Story } from "./story.ts"

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

  /** Where blobs stand that outlive the processes that put them. */
  get blobs(): string {
    return join(this.#dir, "blobs")
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

  story(name: StoryName, sessionId: string): Story {
    return stories[name].tell(sessionId, this.#ordersUrl)
  }

  /** The whole log of a story, as it will be when its cleaner has come. */
  read(story: Story, log: Log, codec: Codec, prefix: string): Promise<WholeLog> {
    return readWholeLog(cleaned(log, prefix, story), codec, prefix)
  }

  /** Holds what a story left in the log to the invariants, and two readings of it to each other. */
  async judge(story: Story, log: Log, prefix: string, whole: WholeLog, again: WholeLog): Promise<Judgement> {
    const breaches = [...whole.unreadable].map((where) => `C1: ${where} cannot be read, or names a blob that is missing`)
    const account = emptyAccount()
    for (const sessionId of story.kept) {
      const { breaches: found, ...one } = this.#judgeKept(story, sessionId, whole, again)
      breaches.push(...found)
      addAccount(account, one)
    }
    for (const sessionId of story.deleted) breaches.push(...(await remains(sessionId, log, prefix)))
    breaches.push(...(await strayTombstones(story, log, prefix)))
    return { ...account, breaches }
  }

  #judgeKept(story: Story, sessionId: string, whole: WholeLog, again: WholeLog): Judgement {
    const records = whole.records.get(sessionId) ?? []
    const commands = story.steps.map(({ command }) => command).filter((command) => command.sessionId === sessionId)
    const breaches: string[] = []
    const idled = records.filter(({ type, verdict }) => type === "session.idled" && verdict === "accepted")
    const reasons = idled.map(({ value }) => String(value.reason)).join()
    const turns = commands.filter(({ type }) => type === "session.start" || type === "message.send")
    if (reasons !== turns.map(() => "end_turn").join()) breaches.push(`I2: ${sessionId} came to ${reasons}`)
    for (const request of whole.requestsDiffering)
      if (request.startsWith(`${sessionId} `)) breaches.push(`I13: rebuilt otherwise: ${request}`)
    if (again.digests.get(sessionId) !== whole.digests.get(sessionId)) breaches.push(`I13: two readers come to two states of ${sessionId}`)
    const judgement = judge({
      sessionId,
      records,
      effects: this.#effects(sessionId),
      journal: this.#journal,
      acknowledged: commands.map(({ commandId }) => commandId),
      ledgered,
    })
    return { ...judgement, breaches: [...breaches, ...judgement.breaches, ...incomplete(records)] }
  }

  /** The ledger is that of all runs, so only the lines of this one are parsed. */
  #effects(sessionId: string): readonly EffectLine[] {
    if (!existsSync(this.ledger)) return []
    const lines = readFileSync(this.ledger, "utf8").split("\n")
    return lines
      .filter((line) => line.includes(JSON.stringify(sessionId)))
      .map((line) => JSON.parse(line) as EffectLine)
      .filter((line) => line.sessionId === sessionId)
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

/** Of an erased session only `session.deleted` is left: in the session log, its snapshots and the blob store, and where the log can do that, beside them. */
async function remains(sessionId: string, log: Log, prefix: string): Promise<readonly string[]> {
  const breaches: string[] = []
  const { sessions, snapshots } = topicNames(prefix)
  let deletions = 0
  for (const { name } of await log.describeTopics()) {
    if (name !== sessions && name !== snapshots && log.remove === undefined) continue
    const newest = new Map<string | null, LogRecord>()
    const ours: LogRecord[] = []
    for await (const records of log.replay(name, 0, 0, undefined, { bare: true })) {
      for (const record of records) {
        const { key, value, headers } = record
        newest.set(key, record)
        if (headers["session"] === sessionId || key === sessionId || key?.startsWith(`${sessionId}/`) === true) ours.push(record)
        if (name === sessions && headers["session"] === sessionId && value !== null && isDeletion(record)) deletions++
      }
    }
    for (const record of ours) {
      const { key, value, headers, offset } = record
      // What is older under its key goes when the cleaner comes.
      const isGone = value === null || ((name === sessions || name === snapshots) && newest.get(key) !== record)
      if (!isGone && !isDeletion(record) && headers["status"] !== "deleted")
        breaches.push(`I28: ${name}@${offset} ${headers["type"]} of ${sessionId} is left`)
    }
  }
  if (deletions === 0) breaches.push(`I28: nothing says that ${sessionId} was deleted`)
  for await (const { folder, name } of log.blobs?.list() ?? [])
    if (folder === folderOf(sessionId)) breaches.push(`I28: the blob ${name} of ${sessionId} is left`)
  return breaches
}

/** Nothing of a session that is not deleted is erased. */
async function strayTombstones({ kept }: Story, log: Log, prefix: string): Promise<readonly string[]> {
  const breaches: string[] = []
  for await (const records of log.replay(topicNames(prefix).sessions, 0, 0, undefined, { bare: true }))
    for (const { key, value } of records)
      if (value === null && kept.some((sessionId) => key?.startsWith(`${sessionId}/`)))
        breaches.push(`I28: ${key} was erased, and its session is not deleted`)
  return breaches
}
