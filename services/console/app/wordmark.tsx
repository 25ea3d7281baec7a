import type { JSX } from "preact"

/** The name, and the way back to the list. */
export function Wordmark(): JSX.Element {
  return (
    <a class="wordmark" href="#/sessions">
      <svg viewBox="0 0 32 32" aria-hidden="true">
        <path d="M9 24V8.500c9-2 14 1 12 6-1 3-5 3.5-8 3l9 6.5" />
      </svg>
      Reins
    </a>
  )
}
