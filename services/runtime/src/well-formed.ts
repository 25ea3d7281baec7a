/**
 * A fact as it will be read back. UTF-8 has no half of a surrogate pair (a message cut in the middle of an emoji ends with one): the
 * bytes would hold another character, and who folds at the acknowledgement (design rule 18) another state than who reads.
 */
export function wellFormed<T>(value: T): T {
  if (typeof value === "string") return (value.isWellFormed() ? value : value.toWellFormed()) as T
  if (typeof value !== "object" || value === null) return value
  let changed: Record<string, unknown> | null = null
  for (const [name, item] of Object.entries(value)) {
    const mended: unknown = wellFormed(item)
    if (mended === item) continue
    changed ??= (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>
    changed[name] = mended
  }
  return (changed ?? value) as T
}
