import { createHash } from "node:crypto"
import { appendFileSync, closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import type { EffectClass } from "@reins/events"
import { defineTool, type ToolContext, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { z } from "zod"

// A user's worker file with one tool of each effect class. Every effect leaves a line in the ledger before its tool answers, and every tool
// may be told by its argument to hang, to throw before its effect or to throw after it; that it did so it writes down as well.

/** One effect, as whoever had it wrote it down: the tools of this file, or the HTTP backend in `fixtures/orders.ts`. */
export interface EffectLine {
  readonly tool: string
  readonly class: EffectClass
  readonly sessionId: string
  readonly toolUseId: string
  readonly key: string
  /** Null where the backend is not told. */
  readonly attempt: number | null
  readonly pid: number
  readonly at: number
  /** False where the backend had seen the key before and did nothing. */
  readonly applied: boolean
}

export type ToolFault = "hang" | "throw-before" | "throw-after"

/** One misbehaviour of a tool. */
export interface ToolFaultLine {
  readonly fault: ToolFault
  readonly key: string
  readonly at: number
}

const file = process.env["LEDGER_FILE"]
/** Between the effect and the answer: the gap in which a kill leaves an effect that the log knows nothing of. */
const answerAfterMs = Number(process.env["LEDGER_DELAY_MS"] ?? 0)
const timeoutMs = Number(process.env["TOOL_TIMEOUT_MS"] ?? 60_000)

/** Wall time that a skewed `Date` does not touch. */
const now = (): number => Math.floor(performance.timeOrigin + performance.now())

function ledger(): string {
  if (file === undefined) throw new ToolError("LEDGER_FILE names no ledger.", { effect: "none" })
  return file
}

/** O_APPEND and one write: lines of several processes never mix. */
function write(suffix: string, line: unknown): void {
  appendFileSync(`${ledger()}${suffix}`, `${JSON.stringify(line)}\n`, { flag: "a" })
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32)
}

/** The first to come with a key has the effect; the file system is the backend that dedupes. */
function firstOf(key: string): boolean {
  const dir = `${ledger()}.keys`
  mkdirSync(dir, { recursive: true })
  try {
    closeSync(openSync(join(dir, shortHash(key)), "wx"))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false
    throw error
  }
}

/** A call of this number or above is one that fails at its first attempt; which way, the rest of the division by three says. */
export const faultsFrom = 900_000
const faultsInOrder = ["hang", "throw-before", "throw-after"] as const

function faultOf(n: number, attempt: number): ToolFault | null {
  return attempt === 1 && n >= faultsFrom ? (faultsInOrder[n % 3] ?? null) : null
}

function misbehave(fault: ToolFault, key: string): void {
  write(".faults", { fault, key, at: now() } satisfies ToolFaultLine)
}

async function effect(
  tool: string,
  is: EffectClass,
  n: number,
  context: ToolContext,
  mayStill: () => boolean = () => true,
): Promise<{ tool: string; n: number }> {
  const { sessionId, toolUseId, attempt, idempotencyKey: key, signal } = context
  const fault = faultOf(n, attempt)
  if (fault === "throw-before") {
    misbehave(fault, key)
    throw new ToolError(`${tool} is out of order for a moment.`, { kind: "unavailable", effect: "none", retryAfterMs: 50 })
  }
  if (!mayStill()) throw new ToolError(`${tool} was forbidden while it ran.`, { kind: "cancelled", effect: "none" })
  const applied = is === "keyed" ? firstOf(key) : true
  write("", { tool, class: is, sessionId, toolUseId, key, attempt, pid: process.pid, at: now(), applied } satisfies EffectLine)
  if (fault === "hang") {
    misbehave(fault, key)
    // It does not listen to the signal either: only its deadline ends the wait for it.
    await sleep(2 * timeoutMs)
  }
  if (fault === "throw-after") {
    misbehave(fault, key)
    throw new Error(`${tool} lost its answer.`)
  }
  if (answerAfterMs > 0) await sleep(answerAfterMs, undefined, { signal })
  return { tool, n }
}

const input = z.strictObject({ n: z.int() })

export const look: ToolDefinition = defineTool({
  name: "look",
  description: "Looks at entry n.",
  input,
  effect: "pure",
  timeoutMs,
  run: ({ n }, context) => effect("look", "pure", n, context),
})

export const fix: ToolDefinition = defineTool({
  name: "fix",
  description: "Sets the price to n.",
  input,
  effect: "idempotent",
  timeoutMs,
  run: ({ n }, context) => effect("fix", "idempotent", n, context),
})

export const note: ToolDefinition = defineTool({
  name: "note",
  description: "Writes entry n down, once per key.",
  input,
  effect: "keyed",
  timeoutMs,
  sideEffects: "adds an entry",
  run: ({ n }, context) => effect("note", "keyed", n, context),
})

/** It keeps no keys, so that two runs are two charges; it can be asked, and asking forbids a run that has begun and not yet charged. */
export const charge: ToolDefinition = defineTool({
  name: "charge",
  description: "Charges n cents.",
  input,
  effect: "queryable",
  timeoutMs,
  sideEffects: "takes money",
  run: ({ n }, context) => {
    const before = forbidden(context.idempotencyKey)
    return effect("charge", "queryable", n, context, () => forbidden(context.idempotencyKey) === before)
  },
  reconcile: async (key, { n }) => {
    // Forbidden first and asked then: a run that charges between the two is seen.
    write(".forbidden", { key })
    return linesWith("", key) > 0 ? { happened: true, result: { tool: "charge", n } } : { happened: false, forbidden: true }
  },
})

export const ring: ToolDefinition = defineTool({
  name: "ring",
  description: "Rings bell n. What has rung cannot be unrung.",
  input,
  effect: "unsafe",
  timeoutMs,
  sideEffects: "is heard in the whole house",
  run: ({ n }, context) => effect("ring", "unsafe", n, context),
})

function forbidden(key: string): number {
  return linesWith(".forbidden", key)
}

function linesWith(suffix: string, key: string): number {
  const path = `${ledger()}${suffix}`
  if (!existsSync(path)) return 0
  return readFileSync(path, "utf8").split(`"key":${JSON.stringify(key)}`).length - 1
}
