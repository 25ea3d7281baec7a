import type { IncomingMessage } from "node:http"
import { ApiError, invalid } from "./errors.ts"

/** Longest body of a request, as the hosted API has it. */
export const bodyMaxBytes: number = 32 * 1024 * 1024
/** Deepest JSON. */
const depthMax = 100

/** Reads a body, and stops reading where it is too long: what comes after is not even waited for. */
export async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const tooLong = (): ApiError =>
    new ApiError(413, "request_too_large", `A request may have ${bodyMaxBytes} bytes.`, { headers: { connection: "close" } })
  if (Number(request.headers["content-length"] ?? 0) > bodyMaxBytes) throw tooLong()
  const encoding = request.headers["content-encoding"]
  if (encoding !== undefined && encoding !== "identity")
    throw invalid(`content-encoding: ${encoding} is not taken; send the body as it is.`)
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > bodyMaxBytes) throw tooLong()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** JSON as a request may hold it: UTF-8 without a mark, not too deep, no name twice, no name that reaches into objects. */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw invalid("body: not UTF-8.")
  }
  if (text.startsWith("\u{feff}")) throw invalid("body: begins with a byte order mark; leave it out.")
  checkStructure(text)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(`body: not JSON: ${(error as Error).message}`)
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("body: must be a JSON object.")
  return value
}

const forbidden: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"])

/**
 * What JSON.parse lets pass: depth, the same name twice in an object, names that reach into prototypes, halves of surrogate pairs, numbers
 * that are none. One pass over the text, no recursion; what is no JSON at all is left to the parser to name.
 */
function checkStructure(text: string): void {
  const names: (Set<string> | null)[] = []
  let expectsName = false
  const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|-?\d[\d.eE+-]*/gs
  for (const [part] of text.matchAll(token)) {
    const first = part.charCodeAt(0)
    if (part === "{" || part === "[") {
      if (names.length >= depthMax) throw invalid(`body: nests deeper than ${depthMax}.`)
      names.push(part === "{" ? new Set() : null)
      expectsName = part === "{"
    } else if (part === "}" || part === "]") {
      names.pop()
      expectsName = false
    } else if (part === ",") expectsName = names.at(-1) instanceof Set
    else if (part === ":") expectsName = false
    else if (first === 0x22) checkString(part, expectsName ? names.at(-1) : null)
    else if (!Number.isFinite(Number(part))) throw invalid(`body: ${part.slice(0, 40)} is no number that can be kept.`)
  }
}

function checkString(quoted: string, names: Set<string> | null | undefined): void {
  let value: string
  try {
    value = JSON.parse(quoted) as string
  } catch {
    return
  }
  if (!value.isWellFormed()) throw invalid("body: holds half of a surrogate pair; send whole characters.")
  if (names === null || names === undefined) return
  if (forbidden.has(value)) throw invalid(`body: a field may not be called ${value}.`)
  if (names.has(value)) throw invalid(`body: the field ${value.slice(0, 100)} stands twice in one object.`)
  names.add(value)
}
