import type { LogRecord } from "@reins/log"
import type { Decoded } from "@reins/log/codec"

/**
 * Which of these sessions a record outside the session log belongs to, by whatever its writer has given: header, key, its value, or, for the
 * start of a session without an id, the place that its id was made from.
 */
export function sessionOf(record: LogRecord, sessions: ReadonlySet<string>, decode: (value: Uint8Array) => Decoded): string | null {
  const { topic, partition, offset, key, value, headers } = record
  const candidates = [headers["session"], headers["reins-session-id"], key, key?.slice(0, Math.max(0, key.lastIndexOf("/")))]
  for (const candidate of candidates) if (candidate !== undefined && candidate !== null && sessions.has(candidate)) return candidate
  const made = `sesn_${topic}-${partition}-${offset}`.replace(/[^\x21-\x7e]/g, "_")
  if (sessions.has(made)) return made
  if (value === null || headers["session"] !== undefined) return null
  const said = saidIn(value, decode)
  return typeof said === "string" && sessions.has(said) ? said : null
}

function saidIn(value: Uint8Array, decode: (value: Uint8Array) => Decoded): unknown {
  const decoded = decode(value)
  if (decoded.ok) return (decoded.said as { readonly sessionId?: unknown }).sessionId
  try {
    const said: unknown = JSON.parse(Buffer.from(value).toString("utf8"))
    return typeof said === "object" && said !== null ? (said as { readonly sessionId?: unknown }).sessionId : undefined
  } catch {
    return undefined
  }
}
