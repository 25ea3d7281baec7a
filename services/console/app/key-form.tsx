import type { JSX } from "preact"
import { useState } from "preact/hooks"
import { Wordmark } from "./wordmark.tsx"

/** Asks for an API key. It stays in this tab and goes with it. */
export function KeyForm({ wasGiven, given }: { readonly wasGiven: boolean; readonly given: (key: string) => void }): JSX.Element {
  const [key, setKey] = useState("")
  return (
    <main class="gate">
      <Wordmark />
      <form
        onSubmit={(event) => {
          event.preventDefault()
          if (key.trim() !== "") given(key.trim())
        }}
      >
        <h1>This gateway asks for a key</h1>
        <p>
          Make one with <code>npx reins keys create</code>. It is kept in this tab only, and shows the sessions of its tenant.
        </p>
        {wasGiven && (
          <p class="problem" role="alert">
            The key that was given is not valid here, or no longer.
          </p>
        )}
        <label>
          API key
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            value={key}
            ref={(input) => input?.focus()}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </label>
        <button class="primary" type="submit">
          Open
        </button>
      </form>
    </main>
  )
}
