import { useEffect, useState } from "preact/hooks"

/** Every view has an address, after the `#`: the server only knows `/`. */
export type Route =
  | { readonly view: "sessions"; readonly search: string; readonly state: string }
  | { readonly view: "session"; readonly sessionId: string; readonly event: string | null; readonly all: boolean }

export function readRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2)
  const params = new URLSearchParams(query)
  const session = /^\/sessions\/([^/]+)$/.exec(path)?.[1]
  if (session !== undefined)
    return { view: "session", sessionId: decoded(session), event: params.get("event"), all: params.get("all") === "1" }
  return { view: "sessions", search: params.get("q") ?? "", state: params.get("state") ?? "" }
}

export function writeRoute(route: Route): string {
  const params = new URLSearchParams()
  if (route.view === "sessions") {
    if (route.search !== "") params.set("q", route.search)
    if (route.state !== "") params.set("state", route.state)
  } else {
    if (route.event !== null) params.set("event", route.event)
    if (route.all) params.set("all", "1")
  }
  const path = route.view === "sessions" ? "/sessions" : `/sessions/${encodeURIComponent(route.sessionId)}`
  const query = params.toString()
  return `#${path}${query === "" ? "" : `?${query}`}`
}

/** Goes there. `replace` leaves no step in the history, for what changes with every key. */
export function go(route: Route, how: "push" | "replace" = "push"): void {
  const hash = writeRoute(route)
  if (how === "push") location.hash = hash
  else {
    history.replaceState(null, "", hash)
    dispatchEvent(new HashChangeEvent("hashchange"))
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => readRoute(location.hash))
  useEffect(() => {
    const changed = (): void => setRoute(readRoute(location.hash))
    addEventListener("hashchange", changed)
    return () => removeEventListener("hashchange", changed)
  }, [])
  return route
}

/** A broken escape in an address that someone typed is no reason to show nothing. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
