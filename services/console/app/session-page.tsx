import type { JSX } from "preact"
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks"
import { type Overview, send } from "./api.ts"
import { RecordPanel } from "./record-panel.tsx"
import { go, type Route } from "./route.ts"
import { StateMark } from "./state-mark.tsx"
import { transcript } from "./transcript.ts"
import { TranscriptView } from "./transcript-view.tsx"
import { useNow } from "./use-now.ts"
import { useSending } from "./use-sending.ts"
import { useSession } from "./use-session.ts"
import { age, count, visibleProse } from "./visible.ts"
import { Wordmark } from "./wordmark.tsx"

type SessionRoute = Extract<Route, { readonly view: "session" }>

/** So near to its end, a page follows what is added. */
const nearPx = 160
/** So long after something came, a page that grows grows because of it. */
const settleMs = 1000
/** So far down, the title is out of sight and stands in the bar above. */
const headPx = 120

/** One session: what was said and done, live, and what a person can do about it. */
export function SessionPage({ route }: { readonly route: SessionRoute }): JSX.Element {
  const { sessionId } = route
  const session = useSession(sessionId)
  const { overview, events, previews, connection } = session
  const entries = useMemo(() => transcript(events, { all: route.all }), [events, route.all])
  const { atEnd, isPast, toEnd } = useFollowing(`${events.length} ${previews.map(({ text }) => text.length).join()}`, route.event === null)
  const title = titleOf(overview) ?? sessionId

  useEffect(() => {
    document.title = `${title.slice(0, 60)} · Reins`
  }, [title])

  // Stable, so that the turns that have not changed are not drawn again.
  const routeNow = useRef(route)
  routeNow.current = route
  const inspect = useCallback((event: string) => go({ ...routeNow.current, event }, "replace"), [])
  const inspected = route.event === null ? null : (events.find(({ event }) => event.id === route.event) ?? null)

  if (session.problem !== null) return <Missing sessionId={sessionId} problem={session.problem} />
  return (
    <div class={`page${route.event === null ? "" : " with-panel"}`}>
      <header class={`top stays${isPast ? " over" : ""}`}>
        <Wordmark />
        <nav aria-label="Where you are">
          <a href="#/sessions">Sessions</a>
        </nav>
        {isPast && overview !== null && (
          <>
            <span class="here" aria-hidden="true">
              {title}
            </span>
            <StateMark state={overview.state} />
          </>
        )}
        <span class={`connection connection-${connection}`} role="status">
          {connection === "live" ? "Live" : connection === "lost" ? "Reconnecting…" : "Opening…"}
        </span>
      </header>
      <main id="main" class="session" tabIndex={-1}>
        {overview !== null && <Head overview={overview} title={title} route={route} />}
        {session.hasEarlier && <Earlier load={session.loadEarlier} />}
        <TranscriptView
          sessionId={sessionId}
          entries={entries}
          whole={!session.hasEarlier}
          previews={previews}
          waiting={overview?.waiting_for ?? []}
          running={overview?.state === "running" || overview?.state === "rescheduling"}
          inspected={route.event}
          inspect={inspect}
        />
        {overview !== null && connection !== "opening" && events.length === 0 && <p class="empty">Nothing has been said yet.</p>}
        {overview !== null && <Foot overview={overview} />}
      </main>
      {!atEnd && (
        <button class="to-end" type="button" onClick={toEnd}>
          To the end ↓
        </button>
      )}
      {route.event !== null && inspected !== null && overview !== null && (
        <RecordPanel key={route.event} topic={overview.topic} placed={inspected} close={() => go({ ...route, event: null }, "replace")} />
      )}
    </div>
  )
}

function titleOf(overview: Overview | null): string | null {
  const title = overview?.session.title ?? overview?.excerpt ?? null
  return title === null ? null : visibleProse(title)
}

function began(ms: number): string {
  const word = age(ms)
  return word === "now" ? "just begun" : `began ${word} ago`
}

function Head({
  overview,
  title,
  route,
}: {
  readonly overview: Overview
  readonly title: string
  readonly route: SessionRoute
}): JSX.Element {
  const { session, state, turns, reason } = overview
  const { usage } = session
  const now = useNow(10_000)
  const cached = usage.cache_read_input_tokens ?? 0
  return (
    <header class="head">
      <h1>{title}</h1>
      <p class="facts">
        <StateMark state={state} />
        {state === "idle" && reason !== null && <span>{reason.replaceAll("_", " ")}</span>}
        <span>{visibleProse(session.agent.name)}</span>
        <span>{session.agent.model.id}</span>
        <span>
          {count(turns)} {turns === 1 ? "turn" : "turns"}
        </span>
        <span>
          {count((usage.input_tokens ?? 0) + cached)} tokens in{cached > 0 ? ` (${count(cached)} cached)` : ""},{" "}
          {count(usage.output_tokens ?? 0)} out
        </span>
        <span title={session.created_at}>{began(now - Date.parse(session.created_at))}</span>
        <code>{session.id}</code>
      </p>
      {state === "parked" && reason !== null && (
        <p class="problem">Parked: {visibleProse(reason)} Nothing runs until somebody resumes or ends it.</p>
      )}
      <label class="switch">
        <input type="checkbox" checked={route.all} onChange={() => go({ ...route, all: !route.all }, "replace")} />
        <span>Show every event</span>
      </label>
    </header>
  )
}

function Earlier({ load }: { readonly load: () => Promise<void> }): JSX.Element {
  const [loading, setLoading] = useState(false)
  return (
    <button
      class="more"
      type="button"
      disabled={loading}
      onClick={() => {
        setLoading(true)
        // What is read stays where it is while pages are put in above it.
        const fromEnd = document.documentElement.scrollHeight - scrollY
        // What cannot be loaded now can be asked for again: the button is still there.
        void load()
          .catch(() => undefined)
          .then(() => {
            setLoading(false)
            requestAnimationFrame(() => scrollTo({ top: document.documentElement.scrollHeight - fromEnd, behavior: "instant" }))
          })
      }}
    >
      {loading ? "Loading…" : "Load earlier"}
    </button>
  )
}

/** What can be done now: interrupt what runs, answer what waits (in its place above), or say something. */
function Foot({ overview }: { readonly overview: Overview }): JSX.Element | null {
  const { session, state } = overview
  switch (state) {
    case "running":
    case "rescheduling":
    case "waiting":
      return <Interrupt sessionId={session.id} state={state} />
    case "idle":
      return <SendBox sessionId={session.id} />
    case "parked":
      return null
    case "ended":
      return <p class="ended">{session.archived_at === null ? "This session has ended." : "This session is archived."} Its log stays.</p>
    default:
      return state satisfies never
  }
}

function Interrupt({ sessionId, state }: { readonly sessionId: string; readonly state: string }): JSX.Element {
  const { busy, problem, run } = useSending()
  return (
    <div class="foot">
      <p>
        {state === "waiting" ? "It waits for the answers above." : state === "rescheduling" ? "The model is asked again soon." : "Working…"}
      </p>
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <button type="button" disabled={busy} onClick={() => void run(() => send(sessionId, { type: "user.interrupt" }))}>
        Interrupt
      </button>
    </div>
  )
}

function SendBox({ sessionId }: { readonly sessionId: string }): JSX.Element {
  const [text, setText] = useState("")
  const { busy, problem, run } = useSending()
  const submit = (): void => {
    if (text.trim() === "" || busy) return
    void run(async () => {
      await send(sessionId, { type: "user.message", content: [{ type: "text", text }] })
      setText("")
    })
  }
  return (
    <form
      class="foot send"
      onSubmit={(event) => {
        event.preventDefault()
        submit()
      }}
    >
      <textarea
        rows={Math.min(8, text.split("\n").length + 1)}
        aria-label="Message"
        placeholder="Say what is next"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return
          event.preventDefault()
          submit()
        }}
      />
      <button class="primary" type="submit" disabled={busy || text.trim() === ""}>
        Send
      </button>
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  )
}

/** Whoever is at the end stays there; whoever reads further up is left alone. */
function useFollowing(what: string, follows: boolean): { readonly atEnd: boolean; readonly isPast: boolean; readonly toEnd: () => void } {
  const [atEnd, setAtEnd] = useState(true)
  const [isPast, setPast] = useState(false)
  const near = useRef(true)
  const settled = useRef(0)
  const toEnd = useCallback(() => scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" }), [])
  useEffect(() => {
    let last = scrollY
    const scrolled = (): void => {
      const isNear = document.documentElement.scrollHeight - scrollY - innerHeight < nearPx
      // What grows moves the end away from who is there; only who goes up has left it.
      near.current = isNear || (near.current && scrollY >= last)
      last = scrollY
      setAtEnd(isNear)
      setPast(scrollY > headPx)
    }
    addEventListener("scroll", scrolled, { passive: true })
    // What is added is laid out bit by bit; what a person unfolds later is not followed.
    const growing = new ResizeObserver(() => {
      if (near.current && performance.now() < settled.current) toEnd()
    })
    growing.observe(document.body)
    return () => {
      removeEventListener("scroll", scrolled)
      growing.disconnect()
    }
  }, [])
  useLayoutEffect(() => {
    if (!near.current || !follows) return
    settled.current = performance.now() + settleMs
    toEnd()
  }, [what, follows])
  return { atEnd, isPast, toEnd }
}

function Missing({ sessionId, problem }: { readonly sessionId: string; readonly problem: string }): JSX.Element {
  return (
    <div class="page">
      <header class="top">
        <Wordmark />
      </header>
      <main id="main" class="session" tabIndex={-1}>
        <h1>Not found</h1>
        <p>
          {problem} <code>{sessionId}</code>
        </p>
        <p>
          <a href="#/sessions">All sessions</a>
        </p>
      </main>
    </div>
  )
}
