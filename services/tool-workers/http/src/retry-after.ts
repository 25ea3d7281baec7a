import { retryMs } from "./config.ts"

/** What a Retry-After asks for, in milliseconds, or null where there is none that can be read. `date` is the server's own clock. */
export function retryAfterOf(value: string | undefined, date: string | undefined, nowMs: number): number | null {
  if (value === undefined) return null
  const text = value.trim()
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const until = Date.parse(text)
  if (!/[a-z]/i.test(text) || Number.isNaN(until)) return null
  const serverNowMs = date === undefined ? Number.NaN : Date.parse(date)
  return Math.max(0, until - (Number.isNaN(serverNowMs) ? nowMs : serverNowMs))
}

/** The wait where the server names none: doubling, spread so that calls that failed together do not come back together. */
export function spreadRetryMs(attempt: number, chance: number): number {
  const base = Math.min(30_000, retryMs * 2 ** Math.max(0, attempt - 1))
  return Math.round(base * (0.5 + chance))
}
