import { z } from "zod"

/** Arbitrary JSON as a JSON string: what no schema of ours may restrict or reorder (tool arguments, results, provider messages). */
export const json = () => z.string().meta({ content: "json" })

/** Whether a field is one of those, wherever it may be left out. */
export function isJsonField(schema: z.ZodType): boolean {
  if ((schema.meta() as { content?: string } | undefined)?.content === "json") return true
  const { innerType } = (schema as unknown as { _zod: { def: { innerType?: z.ZodType } } })._zod.def
  return innerType !== undefined && isJsonField(innerType)
}

/** Ten years: longer is a mistake, and a time that far away could not be written as a number any more. */
const durationMaxMs = 3650 * 86_400_000

/** A duration in milliseconds, counted from the timestamp that the log gave the record that carries it (design rule 11). */
export const durationMs = () => z.int().nonnegative().max(durationMaxMs)

/** A count. */
export const count = () => z.int().nonnegative()

/** Lower-case hex of a SHA-256. */
export const sha256 = () => z.string().regex(/^[0-9a-f]{64}$/)

/** What may happen twice, declared per tool (design section 5). `unsafe` is the default: the safe side. */
export const effectClass = z.enum(["pure", "idempotent", "keyed", "queryable", "unsafe"])
export type EffectClass = z.infer<typeof effectClass>

/** Whether a failed attempt left an effect behind. */
export const effectDone = z.enum(["none", "maybe", "done"])
export type EffectDone = z.infer<typeof effectDone>

/** Where a command stood: facts that intake appends carry it, and the fold keeps the highest per partition (design rule 15). */
export const commandPosition = z.object({ partition: count(), offset: count() })
