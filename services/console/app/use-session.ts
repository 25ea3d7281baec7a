import type { ApiEvent } from "@reins/session"
import { useEffect, useRef, useState } from "preact/hooks"
import { getSession, listEvents, type Overview, type Place, type Placed, RefusedError, request } from "./api.ts"
import { FrameParser } from "./server-sent-events.ts"
import { Previews, Timeline } from "./timeline.ts"

/** What is known of a session, and how it is kept up to date. */
export interface SessionState {
  readonly overview: Overview | null
  readonly events: readonly Placed[]
  readonly previews: Previews["shown"]
  /** There are events before these. */
  readonly hasEarlier: boolean
  readonly loadEarlier: () => Promise<void>
  readonly connection: "opening" | "live" | "lost"
  /** Why it cannot be shown: there is none, or it is another tenant's. */
  readonly problem: string | null
}

const retryFirstMs = 500
const retryMaxMs = 5000
/** The overview also changes where no event is said, as when a call begins to wait beside another that runs. */
const overviewEveryMs = 2000
/** Several events come at once; one look serves them all. */
const overviewSoonMs = 60

/**
 * Follows a session: the stream is opened first and the newest page is read then, so that nothing falls between the two; what comes twice
 * is one event. A stream that ends is opened again from the last place seen.
 */
export function useSession(sessionId: string): SessionState {
  const [version, setVersion] = useState(0)
  const [overview, setOverview] = useState<Overview | null>(null)
  const [connection, setConnection] = useState<SessionState["connection"]>("opening")
  const [problem, setProblem] = useState<string | null>(null)
  const [earlier, setEarlier] = useState<string | null>(null)
  const held = useRef<{ timeline: Timeline; previews: Previews; abort: AbortController } | null>(null)

  useEffect(() => {
    const timeline = new Timeline()
    const previews = new Previews()
    const abort = new AbortController()
    const { signal } = abort
    held.current = { timeline, previews, abort }
    setOverview(null)
    setProblem(null)
    setEarlier(null)
    setConnection("opening")

    // One paint for all that came since the last one.
    let painting = 0
    const paint = (): void => {
      if (painting !== 0) return
      painting = 1
      const once = (): void => {
        painting = 0
        if (!signal.aborted) setVersion((n) => n + 1)
      }
      // A page in the background paints nothing, and would keep what came to itself.
      if (document.visibilityState === "visible") requestAnimationFrame(once)
      else setTimeout(once, 100)
    }

    let looking: ReturnType<typeof setTimeout> | undefined
    const look = async (): Promise<void> => {
      try {
        const now = await getSession(sessionId, signal)
        if (!signal.aborted) setOverview(now)
      } catch (error) {
        if (!signal.aborted && error instanceof RefusedError && error.status === 404) setProblem("There is no session with this id.")
      }
    }
    const lookSoon = (): void => {
      clearTimeout(looking)
      looking = setTimeout(() => void look(), overviewSoonMs)
    }
    const regularly = setInterval(() => {
      if (document.visibilityState === "visible") void look()
    }, overviewEveryMs)

    const heard = (name: string, id: string, data: string): void => {
      const event = JSON.parse(data) as ApiEvent
      if (name === "event_start" || name === "event_delta") previews.push(event)
      else {
        timeline.add([{ event, place: placeOf(id) }])
        previews.settle(event)
        lookSoon()
      }
      paint()
    }

    void (async () => {
      let retryMs = retryFirstMs
      while (!signal.aborted) {
        try {
          const newest = timeline.newest
          const opened = await request(
            `/v1/sessions/${encodeURIComponent(sessionId)}/events/stream?event_deltas[]=agent.message&event_deltas[]=agent.thinking`,
            { signal, headers: newest === null ? {} : { "last-event-id": `${newest.partition}.${newest.offset}.${newest.index}` } },
          )
          retryMs = retryFirstMs
          if (newest === null) {
            const page = await listEvents(sessionId, null, signal)
            timeline.add(page.events)
            setEarlier(page.earlier)
          }
          await look()
          setConnection("live")
          paint()
          await readFrames(opened, signal, heard)
        } catch (error) {
          if (signal.aborted) return
          if (error instanceof RefusedError && error.status === 404) {
            setProblem("There is no session with this id.")
            return
          }
          // Another key is asked for; with it, all of this begins again.
          if (error instanceof RefusedError && error.status === 401) return
        }
        if (signal.aborted) return
        setConnection("lost")
        await new Promise((resolve) => setTimeout(resolve, retryMs))
        retryMs = Math.min(retryMaxMs, retryMs * 2)
      }
    })()

    return () => {
      abort.abort()
      clearTimeout(looking)
      clearInterval(regularly)
    }
  }, [sessionId])

  const current = held.current
  return {
    overview,
    events: version >= 0 && current !== null ? current.timeline.events : [],
    previews: current?.previews.shown ?? [],
    hasEarlier: earlier !== null,
    loadEarlier: async () => {
      if (earlier === null || current === null) return
      const page = await listEvents(sessionId, earlier, current.abort.signal)
      current.timeline.add(page.events)
      setEarlier(page.earlier)
    },
    connection,
    problem,
  }
}

async function readFrames(response: Response, signal: AbortSignal, heard: (name: string, id: string, data: string) => void): Promise<void> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  const parser = new FrameParser()
  const decoder = new TextDecoder()
  for (;;) {
    const { done, value } = await reader.read()
    if (done || signal.aborted) return
    for (const { event, id, data } of parser.push(decoder.decode(value, { stream: true }))) heard(event, id, data)
  }
}

function placeOf(id: string): Place | null {
  const parts = /^(\d+)\.(\d+)\.(\d+)$/.exec(id)
  return parts === null ? null : { partition: Number(parts[1]), offset: Number(parts[2]), index: Number(parts[3]) }
}
