/** What is wrong with a worker's result as content for the model, or null: it must be a JSON string or an array of content blocks. */
export function resultFault(
  content: string | null,
  charactersMax: number,
): { readonly kind: "malformed_output" | "output_too_large"; readonly message: string } | null {
  if (content === null) return { kind: "malformed_output", message: "it gave no content." }
  if (content.length > charactersMax)
    return { kind: "output_too_large", message: `its result of ${content.length} characters is larger than the ${charactersMax} that fit.` }
  let value: unknown
  try {
    value = JSON.parse(content)
  } catch (error) {
    return { kind: "malformed_output", message: `its result is not JSON: ${(error as Error).message}` }
  }
  if (typeof value === "string") return null
  const isBlock = (item: unknown): boolean =>
    typeof item === "object" && item !== null && typeof (item as { type?: unknown }).type === "string"
  if (Array.isArray(value) && value.every(isBlock)) return null
  return { kind: "malformed_output", message: "its result is neither a JSON string nor an array of content blocks." }
}
