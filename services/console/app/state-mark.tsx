import type { JSX } from "preact"
import type { State } from "./api.ts"

/** What each state is called. The shape and the word say it; the colour only helps. */
export const stateNames: Readonly<Record<State, string>> = {
  running: "Running",
  rescheduling: "Retrying",
  waiting: "Waiting",
  idle: "Idle",
  parked: "Parked",
  ended: "Ended",
}

export function StateMark({ state }: { readonly state: State }): JSX.Element {
  return (
    <span class={`state state-${state}`}>
      <svg viewBox="0 0 12 12" aria-hidden="true">
        {shapeOf(state)}
      </svg>
      {stateNames[state]}
    </span>
  )
}

function shapeOf(state: State): JSX.Element {
  switch (state) {
    case "running":
      return <circle class="beats" cx="6" cy="6" r="4" fill="currentColor" />
    case "rescheduling":
      return <path d="M6 2a4 4 0 1 1-4 4" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" />
    case "waiting":
      return <path d="M6 .8 11.2 6 6 11.2.8 6Z" fill="currentColor" />
    case "idle":
      return <circle cx="6" cy="6" r="3.4" fill="none" stroke="currentColor" stroke-width="1.6" />
    case "parked":
      return <path d="M6 1.2 11.2 10.600H.8Z" fill="currentColor" />
    case "ended":
      return <rect x="2.4" y="2.4" width="7.2" height="7.2" rx="1" fill="currentColor" />
    default:
      return state satisfies never
  }
}
