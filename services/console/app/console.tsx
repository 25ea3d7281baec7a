import type { JSX } from "preact"
import { useEffect, useState } from "preact/hooks"
import { onRefusedKey, savedKey, saveKey } from "./api.ts"
import { KeyForm } from "./key-form.tsx"
import { useRoute } from "./route.ts"
import { SessionList } from "./session-list.tsx"
import { SessionPage } from "./session-page.tsx"

/** Everything: the view that the address names, or the question for a key where the gateway wants one. */
export function Console(): JSX.Element {
  const route = useRoute()
  const [refused, setRefused] = useState(false)
  const [key, setKey] = useState(savedKey)
  useEffect(() => onRefusedKey(() => setRefused(true)), [])

  const changeKey = (next: string | null): void => {
    saveKey(next)
    setKey(next)
    setRefused(false)
  }
  if (refused) return <KeyForm wasGiven={key !== null} given={changeKey} />
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      {route.view === "sessions" ? (
        <SessionList key={key ?? ""} route={route} forgetKey={key === null ? null : () => changeKey(null)} />
      ) : (
        <SessionPage key={`${key ?? ""} ${route.sessionId}`} route={route} />
      )}
    </>
  )
}

/** The part after the `#` is the address of a view, so the jump is made by hand. */
function skip(event: Event): void {
  event.preventDefault()
  document.getElementById("main")?.focus()
}
