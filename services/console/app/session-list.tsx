import type { JSX } from "preact"
import { useEffect, useState } from "preact/hooks"
import { listSessions, type Overview, RefusedError, type State } from "./api.ts"
import { go, type Route, writeRoute } from "./route.ts"
import { StateMark, stateNames } from "./state-mark.tsx"
import { useNow } from "./use-now.ts"
import { age, count, short, visibleProse } from "./visible.ts"
import { Wordmark } from "./wordmark.tsx"

type SessionsRoute = Extract<Route, { readonly view: "sessions" }>

const pollMs = 2000
const pageSize = 50
/** What the filter offers; `rescheduling` is a kind of running to whoever looks for what runs. */
const filters: readonly (readonly [State | "", string])[] = [
  ["", "All"],
  ["running", stateNames.running],
  ["waiting", stateNames.waiting],
  ["idle", stateNames.idle],
  ["ended", stateNames.ended],
]

export function SessionList({ route, forgetKey }: { readonly route: SessionsRoute; readonly forgetKey: (() => void) | null }): JSX.Element {
  const { search, state } = route
  const [limit, setLimit] = useState(pageSize)
  const [found, setFound] = useState<{ readonly sessions: readonly Overview[]; readonly more: boolean } | null>(null)
  const [problem, setProblem] = useState<string | null>(null)

  useEffect(() => {
    document.title = "Sessions · Reins"
  }, [])

  useEffect(() => {
    const abort = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const poll = async (): Promise<void> => {
      try {
        if (document.visibilityState === "visible") {
          const page = await listSessions({ search, state, limit, signal: abort.signal })
          setFound({ sessions: page.data, more: page.next_page !== null })
          setProblem(null)
        }
      } catch (error) {
        if (abort.signal.aborted) return
        setProblem(error instanceof RefusedError ? error.message : "The gateway cannot be reached. This page tries again by itself.")
      }
      if (!abort.signal.aborted) timer = setTimeout(() => void poll(), pollMs)
    }
    // The first look waits for whoever still types.
    timer = setTimeout(() => void poll(), found === null ? 0 : 120)
    const seen = (): void => {
      if (document.visibilityState !== "visible") return
      clearTimeout(timer)
      void poll()
    }
    document.addEventListener("visibilitychange", seen)
    return () => {
      abort.abort()
      clearTimeout(timer)
      document.removeEventListener("visibilitychange", seen)
    }
  }, [search, state, limit])

  const now = useNow(5000)
  const filtered = search.trim() !== "" || state !== ""
  return (
    <div class="page">
      <header class="top">
        <Wordmark />
        {forgetKey !== null && (
          <button class="quiet" type="button" onClick={forgetKey}>
            Forget the key
          </button>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        <h1>Sessions</h1>
        <div class="tools">
          <fieldset class="filter">
            <legend class="hidden">Status</legend>
            {filters.map(([value, name]) => (
              <label key={value}>
                <input type="radio" name="state" checked={state === value} onChange={() => go({ ...route, state: value }, "replace")} />
                <span>{name}</span>
              </label>
            ))}
          </fieldset>
          <input
            class="search"
            type="search"
            placeholder="Search id, title, agent"
            aria-label="Search by id, title or agent"
            value={search}
            onInput={(event) => go({ ...route, search: event.currentTarget.value }, "replace")}
          />
        </div>
        {problem !== null && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        {found !== null && found.sessions.length === 0 && (filtered ? <p class="empty">No session fits.</p> : <FirstSteps />)}
        {found !== null && found.sessions.length > 0 && (
          <>
            <div class="columns" aria-hidden="true">
              <span>Status</span>
              <span>Session</span>
              <span>Waits for</span>
              <span class="figure">Tokens</span>
              <span class="figure">Age</span>
            </div>
            <ul class="sessions">
              {found.sessions.map((overview) => (
                <Row key={overview.session.id} overview={overview} now={now} />
              ))}
            </ul>
          </>
        )}
        {found?.more === true && (
          <button class="more" type="button" disabled={limit >= 200} onClick={() => setLimit(Math.min(200, limit + pageSize))}>
            {limit >= 200 ? "Search to find older ones" : "Show more"}
          </button>
        )}
      </main>
    </div>
  )
}

function Row({ overview, now }: { readonly overview: Overview; readonly now: number }): JSX.Element {
  const { session, state, waiting_for: waiting, excerpt } = overview
  const input = (session.usage.input_tokens ?? 0) + (session.usage.cache_read_input_tokens ?? 0)
  const output = session.usage.output_tokens ?? 0
  const name = session.title ?? excerpt ?? session.id
  return (
    <li>
      <a class="row" href={writeRoute({ view: "session", sessionId: session.id, event: null, all: false })}>
        <StateMark state={state} />
        <span class="what">
          <strong>{visibleProse(name)}</strong>
          <span class="sub">
            <span>{visibleProse(session.agent.name)}</span>
            <span>{session.agent.model.id}</span>
            <code>{session.id}</code>
          </span>
        </span>
        <span class="waits">{waitsFor(waiting)}</span>
        <span class="figure tokens" title={`${count(input)} tokens in, ${count(output)} out`}>
          {short(input + output)}
          <span class="unit"> tokens</span>
        </span>
        <time class="figure" dateTime={session.created_at} title={session.created_at}>
          {age(now - Date.parse(session.created_at))}
        </time>
      </a>
    </li>
  )
}

function waitsFor(waiting: Overview["waiting_for"]): string {
  const [first, ...others] = waiting
  if (first === undefined) return ""
  const more = others.length === 0 ? "" : ` and ${others.length} more`
  switch (first.reason) {
    case "approval":
      return `approval of ${visibleProse(first.tool)}${more}`
    case "client":
      return `the client: ${visibleProse(first.tool)}${more}`
    case "outcome_unknown":
      return `word on ${visibleProse(first.tool)}${more}`
    default:
      return first.reason satisfies never
  }
}

function FirstSteps(): JSX.Element {
  return (
    <div class="empty">
      <p>Nothing has run yet. A session begins with a sentence:</p>
      <pre>npx reins run "What is 17 * 23, and what time is it in Tokyo?"</pre>
      <p>or with the official SDK, its baseURL pointed here. It appears on this page by itself.</p>
    </div>
  )
}
