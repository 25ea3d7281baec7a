import type { ApiEvent, Overview as OverviewOf, RawRecord, State, Waiting } from "@reins/session"

/** Where an event stands: the place of its record, and its number among the events of that record. */
export interface Place {
  readonly partition: number
  readonly offset: number
  readonly index: number
}

export interface Placed {
  readonly event: ApiEvent
  /** Null for an event that has come without one. */
  readonly place: Place | null
}

export type { RawRecord, State, Waiting }

/** What of the API's session is shown. */
export interface Resource {
  readonly id: string
  readonly title: string | null
  readonly created_at: string
  readonly updated_at: string
  readonly archived_at: string | null
  readonly agent: { readonly id: string; readonly name: string; readonly model: { readonly id: string } }
  readonly usage: {
    readonly input_tokens?: number
    readonly output_tokens?: number
    readonly cache_read_input_tokens?: number
  }
}

export type Overview = OverviewOf<Resource>

interface Page<T> {
  readonly data: readonly T[]
  readonly next_page: string | null
}

/** The gateway refused; `status` 401 asks for a key. */
export class RefusedError extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

const keyName = "reins.key"
const listeners = new Set<() => void>()

/** The key of this tab, gone with it. It is sent as a header by this code and never by the browser, so that no other site can use it. */
export function savedKey(): string | null {
  return sessionStorage.getItem(keyName)
}

export function saveKey(key: string | null): void {
  if (key === null) sessionStorage.removeItem(keyName)
  else sessionStorage.setItem(keyName, key)
}

/** Told whenever the gateway wants a key, or another one. */
export function onRefusedKey(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  const key = savedKey()
  if (key !== null) headers.set("authorization", `Bearer ${key}`)
  const response = await fetch(path, { ...init, headers, credentials: "omit", cache: "no-store" })
  if (response.ok) return response
  if (response.status === 401) for (const listener of listeners) listener()
  throw new RefusedError(response.status, await messageOf(response))
}

async function messageOf(response: Response): Promise<string> {
  try {
    const { error } = (await response.json()) as { readonly error?: { readonly message?: unknown } }
    if (typeof error?.message === "string") return error.message
  } catch {
    // Said below: what answered was no gateway.
  }
  return `The gateway answered with status ${response.status}.`
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, signal === undefined ? {} : { signal })
  return (await response.json()) as T
}

/** A session that tries again is running to whoever looks for what runs; a parked one waits for a person. */
const alsoMeant: Readonly<Record<string, readonly State[]>> = { running: ["running", "rescheduling"], waiting: ["waiting", "parked"] }

export function listSessions(given: {
  readonly search: string
  readonly state: string
  readonly limit: number
  readonly signal: AbortSignal
}): Promise<Page<Overview>> {
  const params = new URLSearchParams({ limit: String(given.limit) })
  if (given.search.trim() !== "") params.set("q", given.search.trim())
  for (const state of alsoMeant[given.state] ?? (given.state === "" ? [] : [given.state])) params.append("states", state)
  return get(`/reins/v1/sessions?${params}`, given.signal)
}

export function getSession(sessionId: string, signal: AbortSignal): Promise<Overview> {
  return get(`/reins/v1/sessions/${encodeURIComponent(sessionId)}`, signal)
}

/** The newest events first, a page at a time. */
export async function listEvents(
  sessionId: string,
  page: string | null,
  signal: AbortSignal,
): Promise<{ readonly events: readonly Placed[]; readonly earlier: string | null }> {
  const params = new URLSearchParams({ order: "desc", limit: "300" })
  if (page !== null) params.set("page", page)
  const { data, next_page: earlier } = await get<Page<Place & { readonly event: ApiEvent }>>(
    `/reins/v1/sessions/${encodeURIComponent(sessionId)}/events?${params}`,
    signal,
  )
  return { events: data.map(({ event, partition, offset, index }) => ({ event, place: { partition, offset, index } })), earlier }
}

export function getRecord(topic: string, place: Place, signal: AbortSignal): Promise<RawRecord> {
  return get(`/reins/v1/records/${encodeURIComponent(topic)}/${place.partition}/${place.offset}`, signal)
}

/** Sends one event of a client. The idempotency key makes two clicks, or a retry on the way, one event. */
export async function send(sessionId: string, event: object): Promise<void> {
  const id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")
  await request(`/v1/sessions/${encodeURIComponent(sessionId)}/events`, {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": id },
    body: JSON.stringify({ events: [event] }),
  })
}
