import type { Context } from "hono"
import type { z } from "zod"
import { anyTime, type TimeRange } from "../time-range.ts"
import type { Env } from "./context.ts"
import { invalid } from "./errors.ts"

type Ctx = Context<Env>

/** Parses what a client gave, or says with a pointer what is wrong with it. */
export function parse<T extends z.ZodType>(schema: T, value: unknown, place = ""): z.infer<T> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const pointer = [place, ...(issue?.path ?? [])].filter((part) => part !== "").join("/")
  throw invalid(
    `${pointer === "" ? "body" : pointer}: ${issue?.message ?? "invalid"}`,
    pointer.split("/", 1)[0] === "metadata" ? { error_code: "invalid_metadata" } : undefined,
  )
}

export function param(c: Ctx, name: string): string {
  return c.req.param(name) ?? ""
}

/** A list in a query, as the SDK writes it (`name[]=`) or without brackets. */
export function several(c: Ctx, name: string): readonly string[] {
  return [...(c.req.queries(`${name}[]`) ?? []), ...(c.req.queries(name) ?? [])]
}

export function flag(c: Ctx, name: string): boolean {
  return c.req.query(name) === "true"
}

export function oneOf<T extends string>(c: Ctx, name: string, values: readonly T[], otherwise: T): T {
  const given = c.req.query(name) ?? otherwise
  const value = values.find((one) => one === given)
  if (value === undefined) throw invalid(`${name}: must be one of ${values.join(", ")}.`)
  return value
}

export function integer(text: string, name: string): number {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) throw invalid(`${name}: must be an integer.`)
  return value
}

export function limitOf(c: Ctx, otherwise: number, most: number): number {
  const given = c.req.query("limit")
  if (given === undefined) return otherwise
  const limit = integer(given, "limit")
  if (limit < 1) throw invalid("limit: must be at least 1.")
  return Math.min(limit, most)
}

/** `created_at[gt|gte|lt|lte]` as inclusive bounds in milliseconds. */
export function timeRange(c: Ctx): TimeRange {
  let { from, to } = anyTime
  for (const operator of ["gt", "gte", "lt", "lte"]) {
    const given = c.req.query(`created_at[${operator}]`)
    if (given === undefined) continue
    const time = Date.parse(given)
    if (Number.isNaN(time)) throw invalid(`created_at[${operator}]: must be a time in ISO 8601.`)
    if (operator === "gt") from = Math.max(from, Math.floor(time) + 1)
    if (operator === "gte") from = Math.max(from, Math.ceil(time))
    if (operator === "lt") to = Math.min(to, Math.ceil(time) - 1)
    if (operator === "lte") to = Math.min(to, Math.floor(time))
  }
  return { from, to }
}
