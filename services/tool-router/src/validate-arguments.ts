import { runInThisContext } from "node:vm"
import { Ajv2020, type ErrorObject, type ValidateFunction } from "ajv/dist/2020.js"

/** Compiled once per schema text; the oldest go first. */
const compiled = new Map<string, ValidateFunction>()
const compiledMax = 2000
/** For schemas with patterns: a regular expression of a stranger may backtrack for ever. */
const patternBudgetMs = 100

/**
 * What is wrong with these arguments by this JSON Schema (2020-12), in words that a model can act on: a pointer and a message each.
 * Null where they fit. Nothing is coerced, nothing is fetched.
 */
export function argumentsFault(schema: string, input: string): string | null {
  const validate = compile(schema)
  const value: unknown = JSON.parse(input)
  const hasPatterns = schema.includes('"pattern')
  const fits = hasPatterns ? withinBudget(() => validate(value)) : validate(value)
  if (fits === null)
    return `The arguments could not be checked within ${patternBudgetMs} ms: a pattern of the tool's schema takes too long on them.`
  if (fits) return null
  return (validate.errors ?? []).slice(0, 5).map(describe).join("; ")
}

function compile(schema: string): ValidateFunction {
  const known = compiled.get(schema)
  if (known !== undefined) return known
  const validate = new Ajv2020({ strict: false, allErrors: false, validateFormats: false, logger: false }).compile(
    JSON.parse(schema) as object,
  )
  if (compiled.size >= compiledMax)
    for (const oldest of compiled.keys()) {
      compiled.delete(oldest)
      break
    }
  compiled.set(schema, validate)
  return validate
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

/** The script's own time limit is the one thing that stops a regular expression; null when it did. */
function withinBudget(check: () => boolean): boolean | null {
  const slot = Symbol.for("reins.argumentsFault")
  const global = globalThis as { [slot: symbol]: unknown }
  global[slot] = check
  try {
    return runInThisContext(`globalThis[Symbol.for("reins.argumentsFault")]()`, { timeout: patternBudgetMs }) as boolean
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") return null
    throw error
  } finally {
    delete global[slot]
  }
}
