import type { JSX } from "preact"
import { useState } from "preact/hooks"
import { count } from "./visible.ts"

const linesMax = 24
const charsMax = 3000

/** Text, of which only the beginning is shown until it is asked for. What comes in is already fit to be seen. */
export function LongText({ text }: { readonly text: string }): JSX.Element {
  const [open, setOpen] = useState(false)
  const cut = cutOf(text)
  if (cut === null) return <>{text}</>
  return (
    <>
      {open ? text : `${text.slice(0, cut)} …`}
      <button class="unfold" type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        {open ? "Show less" : `Show all ${count(text.length)} characters`}
      </button>
    </>
  )
}

/** Where the beginning ends; null where all of it is short enough. */
function cutOf(text: string): number | null {
  let at = -1
  for (let line = 0; line < linesMax; line++) {
    at = text.indexOf("\n", at + 1)
    if (at < 0) break
  }
  const cut = Math.min(at < 0 ? text.length : at, charsMax)
  // A little more than the beginning is not worth a click.
  return text.length - cut < 200 ? null : cut
}
