import { runInThisContext } from "node:vm"
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js"

/** Compiled once per schema text, or why it cannot be; the oldest go first. */
const compiled = new Map<string, ValidateFunction | string>()
const compiledMax = 2000
/** Checks that may take for ever: a pattern may backtrack, and references that fan out double the work at every step. */
const mayTakeLong = /"(pattern|patternProperties|\$ref|\$dynamicRef)"/
const budgetMs = 250

/**
 * What is wrong with these arguments by this JSON Schema (2020-12), in words that a model can act on: a pointer and a message each.
 * Null where they fit. Nothing is coerced, nothing is fetched, and it never throws.
 */
export function argumentsFault(schema: string, input: string): string | null {
  const validate = compile(schema)
  if (typeof validate === "string") return validate
  const value: unknown = JSON.parse(input)
  const fits = mayTakeLong.test(schema) ? withinBudget(() => validate(value)) : validate(value)
  if (fits === null)
    return `the arguments could not be checked within ${budgetMs} ms: a pattern or reference of the tool's schema takes too long on them`
  if (fits) return null
  return (validate.errors ?? []).slice(0, 5).map(describe).join("; ")
}

function compile(schema: string): ValidateFunction | string {
  const known = compiled.get(schema)
  if (known !== undefined) return known
  const validate = compiledOrFault(schema)
  if (compiled.size >= compiledMax)
    for (const oldest of compiled.keys()) {
      compiled.delete(oldest)
      break
    }
  compiled.set(schema, validate)
  return validate
}

/** Intake lets no such schema in; the log may hold what others wrote. */
function compiledOrFault(schema: string): ValidateFunction | string {
  try {
    const validate = new Ajv2020({ strict: false, allErrors: false, validateFormats: false, logger: false }).compile(
      JSON.parse(schema) as object,
    )
    // An asynchronous check answers with a promise, which is true whatever it is of.
    return "$async" in validate ? "the tool's schema cannot be used: it is asynchronous" : validate
  } catch (error) {
    return `the tool's schema cannot be used: ${(error as Error).message}`
  }
}

function describe(error: ErrorObject): string {
  const detail =
    error.keyword === "additionalProperties"
      ? `: ${String((error.params as { additionalProperty?: unknown }).additionalProperty)}`
      : error.keyword === "enum"
        ? `: ${JSON.stringify((error.params as { allowedValues?: unknown }).allowedValues)}`
        : ""
  return `${error.instancePath === "" ? "/" : error.instancePath} ${error.message ?? error.keyword}${detail}`
}

/** The script's own time limit is the one thing that stops such a check; null when it did. */
function withinBudget(check: () => boolean): boolean | null {
  const slot = Symbol.for("reins.argumentsFault")
  const global = globalThis as { [slot: symbol]: unknown }
  global[slot] = check
  try {
    return runInThisContext(`globalThis[Symbol.for("reins.argumentsFault")]()`, { timeout: budgetMs }) as boolean
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") return null
    throw error
  } finally {
    delete global[slot]
  }
}
