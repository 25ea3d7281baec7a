import { useState } from "preact/hooks"
import { RefusedError } from "./api.ts"

/** Sends one thing at a time and says what went wrong. */
export function useSending(): {
  readonly busy: boolean
  readonly problem: string | null
  readonly run: (what: () => Promise<void>) => Promise<void>
} {
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<string | null>(null)
  return {
    busy,
    problem,
    run: async (what) => {
      setBusy(true)
      setProblem(null)
      try {
        await what()
      } catch (error) {
        setProblem(error instanceof RefusedError ? error.message : "The gateway cannot be reached. Whether it was heard is not known.")
      } finally {
        setBusy(false)
      }
    },
  }
}
