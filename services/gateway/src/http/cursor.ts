import type { z } from "zod"
import { invalid } from "./errors.ts"

/** An opaque cursor: where a page ended, of which list. It holds no secret and is checked like any input. */
export function writeCursor(list: string, value: object): string {
  return Buffer.from(JSON.stringify({ list, ...value })).toString("base64url")
}

/** Null where none was given. Throws 400 for one that was made up, or belongs to another list. */
export function readCursor<S extends z.ZodType>(list: string, text: string | undefined, schema: S): z.infer<S> | null {
  if (text === undefined || text === "") return null
  try {
    const { list: of, ...value } = JSON.parse(Buffer.from(text, "base64url").toString("utf8")) as { list?: unknown }
    const parsed = schema.safeParse(value)
    if (of === list && parsed.success) return parsed.data
  } catch {
    // Said below.
  }
  throw invalid("page: this is no cursor of this list. Take next_page of the page before, unchanged.")
}
