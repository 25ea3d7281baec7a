import { validateHeaderValue } from "node:http"
import { canonicalJson, type HttpSettings, httpSettings } from "@reins/events"
import { type ToolContext, ToolError } from "@reins/worker-kit"
import { urlLengthMax } from "./config.ts"

/** What is sent. */
export interface Request {
  readonly method: HttpSettings["method"]
  readonly url: URL
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
}

/** Of the connection, not of the request: whoever could set them could say where one request ends and the next begins. */
const ofTheConnection = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
])
/** Reins writes these itself. */
const ours = new Set(["idempotency-key", "traceparent", "tracestate"])

const placeholder = /\{([^{}]+)\}/g
/** In a header only what looks like a name is one: a header may hold JSON. */
const headerPlaceholder = /\{([\w.-]+)\}/g

/**
 * The request for these arguments. `{x}` in path, query and header values takes argument x; the others become the query (GET, HEAD,
 * DELETE) or the JSON body. Throws a ToolError that says what does not fit; then nothing was sent.
 */
export function requestOf(settings: string | null, input: unknown, context: ToolContext): Request {
  const { method, url: template, headers = {} } = readSettings(settings)
  const given = new Arguments(input)
  const { origin, path, query } = partsOf(template)
  const target = origin + filledPath(path, given) + filledQuery(query, given)
  const sent = headersOf(headers, given, context)
  const rest = given.rest()
  const inQuery = method === "GET" || method === "HEAD" || method === "DELETE"
  const full = inQuery ? withQuery(target, rest) : target
  if (full.length > urlLengthMax)
    throw refusal(`The URL with its arguments has ${full.length} characters; at most ${urlLengthMax} are sent.`)
  if (inQuery) return { method, url: new URL(full), headers: sent, body: null }
  return { method, url: new URL(full), headers: { "content-type": "application/json", ...sent }, body: canonicalJson(rest) }
}

function refusal(message: string): ToolError {
  return new ToolError(message, { kind: "validation", effect: "none" })
}

function readSettings(settings: string | null): HttpSettings {
  const parsed = httpSettings.safeParse(settings === null ? undefined : JSON.parse(settings))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw refusal(`The agent's http settings for this tool cannot be used: ${issue?.path.join("/") ?? ""} ${issue?.message}.`)
}

/** The arguments, and which of them have found their place. */
class Arguments {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #taken = new Set<string>()

  constructor(input: unknown) {
    if (typeof input !== "object" || input === null || Array.isArray(input)) throw refusal("The arguments are no JSON object.")
    this.#values = input as Record<string, unknown>
  }

  /** The argument as text for its place in the template. */
  take(name: string, place: string): string {
    const value = Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
    if (value === undefined) throw refusal(`The argument ${name} is missing: it has a place in the ${place}.`)
    if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean")
      throw refusal(`The argument ${name} has a place in the ${place}, so it must be a string, a number or a boolean.`)
    this.#taken.add(name)
    return String(value)
  }

  rest(): Record<string, unknown> {
    return Object.fromEntries(Object.entries(this.#values).filter(([name]) => !this.#taken.has(name)))
  }
}

/** The template in three: no argument ever reaches scheme, user, host or port. */
function partsOf(template: string): { readonly origin: string; readonly path: string; readonly query: string } {
  const cannot = (why: string): ToolError => refusal(`The agent's URL for this tool cannot be used: ${why}.`)
  // A URL parser drops some of these and reads a backslash as a slash.
  // oxlint-disable-next-line no-control-regex
  if (/[\s\\\u0000-\u001f\u007f]/.test(template)) throw cannot("it holds white space, a control character or a backslash")
  const match = /^([a-z][a-z0-9+.-]*:\/\/[^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?$/i.exec(template)
  const [, origin = "", path = "", query = "", fragment] = match ?? []
  if (match === null) throw cannot("it does not begin with http:// or https:// and a host")
  if (/[{}]/.test(origin)) throw cannot("arguments have their place in path and query, never in scheme or host")
  if (fragment !== undefined) throw cannot("a fragment is never sent")
  if (/[{}]/.test((path + query).replace(placeholder, ""))) throw cannot("a brace has no partner")
  if (!URL.canParse(origin)) throw cannot("its host cannot be read")
  return { origin, path, query }
}

function filledPath(path: string, given: Arguments): string {
  return path
    .split("/")
    .map((segment) => {
      if (!segment.includes("{")) return segment
      const plain = segment.replace(placeholder, (_, name: string) => {
        const value = given.take(name, "path of the URL")
        if (value === "") throw refusal(`The argument ${name} is empty, and it has a place in the path of the URL.`)
        return value
      })
      if (climbs(plain))
        throw refusal(`The arguments make ${JSON.stringify(plain)} of a part of the URL's path, which would lead elsewhere.`)
      return segment.replace(placeholder, (_, name: string) => encode(given.take(name, "path of the URL")))
    })
    .join("/")
}

/** Whether a server that decodes what it gets could read a step to another folder. */
function climbs(segment: string): boolean {
  const decoded = segment.replace(/%2e/gi, ".").replace(/%2f|%5c|\\/gi, "/")
  return decoded.split("/").some((part) => part === "." || part === "..")
}

function filledQuery(query: string, given: Arguments): string {
  return query.replace(placeholder, (_, name: string) => encode(given.take(name, "query of the URL")))
}

function withQuery(url: string, rest: Readonly<Record<string, unknown>>): string {
  const pairs: string[] = []
  for (const [name, value] of Object.entries(rest)) {
    // An array stands for its items, each under the same name; what is null is left out.
    for (const item of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (item === null) continue
      pairs.push(`${encode(name)}=${encode(typeof item === "string" ? item : canonicalJson(item))}`)
    }
  }
  if (pairs.length === 0) return url
  const joint = !url.includes("?") ? "?" : /[?&]$/.test(url) ? "" : "&"
  return url + joint + pairs.join("&")
}

function encode(value: string): string {
  try {
    return encodeURIComponent(value)
  } catch (error) {
    throw new ToolError("An argument for the URL holds half a character (a lone surrogate).", {
      kind: "validation",
      effect: "none",
      cause: error,
    })
  }
}

function headersOf(template: Readonly<Record<string, string>>, given: Arguments, context: ToolContext): Record<string, string> {
  const headers: Record<string, string> = {
    accept: "application/json, text/*;q=0.9, */*;q=0.5",
    "accept-encoding": "identity",
    "user-agent": "reins",
  }
  for (const [name, value] of Object.entries(template)) {
    const lower = name.toLowerCase()
    if (ofTheConnection.has(lower) || ours.has(lower))
      throw refusal(
        `The agent's header ${name} for this tool cannot be set: ${ours.has(lower) ? "Reins writes it" : "it belongs to the connection"}.`,
      )
    const filled = value.replace(headerPlaceholder, (_, argument: string) => given.take(argument, `header ${name}`))
    try {
      validateHeaderValue(name, filled)
    } catch (error) {
      // Without the value: it may be a secret.
      throw new ToolError(`The value of the header ${name} holds a line break or another character that no header may hold.`, {
        kind: "validation",
        effect: "none",
        cause: error,
      })
    }
    headers[lower] = filled
  }
  headers["idempotency-key"] = headerText(context.idempotencyKey)
  if (context.traceparent !== null && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-|$)/.test(context.traceparent))
    headers["traceparent"] = headerText(context.traceparent)
  return headers
}

/** A session's id may be any text; what a header cannot hold is percent-encoded, and so is the percent sign, so that no two ids meet. */
function headerText(text: string): string {
  return text.toWellFormed().replace(/[^\u0021-\u007e]|%/gu, (character) => encodeURIComponent(character))
}
