import type { EffectClass, EffectDone } from "@reins/events"
import { z } from "zod"
import { jsonText } from "./json-text.ts"

/** Longest result, in characters of its JSON: what the router lets through where there is a blob store. Without one it takes 256 Ki, and says so. */
const contentMax = 8 * 1024 * 1024

/** What a tool may know and do while it runs. */
export interface ToolContext {
  readonly sessionId: string
  readonly toolUseId: string
  /** From 1. */
  readonly attempt: number
  /** `sessionId/toolUseId`: stable over attempts, what a `keyed` backend dedupes on. */
  readonly idempotencyKey: string
  /** W3C Trace Context to pass on. */
  readonly traceparent: string | null
  /** Aborted at the deadline, when the call is cancelled, and when the process must end. */
  readonly signal: AbortSignal
  /** Says how far it is; for people. */
  progress(message: string): void
}

/** What a tool answers: any JSON value, or content blocks with or without the mark of an error. */
export class ToolAnswer {
  /** A JSON string or an array of content blocks, as JSON text. */
  readonly content: string
  readonly isError: boolean

  private constructor(content: string, isError: boolean) {
    this.content = content
    this.isError = isError
  }

  /** Text goes as it is; any other value as its JSON text. Throws a `ToolError` where it is too long, by its length before it is copied. */
  static of(value: unknown, isError = false): ToolAnswer {
    if (value instanceof ToolAnswer) return value
    return new ToolAnswer(fitting(typeof value === "string" ? value : fitting(value)), isError)
  }

  /** Content blocks of the Messages API. */
  static blocks(blocks: readonly { readonly type: string }[], isError = false): ToolAnswer {
    return new ToolAnswer(fitting(blocks), isError)
  }
}

/** The JSON text of a result, as long as it fits into a record and into what the router lets through. */
function fitting(value: unknown): string {
  const text = jsonText(value, contentMax) ?? ""
  const length = typeof text === "string" ? text.length : text.atLeast
  if (typeof text === "string" && length <= contentMax) return text
  throw new ToolError(`It ran, but its result of at least ${length} characters is larger than the ${contentMax} that fit.`, {
    kind: "output_too_large",
    effect: "done",
  })
}

/** A tool throws this to say how it failed; anything else thrown is a `backend_error` of which nobody knows what it left behind. */
export class ToolError extends Error {
  readonly kind: string
  /** `none` only where nothing can have happened. */
  readonly effect: EffectDone
  /** Set: worth another attempt, not before so long. */
  readonly retryAfterMs: number | null
  /** Nobody can say whether it took effect: the call ends as outcome-unknown. */
  readonly unknown: boolean

  constructor(
    message: string,
    options: { kind?: string; effect?: EffectDone; retryAfterMs?: number | null; unknown?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause })
    this.kind = options.kind ?? "backend_error"
    this.effect = options.effect ?? "maybe"
    this.retryAfterMs = options.retryAfterMs ?? null
    this.unknown = options.unknown ?? false
  }
}

/** The answer to "did key K happen?". */
export type Reconciled =
  | { readonly happened: true; readonly result: unknown }
  /** `forbidden`: the asking has also made sure that it never will under the old claim, so that it may run again. */
  | { readonly happened: false; readonly forbidden: boolean }

/** Something that can be run for a call. */
export interface Runnable {
  run(input: unknown, context: ToolContext): unknown
  /** For `queryable` tools. */
  reconcile?(idempotencyKey: string, input: unknown): Promise<Reconciled>
}

export interface ToolDefinition extends Runnable {
  readonly name: string
  readonly description: string
  /** JSON Schema 2020-12 of the arguments. */
  readonly inputSchema: Readonly<Record<string, unknown>>
  readonly effect: EffectClass
  readonly timeoutMs: number
  readonly sideEffects: string | null
}

const defaultTimeoutMs = 60_000
/** As for a tool that an agent describes: deadlines stay far below the retention of the topic. */
const timeoutMsMax = 24 * 3_600_000

/** Defines a tool. `effect` is `unsafe` unless said: the safe side. `run` gets the arguments as `input` parsed them. */
export function defineTool<I extends z.ZodType>(tool: {
  name: string
  description: string
  input: I
  effect?: EffectClass
  timeoutMs?: number
  sideEffects?: string
  run: (input: z.infer<I>, context: ToolContext) => unknown
  reconcile?: (idempotencyKey: string, input: z.infer<I>) => Promise<Reconciled>
}): ToolDefinition {
  if (!/^[a-zA-Z0-9_-]{1,64}$/.test(tool.name))
    throw new TypeError(`A tool's name matches ^[a-zA-Z0-9_-]{1,64}$; ${JSON.stringify(tool.name)} does not.`)
  if (tool.effect === "queryable" && tool.reconcile === undefined)
    throw new TypeError(`${tool.name} is queryable, so it needs reconcile(key).`)
  const timeoutMs = tool.timeoutMs ?? defaultTimeoutMs
  if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > timeoutMsMax)
    throw new TypeError(`timeoutMs of ${tool.name} is a whole number from 1 to ${timeoutMsMax}; ${timeoutMs} is not.`)
  const inputSchema = schemaOf(tool.name, tool.input)
  const { reconcile } = tool
  return {
    name: tool.name,
    description: tool.description,
    inputSchema,
    effect: tool.effect ?? "unsafe",
    timeoutMs,
    sideEffects: tool.sideEffects ?? null,
    run: async (input, context) => tool.run(await parsed(tool.input, input), context),
    ...(reconcile === undefined
      ? {}
      : { reconcile: async (key: string, input: unknown) => reconcile(key, await parsed(tool.input, input)) }),
  }
}

/** The JSON Schema of the arguments, which the Messages API wants to be an object. */
function schemaOf(name: string, input: z.ZodType): Readonly<Record<string, unknown>> {
  let schema: Record<string, unknown>
  try {
    schema = z.toJSONSchema(input, { io: "input" }) as Record<string, unknown>
  } catch (error) {
    throw new TypeError(`The input of ${name} is no zod 4 schema that JSON can say: ${(error as Error).message}`, { cause: error })
  }
  if (schema["type"] !== "object") throw new TypeError(`The input of ${name} is no object: use z.object({…}) or z.strictObject({…}).`)
  const { $schema: _, ...inputSchema } = schema
  return inputSchema
}

/** The router has checked the arguments by the JSON Schema; this finds what only zod can say, before anything happens. */
async function parsed<I extends z.ZodType>(schema: I, input: unknown): Promise<z.infer<I>> {
  const result = await schema.safeParseAsync(input)
  if (result.success) return result.data
  throw new ToolError(z.prettifyError(result.error), { kind: "validation", effect: "none", cause: result.error })
}
